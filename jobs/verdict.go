package jobs

import (
	"errors"
	"fmt"
	"time"
)

// What a handler may return besides nil and errors that mean "try again". All may be wrapped, and wrap each other.

// permanent marks an error that trying again will not cure.
type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }

// Permanent wraps an error so that the job it is returned for is not tried again. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

// IsPermanent reports whether err has been made so by [Permanent].
func IsPermanent(err error) bool {
	_, ok := errors.AsType[*permanent](err)
	return ok
}

// withStatus says what the exit status is.
type withStatus struct {
	err    error
	status int
}

func (s *withStatus) Error() string { return s.err.Error() }
func (s *withStatus) Unwrap() error { return s.err }

// WithStatus wraps an error so that the job's exit status is this one, 1 to 65535, if it fails for good with it. By itself
// it does not make it fail for good. WithStatus(nil, …) is nil.
func WithStatus(err error, status int) error {
	if err == nil {
		return nil
	}
	return &withStatus{err, status}
}

// retryAfter says when to try again.
type retryAfter struct {
	err   error
	after time.Duration
}

func (r *retryAfter) Error() string { return r.err.Error() }
func (r *retryAfter) Unwrap() error { return r.err }

// RetryAfter wraps an error so that the job is tried again after d instead of after the handler's Backoff. It is counted as
// any failure. RetryAfter(nil, …) is nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &retryAfter{err, d}
}

// later is what Later returns.
type later time.Duration

func (l later) Error() string { return "jobs: not now, in " + time.Duration(l).String() }

// Later is returned by a handler that declines a job for now: it comes back after d, and this is no failure.
func Later(d time.Duration) error { return later(d) }

// ErrDeclined is returned by a handler that does not want a job: it is not counted as a failure, and nobody else gets the job
// before the lease ends that it has now. [Later] says when instead.
var ErrDeclined = errors.New("jobs: declined")

// replaced is what ReplaceWith returns.
type replaced []Job

func (r replaced) Error() string { return "jobs: done, and replaced by other jobs" }

// ReplaceWith is returned by a handler that has done a job and wants others in its place: both happens, or, if the lease is
// lost, neither. Without jobs it is the same as nil. A job that the queue would not take makes it a failure.
func ReplaceWith(list ...Job) error {
	if len(list) == 0 {
		return nil
	}
	return replaced(list)
}

// Verdicts is returned by a handler that had several jobs in hand, from WorkBatch or from [More], and has a verdict on each
// of them, in their order. Their number must be that of the jobs.
type Verdicts []error

func (v Verdicts) Error() string {
	n := 0
	for _, err := range v {
		if err != nil {
			n++
		}
	}
	return fmt.Sprintf("jobs: %d of %d jobs not done", n, len(v))
}
