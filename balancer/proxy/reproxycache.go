package proxy

import (
	"container/list"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// reproxyCache remembers which URLs answer a request, for as long as X-REPROXY-CACHE-FOR says: the least recently used go first. The
// zero value is ready for use.
type reproxyCache struct {
	hits, misses atomic.Int64

	mu      sync.Mutex // guards all below
	entries map[string]*list.Element
	order   list.List // of *reproxyEntry, the most recently used in front
}

type reproxyEntry struct {
	key    string
	order  order
	header []balancer.HeaderRule
	until  time.Time
}

func (c *reproxyCache) get(key string, now time.Time) *reproxyEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		c.misses.Add(1)
		return nil
	}
	entry := e.Value.(*reproxyEntry)
	if !now.Before(entry.until) {
		c.drop(e)
		c.misses.Add(1)
		return nil
	}
	c.order.MoveToFront(e)
	c.hits.Add(1)
	return entry
}

func (c *reproxyCache) put(e *reproxyEntry, limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.entries[e.key]; ok {
		c.drop(old)
	}
	if c.entries == nil {
		c.entries = map[string]*list.Element{}
	}
	c.entries[e.key] = c.order.PushFront(e)
	for c.order.Len() > limit {
		c.drop(c.order.Back())
	}
}

// remove forgets a key.
func (c *reproxyCache) remove(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		c.drop(e)
	}
}

// drop forgets an entry. c.mu is held.
func (c *reproxyCache) drop(e *list.Element) {
	delete(c.entries, c.order.Remove(e).(*reproxyEntry).key)
}

// CacheStats are the counts of the X-REPROXY-CACHE-FOR cache.
type CacheStats struct {
	Size         int
	Hits, Misses int64
}

// ReproxyCache is how the cache does.
func (p *Proxy) ReproxyCache() CacheStats {
	p.cache.mu.Lock()
	defer p.cache.mu.Unlock()
	return CacheStats{p.cache.order.Len(), p.cache.hits.Load(), p.cache.misses.Load()}
}

func (c *call) cacheKey() string { return string(c.r.Host) + "|" + c.r.URI() }

// remember keeps what a backend has said, if it may be asked for again: X-REPROXY-CACHE-FOR is SECONDS; FIELD FIELD…
func (c *call) remember(o order, h *http1.Header) {
	secs, names, _ := strings.Cut(o.cacheFor, ";")
	n, err := strconv.Atoi(strings.TrimSpace(secs))
	if m := c.x.Request().Method; err != nil || n <= 0 || c.set.ReproxyCacheMaxSize <= 0 || m != "GET" && m != "HEAD" {
		return
	}
	e := &reproxyEntry{key: c.cacheKey(), order: o, until: time.Now().Add(time.Duration(min(n, 1<<30)) * time.Second)}
	e.order.cacheFor = ""
	for _, name := range strings.Fields(names) {
		for _, v := range h.Values(name) {
			e.header = append(e.header, balancer.HeaderRule{Name: name, Value: v})
		}
	}
	c.p.cache.put(e, c.set.ReproxyCacheMaxSize)
}

// fromCache answers from the cache; false when it cannot, and the application is to be asked.
func (c *call) fromCache() bool {
	q := c.x.Request()
	if q.Method != "GET" && q.Method != "HEAD" || q.HasBody() {
		return false
	}
	e := c.p.cache.get(c.cacheKey(), time.Now())
	if e == nil {
		return false
	}
	h := c.x.Header()
	h.Reset()
	for _, f := range e.header {
		h.Add(f.Name, f.Value)
	}
	persist(c.r, h)
	c.r.CacheHit = "hit"
	if since := q.Header.Bytes("If-Modified-Since"); since != nil && string(since) == h.Get("Last-Modified") {
		c.r.Reply(304, nil)
		return true
	}
	c.ctx = c.x.Context()
	if err := c.tryURLs(e.order, 200); err != nil {
		c.p.Log.Debug("kept URLs cannot be fetched, the application is asked", "err", err)
		c.p.cache.remove(e.key) // it may know better ones
		h.Reset()
		c.r.CacheHit, c.r.Backend = "", ""
		return false
	}
	return true
}
