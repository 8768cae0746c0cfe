package segcache

// clearMode says what becomes of a region's items.
type clearMode uint8

const (
	clearGone   clearMode = iota // those that have expired or were flushed are dropped, the others moved
	clearUnused                  // those that were not used are dropped too
	clearAll                     // all are dropped
)

// clear frees a region. false: somebody uses it, or its items have nowhere to go. c.room is held.
func (c *Cache) clear(i int32, mode clearMode) bool {
	s := &c.segs
	r := &s.regions[i]
	if r.is(regionOpen) {
		c.seal(&c.actives[r.queue][r.large][r.bucket], i)
	}
	s.mu.Lock()
	if !r.is(regionSealed) || r.refs.Load() != 0 {
		s.mu.Unlock()
		return false
	}
	r.set(regionEvicting)
	s.mu.Unlock()
	addr := c.startOf(i)
	for end := addr + r.end.Load(); addr < end; {
		head := *c.word(addr)
		n := itemSize(head, c.valueLen(addr, head))
		if head&markDead == 0 && !c.clearItem(r, addr, head, n, mode) {
			r.set(regionSealed)
			return false
		}
		addr += uint64(n)
	}
	s.mu.Lock()
	c.remove(r)
	r.set(regionLimbo)
	if r.refs.Load() == 0 {
		c.free(r)
	}
	s.mu.Unlock()
	return true
}

// clearItem drops an item or moves it. false: it can do neither.
func (c *Cache) clearItem(r *region, addr uint64, head uint32, n int, mode clearMode) bool {
	key := c.keyAt(addr, head)
	h := c.hash(key)
	sh := c.shard(h)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	slot := sh.findAddr(h, addr)
	if slot == nil {
		return true // it was replaced
	}
	head = *c.word(addr)
	class, _ := c.classAt(addr, head)
	k := &sh.classes[class]
	gen := uint32(0)
	if c.gens.any.Load() {
		gen = c.gens.of(key, c.opts.Delimiter)
	}
	if miss := c.gone(addr, head, gen); miss != Absent {
		k.Reclaimed++
		if miss == Expired && head&markFetched == 0 {
			k.ExpiredUnfetched++
		}
		c.unlink(sh, slot)
		return true
	}
	use := slotUse(*slot)
	keep := use
	if r.queue == probation && use < wantUse {
		keep = 0
	}
	if mode == clearGone || mode == clearUnused && keep > 0 {
		to, left := r.queue, use
		if mode == clearUnused {
			to, left = mainQueue, use-1
			if r.queue == probation {
				left = 0
			}
		}
		if c.move(sh, slot, r, to, addr, head, n, left) {
			if to != r.queue {
				k.Promoted++
			} else if to == mainQueue {
				k.Kept++
			}
			return true
		}
		if mode == clearGone {
			return false
		}
	}
	c.evicted(k, addr, head, use)
	if r.queue == probation {
		c.ghost.add(h)
	}
	c.unlink(sh, slot)
	return true
}

// move copies an item to a queue's open region.
func (c *Cache) move(sh *shard, slot *uint64, r *region, q queueID, addr uint64, head uint32, n int, use uint64) bool {
	exp := *c.word(addr + 4)
	large, bucket := c.kind(n, exp)
	a := &c.actives[q][large][bucket]
	to, dst, ok := c.reserve(a, head, n, exp)
	if !ok {
		if !c.openFor(q, large, bucket, c.regionSegs(n, large), 0) {
			return false
		}
		if to, dst, ok = c.reserve(a, head, n, exp); !ok {
			return false
		}
	}
	copy(c.bytes(to, n), c.bytes(addr, n))
	*slot = *slot&^(addrMask|useMask) | use<<addrBits | (to/unit + 1)
	if r.queue != q {
		class, _ := c.classAt(to, head)
		sh.classes[class].Probation--
	}
	c.drop(addr, r, head)
	c.release(dst)
	return true
}

// evicted counts an item that is dropped for want of memory.
func (c *Cache) evicted(k *ClassStats, addr uint64, head uint32, use uint64) {
	k.Evicted++
	exp, access := *c.word(addr + 4), *c.word(addr + 8)
	if exp != 0 {
		k.EvictedNonzero++
	}
	if head&markFetched == 0 {
		k.EvictedUnfetched++
	}
	if use > 1 {
		k.EvictedActive++
	}
	k.EvictedTime = c.Since(access)
	if c.watch.Load() && c.opts.Evicted != nil {
		class, size := c.classAt(addr, head)
		c.opts.Evicted(Evicted{c.keyAt(addr, head), head&markFetched != 0, exp, access, int(class), size})
	}
}
