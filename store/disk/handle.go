package disk

import (
	"sync"
	"sync/atomic"

	"wheelhouse/internal/faultfs"
)

// handle is an open file that is closed when the last of its users lets go.
type handle struct {
	faultfs.File
	refs atomic.Int64
	used atomic.Bool // since the clock's hand last passed
}

func newHandle(f faultfs.File) *handle {
	h := &handle{File: f}
	h.refs.Store(1)
	return h
}

// acquire adds a user. The caller must know that there is one already.
func (h *handle) acquire() *handle {
	h.refs.Add(1)
	if !h.used.Load() {
		h.used.Store(true)
	}
	return h
}

func (h *handle) release() {
	if h.refs.Add(-1) == 0 {
		h.File.Close()
	}
}

// fdCache bounds how many packs are open. When there are too many, those that have not been read lately are closed.
type fdCache struct {
	max int

	mu   sync.Mutex
	ring []*pack // that are open, as far as is known
	hand int
}

// opened is told of a pack that was just opened. It must be called without holding a pack's lock.
func (c *fdCache) opened(p *pack) {
	c.mu.Lock()
	c.ring = append(c.ring, p)
	var victims []*pack
	for tries := 2 * len(c.ring); len(c.ring) > c.max && tries > 0; tries-- {
		c.hand %= len(c.ring)
		q := c.ring[c.hand]
		if q != p && !q.usedLately() {
			victims = append(victims, q)
			c.ring[c.hand] = c.ring[len(c.ring)-1]
			c.ring = c.ring[:len(c.ring)-1]
			continue
		}
		c.hand++
	}
	c.mu.Unlock()
	for _, q := range victims {
		q.closeFile()
	}
}

// forget is told of a pack that is no more.
func (c *fdCache) forget(p *pack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, q := range c.ring {
		if q == p {
			c.ring[i] = c.ring[len(c.ring)-1]
			c.ring = c.ring[:len(c.ring)-1]
			return
		}
	}
}
