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

const (
	// reserveAfter is how long a write that is not durable enough waits before the storages that were spared are asked too.
	reserveAfter = 300 * time.Millisecond
	// leaveAfter is how long it waits before it goes to another cluster, if there is one.
	leaveAfter = 700 * time.Millisecond
)

// putAll stores a small entity on all writable storages of a cluster at once. It returns when enough have it durable and
// the rest have either answered or had TailWait more. It does not wait longer than limit. The body is held until the last
// has answered. owed is how many storages of the cluster are left without it.
func (d *Dispatcher) putAll(ctx context.Context, p *upload, c store.ClusterID, info store.EntityInfo, b *body, limit time.Duration) (written []store.StorageID, owed int, err error) {
	crew := p.view.writersOf(c, p.durable, d.opt.Now())
	if len(crew.writers) < p.durable {
		return nil, 0, fmt.Errorf("cluster %d: %d storages are writable, %d are needed", c, len(crew.writers), p.durable)
	}
	results := make(chan putResult, len(crew.writers)+len(crew.reserve))
	send := func(list []*member) {
		b.hold(int32(len(list)))
		for _, m := range list {
			d.late.add()
			d.putOne(ctx, m, info, b.bytes(), func(err error) {
				m.sus.note(err, d.opt.Now())
				b.release()
				results <- putResult{m, err}
				d.late.done()
			})
		}
	}
	send(crew.writers)
	reserve := func() []*member {
		send(crew.reserve)
		return crew.reserve
	}
	if len(crew.reserve) == 0 {
		reserve = nil
	}
	written, err = d.collect(ctx, crew.writers, results, patience{p.durable, d.opt.TailWait, limit, reserve})
	if err != nil {
		return nil, 0, fmt.Errorf("cluster %d, object %d: %w", c, info.ID, err)
	}
	return written, crew.size() - len(written), nil
}

// patience says how long to wait for storages: until enough have answered, for tail more, and never longer than limit. reserve,
// unless nil, is called when that takes long, and returns who else has been asked.
type patience struct {
	enough      int
	tail, limit time.Duration
	reserve     func() []*member
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

// collect waits for the storages' answers, and returns those that have the entity durable.
func (d *Dispatcher) collect(ctx context.Context, writers []*member, results <-chan putResult, p patience) (written []store.StorageID, err error) {
	waiting := make(map[store.StorageID]*member, len(writers))
	for _, m := range writers {
		waiting[m.ID] = m
	}
	var long <-chan time.Time
	if p.reserve != nil {
		timer := time.NewTimer(reserveAfter)
		defer timer.Stop()
		long = timer.C
	}
	var tail <-chan time.Time
	deadline := time.NewTimer(p.limit)
	defer deadline.Stop()
	var problems []error
	for len(waiting) > 0 {
		if len(written) >= p.enough && tail == nil {
			timer := time.NewTimer(p.tail)
			defer timer.Stop()
			tail = timer.C
		}
		select {
		case r := <-results:
			delete(waiting, r.m.ID)
			if r.err == nil {
				written = append(written, r.m.ID)
				continue
			}
			problems = append(problems, fmt.Errorf("storage %d: %w", r.m.ID, r.err))
			d.opt.Log.Warn("a storage did not take an entity", "storage", uint32(r.m.ID), "err", r.err)
			if len(written)+len(waiting) < p.enough {
				return nil, errors.Join(problems...)
			}
			continue
		case <-long:
			if long = nil; len(written) < p.enough {
				for _, m := range p.reserve() {
					waiting[m.ID] = m
				}
			}
			continue
		case <-tail:
		case <-deadline.C:
		case <-ctx.Done():
		}
		break
	}
	if len(written) < p.enough {
		for _, m := range waiting {
			if ctx.Err() == nil { // else it is the client who did not wait
				m.sus.note(errSlow, d.opt.Now())
			}
		}
		problems = append(problems, context.Cause(ctx))
		return nil, fmt.Errorf("only %d storages answered in time, %d are needed: %w", len(written), p.enough, errors.Join(problems...))
	}
	for _, m := range waiting {
		m.sus.note(errSlow, d.opt.Now())
	}
	return written, nil
}

// lateWork counts writes to storages that outlive their requests, so that stopping waits for them.
type lateWork struct{ wg sync.WaitGroup }

func (l *lateWork) add()  { l.wg.Add(1) }
func (l *lateWork) done() { l.wg.Done() }
func (l *lateWork) wait() { l.wg.Wait() }
