package dispatcher

import (
	"sync"
	"sync/atomic"

	"wheelhouse/store"
)

// hotCache keeps the bytes of small objects that are read again and again. An entity never changes and its id is never used
// again, so nothing in it can be stale: whoever finds an id in the catalog may be given the bytes that were read under it.
// They were verified when they came from the storage.
//
// An object gets in when it is read a second time soon after the first, so that one pass over everything does not empty the
// cache. Within a shard, a hand goes round and takes one reading off each entry; one that has none left goes (CLOCK with
// counters, as in S3-FIFO). A hit does not allocate.
type hotCache struct {
	shards [hotShards]hotShard
}

const (
	hotShards = 64
	// hotOverhead is what an entry takes besides its bytes: the map's slot, the ring's, and the entry itself.
	hotOverhead = 128
	// hotMost is how many rounds of the hand an entry survives without being read.
	hotMost = 3
	// hotSeen is how many ids a shard remembers having been read once.
	hotSeen = 4096
)

type hotShard struct {
	mu    sync.RWMutex // guards what follows, but for the entries' counts
	limit int64
	bytes int64
	byID  map[store.ObjectID]*hotEntry
	ring  []*hotEntry
	hand  int
	seen  [hotSeen]atomic.Uint32 // the upper half of an id's hash
}

type hotEntry struct {
	id   store.ObjectID
	data []byte        // never changed
	used atomic.Uint32 // readings since the hand came by, up to hotMost
}

// newHotCache makes a cache that holds about limit bytes. limit 0 caches nothing and gives nil.
func newHotCache(limit int64) *hotCache {
	if limit <= 0 {
		return nil
	}
	c := &hotCache{}
	for i := range c.shards {
		c.shards[i].limit = limit / hotShards
		c.shards[i].byID = map[store.ObjectID]*hotEntry{}
	}
	return c
}

func (c *hotCache) shard(id store.ObjectID) (*hotShard, uint64) {
	h := store.EntryHash(id, 0, 0)
	return &c.shards[h%hotShards], h
}

// get returns an object's bytes, which must not be changed, or nil.
func (c *hotCache) get(id store.ObjectID) []byte {
	s, _ := c.shard(id)
	s.mu.RLock()
	e := s.byID[id]
	s.mu.RUnlock()
	if e == nil {
		return nil
	}
	if n := e.used.Load(); n < hotMost { // beyond that, no write: it would take the cache line from the other processors
		e.used.Store(n + 1) // one of two readers at the same moment may be lost: it is a hint
	}
	return e.data
}

// offer hands in what has been read from a storage. data is copied if it is kept.
func (c *hotCache) offer(id store.ObjectID, data []byte) {
	s, h := c.shard(id)
	mark := uint32(h >> 32)
	if s.seen[h/hotShards%hotSeen].Swap(mark) != mark {
		return
	}
	size := int64(len(data)) + hotOverhead
	if size > s.limit/4 {
		return
	}
	e := &hotEntry{id: id, data: append([]byte(nil), data...)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[id] != nil {
		return
	}
	for s.bytes+size > s.limit && len(s.ring) > 0 {
		s.evict()
	}
	s.ring = append(s.ring, e)
	s.byID[id] = e
	s.bytes += size
}

// evict removes the first entry that the hand finds unused.
func (s *hotShard) evict() {
	for {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		e := s.ring[s.hand]
		if n := e.used.Load(); n > 0 {
			e.used.Store(n - 1)
			s.hand++
			continue
		}
		last := len(s.ring) - 1
		s.ring[s.hand] = s.ring[last]
		s.ring[last] = nil
		s.ring = s.ring[:last]
		delete(s.byID, e.id)
		s.bytes -= int64(len(e.data)) + hotOverhead
		return
	}
}
