package cache

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// tee passes an answer on to the client and keeps a copy, if it may be kept. Of one that may not, nothing is copied, and the fast
// ways stay open.
type tee struct {
	http1.Exchange
	l          *lookup
	asked      time.Time
	generation uint64 // of the key when the answer was asked for

	started   bool
	err304    bool // the origin says that old holds
	other     bool // the origin says so of something else
	failed    bool // the origin failed, and old does for now
	refreshed *entry
	keepIt    bool   // refreshed may be kept
	e         *entry // being made; nil when the answer is not kept
	cut       bool   // what is being made may come to an end too early, and then somebody else is to try
	size      int64
	limit     int64 // of the body of e
}

func newTee(l *lookup, x http1.Exchange) *tee {
	return &tee{Exchange: x, l: l, asked: time.Now(), generation: l.c.generation(l.key).Load(), cut: true}
}

func (t *tee) swallow() bool { return t.err304 || t.other || t.failed }

// Started reports whether an answer has begun, be it one that the client does not see.
func (t *tee) Started() bool { return t.started }

// Start implements http1.Exchange.
func (t *tee) Start(status int, size int64) error {
	if t.started {
		return http1.ErrStarted
	}
	t.started = true
	l, h, now := t.l, t.Header(), time.Now()
	res := parseControl(h)
	if old := l.old; old != nil {
		if status == 304 {
			if t.other = contradicts(h.Get("ETag"), old.etag); !t.other {
				t.err304 = true
				t.refreshed, t.keepIt = old.refresh(l, h, t.asked, now, l.c.set.Load())
			}
			return nil
		}
		if isFailure(status) && old.standsIn(now) {
			t.failed = true
			return nil
		}
	}
	set := l.c.set.Load()
	if t.size = size; mayStore(l.q, status, h, &l.req, &res, set.AskAlways) && size <= set.MaxObject {
		t.e = newEntry(l, status, h, &res, t.asked, now, set)
	}
	if t.e != nil {
		if t.limit = min(set.MaxObject, l.c.largest()-t.e.cost()); size > t.limit {
			t.e = nil
		}
	}
	if t.e != nil {
		h.Set("Cache-Status", "wheelhouse; fwd=miss; stored")
		if size >= 0 { // else it may still turn out to be too long
			l.c.setApart(l.key, false)
		}
	} else {
		t.giveUp(status < 500)
	}
	return t.Exchange.Start(status, size)
}

// giveUp lets those go on who wait for an answer that is not kept. apart says that the next one will not be, either.
func (t *tee) giveUp(apart bool) {
	t.e, t.cut = nil, false
	if apart {
		t.l.c.setApart(t.l.key, true)
	}
	t.l.c.land(t.l.flight)
}

// isFailure are the statuses for which a stale answer may stand in (RFC 5861 §4).
func isFailure(status int) bool {
	return status == 500 || status == 502 || status == 503 || status == 504
}

// standsIn reports whether a stale entry may be used when its origin fails.
func (e *entry) standsIn(now time.Time) bool {
	return !e.revalidate && !e.always && e.currentAge(now)-e.fresh <= e.staleError
}

// contradicts reports whether a 304 bears another strong tag than what was asked about, which then must not be used (RFC 9111 §4.3.4).
func contradicts(tag, asked string) bool {
	return tag != "" && asked != "" && !strings.HasPrefix(tag, "W/") && !strings.HasPrefix(asked, "W/") && tag != asked
}

// keepRefreshed keeps the entry that the origin has confirmed; one that may no longer be kept is forgotten.
func (t *tee) keepRefreshed() {
	if !t.keepIt {
		t.l.c.Purge(t.l.key)
		return
	}
	t.l.c.keep(t.refreshed, t.generation, t.l.flight)
}

// Reply implements http1.Exchange.
func (t *tee) Reply(status int, body []byte) error {
	err := t.Start(status, int64(len(body)))
	if err != nil || len(body) == 0 || t.swallow() {
		return err
	}
	_, err = t.Write(body)
	return err
}

// Write implements http1.Exchange.
func (t *tee) Write(p []byte) (int, error) {
	if t.swallow() {
		return len(p), nil
	}
	t.copy(p)
	return t.Exchange.Write(p)
}

// copy keeps a part of the body.
func (t *tee) copy(p []byte) {
	if t.e == nil {
		return
	}
	if int64(len(t.e.body)+len(p)) > t.limit { // longer than it said, or than it could say
		t.giveUp(true)
		return
	}
	t.e.body = append(t.e.body, p...)
}

// ReadFrom implements http1.Exchange.
func (t *tee) ReadFrom(r io.Reader) (int64, error) {
	switch {
	case t.swallow():
		return io.Copy(io.Discard, r)
	case t.e == nil:
		return t.Exchange.ReadFrom(r)
	}
	return t.Exchange.ReadFrom(&copying{r, t})
}

// copying keeps what is read.
type copying struct {
	r io.Reader
	t *tee
}

func (c *copying) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.t.copy(p[:n])
	return n, err
}

// SendFile implements http1.Exchange.
func (t *tee) SendFile(f *os.File, off, n int64) (int64, error) {
	switch {
	case t.swallow():
		return n, nil
	case t.e == nil:
		return t.Exchange.SendFile(f, off, n)
	}
	return t.ReadFrom(io.NewSectionReader(f, off, n))
}

// Flush implements http1.Exchange.
func (t *tee) Flush() error {
	if t.swallow() {
		return nil
	}
	return t.Exchange.Flush()
}

// Abort implements http1.Exchange.
func (t *tee) Abort() {
	t.e = nil
	if !t.swallow() {
		t.Exchange.Abort()
	}
}

// Unwrap gives the exchange beneath, for http1.As.
func (t *tee) Unwrap() http1.Exchange { return t.Exchange }

// finish keeps the answer, if it is whole.
func (t *tee) finish() {
	e := t.e
	if e == nil || t.size >= 0 && int64(len(e.body)) != t.size || t.size < 0 && t.l.r.Reason != "" { // it broke off
		if f := t.l.flight; f != nil && t.cut {
			f.cut = true
		}
		return
	}
	e.size = int64(len(e.body))
	t.l.c.setApart(t.l.key, false)
	t.l.c.keep(e, t.generation, t.l.flight)
}

// newEntry begins an entry; nil when its answer could not be used.
func newEntry(l *lookup, status int, h *http1.Header, res *directives, asked, now time.Time, set *balancer.Cache) *entry {
	fresh, known := lifetime(status, h, res, now)
	e := &entry{key: l.key, status: status, stored: now, etag: h.Get("ETag"), modified: h.Get("Last-Modified")}
	if !known && e.etag == "" && e.modified == "" || fresh == 0 && e.etag == "" && e.modified == "" && res.staleWhile <= 0 {
		return nil
	}
	for name, value := range h.All() {
		switch n := strings.ToLower(string(name)); n {
		case "connection", "age", "cache-status", "content-range", "date":
			if n == "date" {
				e.header = append(e.header, field{"Date", string(value)})
			}
		default:
			e.header = append(e.header, field{string(name), string(value)})
		}
	}
	if !h.Has("Date") {
		e.header = append(e.header, field{"Date", now.UTC().Format(http.TimeFormat)})
	}
	e.vary = variedBy(h, l.q)
	e.tagOnly = tagOnly(l.q, res, set)
	e.setTimes(h, res, fresh, asked, now, set)
	return e
}

// variedBy is what an answer with fields h to a request depends on.
func variedBy(h *http1.Header, q *http1.Request) (list []varied) {
	for name := range splitList(h.Joined("Vary")) {
		list = append(list, varied{strings.ToLower(name), variant(name, &q.Header)})
	}
	return list
}

// tagOnly reports whether an answer is one of several for different people, as far as can be seen. That one of them was not modified since
// says nothing of another; only a tag does.
func tagOnly(q *http1.Request, res *directives, set *balancer.Cache) bool {
	return set.AskAlways || res.private || q.Header.Has("Authorization")
}

// setTimes says how long an entry may be used.
func (e *entry) setTimes(h *http1.Header, res *directives, fresh time.Duration, asked, now time.Time, set *balancer.Cache) {
	apparent := max(0, now.Sub(httpTime(h.Get("Date"), now)))
	e.age = max(apparent, seconds(h.Get("Age"))+now.Sub(asked)) // RFC 9111 §4.2.3
	if !h.Has("Age") && !h.Has("Date") {
		e.age = 0
	}
	e.fresh, e.always, e.revalidate = fresh, res.noCache, res.mustRevalidate || res.proxyRevalidate || res.noCache || res.sMaxAge >= 0
	if set.AskAlways {
		e.fresh, e.always, e.revalidate = 0, true, true
		return
	}
	e.staleWhile, e.staleError = set.StaleWhileRev, set.StaleIfError
	if res.staleWhile >= 0 {
		e.staleWhile = res.staleWhile
	}
	if res.staleIfError >= 0 {
		e.staleError = res.staleIfError
	}
}

// refresh is the entry after the origin has said that it still holds (RFC 9111 §4.3.4), and whether it may be kept as it is now.
func (e *entry) refresh(l *lookup, h *http1.Header, asked, now time.Time, set *balancer.Cache) (refreshed *entry, keep bool) {
	n := *e
	n.stored = now
	n.header = nil
	for _, f := range e.header {
		if strings.EqualFold(f.name, "Date") {
			continue
		}
		if !h.Has(f.name) || !taken(f.name) {
			n.header = append(n.header, f)
		}
	}
	var merged http1.Header
	for name, value := range h.All() {
		if taken(string(name)) {
			n.header = append(n.header, field{string(name), string(value)})
		}
	}
	if !h.Has("Date") { // RFC 9110 §6.6.1
		n.header = append(n.header, field{"Date", now.UTC().Format(http.TimeFormat)})
	}
	for _, f := range n.header {
		merged.Add(f.name, f.value)
	}
	all := parseControl(&merged)
	fresh, _ := lifetime(e.status, &merged, &all, now)
	merged.Del("Age")
	if v := h.Get("Age"); v != "" {
		merged.Set("Age", v)
	}
	n.setTimes(&merged, &all, fresh, asked, now, set)
	if v := h.Get("ETag"); v != "" {
		n.etag = v
	}
	if v := h.Get("Last-Modified"); v != "" {
		n.modified = v
	}
	n.vary, n.tagOnly = variedBy(&merged, l.q), tagOnly(l.q, &all, set)
	return &n, mayStore(l.q, e.status, &merged, &l.req, &all, set.AskAlways)
}

// taken reports whether a field of a 304 takes the place of the one that is kept: those do not that speak of the body, of the connection,
// or to one client.
func taken(name string) bool {
	switch strings.ToLower(name) {
	case "connection", "age", "cache-status", "content-length", "content-encoding", "content-range", "content-type", "set-cookie":
		return false
	}
	return true
}

// newQuiet is a copy of a request that nobody waits for.
func newQuiet(ctx context.Context, r *balancer.Request) *balancer.Request {
	q := r.X.Request()
	x := &quiet{ctx: ctx, remote: r.X.RemoteAddr(), local: r.X.LocalAddr(), tls: r.X.TLS()}
	x.req = http1.Request{ // as plugins have made it: that is what the entry's key says
		Method: "GET", Target: []byte(r.URI()), Path: clone(r.Path), Query: clone(r.Query), Host: clone(r.Host), Minor: 1, ID: q.ID,
	}
	x.req.Header.AddAll(&q.Header)
	alone := r.Fork(x)
	alone.Edits = slices.Clone(r.Edits)
	return alone
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

// quiet is an exchange without a client: what is answered goes nowhere.
type quiet struct {
	ctx           context.Context
	req           http1.Request
	header        http1.Header
	remote, local net.Addr
	tls, started  bool
}

var _ http1.Exchange = (*quiet)(nil)

func (x *quiet) Context() context.Context { return x.ctx }
func (x *quiet) Request() *http1.Request  { return &x.req }
func (x *quiet) Body() io.Reader          { return strings.NewReader("") }
func (x *quiet) Header() *http1.Header    { return &x.header }
func (x *quiet) Started() bool            { return x.started }
func (x *quiet) Abort()                   { x.started = true }
func (x *quiet) Flush() error             { return nil }
func (x *quiet) RemoteAddr() net.Addr     { return x.remote }
func (x *quiet) LocalAddr() net.Addr      { return x.local }
func (x *quiet) TLS() bool                { return x.tls }
func (x *quiet) Room(int) bool            { return true }

func (x *quiet) Start(int, int64) error {
	x.started = true
	return nil
}

func (x *quiet) Reply(int, []byte) error {
	x.started = true
	return nil
}

func (x *quiet) Write(p []byte) (int, error)                    { return len(p), nil }
func (x *quiet) ReadFrom(r io.Reader) (int64, error)            { return io.Copy(io.Discard, r) }
func (x *quiet) SendFile(_ *os.File, _, n int64) (int64, error) { return n, nil }
