package backend

import (
	"context"
	"slices"
	"time"
)

// spawn starts as many connects as are wanted. q.mu is held.
func (q *Queue) spawn() {
	set := q.set.Load()
	if q.closed || set.pool == nil {
		return
	}
	now := time.Now()
	q.spawnFor(set, now)
	waiting := q.countFree()
	pendingCount := 0
	for n, list := range q.pending {
		list = slices.DeleteFunc(list, func(p *connecting) bool { return !p.verifying && now.Sub(p.since) > stuckTime })
		q.pending[n] = list
		for _, p := range list {
			if now.Sub(p.since) < slowConnect {
				pendingCount++
			}
		}
	}
	wanted := min(maxRound, waiting+set.ConnectAhead-len(q.idle)-pendingCount)
	for range max(0, wanted) {
		n := set.pool.pickFree(now, func(n *Node) bool { return len(q.pending[n]) == 0 && q.room(set, n) })
		if n == nil {
			break
		}
		q.connect(set, n, now)
	}
	if q.count() > 0 && q.retry == nil {
		q.retry = time.AfterFunc(slowConnect, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.retry = nil
			q.spawn()
		})
	}
}

// room reports whether the pool allows one more connection to a node.
func (q *Queue) room(set *queueSettings, n *Node) bool {
	limit := set.pool.Settings().MaxConns
	return limit <= 0 || n.Conns() < limit
}

// countFree is how many of those who wait take any node. q.mu is held.
func (q *Queue) countFree() int {
	n := 0
	for i := range q.waiting {
		for w := q.waiting[i].first; w != nil; w = w.next {
			if w.node == nil {
				n++
			}
		}
	}
	return n
}

// spawnFor connects to the nodes that requests were assigned to. q.mu is held.
func (q *Queue) spawnFor(set *queueSettings, now time.Time) {
	for i := range q.waiting {
		for w := q.waiting[i].first; w != nil; w = w.next {
			if w.node == nil || w.connecting {
				continue
			}
			if !w.node.usable(now) || !slices.Contains(set.pool.Nodes(), w.node) {
				// Its node has gone since: another takes it, or in the end whichever is free.
				w.node = set.pool.pick(now, "", append(w.exclude, w.node), func(*Node) bool { return true })
				if w.node == nil {
					continue
				}
			}
			if q.room(set, w.node) {
				w.connecting = true
				q.connect(set, w.node, now)
			}
		}
	}
}

// connect starts to make a connection. q.mu is held.
func (q *Queue) connect(set *queueSettings, n *Node, now time.Time) {
	p := &connecting{node: n, since: now}
	q.pending[n] = append(q.pending[n], p)
	n.conns.Add(1)
	n.Attempts.Add(1)
	n.lastAttempt.Store(now.UnixNano())
	q.dialing.Go(func() { q.establish(set, p) })
}

// establish makes a connection, proves it if it is to be, and offers it.
func (q *Queue) establish(set *queueSettings, p *connecting) {
	ctx, cancel := within(q.dialCtx, set.ConnectTimeout)
	defer cancel()
	nc, err := q.dial(ctx, p.node, nil)
	now := time.Now()
	var c *Conn
	if err != nil {
		set.pool.connectFailed(p.node, now, err)
		q.log.Debug("connect failed", "addr", p.node.Addr, "err", err)
	} else {
		p.node.Connects.Add(1)
		p.node.lastConnect.Store(now.UnixNano())
		c = newConn(q, set, p.node, nc)
		c.state.Store(int32(Bored))
		if set.VerifyBackend && now.UnixNano() >= p.node.noVerifyUntil.Load() {
			q.setVerifying(p)
			c.state.Store(int32(Verifying))
			err = c.verify(q.dialCtx, set.VerifyBackendPath)
			c.state.Store(int32(Bored))
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending[p.node] = slices.DeleteFunc(q.pending[p.node], func(o *connecting) bool { return o == p })
	if len(q.pending[p.node]) == 0 {
		delete(q.pending, p.node)
	}
	switch {
	case err != nil && c == nil:
		p.node.conns.Add(-1)
		q.reassign(p.node)
	case err != nil:
		p.node.noVerifyUntil.Store(time.Now().Add(noVerifyTime).UnixNano())
		q.log.Warn("backend failed to prove itself", "addr", p.node.Addr, "err", err)
		c.close()
	case q.closed, !c.wanted(): // or the node has gone meanwhile
		c.close()
		q.reassign(p.node)
	default:
		q.all[c] = struct{}{}
		q.offer(c, time.Now())
	}
	q.spawn()
}

// within is ctx with a limit; 0: none.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// reassign frees those who wait for a node that cannot be reached. q.mu is held.
func (q *Queue) reassign(n *Node) {
	for i := range q.waiting {
		for w := q.waiting[i].first; w != nil; w = w.next {
			if w.node == n {
				w.connecting = false
			}
		}
	}
}

func (q *Queue) setVerifying(p *connecting) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p.verifying = true
}
