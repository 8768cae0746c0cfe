package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Worker does the jobs of a queue.
type Worker struct {
	queue Queue
	opts  Options

	mu       sync.Mutex // guards what follows
	handlers map[string]Handler
	running  bool
}

// New returns a worker without handlers. It does nothing until Run.
func New(queue Queue, opts Options) *Worker {
	return &Worker{queue: queue, opts: opts.withDefaults(), handlers: make(map[string]Handler)}
}

// Handle says who does the jobs of a function. Before Run only.
func (w *Worker) Handle(name string, h Handler) error {
	h, err := h.withDefaults()
	if err != nil {
		return fmt.Errorf("%w: %s", err, name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running {
		return fmt.Errorf("jobs: handler for %s comes after Run", name)
	}
	if _, ok := w.handlers[name]; ok {
		return fmt.Errorf("jobs: second handler for %s", name)
	}
	w.handlers[name] = h
	return nil
}

// Run does jobs until ctx ends; then it takes no more, waits for those that run (StopTimeout), gives back those that do not
// run yet, and returns nil. All its goroutines are gone then. One Run at a time.
func (w *Worker) Run(ctx context.Context) error {
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

	var wg sync.WaitGroup
	for name, h := range w.handlers {
		f := newFunction(w, name, h)
		wg.Go(func() { f.run(ctx) })
	}
	wg.Wait()
	return nil
}

// pollTimer waits for a poll interval with some jitter.
func (w *Worker) pollTimer() *time.Timer { return time.NewTimer(jitter(w.opts.Poll, 0.1)) }
