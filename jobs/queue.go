package jobs

import (
	"context"
	"fmt"
	"time"
)

// Queue holds jobs until they are done: what those who insert jobs and a [Worker] need of it. Safe for concurrent use.
// A method that returns nil has made its change as durable as the queue is.
type Queue interface {
	// Insert adds jobs, all or none, and returns their ids; 0 for one that was folded into another (see [Job.Unique]).
	Insert(ctx context.Context, jobs []Job) ([]ID, error)
	// Grab leases jobs that may run now: per function, those of higher Priority first, then those that have been due
	// longest; the functions get a fair share of N each, and what one has no jobs for goes to the others. It heeds what
	// [Control] says of a function: a job that may not run yet does not hold up those behind it. It returns at once, with
	// none if there are none.
	Grab(ctx context.Context, r GrabRequest) ([]Job, error)
	// Renew extends leases from now and records each job's Progress. It returns the jobs that are still this worker's,
	// with their new GrabbedUntil; the others have been lost, finished by somebody else, or cancelled. A lease that has run
	// out is still the worker's until the job is grabbed by another. With an error nothing has happened, or, if the connection
	// broke, perhaps everything: the jobs that it returns then are as they are in that case, and who repeats the call shows
	// both, one after the other; to Finish, too.
	Renew(ctx context.Context, jobs []Job, lease time.Duration) ([]Job, error)
	// Finish does what results say, all in one transaction where the queue has them. A result of a job whose lease has
	// been lost has no effect, its Replace neither: the job is left to its new holder. With an error nothing has happened,
	// or, if the connection broke, perhaps everything; to repeat the call is safe.
	Finish(ctx context.Context, results []Result) error
	// Tend inserts the periodic jobs that are due, once for all processes that call it, and removes records that have
	// been kept long enough. Workers call it; next is when it should be called again for a periodic job, zero if there is
	// none.
	Tend(ctx context.Context) (next time.Time, err error)
	// Notify returns a channel (of capacity 1) that receives soon after jobs may have become ready, as far as the queue
	// gets to know: always of those inserted through this Queue value, on some databases of all. What becomes due by time
	// is found by polling. The caller must call stop, which waits for what Notify has started.
	Notify() (ready <-chan struct{}, stop func())
}

// GrabRequest says which jobs are wanted. What is set restricts together.
type GrabRequest struct {
	Funcs []string      // jobs of these functions; where they are more than N, the first are served first
	N     int           // how many at most
	Lease time.Duration // how long they stay the caller's; more than 0
	Owner string        // who they are leased to, for those who look at the queue; at most MaxUnique bytes
	Floor *int          // if not nil: none of a lower Priority
	// Coalesce, if not "", wants jobs with this Coalesce value alone; with CoalescePrefix, those whose value begins so.
	Coalesce       string
	CoalescePrefix bool
	// IDs, if not empty, wants these jobs alone. Those that are held by somebody, or not due yet, are left out.
	IDs []ID
}

// Validate reports what a queue would not take.
func (r *GrabRequest) Validate() error {
	switch {
	case r.Lease <= 0 || r.Lease > MaxLease:
		return fmt.Errorf("jobs: lease of %s: want more than 0, at most %s", r.Lease, MaxLease)
	case len(r.Owner) > MaxUnique || !isText(r.Owner):
		return fmt.Errorf("jobs: owner of %d bytes: want at most %d, UTF-8 text", len(r.Owner), MaxUnique)
	}
	return nil
}

// MaxLease is the longest lease.
const MaxLease = 366 * 24 * time.Hour

// Verdict is what becomes of a job that was grabbed.
type Verdict uint8

// Verdicts.
const (
	// Done: it is finished, and Replace is inserted in its place: after it has gone, so that Replace may have its Unique
	// key. If it was inserted again under its Unique key while it ran, it waits again, as new.
	Done Verdict = iota + 1
	// Retry: it failed and runs again after After.
	Retry
	// Dead: it failed for good. It is kept as a dead letter for a time, with its ID. If it was inserted again under its
	// Unique key while it ran, it waits again instead, as new.
	Dead
	// Returned: it was not done, through no fault of its own, and runs again after After. This is not counted.
	Returned
)

// Result reports on one grabbed job.
type Result struct {
	Job     Job // as it was grabbed or last renewed: ID and GrabbedUntil prove the lease
	Verdict Verdict
	After   time.Duration // for Retry and Returned; at most MaxLease of it counts
	Cause   string        // for Retry and Dead: recorded as Text makes it
	Status  int           // for Dead: its exit status, 1 to 65535; anything else stands for 1
	Replace []Job         // for Done
}

// Validate reports what a queue would not take.
func (r *Result) Validate() error {
	if r.Verdict < Done || r.Verdict > Returned {
		return fmt.Errorf("jobs: no such verdict: %d", r.Verdict)
	}
	for i := range r.Replace {
		if err := r.Replace[i].Validate(); err != nil {
			return err
		}
	}
	return nil
}
