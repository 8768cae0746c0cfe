package ratelimit

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

var start = time.Unix(1_000_000, 0)

func limiter(set balancer.RateLimit) *Limiter {
	l := New()
	l.Update(set)
	return l
}

// A burst is let in at once, then one request for each step of time; what the client is told to wait for is right to the nanosecond.
func TestAllow(t *testing.T) {
	l := limiter(balancer.RateLimit{Rate: 10, Burst: 3})
	for i := range 3 {
		if wait := l.Allow("a", start); wait != 0 {
			t.Errorf("request %d of the burst waits %v", i, wait)
		}
	}
	wait := l.Allow("a", start)
	if wait != 100*time.Millisecond {
		t.Fatalf("after the burst: %v", wait)
	}
	if wait := l.Allow("b", start); wait != 0 {
		t.Errorf("another client waits %v", wait)
	}
	if l.Allow("a", start.Add(wait-1)) != 1 || l.Allow("a", start.Add(wait)) != 0 || l.Allow("a", start.Add(wait)) == 0 {
		t.Error("the time that it was told to wait is not right")
	}
	// After a long silence there is one burst again, not more.
	later := start.Add(time.Hour)
	for range 3 {
		if l.Allow("a", later) != 0 {
			t.Error("no burst after a silence")
		}
	}
	if l.Allow("a", later) == 0 {
		t.Error("more than a burst after a silence")
	}
	// Over a long time it is the rate: refused requests cost nothing.
	let := 0
	for i := range 10000 {
		if l.Allow("c", start.Add(time.Duration(i)*time.Millisecond)) == 0 {
			let++
		}
	}
	if let < 102 || let > 103 {
		t.Errorf("%d requests in 10 s at 10/s with a burst of 3", let)
	}
	if wait := New().Allow("a", start); wait != 0 {
		t.Errorf("without a limit: %v", wait)
	}
}

// Limits at the edges of what can be set neither overflow nor shut everybody out.
func TestExtremes(t *testing.T) {
	for _, set := range []balancer.RateLimit{
		{Rate: 1e9, Burst: 1}, {Rate: 1e9, Burst: math.MaxInt}, {Rate: 1e-9, Burst: 1}, {Rate: 1e-300, Burst: math.MaxInt}, {Rate: math.SmallestNonzeroFloat64, Burst: 1},
	} {
		l := limiter(set)
		if wait := l.Allow("a", time.Now()); wait != 0 {
			t.Errorf("%+v: the first request waits %v", set, wait)
		}
		if wait := l.Allow("a", time.Now()); wait < 0 || set.Rate < 1 && set.Burst == 1 && wait < time.Hour {
			t.Errorf("%+v: the second waits %v", set, wait)
		}
	}
}

// After a change nobody waits for what the old limit has made of him.
func TestUpdate(t *testing.T) {
	l := limiter(balancer.RateLimit{Rate: 0.001, Burst: 1000})
	for range 1000 {
		l.Allow("a", start)
	}
	l.Update(balancer.RateLimit{Rate: 10, Burst: 2})
	if wait := l.Allow("a", start); wait > 100*time.Millisecond {
		t.Errorf("after the change: %v", wait)
	}
	if l.Limit().Rate != 10 {
		t.Errorf("limit %+v", l.Limit())
	}
}

// Memory is bounded, and a client that is at its limit is not let in by others' coming.
func TestMemoryIsBounded(t *testing.T) {
	l := limiter(balancer.RateLimit{Rate: 1e-3, Burst: 1})
	for i := range 2 * shards * perShard {
		l.Allow(fmt.Sprint(i), start.Add(time.Duration(i)))
	}
	known, _ := l.Clients(start)
	if known > shards*perShard || known < shards*perShard/2 {
		t.Errorf("%d clients are known; the limit is %d", known, shards*perShard)
	}
	if last := fmt.Sprint(2*shards*perShard - 1); l.Allow(last, start.Add(time.Second)) == 0 {
		t.Error("the last client was forgotten")
	}
	// Those whose buckets are full again make room without anybody's being forgotten.
	for i := range 100 {
		l.Allow(fmt.Sprint("late", i), start.Add(2000*time.Second))
	}
	if known, _ = l.Clients(start); known > shards*perShard {
		t.Errorf("%d clients are known", known)
	}
}

// exchange is as much of one as a limiter looks at.
type exchange struct {
	http1.Exchange
	req    http1.Request
	header http1.Header
	status int
}

func (x *exchange) Context() context.Context                       { return context.TODO() }
func (x *exchange) Request() *http1.Request                        { return &x.req }
func (x *exchange) Header() *http1.Header                          { return &x.header }
func (x *exchange) Started() bool                                  { return x.status != 0 }
func (x *exchange) Start(status int, _ int64) error                { x.status = status; return nil }
func (x *exchange) Write(p []byte) (int, error)                    { return len(p), nil }
func (x *exchange) ReadFrom(io.Reader) (int64, error)              { return 0, nil }
func (x *exchange) SendFile(*os.File, int64, int64) (int64, error) { return 0, nil }
func (x *exchange) RemoteAddr() net.Addr                           { return nil }

func request(observed, host string, fields ...string) (*balancer.Request, *exchange) {
	x := &exchange{}
	x.req.Method, x.req.Host = "GET", []byte(host)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		x.req.Header.Add(name, value)
	}
	r := new(balancer.Request)
	r.Reset(x, nil, &balancer.Settings{}, nil, nil)
	r.Observed = netip.MustParseAddr(observed)
	r.Began = start
	return r, x
}

// What clients are known by: one that lacks the field is known by its address, and an IPv6 customer by its network.
func TestKeys(t *testing.T) {
	for _, tt := range []struct {
		by, observed, host string
		fields             []string
		want               string
		secret             bool
	}{
		{"ip", "192.0.2.1", "h", nil, "192.0.2.1", false},
		{"ip", "::ffff:192.0.2.1", "h", nil, "192.0.2.1", false},
		{"ip", "2001:db8:1:2:3:4:5:6", "h", nil, "2001:db8:1:2::/64", false},
		{"ip", "0.0.0.0", "h", nil, "", false},
		{"header:X-Key", "0.0.0.0", "h", nil, "", false},
		{"header:X-Key", "0.0.0.0", "h", []string{"X-Key: k"}, "=k", true},
		{"host", "0.0.0.0", "h", nil, "h", false},
		{"host", "192.0.2.1", "Site.Example", nil, "site.example", false},
		{"header:X-Key", "192.0.2.1", "h", []string{"x-key: k"}, "=k", true},
		{"header:X-Key", "192.0.2.1", "h", nil, "192.0.2.1", false},
		{"header:X-Key", "192.0.2.1", "h", []string{"X-Key: "}, "192.0.2.1", false},
		{"header:X-Key", "192.0.2.1", "h", []string{"X-Key: 192.0.2.2"}, "=192.0.2.2", true},
		{"cookie:s", "192.0.2.1", "h", []string{"Cookie: a=b; s=k%20x"}, "=k x", true},
		{"cookie:s", "192.0.2.1", "h", []string{"Cookie: a=b"}, "192.0.2.1", false},
	} {
		r, _ := request(tt.observed, tt.host, tt.fields...)
		if got, secret := key(r, tt.by); got != tt.want || secret != tt.secret {
			t.Errorf("key by %s of %s %v = %q, %v; want %q, %v", tt.by, tt.observed, tt.fields, got, secret, tt.want, tt.secret)
		}
	}
}

// A refused request gets 429 and when to come again; who was refused and how often is remembered, but no secret.
func TestServe(t *testing.T) {
	l := limiter(balancer.RateLimit{Rate: 0.1, Burst: 2, Key: "header:X-Key"})
	served := 0
	for i := range 5 {
		r, x := request("192.0.2.1", "h", "X-Key: secret")
		l.Serve(r, func(*balancer.Request) { served++ })
		if i >= 2 && (x.status != 429 || x.header.Get("Retry-After") != "10" || r.Reason != "over rate_limit") {
			t.Errorf("%d: %d, Retry-After %q, reason %q", i, x.status, x.header.Get("Retry-After"), r.Reason)
		}
	}
	for range 3 {
		r, _ := request("192.0.2.9", "h")
		l.Serve(r, func(*balancer.Request) { served++ })
	}
	for range 5 { // by a unix socket: who knows how many that are
		r, _ := request("0.0.0.0", "h")
		l.Serve(r, func(*balancer.Request) { served++ })
	}
	if served != 9 || l.Refused.Load() != 4 {
		t.Errorf("%d served, %d refused", served, l.Refused.Load())
	}
	got := l.Refusals(start, 10)
	if len(got) != 2 || got[0].Count != 3 || got[1] != (Refusal{"192.0.2.9", 1, start}) || !strings.HasPrefix(got[0].Client, "#") || strings.Contains(got[0].Client, "secret") {
		t.Errorf("%+v", got)
	}
	if known, refused := l.Clients(start); known != 2 || refused != 2 {
		t.Errorf("%d known, %d refused", known, refused)
	}
	if got := l.Refusals(start.Add(1), 10); len(got) != 0 {
		t.Errorf("since later: %+v", got)
	}
	l.Update(balancer.RateLimit{Rate: 1, Burst: 1, Key: "ip"})
	if got := l.Refusals(start, 10); len(got) != 0 {
		t.Errorf("by another key: %+v", got)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	var s refusals
	for i := range 5 * maxRefused {
		s.note(fmt.Sprint(i), false, start.Add(time.Duration(i/100)))
		if len(s.all) > maxRefused {
			t.Fatalf("%d are remembered", len(s.all))
		}
	}
	if s.all[fmt.Sprint(5*maxRefused-1)] == nil {
		t.Error("the last was forgotten")
	}
}
