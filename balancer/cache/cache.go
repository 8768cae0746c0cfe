// Package cache keeps answers that may be shared, and gives them again (RFC 9111, RFC 5861): in memory, and on disk what memory does
// not hold. Requests for what is being fetched wait for it instead of asking again.
//
// It never decides who may see what: an answer that is marked private, or that needs to be asked about each time (no-cache), is not
// kept or is asked about each time.
package cache

import (
	"context"
	"hash/maphash"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// collapseTime is how long a request waits for another's answer before it asks by itself.
const collapseTime = 10 * time.Second

// Cache is a service's cache. It is safe for concurrent use.
type Cache struct {
	name string
	log  *slog.Logger

	set atomic.Pointer[balancer.Cache]
	mem *memory
	dsk atomic.Pointer[disk]
	ctx context.Context // of what is renewed in the background
	bg  sync.WaitGroup

	Hits, Misses, Stale, Revalidated, Collapsed, Purged, Passed atomic.Int64

	seed   maphash.Seed
	purges [256]atomic.Uint64 // by a hash of the key: how often what is kept under such keys was forgotten
	apart  [512]atomic.Uint64 // by a hash of the key: the key, hashed, whose last answer could not be kept

	mu      sync.Mutex
	flights map[string]*flight
}

// flight is a fetch that others may wait for.
type flight struct {
	key   string
	cut   bool // it ended before it was known what would come of it: another of those who wait is to ask. Written before done is closed
	taken bool // by keep, which lands it
	done  chan struct{}
}

// New makes the cache of a service, by whose name its files lie apart from those of others in the same directory. ctx ends what it does in the
// background.
func New(ctx context.Context, name string, log *slog.Logger) *Cache {
	c := &Cache{name: name, log: log, mem: newMemory(0), ctx: ctx, seed: maphash.MakeSeed(), flights: map[string]*flight{}}
	c.set.Store(&balancer.Cache{})
	return c
}

// Update puts settings in force. It fails when the directory cannot be used; the settings before stay then.
func (c *Cache) Update(set balancer.Cache) error {
	d, dir := c.dsk.Load(), filepath.Join(set.Disk, c.name)
	switch {
	case set.Disk == "":
		d = nil
	case d == nil || d.dir != dir:
		if err := CheckDir(set.Disk); err != nil {
			return err
		}
		var err error
		if d, err = openDisk(dir, set.DiskSize, c.log); err != nil {
			return err
		}
	default:
		d.resize(set.DiskSize)
	}
	c.dsk.Store(d)
	c.mem.resize(set.Memory)
	c.set.Store(&set)
	return nil
}

// Wait waits for what is renewed in the background.
func (c *Cache) Wait() { c.bg.Wait() }

// Clear forgets everything.
func (c *Cache) Clear() {
	c.forgetUnderWay()
	c.mem.clear()
	if d := c.dsk.Load(); d != nil {
		d.clear()
	}
}

// Stats are what a cache holds.
type Stats struct {
	Entries, DiskEntries int
	Bytes, DiskBytes     int64
}

// Stats is what the cache holds.
func (c *Cache) Stats() (s Stats) {
	s.Entries, s.Bytes = c.mem.stats()
	if d := c.dsk.Load(); d != nil {
		s.DiskEntries, s.DiskBytes = d.stats()
	}
	return s
}

// keyOf is what names the resource that a request asks for.
func keyOf(r *balancer.Request) string {
	scheme := "http"
	if r.X.TLS() {
		scheme = "https"
	}
	return scheme + "://" + string(lower(r.Host)) + r.URI()
}

func lower(b []byte) []byte {
	out := slices.Clone(b)
	for i, c := range out {
		if c >= 'A' && c <= 'Z' {
			out[i] = c | 0x20
		}
	}
	return out
}

// Serve answers a request from the cache, or has next answer it, and keeps the answer if that may be.
func (c *Cache) Serve(r *balancer.Request, next func(*balancer.Request)) {
	q := r.X.Request()
	switch q.Method {
	case "GET", "HEAD":
	case "PURGE":
		c.purge(r)
		return
	case "OPTIONS", "TRACE", "PROPFIND":
		next(r)
		return
	default:
		c.invalidating(r, next)
		return
	}
	// If-Match and If-Unmodified-Since are for the origin to decide on (RFC 9111 §4.3.2).
	if q.HasBody() || q.Header.Has("Upgrade") || q.Header.Has("If-Match") || q.Header.Has("If-Unmodified-Since") {
		c.Passed.Add(1)
		next(r)
		return
	}
	l := &lookup{c: c, r: r, q: q, next: next, key: keyOf(r), req: parseControl(&q.Header)}
	l.run()
}

// purge forgets a resource (PURGE is squid's and everybody's since), or, where an asterisk ends its name, all whose names begin so.
func (c *Cache) purge(r *balancer.Request) {
	if !slices.ContainsFunc(c.set.Load().PurgeNetworks, prefixHas(r)) {
		r.Error(403, "", "PURGE from a network that is not in cache_purge_from")
		return
	}
	key, found := keyOf(r), false
	if prefix, all := strings.CutSuffix(key, "*"); all && len(r.Path) > 1 { // a path of its own, not that of OPTIONS *
		found = c.forgetAll(prefix)
	} else {
		found = c.forget(key)
	}
	r.X.Header().Set("Content-Type", "text/plain")
	if !found {
		r.Reply(404, []byte("not in the cache\n"))
		return
	}
	c.Purged.Add(1)
	r.Reply(200, []byte("purged\n"))
}

// Purge forgets what is kept under a URL, and reports whether there was anything. What is being fetched meanwhile is not kept.
func (c *Cache) Purge(url string) bool {
	c.generation(url).Add(1)
	return c.remove(url)
}

func (c *Cache) remove(key string) bool {
	found := c.mem.remove(key)
	if d := c.dsk.Load(); d != nil {
		found = d.remove(key) || found
	}
	return found
}

// forget is Purge for both schemes: behind them is one resource.
func (c *Cache) forget(key string) bool {
	_, rest, _ := strings.Cut(key, ":")
	found := c.Purge("http:" + rest)
	return c.Purge("https:"+rest) || found
}

// forgetAll is forget for all keys that begin with prefix.
func (c *Cache) forgetAll(prefix string) bool {
	c.forgetUnderWay()
	_, rest, _ := strings.Cut(prefix, ":")
	found := false
	for _, p := range [...]string{"http:" + rest, "https:" + rest} {
		found = c.mem.removeAll(p) || found
		if d := c.dsk.Load(); d != nil {
			found = d.index.removeAll(p) || found
		}
	}
	return found
}

// forgetUnderWay sees to it that nothing which is being fetched is kept.
func (c *Cache) forgetUnderWay() {
	for i := range c.purges {
		c.purges[i].Add(1)
	}
}

// generation is a number that changes whenever what is kept under a key is forgotten.
func (c *Cache) generation(key string) *atomic.Uint64 {
	return &c.purges[maphash.String(c.seed, key)%uint64(len(c.purges))]
}

// find is the entry for a request, from memory or disk.
func (c *Cache) find(key string, h *http1.Header) *entry {
	if e := c.mem.get(key, h); e != nil {
		return e
	}
	if d := c.dsk.Load(); d != nil {
		return d.get(key, h)
	}
	return nil
}

// largest is how much there is room for in one entry.
func (c *Cache) largest() int64 {
	n := c.mem.most()
	if d := c.dsk.Load(); d != nil {
		n = max(n, d.index.most())
	}
	return n
}

// keep puts an entry where there is room for it, unless its resource was forgotten since it was asked for: generation is what it was
// then. Whoever waits for f, which may be nil, finds it.
func (c *Cache) keep(e *entry, generation uint64, f *flight) {
	now := c.generation(e.key)
	if now.Load() != generation {
		return
	}
	inMemory := c.mem.put(e)
	if now.Load() != generation { // forgotten while it was put
		c.mem.remove(e.key)
		return
	}
	d := c.dsk.Load()
	if d == nil || e.file != "" { // it came from there, and was only asked about
		return
	}
	if !d.begin(e) {
		c.bg.Go(func() { d.index.supersede(e) }) // an older answer is none
		return
	}
	if f != nil && !inMemory {
		f.taken = true
	} else {
		f = nil
	}
	c.bg.Go(func() {
		defer c.land(f)
		d.put(e)
		if now.Load() != generation {
			d.remove(e.key)
		}
	})
}

// standsApart reports whether the last answer for a key could not be kept, so that to wait for another would be in vain.
func (c *Cache) standsApart(key string) bool {
	h := maphash.String(c.seed, key) | 1
	return c.apart[h>>1%uint64(len(c.apart))].Load() == h
}

func (c *Cache) setApart(key string, apart bool) {
	h := maphash.String(c.seed, key) | 1
	if slot := &c.apart[h>>1%uint64(len(c.apart))]; apart {
		slot.Store(h)
	} else {
		slot.CompareAndSwap(h, 0)
	}
}

// depart begins a fetch that others may wait for; nil when one is under way. c.mu is held.
func (c *Cache) depart(key string) *flight {
	if c.flights[key] != nil {
		return nil
	}
	f := &flight{key: key, done: make(chan struct{})}
	c.flights[key] = f
	return f
}

// join waits for a fetch of the same resource that is under way. If there is none, or the one that there was ended before it was known what
// would come of it, it returns one, and land must be called.
func (c *Cache) join(ctx context.Context, key string) *flight {
	var timer *time.Timer
	for {
		c.mu.Lock()
		if f := c.depart(key); f != nil {
			c.mu.Unlock()
			return f
		}
		f := c.flights[key]
		c.mu.Unlock()
		if timer == nil {
			c.Collapsed.Add(1)
			timer = time.NewTimer(collapseTime)
			defer timer.Stop()
		}
		select {
		case <-f.done:
			if !f.cut {
				return nil
			}
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// land ends a fetch for those who wait: its answer is kept, or will not be. A second time, and without a fetch, it does nothing.
func (c *Cache) land(f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f != nil && c.flights[f.key] == f {
		delete(c.flights, f.key)
		close(f.done)
	}
}

func age(d time.Duration) string { return strconv.FormatInt(int64(max(0, d)/time.Second), 10) }
