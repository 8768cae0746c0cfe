package segcache

import "context"

const (
	largeFraction  = 8    // items above this part of a segment have regions of their own kind,
	itemsPerRegion = 4    // of at least so many of them, lest much of the last segment is left over
	wantUse        = 1    // uses by which an item passes its probation
	probationPart  = 10   // of the memory that is in use
	scanRegions    = 4096 // at most, of which the one with the least in use is sought each time
	forceAfter     = 16   // evictions without success, after which use does not protect an item
)

// Room makes an open region for the item that Store has just found no room for, forgetting others where it must. The access has been
// ended. ErrFull: there is none to be had. ErrTooLarge: there never will.
func (c *Cache) Room(t *Txn) error { return c.roomFor(t.size, t.exp) }

func (c *Cache) roomFor(size int, exp uint32) error {
	if int64(size) > c.MaxItem() {
		return ErrTooLarge
	}
	c.room.Lock()
	defer c.room.Unlock()
	large, bucket := c.kind(size, exp)
	if c.hasRoom(&c.actives[probation][large][bucket], size) { // another one has made it meanwhile
		return nil
	}
	count := c.regionSegs(size, large)
	for tries := 0; ; tries++ {
		if c.openFor(probation, large, bucket, count, reserveSegs) {
			c.wakeIfLow()
			return nil
		}
		switch {
		case tries > 4*len(c.segs.regions)+forceAfter:
			return ErrFull
		case c.opts.NoEvict && !c.sweep() && !c.compact(count):
			return ErrFull
		case !c.opts.NoEvict && !c.evict(count, tries):
			return ErrFull
		}
	}
}

// regionSegs is how many segments a new region for an item has.
func (c *Cache) regionSegs(size, large int) uint32 {
	if large == 0 {
		return 1
	}
	need := uint32((uint64(size) + 1<<c.segShift - 1) >> c.segShift)
	nice := uint32((itemsPerRegion*uint64(size) + 1<<c.segShift - 1) >> c.segShift)
	return max(need, min(nice, c.capacity()/16))
}

func (c *Cache) hasRoom(a *active, size int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.region < 0 {
		return false
	}
	r := &c.segs.regions[a.region]
	return r.end.Load()+uint64(size) <= uint64(r.count)<<c.segShift
}

// openFor gives a kind of items a new open region. c.room is held.
func (c *Cache) openFor(q queueID, large, bucket int, count, spare uint32) bool {
	c.segs.mu.Lock()
	first := c.take(count, spare)
	if first < 0 {
		c.segs.mu.Unlock()
		return false
	}
	r := c.open(first, count, q)
	r.large, r.bucket = uint8(large), uint8(bucket)
	c.segs.mu.Unlock()
	a := &c.actives[q][large][bucket]
	c.seal(a, -1)
	a.mu.Lock()
	a.region = first
	a.mu.Unlock()
	return true
}

// evict frees some memory. c.room is held.
func (c *Cache) evict(count uint32, tries int) bool {
	if c.sweep() {
		return true
	}
	if count > 1 && tries > 0 {
		c.segs.mu.Lock()
		enough := c.segs.used+count+reserveSegs <= c.capacity()
		c.segs.mu.Unlock()
		if enough { // but not in a row
			return c.evictWindow(count)
		}
	}
	mode := clearUnused
	if tries > forceAfter {
		mode = clearAll
	} else if r := c.halfDead(); r >= 0 && c.clear(r, clearGone) {
		return true // as long as there is much that nobody needs, nothing else is forgotten
	}
	first := probation
	c.segs.mu.Lock()
	if s := &c.segs; s.queue[mainQueue].segs > 0 && s.queue[probation].segs*probationPart < s.used {
		first = mainQueue
	}
	c.segs.mu.Unlock()
	return c.evictFrom(first, mode) || c.evictFrom(1-first, mode)
}

// evictFrom clears the first region of a queue that can be. Those that are held, which may be many, and all at the head, are passed over.
func (c *Cache) evictFrom(q queueID, mode clearMode) bool {
	c.segs.mu.Lock()
	i := c.segs.queue[q].head
	c.segs.mu.Unlock()
	for n := 0; i >= 0 && n < 64; {
		if c.segs.regions[i].held.Load() == 0 {
			if c.clear(i, mode) {
				return true
			}
			n++
		}
		c.segs.mu.Lock()
		i = c.segs.regions[i].next
		c.segs.mu.Unlock()
	}
	return false
}

// halfDead returns the sealed region that has the least of its memory in use, if that is less than half, or -1. In a large cache it looks at
// some at a time.
func (c *Cache) halfDead() int32 {
	s := &c.segs
	s.mu.Lock()
	defer s.mu.Unlock()
	best, least := int32(-1), 0.5
	for range min(scanRegions, s.top) {
		if s.scan++; s.scan >= s.top {
			s.scan = 0
		}
		r := &s.regions[s.scan]
		if !r.is(regionSealed) || r.refs.Load() != 0 {
			continue
		}
		if part := float64(r.live.Load()) / float64(int64(r.count)<<c.segShift); part < least {
			best, least = int32(s.scan), part
		}
	}
	return best
}

// sweep frees the regions whose items have all expired, or were flushed, once a second. c.room is held.
func (c *Cache) sweep() (freed bool) {
	now := c.Now()
	if c.scanned.Swap(now) == now {
		return false
	}
	flush := c.flushEpoch.Load()
	var gone []int32
	c.segs.mu.Lock()
	for q := range c.segs.queue {
		for i := c.segs.queue[q].head; i >= 0; i = c.segs.regions[i].next {
			r := &c.segs.regions[i]
			if exp := r.maxExp.Load(); r.epoch < flush || exp != 0 && exp <= now || r.live.Load() == 0 && r.is(regionSealed) {
				gone = append(gone, i)
			}
		}
	}
	c.segs.mu.Unlock()
	for _, i := range gone {
		freed = c.clear(i, clearGone) || freed
	}
	return freed
}

// evictWindow clears adjacent regions, so that there is a run of free segments. c.room is held.
func (c *Cache) evictWindow(count uint32) bool {
	n := int32(min(c.capacity(), uint32(len(c.segs.regions))))
	c.segs.mu.Lock()
	start := c.segs.queue[probation].head
	if start < 0 {
		start = c.segs.queue[mainQueue].head
	}
	c.segs.mu.Unlock()
	start = max(min(start, n-int32(count)), 0)
	freed := false
	for tries := 0; tries < 64; tries++ {
		whole := true
		for i := start; i < start+int32(count); i++ {
			r := &c.segs.regions[i]
			switch {
			case r.is(regionFree):
			case r.is(regionInner):
				i0 := i - int32(r.count)
				whole = c.clear(i0, clearAll) && whole
			default:
				whole = c.clear(i, clearAll) && whole
			}
		}
		freed = freed || whole
		if whole {
			return true
		}
		start = (start + int32(count)) % max(n-int32(count), 1)
	}
	return freed
}

// compact frees memory by moving items together, in a cache that forgets none. c.room is held.
func (c *Cache) compact(count uint32) bool {
	c.segs.mu.Lock()
	best, least := int32(-1), int64(1)<<c.segShift/16
	for q := range c.segs.queue {
		for i := c.segs.queue[q].head; i >= 0; i = c.segs.regions[i].next {
			r := &c.segs.regions[i]
			dead := int64(r.end.Load()) - r.live.Load()
			if r.is(regionSealed) && r.refs.Load() == 0 && dead > least {
				best, least = i, dead
			}
		}
	}
	c.segs.mu.Unlock()
	_ = count
	return best >= 0 && c.clear(best, clearGone)
}

// SetLimit changes the memory that may be used, in bytes. It reports whether so much can be had. When it shrinks, the background
// work (Run) forgets what is too much.
func (c *Cache) SetLimit(limit int64) bool {
	if limit < 1<<20 || limit>>c.segShift > int64(len(c.segs.regions)) {
		return false
	}
	c.limit.Store(limit)
	c.wakeUp()
	return true
}

// SetAside says how much of the limit others need, in bytes. Items have the rest, at least half of the limit. What is too much is forgotten as
// by SetLimit; with NoEvict nothing is, but nothing new takes its place.
func (c *Cache) SetAside(bytes int64) {
	if bytes = max(bytes, 0); c.aside.Swap(bytes) != bytes {
		c.wakeUp()
	}
}

// Aside is how much of the limit items have given up, in bytes.
func (c *Cache) Aside() int64 { return min(c.aside.Load(), c.limit.Load()/2) }

// Tick tells the time, in seconds, and what has expired is freed in the background.
func (c *Cache) Tick(now uint32) {
	if c.now.Swap(now) != now {
		c.wakeUp()
	}
}

func (c *Cache) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

const lowWater = reserveSegs + 3

func (c *Cache) low() bool {
	c.segs.mu.Lock()
	defer c.segs.mu.Unlock()
	return c.segs.used+lowWater > c.capacity()
}

func (c *Cache) wakeIfLow() {
	if !c.opts.NoEvict && c.low() {
		c.wakeUp()
	}
}

// Run frees memory ahead of need, until ctx ends. A cache works without it, in steps that are less even.
func (c *Cache) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		}
		c.room.Lock()
		c.sweep()
		c.room.Unlock()
		if c.gens.full() {
			c.purge(ctx)
		}
		for tries := 0; !c.opts.NoEvict && c.low() && tries < 4*len(c.segs.regions) && ctx.Err() == nil; tries++ {
			c.room.Lock()
			ok := c.evict(1, tries%(forceAfter+2))
			c.room.Unlock()
			if !ok {
				break
			}
		}
		c.shrink()
	}
}

// shrink gives memory back to the system that a lower limit does not allow.
func (c *Cache) shrink() {
	c.segs.mu.Lock()
	defer c.segs.mu.Unlock()
	for i := int32(len(c.segs.regions)) - 1; i >= 0 && c.segs.warm > max(c.capacity(), c.segs.used); i-- {
		if c.segs.taken[i/64]>>(i%64)&1 == 0 {
			c.discard(i)
		}
	}
}
