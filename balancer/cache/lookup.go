package cache

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/byterange"
	"wheelhouse/internal/http1"
)

func parseTime(v string) (time.Time, error) { return http.ParseTime(v) }

func prefixHas(r *balancer.Request) func(netip.Prefix) bool {
	return func(p netip.Prefix) bool { return p.Contains(r.Observed) }
}

// lookup is one GET or HEAD on its way through the cache.
type lookup struct {
	c    *Cache
	r    *balancer.Request
	q    *http1.Request
	next func(*balancer.Request)
	key  string
	req  directives

	old    *entry  // kept, but to be asked about
	flight *flight // that others wait for; nil when they do not
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
	if l.old != nil && l.old.always || l.old == nil && l.c.standsApart(l.key) { // each has to ask for itself
		l.fetch()
		return
	}
	l.flight = l.c.join(l.r.X.Context(), l.key)
	defer l.land()
	if l.serveKept() { // it was waited for, or has come since the look above
		return
	}
	l.fetch()
}

// land ends the fetch that others wait for, unless that is for whoever keeps its answer to do.
func (l *lookup) land() {
	if f := l.flight; f != nil && !f.taken {
		l.c.land(f)
	}
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
	case !e.revalidate && e.staleWhile > 0 && -left <= e.staleWhile:
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
	t := newTee(l, l.r.X)
	edits := len(l.r.Edits)
	if l.old != nil {
		l.condition(l.r)
	}
	l.r.X, l.r.Standby = t, l.old != nil && l.old.standsIn(t.asked)
	l.next(l.r)
	l.r.Standby = false
	l.r.X, l.r.Edits = t.Exchange, l.r.Edits[:edits]
	switch {
	case t.other:
		// The origin speaks of an answer that was not asked about (RFC 9111 §4.3.4): ours is of no use.
		l.c.Purge(l.key)
		l.r.X.Header().Reset()
		l.old = nil
		l.fetch()
	case t.err304:
		l.c.Revalidated.Add(1)
		t.keepRefreshed()
		cookies := l.r.X.Header().Values("Set-Cookie") // for this client alone
		l.r.X.Header().Reset()
		for _, v := range cookies {
			l.r.X.Header().Add("Set-Cookie", v)
		}
		l.serve(t.refreshed, "revalidated", time.Now())
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
	if l.old.modified != "" && !l.old.tagOnly {
		r.Edits = append(r.Edits, balancer.HeaderEdit{Name: "If-Modified-Since", Value: l.old.modified})
	}
}

// serve answers with an entry. Nobody waits until the client has all of it.
func (l *lookup) serve(e *entry, how string, now time.Time) {
	l.land()
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
		if notModified(&l.q.Header, e) {
			r.Reply(304, nil)
			return
		}
	}
	whole := byterange.Range{N: e.size}
	v := l.q.Header.Bytes("Range")
	if v == nil || e.status != 200 || l.q.Method != "GET" || !balancer.IfRange(&l.q.Header, e.etag, e.modified) { // RFC 9110 §14.2: Range is for GET
		l.send(e, e.status, whole)
		return
	}
	switch part, kind := byterange.Single(string(v), e.size); kind {
	case byterange.Part:
		h.Set("Content-Range", "bytes "+itoa(part.Off)+"-"+itoa(part.Last())+"/"+itoa(e.size))
		l.send(e, 206, part)
	case byterange.Outside:
		h.Set("Content-Range", "bytes */"+itoa(e.size))
		r.Reply(416, nil)
	default: // ignored (RFC 9110 §14.2)
		l.send(e, 200, whole)
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// send sends a part of an entry's body, which may be all of it.
func (l *lookup) send(e *entry, code int, part byterange.Range) {
	r, first, n := l.r, part.Off, part.N
	if e.file != "" {
		f, err := l.c.dsk.Load().open(e)
		if err != nil {
			l.c.log.Warn("kept answer cannot be read", "file", e.file, "err", err)
			l.c.Purge(l.key)
			r.X.Header().Reset()
			r.CacheHit = "miss"
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
	if c.ctx.Err() != nil {
		c.mu.Unlock()
		return
	}
	f := c.depart(e.key)
	c.mu.Unlock()
	if f == nil {
		return
	}
	alone := newQuiet(c.ctx, r)
	c.bg.Go(func() {
		l := &lookup{c: c, r: alone, q: alone.X.Request(), next: next, key: e.key, old: e, flight: f}
		defer l.land()
		l.req = directives{maxAge: -1, maxStale: -1}
		t := newTee(l, alone.X)
		l.condition(alone)
		alone.X = t
		next(alone)
		switch {
		case t.other:
			c.Purge(e.key)
		case t.err304:
			c.Revalidated.Add(1)
			t.keepRefreshed()
		default:
			t.finish()
		}
	})
}

// notModified decides on a client's conditions (RFC 9110 §13.2.2), of which If-Match and If-Unmodified-Since are not for caches.
func notModified(h *http1.Header, e *entry) bool {
	if h.Has("If-None-Match") {
		return etagIn(h.Joined("If-None-Match"), e.etag)
	}
	since, err := parseTime(h.Get("If-Modified-Since"))
	modified, err2 := parseTime(e.modified)
	return err == nil && err2 == nil && !modified.After(since)
}

// etagIn reports whether a list of entity tags has one, weakly compared (RFC 9110 §8.8.3.2).
func etagIn(list, etag string) bool {
	if strings.TrimSpace(list) == "*" {
		return true
	}
	for t := range splitList(list) {
		if etag != "" && strings.TrimPrefix(t, "W/") == strings.TrimPrefix(etag, "W/") {
			return true
		}
	}
	return false
}
