package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"wheelhouse/store"
)

// asyncPutter is a device that can store a small entity without a goroutine waiting for it. done must not block.
type asyncPutter interface {
	PutAsync(info store.EntityInfo, data []byte, done func(error))
}

// putAll stores a small entity on all writable storages of a cluster at once. It returns when enough have it durable and
// the rest have either answered or had TailWait more; those that have not are owed it. The body is held until the last
// has answered.
func (d *Dispatcher) putAll(ctx context.Context, p *upload, c store.ClusterID, info store.EntityInfo, b *body) (owed []store.StorageID, err error) {
	writers, owed := p.view.writersOf(c, p.durable, d.opt.Now())
	if len(writers) < p.durable {
		return nil, fmt.Errorf("cluster %d: %d storages are writable, %d are needed", c, len(writers), p.durable)
	}
	results := make(chan putResult, len(writers))
	b.hold(int32(len(writers)))
	for _, m := range writers {
		d.late.add()
		d.putOne(ctx, m, info, b.bytes(), func(err error) {
			m.sus.note(err, d.opt.Now())
			b.release()
			results <- putResult{m, err}
			d.late.done()
		})
	}
	owed, err = d.collect(ctx, writers, results, owed, patience{p.durable, d.opt.TailWait, d.opt.PutTimeout})
	if err != nil {
		return nil, fmt.Errorf("cluster %d, object %d: %w", c, info.ID, err)
	}
	return owed, nil
}

// patience says how long to wait for storages: until enough have answered, for tail more, and never longer than limit.
type patience struct {
	enough      int
	tail, limit time.Duration
}

type putResult struct {
	m   *member
	err error
}

// putOne begins to store an entity on one storage and calls done when it is durable there, or has failed.
func (d *Dispatcher) putOne(ctx context.Context, m *member, info store.EntityInfo, data []byte, done func(error)) {
	if a, ok := m.dev.(asyncPutter); ok {
		a.PutAsync(info, data, done)
		return
	}
	go func() {
		// The write outlives the request where the request can be answered without it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.opt.PutTimeout)
		defer cancel()
		done(m.dev.Put(ctx, info, data))
	}()
}

// collect waits for the storages' answers, and returns owed with those that failed or lag behind.
func (d *Dispatcher) collect(ctx context.Context, writers []*member, results <-chan putResult, owed []store.StorageID, p patience) ([]store.StorageID, error) {
	waiting := make(map[store.StorageID]struct{}, len(writers))
	for _, m := range writers {
		waiting[m.ID] = struct{}{}
	}
	durable := 0
	var tail <-chan time.Time
	deadline := time.NewTimer(p.limit)
	defer deadline.Stop()
	var problems []error
	for len(waiting) > 0 {
		if durable >= p.enough && tail == nil {
			timer := time.NewTimer(p.tail)
			defer timer.Stop()
			tail = timer.C
		}
		select {
		case r := <-results:
			delete(waiting, r.m.ID)
			if r.err == nil {
				durable++
				continue
			}
			problems = append(problems, fmt.Errorf("storage %d: %w", r.m.ID, r.err))
			owed = append(owed, r.m.ID)
			d.opt.Log.Warn("a storage did not take an entity", "storage", uint32(r.m.ID), "err", r.err)
			if durable+len(waiting) < p.enough {
				return nil, errors.Join(problems...)
			}
			continue
		case <-tail:
		case <-deadline.C:
		case <-ctx.Done():
		}
		break
	}
	if durable < p.enough {
		problems = append(problems, context.Cause(ctx))
		return nil, fmt.Errorf("only %d storages answered in time, %d are needed: %w", durable, p.enough, errors.Join(problems...))
	}
	for _, m := range writers {
		if _, still := waiting[m.ID]; still {
			owed = append(owed, m.ID)
			m.sus.note(errSlow, d.opt.Now())
		}
	}
	return owed, nil
}

// lateWork counts writes to storages that outlive their requests, so that stopping waits for them.
type lateWork struct{ wg sync.WaitGroup }

func (l *lateWork) add()  { l.wg.Add(1) }
func (l *lateWork) done() { l.wg.Done() }
func (l *lateWork) wait() { l.wg.Wait() }
