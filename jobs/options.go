package jobs

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Options are the choices of a [Worker]. The zero value is usable.
type Options struct {
	// Poll is how often the queue is asked for jobs that nothing announced: those of other processes, and those that
	// have become due. Default 1 s; each wait is made up to a tenth longer or shorter, so that workers do not ask in step.
	Poll time.Duration
	// StopTimeout is how long Run waits for running jobs when its context ends, before it ends theirs. Default 30 s;
	// negative: not at all.
	StopTimeout time.Duration
	// Logger takes failures for good (Error) and queues that do not answer (Warn). Default: nothing is logged.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.StopTimeout = max(0, cmp.Or(o.StopTimeout, 30*time.Second))
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Handler does the jobs of one function.
type Handler struct {
	// Work does one job. nil: it is done. An error: it is tried again later; see also Permanent and Later. A panic is
	// an error. ctx ends when the lease is lost or the worker must stop at once.
	Work func(ctx context.Context, job *Job) error
	// Concurrency is how many jobs run at a time. Default 1.
	Concurrency int
	// Prefetch is how many jobs are leased at a time, running ones included. Default and least: twice Concurrency.
	Prefetch int
	// Lease is how long a job stays this worker's when the worker dies. It is renewed after each third of it.
	// Default 60 s, least 3 s.
	Lease time.Duration
	// MaxFailures is how many failures a job may have; with the last of them it is given up. Default 25; negative: it is
	// tried for ever.
	MaxFailures int
	// Backoff is the wait after the n-th failure, n ≥ 1. Default [DefaultBackoff].
	Backoff func(n int) time.Duration
}

const leastLease = 3 * time.Second

func (h Handler) withDefaults() (Handler, error) {
	if h.Work == nil {
		return h, errors.New("jobs: handler without Work")
	}
	h.Concurrency = max(1, h.Concurrency)
	h.Prefetch = max(2*h.Concurrency, h.Prefetch)
	h.Lease = max(leastLease, cmp.Or(h.Lease, time.Minute))
	h.MaxFailures = cmp.Or(h.MaxFailures, 25)
	if h.Backoff == nil {
		h.Backoff = DefaultBackoff
	}
	return h, nil
}

// DefaultBackoff doubles from two seconds up to an hour, with up to a fifth more or less, so that jobs that failed together
// do not come back together.
func DefaultBackoff(n int) time.Duration {
	d := time.Hour
	if n < 11 {
		d = time.Second << max(1, n)
	}
	return jitter(d, 0.2)
}

// jitter returns d ± d·part.
func jitter(d time.Duration, part float64) time.Duration {
	return d + time.Duration((2*rand.Float64()-1)*part*float64(d))
}
