package cache

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// exchange is a client's request, and what it was answered.
type exchange struct {
	ctx     context.Context
	req     http1.Request
	header  http1.Header
	status  int
	body    bytes.Buffer
	aborted bool
	slow    time.Duration // for which a write waits
}

var _ http1.Exchange = (*exchange)(nil)

func (x *exchange) Context() context.Context { return x.ctx }
func (x *exchange) Request() *http1.Request  { return &x.req }
func (x *exchange) Body() io.Reader          { return strings.NewReader("") }
func (x *exchange) Header() *http1.Header    { return &x.header }
func (x *exchange) Started() bool            { return x.status != 0 }
func (x *exchange) Abort()                   { x.aborted = true }
func (x *exchange) Flush() error             { return nil }
func (x *exchange) RemoteAddr() net.Addr     { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

func (x *exchange) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 80} }
func (x *exchange) TLS() bool           { return false }

func (x *exchange) Start(status int, _ int64) error {
	if x.status != 0 {
		return http1.ErrStarted
	}
	x.status = status
	return nil
}

func (x *exchange) Reply(status int, body []byte) error {
	if err := x.Start(status, int64(len(body))); err != nil {
		return err
	}
	_, err := x.Write(body)
	return err
}

func (x *exchange) Write(p []byte) (int, error) {
	time.Sleep(x.slow)
	return x.body.Write(p)
}

func (x *exchange) ReadFrom(r io.Reader) (int64, error) { return x.body.ReadFrom(r) }
func (x *exchange) SendFile(f *os.File, off, n int64) (int64, error) {
	return x.body.ReadFrom(io.NewSectionReader(f, off, n))
}

// reply is what an origin answers: a status, fields as "Name: value", a body.
type reply struct {
	status int
	fields []string
	body   string
}

// world is a cache with its origin.
type world struct {
	t      *testing.T
	c      *Cache
	reply  reply
	asked  []*http1.OutRequest // of the origin, as the balancer would have sent them
	before func()              // runs while the origin is asked; may be nil
}

func newWorld(t *testing.T, set balancer.Cache) *world {
	t.Helper()
	w := &world{t: t, c: New(t.Context(), "svc", slog.New(slog.DiscardHandler))}
	set.Enabled = true
	if set.Memory == 0 {
		set.Memory = 1 << 20
	}
	if set.MaxObject == 0 {
		set.MaxObject = 1 << 16
	}
	if err := w.c.Update(set); err != nil {
		t.Fatal(err)
	}
	return w
}

// origin answers a request as a backend behind the proxy would.
func (w *world) origin(r *balancer.Request) {
	out := &http1.OutRequest{Method: r.X.Request().Method, Target: r.URI(), Host: string(r.Host)}
	out.Header.AddAll(&r.X.Request().Header)
	for _, e := range r.Edits {
		if e.Remove {
			out.Header.Del(e.Name)
		} else {
			out.Header.Set(e.Name, e.Value)
		}
	}
	w.asked = append(w.asked, out)
	if w.before != nil {
		w.before()
	}
	a := w.reply
	r.X.Header().Reset()
	tag := ""
	for _, f := range a.fields {
		name, value, _ := strings.Cut(f, ": ")
		r.X.Header().Add(name, value)
		if name == "ETag" {
			tag = value
		}
	}
	if tag != "" && out.Header.Get("If-None-Match") == tag {
		r.Reply(304, nil)
		return
	}
	r.Reply(a.status, []byte(a.body))
}

// ask sends a request through the cache: method, path, fields.
func (w *world) ask(method, path string, fields ...string) *exchange {
	w.t.Helper()
	return w.take(&exchange{ctx: w.t.Context()}, method, path, fields...)
}

// take is ask of an exchange that was made before.
func (w *world) take(x *exchange, method, path string, fields ...string) *exchange {
	w.t.Helper()
	p, query, _ := strings.Cut(path, "?")
	x.req = http1.Request{Method: method, Target: []byte(path), Path: []byte(p), Host: []byte("Site.example"), Minor: 1}
	if query != "" {
		x.req.Query = []byte(query)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		x.req.Header.Add(name, value)
	}
	r := new(balancer.Request)
	set := &balancer.Settings{PersistClient: true}
	r.Reset(x, nil, set, nil, nil)
	w.c.Serve(r, w.origin)
	return x
}

// kept asks, and reports whether the origin did not have to be asked.
func (w *world) kept(path string, fields ...string) bool {
	w.t.Helper()
	n := len(w.asked)
	w.ask("GET", path, fields...)
	return len(w.asked) == n
}
