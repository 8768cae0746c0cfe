package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"
)

// Options are the choices of a [Worker]. The zero value is usable.
type Options struct {
	// Poll is how often the queue is asked for jobs that nothing announced: those of other processes, and those that
	// have become due. Default 1 s; each wait is made up to a tenth longer or shorter, so that workers do not ask in step.
	Poll time.Duration
	// Wake, if not nil, is a source of wake-ups besides the queue's own: the queue is asked at once when it receives. It
	// may be closed.
	Wake <-chan struct{}
	// StopTimeout is how long Run waits for running jobs when its context ends, before it ends theirs. Default 30 s;
	// negative: not at all.
	StopTimeout time.Duration
	// Owner is who the jobs are leased to, for those who look at the queue. Default HOST/PID; at most MaxUnique bytes of
	// UTF-8.
	Owner string
	// Floor, if not nil, is the least Priority of jobs that are done.
	Floor *int
	// Logger takes failures for good (Error) and queues that do not answer (Warn). Default: nothing is logged.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.StopTimeout = max(0, cmp.Or(o.StopTimeout, 30*time.Second))
	if o.Owner == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		o.Owner = fmt.Sprintf("%.200s/%d", host, os.Getpid())
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Handler does the jobs of one function: with Work or with WorkBatch.
type Handler struct {
	// Work does one job. nil: it is done. An error: it is tried again later. See also Permanent, WithStatus, RetryAfter,
	// Later, ErrDeclined, ReplaceWith, and, where [More] was used, Verdicts. A panic is an error. ctx ends when the lease
	// is lost (cause ErrLost) or the worker must stop at once (ErrStopping), and when Work returns. The job is the
	// handler's to change, to no effect.
	Work func(ctx context.Context, job *Job) error
	// WorkBatch does up to MaxBatch jobs that have the same Coalesce value; one alone where that is "". What it returns
	// goes for all of them; Verdicts gives each its own. ctx ends as with Work, where the leases of all are lost.
	WorkBatch func(ctx context.Context, list []*Job) error
	// MaxBatch is the most jobs that WorkBatch is given. Default 100.
	MaxBatch int
	// Concurrency is how many jobs, or batches, are done at a time. Default 1.
	Concurrency int
	// Prefetch is how many jobs are leased at a time, running ones included. Default and least: twice Concurrency.
	Prefetch int
	// Lease is how long a job stays this worker's when the worker dies. It is renewed after each third of it, while the
	// job runs at least every 5 s, so that a job that was cancelled ends. Default 60 s, least MinLease, most MaxLease.
	Lease time.Duration
	// MaxFailures is how many failures a job may have; with the last of them it is given up. Default 25; negative: it is
	// tried for ever.
	MaxFailures int
	// Backoff is the wait after the n-th failure, n ≥ 1. Default [DefaultBackoff].
	Backoff func(n int) time.Duration
}

// MinLease is the shortest lease of a worker: it is renewed after each third of it.
const MinLease = 3 * time.Second

func (h Handler) withDefaults() (Handler, error) {
	if (h.Work == nil) == (h.WorkBatch == nil) {
		return h, errors.New("jobs: handler needs either Work or WorkBatch")
	}
	h.MaxBatch = max(1, cmp.Or(h.MaxBatch, 100))
	h.Concurrency = max(1, h.Concurrency)
	h.Prefetch = max(2*h.Concurrency, h.Prefetch)
	h.Lease = min(MaxLease, max(MinLease, cmp.Or(h.Lease, time.Minute)))
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
