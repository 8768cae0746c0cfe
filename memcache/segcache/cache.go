package segcache

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Errors of a cache. ErrNoRoom says that the open region has no room: end the access, call Room, and begin again.
var (
	ErrNoRoom   = errors.New("segcache: no room in the open region")
	ErrFull     = errors.New("segcache: out of memory")
	ErrTooLarge = errors.New("segcache: item is larger than the cache takes")
	ErrFlushed  = errors.New("segcache: flushed since the room was taken")
)

const (
	minSegments = 8 // below, there is nothing to choose among
	minSegment  = 64 << 10
	maxSegment  = 1 << 20
	reserveSegs = 2 // are kept free, so that what is evicted can be copied

	// The limit can be raised to eight times what it was at the start, at least to leastReach bytes: so much address space is set aside.
	reachFactor = 8
	leastReach  = 1 << 30
)

// Options of a [Cache].
type Options struct {
	// Limit is the memory for items and index together, in bytes: 1 MiB to MaxMemory.
	Limit int64
	// NoEvict makes Room fail rather than forget items.
	NoEvict bool
	// File keeps the items' memory, on a file system in memory; SaveMeta makes it usable by the next process. Empty: none.
	File string
	// Meta is what SaveMeta wrote into File+".meta", if the items are to come back. Nil: the cache begins empty.
	Meta *Meta
	// Sizes are the upper bounds, in bytes, of the classes by which items are counted, ascending; SizeOf is an item's size in that
	// sense. An item above the last belongs to the last. Default: one class.
	Sizes  []uint32
	SizeOf func(keyLen, valueLen int, flags bool) int
	// Delimiter ends the prefixes that FlushPrefix knows. Default 0: no key has one.
	Delimiter byte
	// Now is the time at the start, in seconds, larger than 0.
	Now uint32
	// Evicted is told of items that are dropped for want of memory, while Watch is on. It is called with locks held: it must be
	// quick, must not call the cache, and must not keep the key.
	Evicted func(Evicted)
}

// Evicted is an item that was dropped.
type Evicted struct {
	Key         []byte
	Fetched     bool
	Exp, Access uint32 // times; Exp 0: never
	Class, Size int
}

// Cache is safe for concurrent use.
type Cache struct {
	opts       Options
	base       unsafe.Pointer // of the items' memory
	mem        []byte
	huge       bool // pages of mem may be large; c.segs.mu guards it once the cache is in use
	file       *os.File
	segShift   uint
	limit      atomic.Int64
	aside      atomic.Int64 // of it, see SetAside
	held       atomic.Int64 // segments, see HeldBytes
	indexBytes atomic.Int64
	seed       maphash.Seed
	shards     []shard
	shardShift uint
	ghost      ghost
	sizes      sizeTable

	now        atomic.Uint32
	version    atomic.Uint64
	epoch      atomic.Uint32 // grows when all is flushed
	flushEpoch atomic.Uint32 // regions of a lower epoch are flushed
	gens       generations
	watch      atomic.Bool

	actives [queues][2][ttlBuckets]active // the second of each pair is for large items
	segs    segments
	room    sync.Mutex // one makes room at a time
	scanned atomic.Uint32
	wake    chan struct{} // to Run
}

// New makes a cache. Close gives its memory back.
func New(o Options) (*Cache, error) {
	if o.Limit < 1<<20 || o.Limit > MaxMemory {
		return nil, fmt.Errorf("segcache: limit of %d bytes; want 1 MiB to %d", o.Limit, int64(MaxMemory))
	}
	if len(o.Sizes) == 0 || o.SizeOf == nil {
		o.Sizes, o.SizeOf = []uint32{1 << 31}, func(k, v int, _ bool) int { return k + v }
	}
	c := &Cache{opts: o, seed: maphash.MakeSeed(), wake: make(chan struct{}, 1), sizes: newSizeTable(o.Sizes)}
	c.limit.Store(o.Limit)
	c.now.Store(max(o.Now, 1))
	c.segShift = uint(bits.Len64(uint64(min(max(o.Limit/256, minSegment), maxSegment))) - 1)
	if err := c.mapMemory(); err != nil {
		return nil, err
	}
	err := c.makeIndex()
	if err == nil {
		err = c.ghost.init(o.Limit / 64)
	}
	if err == nil && o.Meta != nil {
		err = c.restore(o.Meta)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// mapMemory takes address space for the segments. The system gives memory when it is used.
func (c *Cache) mapMemory() (err error) {
	size := c.opts.Limit &^ (1<<c.segShift - 1)
	if c.opts.File != "" {
		err = c.mapFile(size)
	} else {
		far := min(max(reachFactor*size, leastReach), MaxMemory)
		c.mem, err = unix.Mmap(-1, 0, int(far), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
		if err != nil { // a limit of the process: then only what is needed
			c.mem, err = unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
		}
		if err == nil {
			// Most of the time of a look-up is that of the item's first cache line, and much of this that of its page's entry: in pages of 2 MiB there
			// are few. It is not wanted beyond what the limit is now, so that no more is taken than that; a kernel may refuse it.
			c.huge = unix.Madvise(c.mem[:size], unix.MADV_HUGEPAGE) == nil
		}
	}
	if err != nil {
		return fmt.Errorf("segcache: %d bytes of memory: %w", size, err)
	}
	c.base = unsafe.Pointer(&c.mem[0])
	n := len(c.mem) >> c.segShift
	c.segs.regions = make([]region, n)
	c.segs.taken = make([]uint64, (n+63)/64)
	c.segs.touched = make([]uint64, (n+63)/64)
	for q := range c.segs.queue {
		c.segs.queue[q].head, c.segs.queue[q].tail = -1, -1
		for l := range c.actives[q] {
			for b := range c.actives[q][l] {
				c.actives[q][l][b].region = -1
			}
		}
	}
	c.epoch.Store(1)
	return nil
}

func (c *Cache) mapFile(size int64) (err error) {
	if c.file, err = os.OpenFile(c.opts.File, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(int(c.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%s is in use by another process: %w", c.opts.File, err)
	}
	if err := c.file.Truncate(size); err != nil {
		return err
	}
	c.mem, err = unix.Mmap(int(c.file.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return err
}

func (c *Cache) makeIndex() error {
	n := shardCount(c.opts.Limit)
	c.shards = make([]shard, n)
	c.shardShift = uint(64 - (bits.Len(uint(n)) - 1))
	const first = 4096 / 8 / perBucket
	for i := range c.shards {
		s := &c.shards[i]
		var err error
		if s.table, err = mapWords(first * perBucket); err != nil {
			return err
		}
		s.buckets = first
		s.publish()
		s.classes = make([]ClassStats, len(c.opts.Sizes))
		c.indexBytes.Add(first * perBucket * 8)
	}
	return nil
}

// Close gives the memory back. Nobody may use the cache any more.
func (c *Cache) Close() error {
	var errs []error
	for i := range c.shards {
		if c.shards[i].table != nil {
			errs = append(errs, unmapWords(c.shards[i].table))
		}
	}
	errs = append(errs, c.ghost.close())
	if c.mem != nil {
		errs = append(errs, unix.Munmap(c.mem))
		c.mem = nil
	}
	if c.file != nil {
		errs = append(errs, c.file.Close())
		c.file = nil
	}
	return errors.Join(errs...)
}

func (c *Cache) hash(key []byte) uint64 { return maphash.Bytes(c.seed, key) }

func (c *Cache) shard(h uint64) *shard { return &c.shards[h>>c.shardShift] }

func (c *Cache) index(r *region) int32 {
	return int32((uintptr(unsafe.Pointer(r)) - uintptr(unsafe.Pointer(&c.segs.regions[0]))) / unsafe.Sizeof(*r))
}

// Now is the time, in seconds, as Tick said.
func (c *Cache) Now() uint32 { return c.now.Load() }

// Since is how long ago a time was, in seconds; 0 where it is still to come, as after the clock was put back.
func (c *Cache) Since(t uint32) uint32 {
	now := c.Now()
	return now - min(t, now)
}

// NextVersion returns a version that no item had before, unless a client chose it.
func (c *Cache) NextVersion() uint64 { return c.version.Add(1) }

// Limit is the memory that may be used, in bytes.
func (c *Cache) Limit() int64 { return c.limit.Load() }

// SegmentSize is the size of a segment, in bytes.
func (c *Cache) SegmentSize() int { return 1 << c.segShift }

// MaxItem is the size of the largest item, key, value and header, that can be stored.
func (c *Cache) MaxItem() int64 {
	return int64(c.capacity()-min(c.capacity(), reserveSegs+2)) << c.segShift
}
