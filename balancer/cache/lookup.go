package cache

import (
	"net/http"
	"net/netip"
	"strings"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

func parseTime(v string) (time.Time, error) { return http.ParseTime(v) }

func prefixHas(r *balancer.Request) func(netip.Prefix) bool {
	return func(p netip.Prefix) bool { return p.Contains(r.Client.Addr()) }
}

// lookup is one GET or HEAD on its way through the cache.
type lookup struct {
	c    *Cache
	r    *balancer.Request
	q    *http1.Request
	next func(*balancer.Request)
	key  string
	req  directives

	old *entry // kept, but to be asked about
}

func (l *lookup) run() {
	if l.serveKept() {
		return
	}
	if l.req.onlyIfCached { // RFC 9111 §5.2.1.7
		l.r.Error(504, "", "only-if-cached, and not in the cache")
		return
	}
	if l.q.Method == "HEAD" || l.req.noStore || l.q.Header.Has("Range") && l.old == nil {
		l.c.Passed.Add(1)
		l.r.CacheHit = "pass"
		l.next(l.r)
		return
	}
	if l.old != nil && l.old.always { // each has to ask for itself
		l.fetch()
		return
	}
	leader := l.c.join(l.r.X.Context(), l.key)
	if leader {
		defer l.c.leave(l.key)
	} else if l.serveKept() {
		return
	}
	l.fetch()
}

// serveKept answers from the cache if that may be, and starts to renew what is stale. It sets old to what must be asked about.
func (l *lookup) serveKept() bool {
	l.old = nil
	e := l.c.find(l.key, &l.q.Header)
	if e == nil {
		return false
	}
	now := time.Now()
	left := e.fresh - e.currentAge(now)
	if l.req.minFresh > 0 {
		left -= l.req.minFresh
	}
	switch tooOld := l.req.maxAge >= 0 && e.currentAge(now) > l.req.maxAge; {
	case l.req.noStore:
		return false
	case e.always || l.req.noCache || tooOld:
		l.old = e
		return false
	case left > 0:
		l.c.Hits.Add(1)
		l.serve(e, "hit", now)
		return true
	case !e.revalidate && l.req.maxStale >= 0 && -left <= l.req.maxStale:
		l.c.Stale.Add(1)
		l.serve(e, "stale", now)
		return true
	case !e.revalidate && -left <= e.staleWhile:
		l.c.Stale.Add(1)
		l.c.renew(e, l.r, l.next)
		l.serve(e, "stale", now)
		return true
	}
	l.old = e
	return false
}

// fetch has the request answered, and keeps the answer if that may be.
func (l *lookup) fetch() {
	l.c.Misses.Add(1)
	l.r.CacheHit = "miss"
	t := &tee{Exchange: l.r.X, l: l, asked: time.Now()}
	if l.old != nil {
		l.condition(l.r)
		t.ranged = l.q.Header.Has("Range")
	}
	l.r.X = t
	l.next(l.r)
	l.r.X = t.Exchange
	switch {
	case t.err304:
		e := t.refreshed
		l.c.Revalidated.Add(1)
		l.c.keep(e)
		l.r.X.Header().Reset()
		l.serve(e, "revalidated", time.Now())
	case t.failed:
		l.c.Stale.Add(1)
		l.r.X.Header().Reset()
		l.r.Reason = ""
		l.serve(l.old, "stale", time.Now())
	default:
		t.finish()
	}
}

// condition has the origin say whether the kept answer still holds (RFC 9111 §4.3.1). The client's own conditions are decided by what
// comes of that.
func (l *lookup) condition(r *balancer.Request) {
	for _, name := range []string{"If-Match", "If-Unmodified-Since", "If-Range", "Range", "If-None-Match", "If-Modified-Since"} {
		r.Edits = append(r.Edits, balancer.HeaderEdit{Name: name, Remove: true})
	}
	if l.old.etag != "" {
		r.Edits = append(r.Edits, balancer.HeaderEdit{Name: "If-None-Match", Value: l.old.etag})
	}
	if l.old.modified != "" {
		r.Edits = append(r.Edits, balancer.HeaderEdit{Name: "If-Modified-Since", Value: l.old.modified})
	}
}

// serve answers with an entry.
func (l *lookup) serve(e *entry, how string, now time.Time) {
	r := l.r
	r.CacheHit = how
	h := r.X.Header()
	for _, f := range e.header {
		h.Add(f.name, f.value)
	}
	h.Set("Age", age(e.currentAge(now)))
	h.Set("Cache-Status", "wheelhouse; "+status(how, e.fresh-e.currentAge(now)))
	if !r.Entry.PersistClient {
		h.Set("Connection", "close")
	}
	if e.status == 200 {
		switch notModified(&l.q.Header, e) {
		case yes:
			r.Reply(304, nil)
			return
		case failed:
			r.Reply(412, nil)
			return
		}
	}
	first, n := int64(0), e.size
	code := e.status
	if v := l.q.Header.Bytes("Range"); v != nil && e.status == 200 && rangeApplies(&l.q.Header, e) {
		var ok, satisfiable bool
		if first, n, ok, satisfiable = parseRange(string(v), e.size); !satisfiable {
			h.Set("Content-Range", "bytes */"+itoa(e.size))
			r.Reply(416, nil)
			return
		}
		if ok {
			code = 206
			h.Set("Content-Range", "bytes "+itoa(first)+"-"+itoa(first+n-1)+"/"+itoa(e.size))
		} else {
			first, n = 0, e.size
		}
	}
	l.send(e, code, first, n)
}

func (l *lookup) send(e *entry, code int, first, n int64) {
	r := l.r
	if e.file != "" {
		f, err := l.c.dsk.Load().open(e)
		if err != nil {
			l.c.log.Warn("kept answer cannot be read", "file", e.file, "err", err)
			l.c.Purge(l.key)
			r.X.Header().Reset()
			l.next(r)
			return
		}
		defer f.Close()
		if goOn, err := r.Begin(code, n); !goOn || err != nil || l.q.Method == "HEAD" {
			return
		}
		m, _ := r.X.SendFile(f, e.bodyAt()+first, n) // a client that has gone needs no more
		r.Sent += m
		return
	}
	if goOn, err := r.Begin(code, n); !goOn || err != nil || l.q.Method == "HEAD" || n == 0 {
		return
	}
	m, _ := r.X.Write(e.body[first : first+n])
	r.Sent += int64(m)
}

// status is Cache-Status' parameters (RFC 9211 §2).
func status(how string, left time.Duration) string {
	switch how {
	case "hit":
		return "hit; ttl=" + itoa(int64(left/time.Second))
	case "stale":
		return "hit; ttl=" + itoa(-int64(-left/time.Second)-1)
	case "revalidated":
		return "hit; fwd=stale; fwd-status=304"
	}
	return "fwd=miss"
}

// renew fetches a stale entry again in the background, unless somebody does so already.
func (c *Cache) renew(e *entry, r *balancer.Request, next func(*balancer.Request)) {
	c.mu.Lock()
	if c.flights[e.key] != nil || c.ctx.Err() != nil {
		c.mu.Unlock()
		return
	}
	c.flights[e.key] = &flight{done: make(chan struct{})}
	c.mu.Unlock()
	alone := newQuiet(c.ctx, r)
	c.bg.Go(func() {
		defer c.leave(e.key)
		l := &lookup{c: c, r: alone, q: alone.X.Request(), next: next, key: e.key, old: e}
		l.req = directives{maxAge: -1, maxStale: -1}
		t := &tee{Exchange: alone.X, l: l, asked: time.Now()}
		l.condition(alone)
		alone.X = t
		next(alone)
		if t.err304 {
			c.Revalidated.Add(1)
			c.keep(t.refreshed)
			return
		}
		t.finish()
	})
}

type verdict uint8

const (
	no verdict = iota
	yes
	failed
)

// notModified decides on a client's conditions (RFC 9110 §13.2.2).
func notModified(h *http1.Header, e *entry) verdict {
	if v := h.Joined("If-Match"); v != "" && !etagIn(v, e.etag, true) {
		return failed
	}
	if v := h.Joined("If-None-Match"); v != "" {
		if etagIn(v, e.etag, false) {
			return yes
		}
		return no
	}
	since, err := parseTime(h.Get("If-Modified-Since"))
	modified, err2 := parseTime(e.modified)
	if err == nil && err2 == nil && !modified.After(since) {
		return yes
	}
	return no
}

// etagIn reports whether a list of entity tags has one; strong takes no weak ones (RFC 9110 §8.8.3.2).
func etagIn(list, etag string, strong bool) bool {
	if strings.TrimSpace(list) == "*" {
		return true
	}
	for t := range splitList(list) {
		if strong && (strings.HasPrefix(t, "W/") || strings.HasPrefix(etag, "W/")) {
			continue
		}
		if etag != "" && strings.TrimPrefix(t, "W/") == strings.TrimPrefix(etag, "W/") {
			return true
		}
	}
	return false
}

// rangeApplies decides on If-Range (RFC 9110 §13.1.5).
func rangeApplies(h *http1.Header, e *entry) bool {
	v := h.Get("If-Range")
	switch {
	case v == "":
		return true
	case strings.HasPrefix(v, `"`):
		return v == e.etag
	case strings.HasPrefix(v, "W/"):
		return false
	}
	return v == e.modified && v != ""
}
