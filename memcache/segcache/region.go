package segcache

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

type regionState uint8

const (
	regionFree     regionState = iota
	regionOpen                 // is appended to
	regionSealed               // is full
	regionEvicting             // its items are being moved or dropped
	regionLimbo                // has no items, but somebody still reads there
	regionInner                // a segment that is not the first of its region
)

// forever is an expiry time that never comes.
const forever = math.MaxUint32

// region describes the region that begins at a segment; it stands in an array by the segment's number.
type region struct {
	refs   atomic.Int32  // readers and writers that are not done
	held   atomic.Int32  // of them, those of Hold
	live   atomic.Int64  // bytes of items that are linked or being written
	maxExp atomic.Uint32 // when the last item expires; forever if one does not

	// Written under Cache.segs.mu, but state and end of an open region under its active's lock.
	state   atomic.Uint32
	end     atomic.Uint64 // bytes in use
	count   uint32        // segments
	epoch   uint32        // Cache.epoch when it was opened
	created uint32        // time
	queue   queueID
	large   uint8 // with bucket, which of Cache.actives
	bucket  uint8
	prev    int32
	next    int32
}

func (r *region) is(s regionState) bool { return regionState(r.state.Load()) == s }
func (r *region) set(s regionState)     { r.state.Store(uint32(s)) }

// expireBy notes that the region has an item that expires at exp (0: never).
func (r *region) expireBy(exp uint32) {
	if exp == 0 {
		exp = forever
	}
	for old := r.maxExp.Load(); exp > old; old = r.maxExp.Load() {
		if r.maxExp.CompareAndSwap(old, exp) {
			return
		}
	}
}

type queueID uint8

const (
	probation queueID = iota
	mainQueue
	queues
)

// queue is a list of regions in the order in which they were opened.
type queue struct {
	head, tail int32
	segs       uint32
}

// ttlBuckets is how many groups of times to live there are: never, less than 16 s, and one for each doubling.
const ttlBuckets = 21

func ttlBucket(exp, now uint32) int {
	if exp == 0 {
		return 0
	}
	if exp <= now {
		return 1
	}
	return min(1+max(bits.Len32(exp-now)-4, 0), ttlBuckets-1)
}

// active is where items of one kind are appended.
type active struct {
	mu     sync.Mutex
	region int32 // -1: none
	_      [48]byte
}

// segments is the memory that regions are made of.
type segments struct {
	mu      sync.Mutex
	regions []region
	taken   []uint64 // a bit for each segment in use
	touched []uint64 // a bit for each segment that the system has given memory for
	used    uint32
	warm    uint32 // touched segments
	queue   [queues]queue
	hint    int // no segment below is free, in words of taken
	top     int // none from here on was ever in use
	scan    int // where halfDead has been
}

func (c *Cache) regionOf(addr uint64) *region {
	i := addr >> c.segShift
	r := &c.segs.regions[i]
	if r.is(regionInner) {
		r = &c.segs.regions[i-uint64(r.count)] // count is its distance from the first
	}
	return r
}

func (c *Cache) startOf(i int32) uint64 { return uint64(i) << c.segShift }

// capacity is the number of segments that items may take: what the index takes, or is set aside, is not there for them.
func (c *Cache) capacity() uint32 {
	n := (c.limit.Load() - c.Aside() - c.indexBytes.Load() - c.ghost.bytes()) >> c.segShift
	return uint32(max(min(n, int64(len(c.segs.regions))), minSegments))
}

// reserve appends room for an item to the open region of its kind. ok is false where it has none with enough. The region is held
// until release.
func (c *Cache) reserve(a *active, head uint32, n int, exp uint32) (addr uint64, r *region, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.region < 0 {
		return 0, nil, false
	}
	r = &c.segs.regions[a.region]
	end := r.end.Load()
	if end+uint64(n) > uint64(r.count)<<c.segShift {
		return 0, nil, false
	}
	addr = c.startOf(a.region) + end
	*c.word(addr) = head // so that the log can be walked
	r.refs.Add(1)
	r.live.Add(int64(n))
	r.end.Store(end + uint64(n))
	r.expireBy(exp)
	return addr, r, true
}

// release lets go of a region.
func (c *Cache) release(r *region) {
	if r.refs.Add(-1) == 0 && r.is(regionLimbo) {
		c.segs.mu.Lock()
		defer c.segs.mu.Unlock()
		if r.refs.Load() == 0 && r.is(regionLimbo) {
			c.free(r)
		}
	}
}

// take finds count free segments in a row, of which so many remain free besides. c.segs.mu is held. -1: there are none.
func (c *Cache) take(count, spare uint32) int32 {
	s := &c.segs
	if s.used+count+spare > c.capacity() {
		return -1
	}
	run := uint32(0)
	for i := s.hint * 64; i < len(s.regions); i++ {
		w := s.taken[i/64]
		if w == math.MaxUint64 {
			run = 0
			if i/64 == s.hint {
				s.hint++
			}
			i |= 63
			continue
		}
		if w>>(i%64)&1 != 0 {
			run = 0
			continue
		}
		if run++; run == count {
			return int32(uint32(i) + 1 - count)
		}
	}
	return -1
}

// open makes a region of free segments. c.segs.mu is held.
func (c *Cache) open(first int32, count uint32, q queueID) *region {
	s := &c.segs
	for i := first; i < first+int32(count); i++ {
		s.taken[i/64] |= 1 << (i % 64)
		if s.touched[i/64]>>(i%64)&1 == 0 {
			s.touched[i/64] |= 1 << (i % 64)
			s.warm++
		}
		r := &s.regions[i]
		r.count = uint32(i - first)
		r.set(regionInner)
	}
	s.used += count
	s.top = max(s.top, int(first)+int(count))
	r := &s.regions[first]
	r.refs.Store(0)
	r.live.Store(0)
	r.maxExp.Store(0)
	r.end.Store(0)
	r.count, r.epoch, r.created, r.queue = count, c.epoch.Load(), c.Now(), q
	c.append(first, q)
	r.set(regionOpen)
	return r
}

// append puts a region at a queue's end. c.segs.mu is held.
func (c *Cache) append(i int32, q queueID) {
	s := &c.segs
	r, list := &s.regions[i], &s.queue[q]
	r.prev, r.next, r.queue = list.tail, -1, q
	if list.tail >= 0 {
		s.regions[list.tail].next = i
	} else {
		list.head = i
	}
	list.tail = i
	list.segs += r.count
}

// remove takes a region out of its queue. c.segs.mu is held.
func (c *Cache) remove(r *region) {
	s := &c.segs
	list := &s.queue[r.queue]
	if r.prev >= 0 {
		s.regions[r.prev].next = r.next
	} else {
		list.head = r.next
	}
	if r.next >= 0 {
		s.regions[r.next].prev = r.prev
	} else {
		list.tail = r.prev
	}
	list.segs -= r.count
}

// free gives the segments of a region back, and to the system where there are more than the limit allows. c.segs.mu is held.
func (c *Cache) free(r *region) {
	s := &c.segs
	first := c.index(r)
	count := r.count
	allowed := c.capacity()
	for i := first; i < first+int32(count); i++ {
		s.taken[i/64] &^= 1 << (i % 64)
		if s.warm > allowed {
			c.discard(i)
		}
		s.regions[i].set(regionFree)
	}
	s.used -= count
	s.hint = min(s.hint, int(first/64))
}

// discard gives a free segment's memory back to the system. c.segs.mu is held.
func (c *Cache) discard(i int32) {
	s := &c.segs
	if s.touched[i/64]>>(i%64)&1 == 0 {
		return
	}
	if c.huge {
		// What is given back now would come again with the rest of its large page.
		_ = unix.Madvise(c.mem, unix.MADV_NOHUGEPAGE)
		c.huge = false
	}
	advice := unix.MADV_DONTNEED
	if c.file != nil {
		advice = unix.MADV_REMOVE // a file's pages stay otherwise
	}
	if unix.Madvise(c.bytes(c.startOf(i), 1<<c.segShift), advice) == nil {
		s.touched[i/64] &^= 1 << (i % 64)
		s.warm--
	}
}
