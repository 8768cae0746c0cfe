package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Worker does the jobs of a queue. Safe for concurrent use.
type Worker struct {
	queue Queue
	opts  Options
	room  chan struct{} // capacity 1: a function whose jobs wait can take more

	mu      sync.Mutex // guards what follows; functions is not changed while it runs
	byName  map[string]*function
	names   []string
	running bool
}

// New returns a worker without handlers. It does nothing until Run.
func New(queue Queue, opts Options) *Worker {
	return &Worker{queue: queue, opts: opts.withDefaults(), room: make(chan struct{}, 1), byName: make(map[string]*function)}
}

// Handle says who does the jobs of a function. Before Run only.
func (w *Worker) Handle(name string, h Handler) error {
	h, err := h.withDefaults()
	if err == nil {
		err = (&Job{Func: name}).Validate()
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running {
		return fmt.Errorf("jobs: handler for %s comes after Run", name)
	}
	if w.byName[name] != nil {
		return fmt.Errorf("jobs: second handler for %s", name)
	}
	w.byName[name] = newFunction(w, name, h)
	w.names = append(w.names, name)
	return nil
}

// Run does jobs until ctx ends; then it takes no more, waits for those that run (StopTimeout), gives back those that do not
// run yet, and returns nil. All its goroutines are gone then. One Run at a time. An error is one of the options.
func (w *Worker) Run(ctx context.Context) error {
	if err := (&GrabRequest{Owner: w.opts.Owner, Lease: MinLease}).Validate(); err != nil {
		return err
	}
	w.mu.Lock()
	if w.running {
		w.mu.Unlock()
		return errors.New("jobs: worker is running already")
	}
	w.running = true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.running = false
		w.mu.Unlock()
	}()

	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	var functions, tend sync.WaitGroup
	for _, f := range w.byName {
		f.open(base)
		functions.Go(f.run)
	}
	if len(w.byName) > 0 {
		tend.Go(func() { w.tend(ctx) })
	}
	w.fetch(ctx)
	for _, f := range w.byName {
		f.close()
	}
	stop := time.AfterFunc(w.opts.StopTimeout, func() { cancel(ErrStopping) })
	defer stop.Stop()
	functions.Wait()
	tend.Wait()
	return nil
}

// fetch grabs jobs while there is room, until ctx ends.
func (w *Worker) fetch(ctx context.Context) {
	ready, stop := w.queue.Notify()
	defer stop()
	wake := w.opts.Wake
	for ctx.Err() == nil {
		w.grab(ctx)
		t := time.NewTimer(jitter(w.opts.Poll, 0.1))
		select {
		case <-ready:
		case _, ok := <-wake:
			if !ok {
				wake = nil
			}
		case <-w.room:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// grab fills the functions that have room. Those with one lease share one call, in which no more is asked for than the
// fullest can take; where there may be more, each is asked for alone, so that none starves.
func (w *Worker) grab(ctx context.Context) {
	type group struct {
		names []string
		least int
	}
	groups := make(map[time.Duration]*group)
	for _, name := range w.names {
		f := w.byName[name]
		n := f.free()
		if n <= 0 {
			continue
		}
		g := groups[f.h.Lease]
		if g == nil {
			g = &group{least: n}
			groups[f.h.Lease] = g
		}
		g.names, g.least = append(g.names, f.name), min(g.least, n)
	}
	for lease, g := range groups {
		more := w.grabSome(ctx, g.names, g.least, lease)
		for _, name := range g.names {
			f := w.byName[name]
			for more && len(g.names) > 1 {
				if n := f.free(); n <= 0 || !w.grabSome(ctx, []string{name}, n, lease) {
					break
				}
			}
		}
	}
}

// grabSome grabs jobs and reports whether there may be more.
func (w *Worker) grabSome(ctx context.Context, names []string, n int, lease time.Duration) (more bool) {
	got, err := w.ask(ctx, GrabRequest{Funcs: names, N: n, Lease: lease})
	if err != nil {
		if ctx.Err() == nil {
			w.opts.Logger.Warn("job queue does not answer", "func", names[0], "err", err)
		}
		return false
	}
	slab := make([]held, len(got)) // one allocation for all
	for start := 0; start < len(got); {
		end := start + 1
		for end < len(got) && got[end].Func == got[start].Func {
			end++
		}
		for i := start; i < end; i++ {
			slab[i].job = got[i]
		}
		if f := w.byName[got[start].Func]; f != nil {
			f.add(slab[start:end])
		}
		start = end
	}
	more = len(got) >= n
	for _, name := range names {
		w.byName[name].setBacklog(more)
	}
	return more
}

// grabTimeout bounds one call of the queue for jobs.
const grabTimeout = 30 * time.Second

// ask grabs jobs for this worker.
func (w *Worker) ask(ctx context.Context, r GrabRequest) ([]Job, error) {
	// Not ctx itself: a grab that is cut off may have happened, and its jobs would be stuck until their leases end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grabTimeout)
	defer cancel()
	r.Owner, r.Floor = w.opts.Owner, w.opts.Floor
	return w.queue.Grab(ctx, r)
}

// Times between two calls of Tend: for what others have scheduled meanwhile, and when it is overdue.
const (
	tendEvery = 5 * time.Second
	tendLeast = time.Second
)

// tend looks after periodic jobs and old records until ctx ends.
func (w *Worker) tend(ctx context.Context) {
	for {
		next, err := w.queue.Tend(ctx)
		if err != nil && ctx.Err() == nil {
			w.opts.Logger.Warn("job queue not tended", "err", err)
		}
		wait := jitter(tendEvery, 0.1)
		if err == nil && !next.IsZero() {
			until := time.Until(next)
			if until <= 0 { // the queue's clock is behind ours
				until = tendLeast
			}
			wait = min(wait, until)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// Stats counts what this worker has done since it was made, by function name in byte order. Cheap.
func (w *Worker) Stats() []WorkerStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]WorkerStats, 0, len(w.byName))
	for _, name := range slices.Sorted(slices.Values(w.names)) {
		list = append(list, w.byName[name].snapshot())
	}
	return list
}
