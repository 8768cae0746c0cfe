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
	q.dismiss(set, now)
	q.relent(set, now)
	q.pair(now)
	q.spawnFor(set, now)
	q.spawnOwn(set, now)
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
	// Those who wait have no use for what is idle, or they had got it.
	wanted := min(maxRound, waiting+max(0, set.ConnectAhead-len(q.idle))-pendingCount)
	for range max(0, wanted) {
		n := set.pool.pickFree(now, func(n *Node) bool {
			return len(q.pending[n]) == 0 && q.useful(set, n) && (waiting == 0 || q.wants(n))
		})
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

// useful reports whether one more connection to a node can be made and used: one that comes back has no use for more than it may have
// requests. q.mu is held.
func (q *Queue) useful(set *queueSettings, n *Node) bool {
	left, limited := n.trials()
	return q.room(set, n) && (!limited || left > len(q.pending[n]))
}

// dismiss sends away those who have something to fall back on, when no node can be used now. q.mu is held.
func (q *Queue) dismiss(set *queueSettings, now time.Time) {
	asked := false
	for w := range q.waiters() {
		if !w.standby {
			continue
		}
		if !asked && set.pool.anyUsable(now) {
			return
		}
		asked = true
		q.waiting[w.priority].remove(w)
		if w.cancel != nil {
			w.cancel()
		}
		w.end = endUnusable
		w.ready <- nil
	}
}

// relent has those who wait take a node that has failed them already where there is no other to be used any more. q.mu is held.
func (q *Queue) relent(set *queueSettings, now time.Time) {
	for w := range q.waiters() {
		if !set.pool.another(now, w.exclude) {
			w.exclude = nil
		}
	}
}

// wants reports whether one of those who take any node takes this one. q.mu is held.
func (q *Queue) wants(n *Node) bool {
	for w := range q.waiters() {
		if w.node == nil && w.preface == nil && !slices.Contains(w.exclude, n) {
			return true
		}
	}
	return false
}

// countFree is how many of those who wait take any node. q.mu is held.
func (q *Queue) countFree() int {
	n := 0
	for w := range q.waiters() {
		if w.node == nil && w.preface == nil {
			n++
		}
	}
	return n
}

// spawnFor connects to the nodes that requests were assigned to. q.mu is held.
func (q *Queue) spawnFor(set *queueSettings, now time.Time) {
	for w := range q.waiters() {
		if w.node == nil || w.connecting || w.preface != nil {
			continue
		}
		if !w.node.usable(now) || !slices.Contains(set.pool.Nodes(), w.node) {
			// Its node has gone since: another takes it, or in the end whichever is free.
			w.node = set.pool.pick(now, "", append(w.exclude, w.node), func(*Node) bool { return true })
			if w.node == nil {
				continue
			}
		}
		if q.useful(set, w.node) {
			w.connecting = true
			q.connect(set, w.node, now)
		}
	}
}

// connect starts to make a connection. q.mu is held.
func (q *Queue) connect(set *queueSettings, n *Node, now time.Time) {
	p := q.beginConnect(n, now)
	q.dialing.Go(func() { q.establish(set, p) })
}

// beginConnect notes that a connection is being made. q.mu is held.
func (q *Queue) beginConnect(n *Node, now time.Time) *connecting {
	p := &connecting{node: n, since: now}
	q.pending[n] = append(q.pending[n], p)
	n.conns.Add(1)
	n.Attempts.Add(1)
	n.lastAttempt.Store(now.UnixNano())
	return p
}

// endConnect notes that it has been made, or not. q.mu is held.
func (q *Queue) endConnect(p *connecting) {
	q.pending[p.node] = slices.DeleteFunc(q.pending[p.node], func(o *connecting) bool { return o == p })
	if len(q.pending[p.node]) == 0 {
		delete(q.pending, p.node)
	}
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
	q.endConnect(p)
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
		if q.offer(c, time.Now()); slices.Contains(q.idle, c) {
			q.reassign(p.node) // which may have no more requests now
		}
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
	for w := range q.waiters() {
		if w.node == n && w.preface == nil {
			w.connecting = false
		}
	}
}

func (q *Queue) setVerifying(p *connecting) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p.verifying = true
}
