package jobs

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// function does the jobs of one handler: Concurrency goroutines that work, and a keeper that reports results and renews
// leases.
//
// The queue is shown GrabbedUntil as the proof of a lease, and renewing changes it; so all that shows it is done by the
// keeper, one after the other, with the latest value.
type function struct {
	w    *Worker
	name string
	h    Handler

	results chan struct{} // capacity 1: there are finished tasks
	news    chan struct{} // capacity 1: a job has reported progress
	ended   chan struct{} // closed when all who work have gone

	base context.Context // of jobs and of what must be done after Run's context has ended

	mu       sync.Mutex // guards what follows, and what of held and task it says there
	more     sync.Cond  // todo or closed has changed
	held     map[jobKey]*held
	todo     []*held // from first on
	first    int
	finished []*task
	load     int  // jobs of todo, and tasks that run or have not been reported
	pending  int  // results that have not been recorded
	backlog  bool // there may be more jobs in the queue than were grabbed
	closed   bool
	stats    WorkerStats
}

// jobKey identifies a job where several queues are used as one.
type jobKey struct {
	queue string
	id    ID
}

// held is a job under lease.
type held struct {
	job     Job // as last renewed; changed by the keeper alone, with f.mu
	given   Job // the handler's own
	renewed time.Time
	maybe   []time.Time // what job.GrabbedUntil may be instead, as the queue failed while it renewed; as job
	report  bool        // f.mu: its progress has not been recorded yet
	news    Progress    // f.mu
	lost    bool        // f.mu
	task    *task       // f.mu; nil: not begun
	single  task        // room for task
	self    [1]*held    // room for task.list
}

func (h *held) key() jobKey { return jobKey{h.job.Queue, h.job.ID} }

func newFunction(w *Worker, name string, h Handler) *function {
	f := &function{
		w: w, name: name, h: h, results: make(chan struct{}, 1), news: make(chan struct{}, 1),
		held: make(map[jobKey]*held), stats: WorkerStats{Func: name},
	}
	f.more.L = &f.mu
	return f
}

// open begins a Run.
func (f *function) open(base context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.base, f.closed, f.ended = base, false, make(chan struct{})
}

// run returns after close, when nothing is held any more.
func (f *function) run() {
	var workers, keeper sync.WaitGroup
	keeper.Go(f.keep)
	for range f.h.Concurrency {
		workers.Go(f.work)
	}
	workers.Wait()
	close(f.ended)
	keeper.Wait()
}

// close gives back what has not been begun and lets the workers go.
func (f *function) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, h := range f.todo[f.first:] {
		f.finish(&task{function: f, list: []*held{h}, returned: true})
	}
	f.todo, f.first = nil, 0
	f.more.Broadcast()
}

// free is how many more jobs may be grabbed.
func (f *function) free() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.room()
	if n == 0 {
		f.backlog = true // perhaps
	}
	return n
}

// room is how many more jobs may be held: none until half of Prefetch is free, so that they come in batches. While results
// cannot be recorded it shrinks. f.mu must be held.
func (f *function) room() int {
	n := f.h.Prefetch - f.load - f.pending
	if n < f.h.Prefetch/2 {
		return 0
	}
	return n
}

func (f *function) setBacklog(more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.backlog = more
}

// add takes in jobs that were grabbed.
func (f *function) add(list []held) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.load += len(list)
	for i := range list {
		h := &list[i]
		f.hold(h)
		f.todo = append(f.todo, h)
	}
	if len(list) == 1 {
		f.more.Signal()
	} else {
		f.more.Broadcast()
	}
}

// hold puts a job under the keeper's care. f.mu must be held.
func (f *function) hold(h *held) {
	h.renewed, h.given = time.Now(), h.job
	f.held[h.key()] = h
}

// work does jobs until there are no more.
func (f *function) work() {
	var t *task
	for {
		if t = f.next(t); t == nil {
			return
		}
		if f.h.WorkBatch != nil {
			f.gather(t)
		}
		t.err = f.call(t)
		t.took = time.Since(t.begun)
		t.cancel(nil)
	}
}

// next hands in a task that was done and waits for another; nil: there will be none.
func (f *function) next(done *task) *task {
	f.mu.Lock()
	defer f.mu.Unlock()
	if done != nil {
		f.finish(done)
	}
	for {
		for f.first == len(f.todo) {
			f.todo, f.first = f.todo[:0], 0
			if f.closed {
				return nil
			}
			f.more.Wait()
		}
		h := f.todo[f.first]
		f.todo[f.first] = nil
		f.first++
		if h.lost {
			f.finish(&task{function: f, list: []*held{h}, returned: true})
			continue
		}
		return f.begin(h)
	}
}

// begin makes a task of a job, and with WorkBatch of those that wait here and belong to it. f.mu must be held.
func (f *function) begin(h *held) *task {
	t := &h.single
	h.self[0] = h
	*t = task{function: f, list: h.self[:], begun: time.Now()}
	t.Context, t.cancel = context.WithCancelCause(f.base)
	f.started(t, h)
	if f.h.WorkBatch != nil && h.job.Coalesce != "" {
		f.join(t, f.h.MaxBatch-1, h.job.Coalesce, false)
	}
	return t
}

// join adds up to n jobs of a group that have been grabbed already to a task. f.mu must be held.
func (f *function) join(t *task, n int, coalesce string, prefix bool) {
	kept := f.todo[:f.first]
	for _, h := range f.todo[f.first:] {
		if n <= 0 || h.lost || h.job.Coalesce != coalesce && !(prefix && strings.HasPrefix(h.job.Coalesce, coalesce)) {
			kept = append(kept, h)
			continue
		}
		n--
		f.load--
		t.list = append(t.list, h)
		f.started(t, h)
	}
	clear(f.todo[len(kept):])
	f.todo = kept
}

// started counts a job that is begun as a part of a task. f.mu must be held.
func (f *function) started(t *task, h *held) {
	h.task = t
	f.stats.Begun++
	f.stats.Running++
	f.stats.Wait.add(time.Since(h.job.RunAfter))
}

// finish hands a task to the keeper. f.mu must be held.
func (f *function) finish(t *task) {
	t.over = true
	f.finished = append(f.finished, t)
	if len(f.finished) == 1 {
		signal(f.results)
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// call runs the handler.
func (f *function) call(t *task) (err error) {
	defer func() {
		if v := recover(); v != nil {
			f.w.opts.Logger.Error("job handler panicked", "func", f.name, "job", t.list[0].given.ID, "err", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	if f.h.WorkBatch == nil {
		return f.h.Work(t, &t.list[0].given)
	}
	list := make([]*Job, len(t.list))
	for i, h := range t.list {
		list[i] = &h.given
	}
	return f.h.WorkBatch(t, list)
}

// gather adds jobs of the same group that still lie in the queue to a task.
func (f *function) gather(t *task) {
	lead := &t.list[0].given
	if lead.Coalesce == "" || len(t.list) >= f.h.MaxBatch {
		return
	}
	if _, err := t.grab(f.h.MaxBatch-len(t.list), lead.Coalesce, false); err != nil {
		f.w.opts.Logger.Warn("job queue does not answer", "func", f.name, "err", err) // what there is will do
	}
}
