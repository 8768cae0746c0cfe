package segcache

import (
	"bytes"
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
)

// MaxFlushed is how many prefixes, and how many tags, the cache remembers to have been flushed. Past half of it Run looks through the
// items and forgets those names that none of them needs any more.
const MaxFlushed = 65536

// ErrTooManyFlushed means that MaxFlushed names are remembered. Run makes room soon, Flush at once.
var ErrTooManyFlushed = errors.New("segcache: too many prefixes or tags have been flushed")

// maxGeneration is the last generation that items can carry: one bit of their word is genTagged. Half of it is where it begins anew.
const maxGeneration = math.MaxUint32 >> 1

// generations counts flushes of prefixes and tags: each flush has a number, and an item carries the highest that concerned it when it was
// stored. One that is concerned by a higher one is gone. As long as nothing was ever flushed so, nobody looks here.
type generations struct {
	any      atomic.Bool
	last     atomic.Uint32 // changed under mu
	mu       sync.RWMutex  // guards all below
	prefixes map[string]uint32
	tags     map[string]uint32
}

// of is the latest flush that concerns a key: of any of its prefixes that end at a delimiter.
func (g *generations) of(key []byte, delimiter byte) (gen uint32) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if len(g.prefixes) == 0 {
		return 0
	}
	for i, b := range key {
		if b == delimiter {
			gen = max(gen, g.prefixes[string(key[:i])])
		}
	}
	return gen
}

// ofTags is the latest flush of any of an item's tags.
func (g *generations) ofTags(tags []byte) (gen uint32) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if len(g.tags) == 0 {
		return 0
	}
	for { // without an iterator, lest tags escape to the heap
		i := bytes.IndexByte(tags, ',')
		if i < 0 {
			return max(gen, g.tags[string(tags)])
		}
		gen = max(gen, g.tags[string(tags[:i])])
		tags = tags[i+1:]
	}
}

// note gives a name in one of the maps a new generation.
func (g *generations) note(names *map[string]uint32, name string) error {
	if _, known := (*names)[name]; !known && len(*names) >= MaxFlushed {
		return ErrTooManyFlushed
	}
	if *names == nil {
		*names = map[string]uint32{}
	}
	(*names)[name] = g.last.Add(1)
	g.any.Store(true)
	return nil
}

// forget drops the names whose last flush is not after gen.
func (g *generations) forget(gen uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, names := range []map[string]uint32{g.prefixes, g.tags} {
		for name, n := range names {
			if n <= gen {
				delete(names, name)
			}
		}
	}
	g.any.Store(len(g.prefixes)+len(g.tags) > 0)
}

// reset forgets all names, where no item is left that they concern.
func (g *generations) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.prefixes, g.tags = nil, nil
	g.any.Store(false)
	if g.last.Load() >= maxGeneration/2 {
		g.last.Store(0)
	}
}

// full reports whether there are so many names that some should be forgotten.
func (g *generations) full() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return max(len(g.prefixes), len(g.tags)) > MaxFlushed/2
}

// FlushPrefix removes all items whose key begins with prefix and the delimiter, in constant time.
func (c *Cache) FlushPrefix(prefix string) error { return c.flushName(&c.gens.prefixes, prefix) }

// FlushTag removes all items that have the tag, in constant time.
func (c *Cache) FlushTag(tag string) error { return c.flushName(&c.gens.tags, tag) }

func (c *Cache) flushName(names *map[string]uint32, name string) error {
	g := &c.gens
	g.mu.Lock()
	err := g.note(names, name)
	over := g.last.Load() >= maxGeneration/2
	g.mu.Unlock()
	if over { // a thousand million flushes: the numbers begin anew, and no item may have one of the old
		c.Flush()
	}
	if err != nil || g.full() {
		c.wakeUp()
	}
	return err
}

// Flushed is how many prefixes and tags are remembered to have been flushed.
func (c *Cache) Flushed() (prefixes, tags int) {
	c.gens.mu.RLock()
	defer c.gens.mu.RUnlock()
	return len(c.gens.prefixes), len(c.gens.tags)
}

// purge removes the items that flushes of prefixes and tags have made unreachable, and then forgets those flushes: all items that are there
// have been stored after them.
func (c *Cache) purge(ctx context.Context) {
	last := c.gens.last.Load()
	if c.Walk(0, func(*Txn, []byte) bool { return ctx.Err() == nil }) == 0 {
		c.gens.forget(last)
	}
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
	c.gens.reset() // not before: the items that it concerned must be gone by now
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
