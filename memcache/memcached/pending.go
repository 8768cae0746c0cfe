package memcached

import "sync"

// pending are the connections whose request is longer than a read buffer and not complete: multigets of many keys. Together they may have
// maxPending bytes for it. Beyond, those that have taken the longest are closed: who means to finish a line does so at once, and is not
// kept from it by those who do not.
type pending struct {
	mu    sync.Mutex
	bytes int
	last  uint64
	list  map[*conn]pendingInput
}

type pendingInput struct {
	bytes int
	begun uint64 // in the order of their beginnings
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
		p.last++
		in.begun = p.last
	}
	p.bytes += bytes - in.bytes
	in.bytes = bytes
	p.list[c] = in
	for p.bytes > maxPending {
		oldest := p.oldest(c)
		if oldest == nil {
			return
		}
		oldest.stripe.add(slowClosed)
		oldest.close("too_long")
		p.drop(oldest)
	}
}

// oldest is who has taken longest, other than one; nil: there is none. p.mu is held.
func (p *pending) oldest(other *conn) (oldest *conn) {
	least := p.last + 1
	for c, in := range p.list {
		if c != other && in.begun < least {
			oldest, least = c, in.begun
		}
	}
	return oldest
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
