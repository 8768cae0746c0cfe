package segcache

import (
	"bytes"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A slot is 0, or a tag of the key's hash (23 bits), the use count (3 bits) and the item's address in units, plus one (38 bits).
const (
	addrBits  = 38
	addrMask  = 1<<addrBits - 1
	useOne    = 1 << addrBits
	useMask   = 7 << addrBits
	tagShift  = addrBits + 3
	maxUse    = 3 // as S3-FIFO counts
	perBucket = 8

	// MaxMemory is what addresses reach, in bytes.
	MaxMemory = 1 << (addrBits + 2)
)

func slotAddr(s uint64) uint64 { return (s&addrMask - 1) * unit }
func slotUse(s uint64) uint64  { return s & useMask >> addrBits }

// tagOf is the part of a key's hash that its slot has.
func tagOf(h uint64) uint64 { return h >> 33 & (1<<23 - 1) }

func makeSlot(h, addr, use uint64) uint64 {
	return tagOf(h)<<tagShift | use<<addrBits | (addr/unit + 1)
}

// shard is a part of the index, and what is counted of its items.
type shard struct {
	mu      sync.Mutex // guards all below, and the items that are linked here
	table   []uint64   // buckets of perBucket slots
	buckets uint32
	grown   uint32 // how often the table has
	classes []ClassStats

	aheadTable   atomic.Uintptr // table's first slot, and buckets, for Foresee
	aheadBuckets atomic.Uint32

	_ [64]byte
}

// The shard is chosen by the hash's upper 8 bits, the tag is the 23 below (33 to 55), the first bucket by the lower 32.
func bucketOf(h uint64, n uint32) uint32 { return uint32(h & 0xffffffff * uint64(n) >> 32) }

func otherBucket(h uint64, n uint32) uint32 {
	h = (h ^ h>>31) * 0x9e3779b97f4a7c15
	return uint32(h >> 32 * uint64(n) >> 32)
}

func (s *shard) bucket(i uint32) *[perBucket]uint64 {
	return (*[perBucket]uint64)(unsafe.Pointer(&s.table[i*perBucket]))
}

// find returns the slot of a key, or nil.
func (s *shard) find(c *Cache, h uint64, key []byte) *uint64 {
	b := s.bucket(bucketOf(h, s.buckets))
	if p := s.findIn(c, b, h, key); p != nil {
		return p
	}
	return s.findIn(c, s.bucket(otherBucket(h, s.buckets)), h, key)
}

func (s *shard) findIn(c *Cache, b *[perBucket]uint64, h uint64, key []byte) *uint64 {
	tag := tagOf(h)
	for i := range b {
		if b[i]>>tagShift != tag || b[i] == 0 {
			continue
		}
		addr := slotAddr(b[i])
		head := *c.word(addr)
		if int(head&0xff) == len(key) && bytes.Equal(c.keyAt(addr, head), key) {
			return &b[i]
		}
	}
	return nil
}

// findAddr returns the slot that refers to an item by its address, or nil.
func (s *shard) findAddr(h, addr uint64) *uint64 {
	for _, i := range [2]uint32{bucketOf(h, s.buckets), otherBucket(h, s.buckets)} {
		b := s.bucket(i)
		for j := range b {
			if b[j] != 0 && slotAddr(b[j]) == addr {
				return &b[j]
			}
		}
	}
	return nil
}

// insert takes a slot for a key that has none. The table grows where both buckets are full.
func (s *shard) insert(c *Cache, h, slot uint64) (*uint64, error) {
	for {
		if p := s.place(h, slot); p != nil {
			return p, nil
		}
		if err := s.grow(c); err != nil {
			return nil, err
		}
	}
}

// place takes a slot in the emptier of the key's two buckets.
func (s *shard) place(h, slot uint64) *uint64 {
	var best *uint64
	most := 0
	for _, i := range [2]uint32{bucketOf(h, s.buckets), otherBucket(h, s.buckets)} {
		b := s.bucket(i)
		free := 0
		var first *uint64
		for j := range b {
			if b[j] == 0 {
				if free == 0 {
					first = &b[j]
				}
				free++
			}
		}
		if free > most {
			best, most = first, free
		}
	}
	if best != nil {
		*best = slot
	}
	return best
}

// grow makes the table a quarter larger, so that it is never emptier than it must be.
func (s *shard) grow(c *Cache) error {
	n := s.buckets
	for tries := 0; tries < 8; tries++ {
		n += max(n/4, 8)
		table, err := mapWords(int(n) * perBucket)
		if err != nil {
			return err
		}
		old, buckets := s.table, s.buckets
		s.table, s.buckets = table, n
		if s.refill(c, old) {
			c.indexBytes.Add(int64(len(table)-len(old)) * 8)
			s.grown++
			s.publish()
			return unmapWords(old)
		}
		s.table, s.buckets = old, buckets
		if err := unmapWords(table); err != nil {
			return err
		}
	}
	return fmt.Errorf("segcache: the index of %d buckets cannot grow", s.buckets)
}

func (s *shard) refill(c *Cache, old []uint64) bool {
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		addr := slotAddr(slot)
		if s.place(c.hash(c.keyAt(addr, *c.word(addr))), slot) == nil {
			return false
		}
	}
	return true
}

// mapWords takes memory from the system; it is zero.
func mapWords(n int) ([]uint64, error) {
	b, err := unix.Mmap(-1, 0, n*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("segcache: %d bytes for the index: %w", n*8, err)
	}
	return unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), n), nil
}

func unmapWords(w []uint64) error {
	return unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), len(w)*8))
}

// shardCount is how many shards a cache of some memory has: a power of two, one for each MiB, 16 to 256.
func shardCount(limit int64) int {
	return 1 << (bits.Len64(uint64(min(max(limit>>20, 16), 256))) - 1)
}
