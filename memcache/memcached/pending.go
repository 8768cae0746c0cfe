package memcached

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// pending are the connections whose request is not complete, and is longer than a read buffer (multigets of many keys) or one of a crowd
// that waits. Together they may have maxPending bytes for it. Beyond, those that have had the most for the longest time are closed: who
// means to finish a request does so at once, and is not kept from it by those who do not.
type pending struct {
	mu    sync.Mutex // guards all below
	bytes int
	list  map[*conn]pendingInput
}

type pendingInput struct {
	bytes int
	begun time.Time
}

// take notes that c's buffer is going to have so many bytes, and closes others if they are too many.
func (p *pending) take(c *conn, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in, known := p.list[c]
	if !known {
		if p.list == nil {
			p.list = map[*conn]pendingInput{}
		}
		in.begun = time.Now()
	}
	p.bytes += bytes - in.bytes
	in.bytes = bytes
	p.list[c] = in
	for p.bytes > maxPending {
		worst := p.worst(c)
		if len(worst) == 0 {
			return
		}
		for _, x := range worst {
			x.stripe.add(slowClosed)
			x.expel("too_long")
			p.drop(x)
		}
	}
}

// worst are those who have had the most bytes for the longest time, other than one: of many, several, so that it is not to be called for each.
// p.mu is held.
func (p *pending) worst(other *conn) []*conn {
	now := time.Now()
	cost := func(c *conn) float64 {
		in := p.list[c]
		return float64(in.bytes) * max(now.Sub(in.begun), time.Millisecond).Seconds()
	}
	list := make([]*conn, 0, len(p.list))
	for c := range p.list {
		if c != other {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *conn) int { return cmp.Compare(cost(b), cost(a)) })
	return list[:min(len(list), 1+len(list)/16)]
}

// release notes that c has no such buffer any more.
func (p *pending) release(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(c)
}

func (p *pending) drop(c *conn) {
	p.bytes -= p.list[c].bytes
	delete(p.list, c)
}
