package segcache

import "slices"

// ClassStats counts items of one class.
type ClassStats struct {
	Items     int64
	Bytes     int64 // as Options.SizeOf has it
	Probation int64 // of Items, those on probation

	Evicted          uint64 // dropped for want of memory
	EvictedNonzero   uint64 // of these, with an expiry time
	EvictedUnfetched uint64
	EvictedActive    uint64 // used more than once
	ExpiredUnfetched uint64
	Reclaimed        uint64 // expired or flushed, and found by a sweep
	Promoted         uint64 // moved from probation to the main queue
	Kept             uint64 // moved within the main queue
	OutOfMemory      uint64
	EvictedTime      uint32 // seconds since the last access of the last one that was evicted

	// Counted by the cache's user, under the shard's lock (Txn.Class).
	GetHits, Sets, DeleteHits, IncrHits, DecrHits, CASHits, CASBadval, TouchHits uint64
	HitsMain                                                                     uint64 // of GetHits
}

func (a *ClassStats) add(b *ClassStats) {
	a.Items += b.Items
	a.Bytes += b.Bytes
	a.Probation += b.Probation
	a.Evicted += b.Evicted
	a.EvictedNonzero += b.EvictedNonzero
	a.EvictedUnfetched += b.EvictedUnfetched
	a.EvictedActive += b.EvictedActive
	a.ExpiredUnfetched += b.ExpiredUnfetched
	a.Reclaimed += b.Reclaimed
	a.Promoted += b.Promoted
	a.Kept += b.Kept
	a.OutOfMemory += b.OutOfMemory
	a.EvictedTime = max(a.EvictedTime, b.EvictedTime)
	a.GetHits += b.GetHits
	a.Sets += b.Sets
	a.DeleteHits += b.DeleteHits
	a.IncrHits += b.IncrHits
	a.DecrHits += b.DecrHits
	a.CASHits += b.CASHits
	a.CASBadval += b.CASBadval
	a.TouchHits += b.TouchHits
	a.HitsMain += b.HitsMain
}

// sizeTable finds the class of a size.
type sizeTable struct {
	sizes []uint32
	small [smallSizes / 8]uint8 // by size in units of 8, rounded up
}

const smallSizes = 16 << 10

func newSizeTable(sizes []uint32) (t sizeTable) {
	t.sizes = sizes
	for i := range t.small {
		t.small[i] = t.search(i * 8)
	}
	return t
}

func (t *sizeTable) search(size int) uint8 {
	i, _ := slices.BinarySearch(t.sizes, uint32(size))
	return uint8(min(i, len(t.sizes)-1))
}

func (t *sizeTable) of(size int) uint8 {
	if size <= smallSizes-8 {
		return t.small[(size+7)/8]
	}
	return t.search(size)
}

// classAt returns the class and the size, as Options.SizeOf has it, of the item at addr.
func (c *Cache) classAt(addr uint64, head uint32) (class uint8, size int) {
	size = c.opts.SizeOf(int(head&0xff), c.valueLen(addr, head)-c.tagBytes(addr, head), head&markFlags != 0)
	return c.sizes.of(size), size
}
