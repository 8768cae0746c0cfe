package jobs

import (
	"context"
	"time"
)

// Queue holds jobs until they are done. Safe for concurrent use. A method that returns nil has made its change as durable
// as the queue is.
type Queue interface {
	// Insert adds jobs, all or none, and returns their ids; 0 for one that was folded into another (see [Job.Unique]).
	Insert(ctx context.Context, jobs []Job) ([]ID, error)
	// Grab leases up to n jobs of the given functions that may run now: per function, those of higher Priority first,
	// then those that have been due longest. It returns at once, with none if there are none. Jobs of other functions are left
	// alone.
	Grab(ctx context.Context, funcs []string, n int, lease time.Duration) ([]Job, error)
	// Renew extends leases from now, and returns the jobs that are still this worker's with their new GrabbedUntil.
	Renew(ctx context.Context, jobs []Job, lease time.Duration) ([]Job, error)
	// Complete removes jobs that are done. One that was inserted again meanwhile waits again instead; one whose lease was
	// lost is left to its new holder.
	Complete(ctx context.Context, jobs []Job) error
	// Retry gives a job back, to be run after a time. A cause that is not nil is recorded, and counts as a failure.
	Retry(ctx context.Context, job Job, after time.Duration, cause error) error
	// Fail gives a job up for good, recording the cause.
	Fail(ctx context.Context, job Job, cause error) error
	// Stats counts jobs, by function name in byte order. It may look at all of them.
	Stats(ctx context.Context) ([]FuncStats, error)
	// Notify returns a channel (of capacity 1) that receives soon after jobs have become ready through this Queue value,
	// until stop is called. Jobs that other processes insert, or that become due by time, are found by polling.
	Notify() (ready <-chan struct{}, stop func())
}

// FuncStats counts the jobs of one function.
type FuncStats struct {
	Func    string
	Ready   int64 // may run now
	Running int64 // leased
	Delayed int64 // to be run later, after a failure or by wish
	Failed  int64 // given up, as far as still on record
}
