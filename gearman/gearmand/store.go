package gearmand

import (
	"context"
	"time"
)

// Store keeps background jobs over the end of the process. Its methods but Check are called by one goroutine at a time, never
// under the server's lock, and may take their time: those who submitted wait for them, nobody else does.
type Store interface {
	// Check says why a job, which has no Key and no Handle yet, cannot be kept: the client is told so. It is asked before each
	// submission, under the server's lock, and must be quick.
	Check(*StoredJob) error
	// Add keeps jobs, all or none; they are durable when it returns. A job whose key is kept already replaces it. It must not
	// hold on to the jobs' Arg.
	Add(ctx context.Context, list []StoredJob) error
	// Remove forgets jobs. Keys that are not there are no error.
	Remove(ctx context.Context, keys []string) error
	// Load calls f with all jobs, in the order in which they were first added, until f fails.
	Load(ctx context.Context, f func(StoredJob) error) error
}

// StoredJob is a background job as a Store keeps it.
type StoredJob struct {
	Key      string // the server's own, unique, at most 40 bytes of letters, digits and -
	Func     string
	Unique   string // the client's, "" for none
	Arg      []byte
	Priority Priority
	RunAt    time.Time // not before; zero: at once
	Reducer  string    // "" for none
	Handle   string    // what the client knows it by
	Retries  int       // how often a worker has lost it; kept up to date only where there is a limit
}

// Priority of a job.
type Priority uint8

// Priorities.
const (
	High Priority = iota
	Normal
	Low
	priorities = 3
)
