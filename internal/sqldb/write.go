package sqldb

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"zombiezen.com/go/sqlite"
)

// request is one call of Write.
type request struct {
	f     func(*Tx) error
	state atomic.Int32
	err   error         // valid once done has been received from
	done  chan struct{} // capacity 1, one send
}

// The states of a request.
const (
	waiting  = iota // may be withdrawn
	taken           // the writer has it: its result must be waited for
	withdrew        // the caller has gone
)

// writer is the one goroutine that changes the database.
type writer struct {
	conn *sqlite.Conn
	tx   Tx

	restart atomic.Bool // the checkpointer asks for the log to be started again
	free    sync.Pool   // of *request

	mu      sync.Mutex // guards what follows
	pending []*request
	closed  bool
	wake    chan struct{} // capacity 1
	stopped chan struct{}
}

func newWriter(c *sqlite.Conn) *writer {
	return &writer{
		conn: c, tx: Tx{conn: c}, wake: make(chan struct{}, 1), stopped: make(chan struct{}),
		free: sync.Pool{New: func() any { return &request{done: make(chan struct{}, 1)} }},
	}
}

// Write runs f in a transaction and returns once that is durable, with f's own error (then nothing of f's is kept and
// the others of the group are not disturbed) or with that of the commit (then nothing of anybody's is).
//
// f runs on the writer's goroutine, while everybody else waits: it must only compute and use tx. It may run twice and must
// therefore set, not add to, the variables that it hands results out by. A panic in f is the caller's.
//
// ctx counts until the writer takes f: if it ends before, Write returns its error, and f has not run and will not. After
// that Write waits for the result whatever becomes of ctx, so that its answer is always the truth.
func (db *DB) Write(ctx context.Context, f func(tx *Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := db.writer.free.Get().(*request)
	r.f, r.err = f, nil
	r.state.Store(waiting)
	if !db.writer.add(r) {
		db.writer.free.Put(r)
		return ErrClosed
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, withdrew) {
			return ctx.Err() // r is still in the queue, so it is not used again
		}
		<-r.done
	}
	err := r.err
	r.f, r.err = nil, nil
	db.writer.free.Put(r)
	if p := (*panicked)(nil); err != nil && errors.As(err, &p) {
		panic(p)
	}
	return err
}

// add queues a request; it reports false when the writer is stopping.
func (w *writer) add(r *request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.pending = append(w.pending, r)
	if len(w.pending) == 1 {
		w.poke()
	}
	return true
}

func (w *writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take moves up to n waiting requests into the batch. It reports false when no more will come.
func (w *writer) take(b *batch, n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := 0
	for ; i < len(w.pending) && len(b.reqs) < n; i++ {
		if r := w.pending[i]; r.state.CompareAndSwap(waiting, taken) {
			b.reqs = append(b.reqs, r)
		}
	}
	left := copy(w.pending, w.pending[i:])
	clear(w.pending[left:])
	w.pending = w.pending[:left]
	if left > 0 {
		w.poke()
	}
	return left > 0 || !w.closed
}

func (w *writer) start(db *DB) {
	go w.run(db)
}

func (w *writer) run(db *DB) {
	defer close(w.stopped)
	b := new(batch)
	for range w.wake {
		more := w.take(b, db.opts.MaxBatch)
		if len(b.reqs) > 0 {
			db.runBatch(b)
			db.checks.committed(len(b.reqs))
		}
		for _, r := range b.reqs {
			r.done <- struct{}{}
		}
		clear(b.reqs)
		clear(b.after)
		b.reqs, b.after = b.reqs[:0], b.after[:0]
		b.values, b.flush = nil, nil
		if w.restart.Swap(false) {
			db.restartLog()
		}
		if !more {
			return
		}
	}
}

// stop lets what is queued finish and waits for it.
func (w *writer) stop() {
	w.mu.Lock()
	w.closed = true
	w.poke()
	w.mu.Unlock()
	<-w.stopped
}

// step runs a statement without parameters or rows.
func (w *writer) step(q string) error { return stepOnce(w.conn, q) }
