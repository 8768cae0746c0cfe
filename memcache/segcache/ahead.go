package segcache

import "unsafe"

// Ahead is a key that will be looked up soon, see [Cache.Foresee].
type Ahead uint64

// Foresee asks the processor for the part of the index where a key is, and does not wait for it. FetchAhead, when that is there, does the same
// for the item. With a number of keys at hand, both first for all of them, their memory comes at once, where look-ups alone would wait for
// one after the other. Nothing is changed, and there need not be such a key.
func (c *Cache) Foresee(key []byte) Ahead {
	h := c.hash(key)
	sh := c.shard(h)
	prefetch(sh.aheadTable.Load() + uintptr(bucketOf(h, sh.aheadBuckets.Load()))*perBucket*8)
	return Ahead(h)
}

// FetchAhead asks for the item of a key that was foreseen.
func (c *Cache) FetchAhead(a Ahead) {
	h := uint64(a)
	sh := c.shard(h)
	tag := tagOf(h)
	sh.mu.Lock()
	for _, slot := range sh.bucket(bucketOf(h, sh.buckets)) {
		if slot>>tagShift == tag && slot != 0 {
			p := uintptr(c.base) + uintptr(slotAddr(slot))
			prefetch(p)
			prefetch(p + cacheLine)
			prefetch(p + 2*cacheLine)
		}
	}
	sh.mu.Unlock()
}

const cacheLine = 64

// publish tells Foresee, which does not lock, where the table is now. That the two do not change at once does not matter: what is asked for
// at a wrong address is not read, and need not be there.
func (s *shard) publish() {
	s.aheadTable.Store(uintptr(unsafe.Pointer(&s.table[0])))
	s.aheadBuckets.Store(s.buckets)
}
