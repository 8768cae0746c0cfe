package segcache

// Stats is a cache's state.
type Stats struct {
	Classes    []ClassStats // by class
	Items      int64
	Bytes      int64 // as Options.SizeOf has it
	IndexBytes int64
	UsedBytes  int64 // segments in use
	FreeBytes  int64 // segments that could be
	LiveBytes  int64 // of the segments in use, by items
	Segments   int
	Main       int    // of Segments, in the main queue
	Oldest     uint32 // time when the oldest region was opened; 0: there is none
}

// Stats sums up. It looks at each shard.
func (c *Cache) Stats() Stats {
	st := Stats{Classes: make([]ClassStats, len(c.opts.Sizes)), IndexBytes: c.indexBytes.Load() + c.ghost.bytes()}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for k := range s.classes {
			st.Classes[k].add(&s.classes[k])
		}
		s.mu.Unlock()
	}
	for k := range st.Classes {
		st.Items += st.Classes[k].Items
		st.Bytes += st.Classes[k].Bytes
	}
	c.segs.mu.Lock()
	defer c.segs.mu.Unlock()
	st.Segments, st.Main = int(c.segs.used), int(c.segs.queue[mainQueue].segs)
	st.UsedBytes = int64(c.segs.used) << c.segShift
	st.FreeBytes = int64(c.capacity()-min(c.segs.used, c.capacity())) << c.segShift
	for q := range c.segs.queue {
		for i := c.segs.queue[q].head; i >= 0; i = c.segs.regions[i].next {
			r := &c.segs.regions[i]
			st.LiveBytes += r.live.Load()
			if st.Oldest == 0 || r.created < st.Oldest {
				st.Oldest = r.created
			}
		}
	}
	return st
}

// ResetStats sets the counters to zero; Items, Bytes and Probation are none.
func (c *Cache) ResetStats() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for k := range s.classes {
			old := s.classes[k]
			s.classes[k] = ClassStats{Items: old.Items, Bytes: old.Bytes, Probation: old.Probation}
		}
		s.mu.Unlock()
	}
}

// CountOutOfMemory counts an item of a class that could not be stored.
func (c *Cache) CountOutOfMemory(keyLen, valueLen int, flags bool) {
	s := &c.shards[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.classes[c.sizes.of(c.opts.SizeOf(keyLen, valueLen, flags))].OutOfMemory++
}

// Watch switches Options.Evicted on or off.
func (c *Cache) Watch(on bool) { c.watch.Store(on) }

// Walk calls f with the items from a position on (0: the beginning), until f returns false or there are no more, and returns the
// position from where to go on, 0 at the end. Each item is seen that is there all the time, and perhaps twice if the index grows
// meanwhile. Those that have expired or were flushed are removed. The Txn is at the item; f must not end it, and must be quick, as after
// Begin. After f has returned false it is still called for the rest of a bucket, a few items.
func (c *Cache) Walk(pos uint64, f func(t *Txn, key []byte) bool) (next uint64) {
	at := walk{grown: uint32(pos>>32) & grownMask, bucket: uint32(pos)}
	for i := pos >> walkShard; i < uint64(len(c.shards)); i++ {
		for {
			more, last := c.walkBucket(&c.shards[i], &at, f)
			if last {
				break
			}
			if !more {
				return i<<walkShard | uint64(at.grown)<<32 | uint64(at.bucket)
			}
		}
		at = walk{}
	}
	return 0
}

// walk is a place within a shard. When the index grows, items can come to lie in their other bucket, before the place: the shard is
// walked anew.
type walk struct{ grown, bucket uint32 }

// A position has the shard's number (8 bits), how often its index has grown (24) and a bucket (32).
const (
	walkShard = 56
	grownMask = 1<<24 - 1
)

// walkBucket is for one bucket, so that others do not wait.
func (c *Cache) walkBucket(sh *shard, at *walk, f func(t *Txn, key []byte) bool) (more, last bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if at.bucket == 0 || at.grown != sh.grown&grownMask {
		*at = walk{grown: sh.grown & grownMask}
	}
	if at.bucket >= sh.buckets {
		return true, true
	}
	more = true
	list := sh.bucket(at.bucket)
	at.bucket++
	for j := range list {
		if list[j] == 0 {
			continue
		}
		addr := slotAddr(list[j])
		head := *c.word(addr)
		t := Txn{c: c, sh: sh, key: c.keyAt(addr, head), slot: &list[j], addr: addr, head: head}
		t.hash = c.hash(t.key)
		if c.gens.any.Load() {
			t.gen = c.gens.of(t.key, c.opts.Delimiter)
		}
		if !t.removeGone() && !f(&t, t.key) {
			more = false
		}
	}
	return more, false
}
