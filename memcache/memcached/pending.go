package memcached

import (
	"sync"
	"time"
)

// pending are the connections whose request is longer than a read buffer and not complete: multigets of many keys. Together they may have
// maxPending bytes for it. Beyond, those that have had the most for the longest time are closed: who means to finish a line does so at once,
// and is not kept from it by those who do not.
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
		if worst == nil {
			return
		}
		worst.stripe.add(slowClosed)
		worst.close("too_long")
		p.drop(worst)
	}
}

// worst is who has had the most bytes for the longest time, other than one; nil: there is none. p.mu is held.
func (p *pending) worst(other *conn) (worst *conn) {
	now, most := time.Now(), 0.0
	for c, in := range p.list {
		if cost := float64(in.bytes) * max(now.Sub(in.begun), time.Millisecond).Seconds(); c != other && cost > most {
			worst, most = c, cost
		}
	}
	return worst
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
