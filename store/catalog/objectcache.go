package catalog

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"wheelhouse/store"
)

// objectKey is what objects are cached under: the bucket's id, so that renaming or deleting a bucket needs no search.
type objectKey struct {
	bucket store.BucketID
	name   string
}

// entry is one cached answer. Only its place in the shard and visited change, under the shard's lock. What every lookup
// touches comes first, to be in one cache line.
type entry struct {
	key     objectKey
	hash    uint64 // of key
	visited bool   // since the hand last came by
	gone    bool   // the object does not exist; object is zero
	object  store.Object
	bytes   int64
	place   int // in shard.ring
}

// entryBytes is what an entry takes besides what it refers to: itself, its place in map and ring, and the allocator's share.
const entryBytes = 350

func (e *entry) size() int64 {
	n := entryBytes + len(e.key.name) + len(e.object.CacheControl) + 4*len(e.object.Missing)
	for _, f := range e.object.Meta {
		n += 32 + len(f.Name) + len(f.Value)
	}
	return int64(n)
}

const shards = 64

// objectCache holds entries up to a number of bytes and evicts by CLOCK.
type objectCache struct {
	seed   maphash.Seed
	missed atomic.Int64 // lookups that ended before a shard was asked
	shard  [shards]shard
}

// shard is a part of the cache.
type shard struct {
	mu sync.Mutex // guards what follows
	// entries are found by the hash of their keys. Two keys that have the same 64 bits push each other out.
	entries map[uint64]*entry
	flights map[objectKey]*flight
	gen     uint64 // grows when a change of any key begins and when it ends
	ring    []*entry
	hand    int
	bytes   int64
	most    int64
	hits    int64
	misses  int64
	_       [64]byte // no two shards in one cache line
}

// flight is one or several overlapping changes of one key that are under way.
type flight struct {
	key     objectKey
	n       int
	overlap bool
}

func (c *objectCache) init(maxBytes int64) {
	c.seed = maphash.MakeSeed()
	for i := range c.shard {
		s := &c.shard[i]
		s.entries = make(map[uint64]*entry)
		s.flights = make(map[objectKey]*flight)
		s.most = max(1, maxBytes/shards)
	}
}

// of returns the shard of a key, and the key's hash.
func (c *objectCache) of(k objectKey) (*shard, uint64) {
	h := maphash.String(c.seed, k.name) ^ uint64(k.bucket)*0x9e3779b97f4a7c15
	return &c.shard[(h^h>>32)%shards], h
}

// find returns the entry of a key, or nil.
func (s *shard) find(k objectKey, h uint64) *entry {
	if e := s.entries[h]; e != nil && e.key == k {
		return e
	}
	return nil
}

// get returns an entry, or nil and what fill must be shown once the catalog has been asked.
func (c *objectCache) get(k objectKey) (*entry, uint64) {
	s, h := c.of(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(k, h)
	if e == nil {
		s.misses++
		return nil, s.gen
	}
	s.hits++
	e.visited = true
	return e, 0
}

// fill puts in what the catalog has said since get.
func (c *objectCache) fill(k objectKey, o *store.Object, gen uint64) {
	s, h := c.of(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gen != gen || s.flights[k] != nil || s.find(k, h) != nil {
		return
	}
	s.add(k, h, &entry{object: *o})
}

// begin says that the object with a key is about to change. The caller calls end when that is over, however it went.
func (c *objectCache) begin(k objectKey) *flight {
	s, h := c.of(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gen++
	if e := s.find(k, h); e != nil {
		s.remove(e)
	}
	f := s.flights[k]
	if f == nil {
		f = &flight{key: k}
		s.flights[k] = f
	} else {
		f.overlap = true
	}
	f.n++
	return f
}

// end says that a change is over. outcome, if not nil, is what Find will say from then on, as far as this change knows.
func (c *objectCache) end(f *flight, outcome *entry) {
	s, h := c.of(f.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gen++
	f.n--
	if f.n > 0 {
		return
	}
	delete(s.flights, f.key)
	if outcome != nil && !f.overlap {
		s.add(f.key, h, outcome)
	}
}

// clear drops everything, and whatever readers are about to fill in.
func (c *objectCache) clear() {
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		s.gen++
		clear(s.entries)
		clear(s.ring)
		s.ring, s.hand, s.bytes = s.ring[:0], 0, 0
		s.mu.Unlock()
	}
}

func (c *objectCache) stats() CacheStats {
	st := CacheStats{Misses: c.missed.Load()}
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		st.Hits += s.hits
		st.Misses += s.misses
		st.Entries += int64(len(s.entries))
		st.Bytes += s.bytes
		s.mu.Unlock()
	}
	return st
}

// add puts an entry in. Nothing may be cached under the key. The name is copied: the caller's may be a part of a buffer.
func (s *shard) add(k objectKey, h uint64, e *entry) {
	k.name = strings.Clone(k.name)
	e.key, e.hash = k, h
	if other := s.entries[h]; other != nil {
		s.remove(other)
	}
	if !e.gone {
		e.object.Name = k.name
	}
	e.bytes = e.size()
	s.bytes += e.bytes
	for s.bytes > s.most && len(s.ring) > 0 {
		s.evict()
	}
	if s.bytes > s.most { // bigger than the whole shard
		s.bytes -= e.bytes
		return
	}
	e.place = len(s.ring)
	s.ring = append(s.ring, e)
	s.entries[h] = e
}

// evict removes the first entry from the hand on that has not been used since the hand last came by.
func (s *shard) evict() {
	for {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		e := s.ring[s.hand]
		if !e.visited {
			s.remove(e)
			return
		}
		e.visited = false
		s.hand++
	}
}

// remove takes an entry out; the last of the ring takes its place.
func (s *shard) remove(e *entry) {
	last := len(s.ring) - 1
	s.ring[e.place] = s.ring[last]
	s.ring[e.place].place = e.place
	s.ring[last] = nil
	s.ring = s.ring[:last]
	delete(s.entries, e.hash)
	s.bytes -= e.bytes
}
