package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// task is one call of a handler: a job, or several. It is the context of that call.
type task struct {
	context.Context
	cancel   context.CancelCauseFunc
	function *function
	list     []*held // f.mu, while it runs
	returned bool    // not begun: give them back
	over     bool    // f.mu: the keeper has it
	begun    time.Time
	took     time.Duration
	err      error
}

// taskKey finds the task in a context.
type taskKey struct{}

// Value implements context.Context.
func (t *task) Value(key any) any {
	if key == (taskKey{}) {
		return t
	}
	return t.Context.Value(key)
}

// ErrNoJob is what is said to those who are not called with the context of a running job.
var ErrNoJob = errors.New("jobs: not in a running job")

// Report says how far a running job, or batch, has come; ctx is that of its handler, or derived from it. Operators see it
// within about a second. It does not wait, and may be called as often as one likes. Outside of a job it does nothing.
func Report(ctx context.Context, p Progress) {
	t, ok := ctx.Value(taskKey{}).(*task)
	if !ok {
		return
	}
	p.Note = Text(p.Note)
	f := t.function
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range t.list {
		if h.news != p {
			h.news, h.report = p, true
			signal(f.news)
		}
	}
}

// More gives a running job up to n further jobs of its function whose Coalesce value is this one or, with prefix, begins
// so; ctx is that of its handler, or derived from it. It returns at once, with none if there are none that may run. They
// are kept under lease like the job itself, and what its handler returns goes for them too; or [Verdicts] gives each its
// own: the job's first, then theirs in the order in which they came. For that, More must not be called by several goroutines at a time.
func More(ctx context.Context, n int, coalesce string, prefix bool) ([]*Job, error) {
	t, ok := ctx.Value(taskKey{}).(*task)
	if !ok {
		return nil, ErrNoJob
	}
	if coalesce == "" {
		return nil, errors.New("jobs: More: no coalescing value")
	}
	return t.grab(n, coalesce, prefix)
}

// grab adds jobs to a task that runs: those that wait here, then those of the queue.
func (t *task) grab(n int, coalesce string, prefix bool) ([]*Job, error) {
	f := t.function
	if err := t.Err(); err != nil { // lost, or it has returned already
		return nil, fmt.Errorf("jobs: %s: %w", f.name, err)
	}
	f.mu.Lock()
	before := len(t.list)
	if !t.over {
		f.join(t, n, coalesce, prefix)
	}
	n -= len(t.list) - before
	f.mu.Unlock()
	var got []Job
	var err error
	if n > 0 {
		got, err = f.w.ask(t, GrabRequest{Funcs: []string{f.name}, N: n, Lease: f.h.Lease, Coalesce: coalesce, CoalescePrefix: prefix})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range got {
		h := &held{job: j}
		f.hold(h)
		if t.over { // while we asked
			f.load++
			f.finish(&task{function: f, list: []*held{h}, returned: true})
			continue
		}
		f.started(t, h)
		t.list = append(t.list, h)
	}
	if t.over {
		return nil, fmt.Errorf("jobs: %s: %w", f.name, ErrNoJob)
	}
	list := make([]*Job, 0, len(t.list)-before)
	for _, h := range t.list[before:] {
		list = append(list, &h.given)
	}
	if err != nil && len(list) == 0 {
		return nil, fmt.Errorf("jobs: %s: %w", f.name, err)
	}
	return list, nil // had the queue not answered, what there is will do
}

// lose ends the task if all its jobs are lost. f.mu must be held.
func (t *task) lose() {
	for _, h := range t.list {
		if !h.lost {
			return
		}
	}
	t.cancel(ErrLost)
}
