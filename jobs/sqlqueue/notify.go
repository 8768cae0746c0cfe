package sqlqueue

import (
	"context"
	"sync"
)

// ears listen to the database while somebody wants to know.
type ears struct {
	mu   sync.Mutex // guards the rest
	n    int        // subscribers
	stop context.CancelFunc
	done chan struct{}
}

// Notify is as in [jobs.Queue]. On PostgreSQL it tells of all processes' jobs at once, by LISTEN and NOTIFY, over a
// connection of its own; on other databases of those that this Queue value inserted.
func (q *Queue) Notify() (<-chan struct{}, func()) {
	ready, leave := q.notify.Notify()
	q.ears.add(q)
	return ready, sync.OnceFunc(func() {
		leave()
		q.ears.remove()
	})
}

func (e *ears) add(q *Queue) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n++; e.n > 1 {
		return
	}
	ctx, stop := context.WithCancel(context.Background()) // ended by the last subscriber's stop, which waits
	done := make(chan struct{})
	e.stop, e.done = stop, done
	go func() {
		defer close(done)
		q.db.listen(ctx, q.notify.Wake)
	}()
}

func (e *ears) remove() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n--; e.n == 0 {
		e.stop()
		<-e.done
	}
}
