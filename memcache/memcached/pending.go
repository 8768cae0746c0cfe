package memcached

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"time"

	"wheelhouse/internal/pace"
)

// pending are connections that have memory for something that their clients are to do: for a request that is not complete, and is longer than a
// read buffer (multigets of many keys) or one of a crowd that waits; or for answers that are not taken. Together they may have so much of it.
// Beyond, those that have had the most for the longest time are closed: who means to go on does so at once, and is not kept from it by those
// who do not.
type pending struct {
	most   int        // bytes
	more   func() int // bytes besides; nil: none
	reason string     // for which they are closed
	log    *slog.Logger
	told   pace.Gate

	mu    sync.Mutex // guards all below
	bytes int
	list  map[*conn]pendingBytes
}

type pendingBytes struct {
	bytes int
	begun time.Time
}

// closedEvery is how often the log tells that connections were closed.
const closedEvery = 10 * time.Second

// take notes that c is going to have so many bytes, and closes others if they are too many.
func (p *pending) take(c *conn, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in, known := p.list[c]
	if !known {
		if p.list == nil {
			p.list = map[*conn]pendingBytes{}
		}
		in.begun = time.Now()
	}
	p.bytes += bytes - in.bytes
	in.bytes = bytes
	p.list[c] = in
	most := p.most
	if p.bytes > most && p.more != nil {
		most += p.more()
	}
	for p.bytes > most {
		worst := p.worst(c)
		if len(worst) == 0 {
			return
		}
		for _, x := range worst {
			x.stripe.add(slowClosed)
			x.expel(p.reason)
			p.drop(x)
			if n, ok := p.told.Pass(closedEvery); ok {
				p.log.Warn("connections closed: they have too much memory for what their clients do not go on with", "reason", p.reason,
					"addr", x.remote(), "count", n)
			}
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
