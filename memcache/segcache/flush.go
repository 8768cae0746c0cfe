package segcache

import (
	"errors"
	"sync"
	"sync/atomic"
)

// MaxPrefixes is how many prefixes can have been flushed since all was.
const MaxPrefixes = 65536

// ErrTooManyPrefixes means that MaxPrefixes is reached; Flush forgets them.
var ErrTooManyPrefixes = errors.New("segcache: too many prefixes have been flushed")

// generations counts how often prefixes have been flushed. An item carries the generation that its key had; one whose prefix has
// another by now is gone. As long as no prefix was ever flushed, nobody looks here.
type generations struct {
	any  atomic.Bool
	mu   sync.RWMutex
	last uint32
	of_  map[string]uint32
}

// of is the generation of a key: the latest flush of any of its prefixes that end at a delimiter.
func (g *generations) of(key []byte, delimiter byte) (gen uint32) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for i, b := range key {
		if b == delimiter {
			gen = max(gen, g.of_[string(key[:i])])
		}
	}
	return gen
}

// FlushPrefix removes all items whose key begins with prefix and the delimiter, in constant time.
func (c *Cache) FlushPrefix(prefix string) error {
	g := &c.gens
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.of_[prefix]; !known && len(g.of_) >= MaxPrefixes {
		return ErrTooManyPrefixes
	}
	if g.of_ == nil {
		g.of_ = map[string]uint32{}
	}
	g.last++
	g.of_[prefix] = g.last
	g.any.Store(true)
	return nil
}

// Prefixes is how many prefixes have been flushed.
func (c *Cache) Prefixes() int {
	c.gens.mu.RLock()
	defer c.gens.mu.RUnlock()
	return len(c.gens.of_)
}

// Flush removes all items that have been stored before the call, and none that is stored after it.
func (c *Cache) Flush() {
	c.room.Lock()
	defer c.room.Unlock()
	c.flushEpoch.Store(c.epoch.Add(1))
	for q := range c.actives {
		for l := range c.actives[q] {
			for b := range c.actives[q][l] {
				c.seal(&c.actives[q][l][b], -1)
			}
		}
	}
	c.scanned.Store(0)
	c.wakeUp()
}

// seal closes a kind's open region, or only if it is r (r ≥ 0).
func (c *Cache) seal(a *active, r int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.region < 0 || r >= 0 && a.region != r {
		return
	}
	c.segs.regions[a.region].set(regionSealed)
	a.region = -1
}
