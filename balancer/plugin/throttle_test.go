package plugin

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// fakeService is what Throttle sees of a service.
type fakeService struct{ log *slog.Logger }

func (fakeService) Name() string                                  { return "s" }
func (f fakeService) Log() *slog.Logger                           { return f.log }
func (fakeService) Queues(balancer.Priority) (int, time.Duration) { return 0, 0 }

// fakeExchange is a request whose answer is looked at.
type fakeExchange struct {
	http1.Exchange
	request http1.Request
	header  http1.Header
	status  int
	aborted bool
}

func (x *fakeExchange) Context() context.Context        { return context.Background() }
func (x *fakeExchange) Request() *http1.Request         { return &x.request }
func (x *fakeExchange) Header() *http1.Header           { return &x.header }
func (x *fakeExchange) Started() bool                   { return x.status != 0 }
func (x *fakeExchange) Start(status int, _ int64) error { x.status = status; return nil }
func (x *fakeExchange) Write(p []byte) (int, error)     { return len(p), nil }
func (x *fakeExchange) Abort()                          { x.aborted = true }

// bench has a limiter with a clock that the test moves.
type bench struct {
	t     *testing.T
	now   time.Time
	log   strings.Builder
	extra map[string]string
	inst  *limiter
	waits []time.Duration
	fail  error
}

func newBench(t *testing.T, tunables map[string]string) *bench {
	b := &bench{t: t, now: time.Unix(1e9, 0), extra: map[string]string{}}
	for _, tn := range (throttle{}).Tunables() {
		b.extra[tn.Name] = tn.Default
	}
	maps.Copy(b.extra, tunables)
	b.make(nil)
	return b
}

func (b *bench) make(prev any) {
	b.t.Helper()
	inst, err := throttle{}.New(fakeService{slog.New(slog.NewTextHandler(&b.log, nil))}, &balancer.Settings{Extra: b.extra}, nil, prev)
	if err != nil {
		b.t.Fatal(err)
	}
	b.inst = inst.(*limiter)
	b.inst.state.now = func() time.Time { return b.now }
	b.inst.wait = func(_ context.Context, d time.Duration) error {
		b.waits = append(b.waits, d)
		return b.fail
	}
}

// begin begins a request and says what became of it: how long it waited, or the status that it was answered with, or "cut".
func (b *bench) begin(method, uri, client string) (string, *balancer.Request) {
	x := &fakeExchange{request: http1.Request{Method: method}}
	set := &balancer.Settings{}
	r := &balancer.Request{X: x, Set: set, Entry: set, Path: []byte(uri), Observed: netip.MustParseAddr(client)}
	b.waits = nil
	switch {
	case !b.inst.Start(r) && len(b.waits) == 0:
		return "free", r
	case x.aborted:
		return "cut", r
	case x.status != 0:
		return map[int]string{403: "403"}[x.status], r
	}
	return b.waits[0].String(), r
}

// one is a request that ends at once.
func (b *bench) one(method, uri, client string) string {
	got, r := b.begin(method, uri, client)
	b.inst.End(r)
	return got
}

func TestThrottleDelays(t *testing.T) {
	b := newBench(t, map[string]string{"max_delay": "20"})
	for i, v := range []struct {
		after time.Duration
		want  string
	}{
		{0, "0s"},
		{time.Second, "3s"},
		{time.Second, "6s"},
		{59 * time.Second, "12s"},
		{time.Second, "20s"},
		{time.Second, "20s"},
		{60 * time.Second, "0s"},
		{time.Second, "3s"},
	} {
		b.now = b.now.Add(v.after)
		if got := b.one("GET", "/", "1.2.3.4"); got != v.want {
			t.Errorf("request %d: %s; want %s", i, got, v.want)
		}
	}
	if got := b.one("GET", "/", "1.2.3.5"); got != "0s" {
		t.Errorf("another client: %s", got)
	}
	prev := b.inst
	b.make(prev)
	if got := b.one("GET", "/", "1.2.3.4"); got != "6s" {
		t.Errorf("after a change of the configuration: %s; want 6s", got)
	}
	b.fail = errors.New("gone")
	if got := b.one("GET", "/", "1.2.3.4"); got != "cut" {
		t.Errorf("a client that does not wait: %s", got)
	}
}

func TestThrottleManyViolationsDoNotOverflow(t *testing.T) {
	b := newBench(t, map[string]string{"max_delay": "1000000000"})
	last := time.Duration(0)
	for i := range 100 {
		b.now = b.now.Add(time.Millisecond)
		d, err := time.ParseDuration(b.one("GET", "/", "1.2.3.4"))
		if err != nil || d < last {
			t.Fatalf("request %d: %v, %v after %v", i, d, err, last)
		}
		last = d
	}
	if last != 1e9*time.Second {
		t.Errorf("the longest delay was %v", last)
	}
}

func TestThrottleBans(t *testing.T) {
	b := newBench(t, map[string]string{"ban_threshold": "2", "ban_expiration": "30"})
	for i, want := range []string{"0s", "3s", "cut", "403", "403"} {
		if got := b.one("GET", "/", "1.2.3.4"); got != want {
			t.Errorf("request %d: %s; want %s", i, got, want)
		}
	}
	b.now = b.now.Add(100 * time.Second)
	if got := b.one("GET", "/", "1.2.3.4"); got != "0s" {
		t.Errorf("after the ban: %s", got)
	}
	for _, event := range []string{"event=throttled", "event=ban ", "event=banned", "event=unban"} {
		if !strings.Contains(b.log.String(), event) {
			t.Errorf("%s is not in the log:\n%s", event, b.log.String())
		}
	}
}

func TestThrottleConcurrency(t *testing.T) {
	b := newBench(t, map[string]string{"default_action": "allow"})
	var under []*balancer.Request
	for i, want := range []string{"free", "free", "403"} {
		got, r := b.begin("GET", "/", "1.2.3.4")
		if got != want {
			t.Errorf("request %d: %s; want %s", i, got, want)
		}
		under = append(under, r)
	}
	for _, r := range under {
		b.inst.End(r)
		b.inst.End(r) // twice counts once
	}
	if len(b.inst.state.active) != 0 {
		t.Errorf("still counted: %v", b.inst.state.active)
	}
	if got := b.one("GET", "/", "1.2.3.4"); got != "free" {
		t.Errorf("afterwards: %s", got)
	}
}

// A request that is refused takes nobody's place, also while its answer is on its way.
func TestThrottleConcurrencyOfRefused(t *testing.T) {
	for _, logOnly := range []string{"off", "on"} {
		b := newBench(t, map[string]string{"default_action": "allow", "log_only": logOnly})
		var under []*balancer.Request
		begin := func(want string) {
			t.Helper()
			if logOnly == "on" { // all go on, and all count
				want = "free"
			}
			got, r := b.begin("GET", "/", "1.2.3.4")
			if got != want {
				t.Errorf("log_only %s, request %d: %s; want %s", logOnly, len(under), got, want)
			}
			under = append(under, r)
		}
		begin("free")
		begin("free")
		begin("403")
		b.inst.End(under[0])
		begin("free")
		begin("403")
		if got, want := strings.Count(b.log.String(), "event=concurrent"), map[string]int{"off": 2, "on": 3}[logOnly]; got != want {
			t.Errorf("log_only %s: %d events; want %d\n%s", logOnly, got, want, b.log.String())
		}
		for _, r := range under {
			b.inst.End(r)
		}
		if len(b.inst.state.active) != 0 {
			t.Errorf("log_only %s: still counted: %v", logOnly, b.inst.state.active)
		}
	}
}

// Of requests that come at once as many are let in as may be: not one more, and not one less.
func TestThrottleConcurrencyIsExact(t *testing.T) {
	const limit, atOnce, rounds = 3, 8, 500
	b := newBench(t, map[string]string{"default_action": "allow", "max_concurrent": "3", "log_events": "none"})
	for round := range rounds {
		var in atomic.Int64
		var all sync.WaitGroup
		requests := make([]*balancer.Request, atOnce)
		begin := make(chan struct{})
		for i := range requests {
			set := &balancer.Settings{}
			requests[i] = &balancer.Request{X: &fakeExchange{}, Set: set, Entry: set, Observed: netip.MustParseAddr("1.2.3.4")}
			all.Go(func() {
				<-begin
				if !b.inst.Start(requests[i]) {
					in.Add(1)
				}
			})
		}
		close(begin)
		all.Wait()
		if in.Load() != limit {
			t.Fatalf("round %d: %d of %d were let in; want %d", round, in.Load(), atOnce, limit)
		}
		for _, r := range requests {
			b.inst.End(r)
		}
	}
}

func TestThrottleLists(t *testing.T) {
	dir := t.TempDir()
	white, black := filepath.Join(dir, "white"), filepath.Join(dir, "black")
	for file, text := range map[string]string{white: "# friends\n10.0.0.0/8 # all\n\n192.168.1.1\n", black: "10.9.0.0/16\n6.6.6.0/24\n"} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := newBench(t, map[string]string{"whitelist_file": white, "blacklist_file": black, "path_regex": "^/Login", "method_regex": "^POST$"})
	for _, v := range []struct{ method, uri, client, want string }{
		{"POST", "/Login", "10.9.1.1", "free"},
		{"POST", "/Login", "192.168.1.1", "free"},
		{"GET", "/", "6.6.6.6", "403"},
		{"POST", "/Login", "1.1.1.1", "0s"},
		{"POST", "/Login", "1.1.1.1", "3s"},
		{"GET", "/Login", "1.1.1.1", "free"},
		{"POST", "/login", "1.1.1.1", "free"},
		{"POST", "/Login", "2001:db8::1", "0s"},
		{"POST", "/Login", "2001:db8::2", "3s"},
		{"POST", "/Login", "2001:db8:0:1::1", "0s"},
	} {
		if got := b.one(v.method, v.uri, v.client); got != v.want {
			t.Errorf("%s %s from %s: %s; want %s", v.method, v.uri, v.client, got, v.want)
		}
	}
	b.extra["blacklist_action"] = "throttle"
	if err := os.WriteFile(white, []byte("6.6.6.7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.make(b.inst)
	for client, want := range map[string]string{"6.6.6.6": "0s", "6.6.6.7": "free"} {
		if got := b.one("GET", "/", client); got != want {
			t.Errorf("after a reload, %s: %s; want %s", client, got, want)
		}
	}
}

func TestThrottleLogOnly(t *testing.T) {
	b := newBench(t, map[string]string{"log_only": "on", "ban_threshold": "2"})
	for i := range 5 {
		if got := b.one("GET", "/", "1.2.3.4"); got != "free" {
			t.Errorf("request %d: %s; want free", i, got)
		}
	}
	if !strings.Contains(b.log.String(), "event=throttled") || !strings.Contains(b.log.String(), "event=ban ") {
		t.Errorf("log:\n%s", b.log.String())
	}
}

func TestThrottleLogEvents(t *testing.T) {
	b := newBench(t, map[string]string{"log_events": "ban, unban"})
	b.one("GET", "/", "1.2.3.4")
	b.one("GET", "/", "1.2.3.4")
	if b.log.Len() != 0 {
		t.Errorf("log:\n%s", b.log.String())
	}
}

func TestThrottleRefuses(t *testing.T) {
	dir := t.TempDir()
	bad, empty := filepath.Join(dir, "bad"), filepath.Join(dir, "empty")
	for file, text := range map[string]string{bad: "1.2.3.4\nnonsense\n", empty: "# nothing\n"} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, v := range map[string][2]string{
		"default_action": {"deny", "is not one of allow, throttle"}, "blacklist_action": {"allow", "is not one of deny, throttle"}, "path_regex": {"(", "Invalid regular expression"},
		"log_events": {"all,some", "comma-separated list of loggable events"}, "whitelist_file": {bad, "line 2"}, "blacklist_file": {empty, "no recognizable CIDRs"},
	} {
		b := newBench(t, nil)
		b.extra[name] = v[0]
		_, err := throttle{}.New(fakeService{slog.New(slog.DiscardHandler)}, &balancer.Settings{Extra: b.extra}, nil, nil)
		if err == nil || !strings.Contains(err.Error(), v[1]) {
			t.Errorf("%s = %s: %v; want an error with %q", name, v[0], err, v[1])
		}
	}
	for _, args := range []string{"", "reload", "reload all", "load config"} {
		if err := (throttle{}).Command(nil, "throttle", args); err == nil || err.Error() != "usage: throttle reload <config|whitelist|blacklist>" {
			t.Errorf("THROTTLE %s: %v", args, err)
		}
	}
	if err := (throttle{}).Command(nil, "throttle", "RELOAD whitelist"); err != nil {
		t.Error(err)
	}
}

// shared is a memory of several balancers.
type shared struct{ *throttleState }

func TestThrottleSharedMemory(t *testing.T) {
	now := func() time.Time { return time.Unix(1e9, 0) }
	common := shared{newThrottleState(now)}
	var asked []string
	p := throttle{store: func(servers []string, clients int) (ThrottleMemory, error) {
		asked = servers
		return common, nil
	}}
	b := newBench(t, map[string]string{"memcached_servers": "127.0.0.1:1, 127.0.0.1:2"})
	if !strings.Contains(b.log.String(), "memcached_servers") {
		t.Errorf("without a client nothing was said: %q", b.log.String())
	}
	set := &balancer.Settings{Extra: b.extra}
	for i, want := range []string{"0s", "3s"} { // two balancers
		inst, err := p.New(fakeService{slog.New(slog.DiscardHandler)}, set, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		b.inst = inst.(*limiter)
		b.inst.state.now = now
		b.inst.wait = func(_ context.Context, d time.Duration) error {
			b.waits = append(b.waits, d)
			return nil
		}
		if got := b.one("GET", "/", "1.2.3.4"); got != want {
			t.Errorf("balancer %d: %s; want %s", i, got, want)
		}
	}
	if strings.Join(asked, " ") != "127.0.0.1:1 127.0.0.1:2" {
		t.Errorf("servers %q", asked)
	}
}

func TestThrottleForgets(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := newThrottleState(func() time.Time { return now })
	s.Set(t.Context(), "a", now, 1, time.Second)
	s.ban("b", time.Second)
	now = now.Add(2 * time.Minute)
	s.Set(t.Context(), "c", now, 1, time.Second)
	if len(s.clients) != 1 || len(s.bans) != 0 {
		t.Errorf("%d clients, %d bans; want 1, 0", len(s.clients), len(s.bans))
	}
}

// Whoever comes over a unix socket has no address to be known by, and is let through.
func TestThrottleOfUnixSockets(t *testing.T) {
	b := newBench(t, nil)
	for i := range 5 {
		if got, _ := b.begin("GET", "/", "0.0.0.0"); got != "free" {
			t.Errorf("request %d: %s", i, got)
		}
	}
}
