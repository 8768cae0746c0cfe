package dispatcher

import (
	"context"
	"fmt"
	"time"

	"wheelhouse/store"
)

// lane carries one upload to one storage, in a goroutine of its own, so that storages do not wait for each other within
// the length of its queue.
type lane struct {
	m      *member
	queue  chan *chunk
	cancel context.CancelFunc // ends what the storage is doing
	failed chan struct{}      // closed when a write has failed
	err    error              // why; valid once failed is closed
	etag   [16]byte           // valid once queue is closed to commit
	gone   bool               // abandoned: nothing is committed
	waited time.Duration      // how long it has held the upload up
}

// errStalled is an errSlow: it says nothing but that the storage is slow.
var errStalled = fmt.Errorf("%w: it does not keep up with the client", errSlow)

// push queues a chunk, waiting up to wait for room.
func (l *lane) push(ctx context.Context, c *chunk, wait time.Duration) error {
	c.refs.Add(1)
	select {
	case <-l.failed:
		c.release()
		return l.err
	case l.queue <- c:
		return nil
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case l.queue <- c:
		return nil
	case <-l.failed:
		c.release()
		return l.err
	case <-timer.C:
		c.release()
		return errStalled
	case <-ctx.Done():
		c.release()
		return ctx.Err()
	}
}

// abandon ends the lane without an entity. It may be called once, instead of closing the queue to commit.
func (l *lane) abandon() {
	l.gone = true
	l.cancel()
	close(l.queue)
}

// run writes what is queued, and commits when the queue is closed, unless the lane was abandoned.
func (l *lane) run(ctx context.Context, w store.EntityWriter, results chan<- putResult) {
	defer l.cancel()
	for c := range l.queue {
		if l.err == nil {
			if _, err := w.Write(c.buf[:c.n]); err != nil {
				l.err = err
				close(l.failed)
			}
		}
		c.release()
	}
	if l.err != nil || l.gone {
		w.Abort()
		if !l.gone {
			results <- putResult{l.m, l.err}
		}
		return
	}
	err := w.Commit(ctx, l.etag)
	if err != nil {
		w.Abort()
	}
	results <- putResult{l.m, err}
}
