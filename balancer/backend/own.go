package backend

import (
	"context"
	"slices"
	"time"
)

// GetOwn makes a connection for one request alone, which begins with a preface that says whose it is.
func (q *Queue) GetOwn(ctx context.Context, w Want, preface []byte) (*Conn, error) {
	set := q.set.Load()
	if set.pool == nil {
		return nil, ErrNoNodes
	}
	if err := set.pool.populated(ctx, w.Timeout); err != nil {
		return nil, err
	}
	ticket, err := set.pool.admit(time.Now(), w.Retry)
	if err != nil {
		return nil, err
	}
	c, err := q.getOwn(ctx, w, set, preface)
	if err != nil {
		ticket.release()
		return nil, err
	}
	c.begin(ticket, time.Now())
	return c, nil
}

func (q *Queue) getOwn(ctx context.Context, w Want, set *queueSettings, preface []byte) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	exclude := slices.Clone(w.Exclude)
	var last error = ErrQueueTime
	for ctx.Err() == nil {
		now := time.Now()
		wanted := w
		wanted.Exclude = exclude
		n := set.pool.choose(now, &wanted)
		if n == nil || !q.room(set, n) {
			n = set.pool.pick(now, w.Key, exclude, func(n *Node) bool { return q.room(set, n) })
		}
		if n == nil {
			return nil, &lateError{last.Error()}
		}
		if !n.grant() { // another has just got what it may have while it comes back
			exclude = append(exclude, n)
			continue
		}
		n.conns.Add(1)
		n.Attempts.Add(1)
		n.lastAttempt.Store(now.UnixNano())
		dctx, cancel := within(ctx, set.ConnectTimeout)
		nc, err := q.dial(dctx, n, preface)
		cancel()
		if err != nil {
			n.conns.Add(-1)
			n.Active.Add(-1)
			set.pool.connectFailed(n, time.Now(), err)
			exclude, last = append(exclude, n), err
			continue
		}
		n.Connects.Add(1)
		n.lastConnect.Store(time.Now().UnixNano())
		c := newConn(q, set, n, nc)
		c.own = true
		q.mu.Lock()
		q.all[c] = struct{}{}
		q.mu.Unlock()
		return c, nil
	}
	return nil, &lateError{last.Error()}
}
