package backend

import (
	"context"
	"errors"
	"slices"
	"time"
)

// GetOwn is Get of a connection for one request alone, which begins with a preface that says whose it is. The request waits in the same
// queues.
func (q *Queue) GetOwn(ctx context.Context, w Want, preface []byte) (*Conn, error) {
	w.preface = preface
	return q.Get(ctx, w)
}

// spawnOwn connects for those who want a connection of their own, the high queue first, as far as nodes have room. q.mu is held.
func (q *Queue) spawnOwn(set *queueSettings, now time.Time) {
	for w := range q.waiters() {
		if w.preface == nil || w.connecting {
			continue
		}
		n := w.node
		if n == nil || !n.usable(now) || !q.useful(set, n) || !slices.Contains(set.pool.Nodes(), n) || slices.Contains(w.exclude, n) {
			n = set.pool.pick(now, w.key, w.exclude, func(n *Node) bool { return q.useful(set, n) && !slices.Contains(w.exclude, n) })
		}
		if n == nil {
			continue
		}
		ctx, cancel := context.WithCancel(q.dialCtx)
		w.connecting, w.cancel = true, cancel
		under := q.beginConnect(n, now)
		q.dialing.Go(func() {
			defer cancel()
			q.establishOwn(ctx, set, under, w)
		})
	}
}

// establishOwn makes a connection for a request that waits.
func (q *Queue) establishOwn(ctx context.Context, set *queueSettings, p *connecting, w *waiter) {
	ctx, cancel := within(ctx, set.ConnectTimeout)
	defer cancel()
	n := p.node
	nc, err := q.dial(ctx, n, w.preface)
	now := time.Now()
	switch {
	case err == nil:
		n.Connects.Add(1)
		n.lastConnect.Store(now.UnixNano())
	case errors.Is(ctx.Err(), context.Canceled): // the request has gone, or the service
	default:
		set.pool.connectFailed(n, now, err)
		q.log.Debug("connect failed", "addr", n.Addr, "err", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.endConnect(p)
	w.connecting = false
	switch {
	case err != nil:
		n.conns.Add(-1)
		w.exclude = append(slices.Clip(w.exclude), n)
	default:
		c := newConn(q, set, n, nc)
		c.own = true
		if q.closed || !w.queued || !c.wanted() || !n.grant() {
			c.close()
			break
		}
		q.waiting[w.priority].remove(w)
		q.all[c] = struct{}{}
		w.ready <- c
	}
	q.spawn()
}
