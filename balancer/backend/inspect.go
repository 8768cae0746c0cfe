package backend

import (
	"cmp"
	"slices"
	"time"

	"wheelhouse/balancer"
)

// ConnInfo is what the console shows of a connection to a backend.
type ConnInfo struct {
	Addr, Local string
	State       State
	Uses        int
	Age         time.Duration
}

// Pending is a connection that is being made.
type Pending struct {
	Addr      string
	Age       time.Duration
	Verifying bool
}

// Waiting says how many requests wait in a queue, and how long the first has.
func (q *Queue) Waiting(p balancer.Priority) (count int, oldest time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := &q.waiting[p]
	if l.first != nil {
		oldest = time.Since(l.first.since)
	}
	return l.n, oldest
}

// Idle is how many connections wait for work.
func (q *Queue) Idle() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.idle)
}

// Conns are the connections, by address.
func (q *Queue) Conns() []ConnInfo {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	list := make([]ConnInfo, 0, len(q.all))
	for c := range q.all {
		list = append(list, ConnInfo{c.Node.Addr, c.LocalAddr().String(), c.State(), c.Uses(), now.Sub(c.born)})
	}
	slices.SortFunc(list, func(a, b ConnInfo) int { return cmp.Or(cmp.Compare(a.Addr, b.Addr), cmp.Compare(a.Local, b.Local)) })
	return list
}

// Pending are the connections that are being made.
func (q *Queue) Pending() []Pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []Pending
	for n, ps := range q.pending {
		for _, p := range ps {
			list = append(list, Pending{n.Addr, time.Since(p.since), p.verifying})
		}
	}
	slices.SortFunc(list, func(a, b Pending) int { return cmp.Compare(a.Addr, b.Addr) })
	return list
}

// NoVerify are the nodes whose connections are used without verification for now, with the time that is left.
func (p *Pool) NoVerify(now time.Time) map[string]time.Duration {
	list := map[string]time.Duration{}
	for _, n := range p.Nodes() {
		if left := time.Duration(n.noVerifyUntil.Load() - now.UnixNano()); left > 0 {
			list[n.Addr] = left
		}
	}
	return list
}
