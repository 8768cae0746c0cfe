package balancerd_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/balancer/backend"
	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/http1"
)

func circuitOf(b *balancertest.Balancer) backend.CircuitStatus {
	return b.Pools()[0].Circuit(time.Now())
}

// A pool whose backends fail is left alone: requests are refused at once, with a reason and a time, until trials have succeeded.
func TestCircuitBreaker(t *testing.T) {
	var status, asked atomic.Int64
	status.Store(503)
	back := balancertest.Engine(t, func(x http1.Exchange) {
		asked.Add(1)
		x.Reply(int(status.Load()), []byte("answer"))
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "")+"SET p.circuit_errors = 3\nSET p.circuit_time = 3600\nSET p.circuit_probes = 2\n", balancerd.Options{})
	url := b.URL("rp", "/")
	for range 3 {
		if res, got := get(t, url); res.StatusCode != 503 || got != "answer" {
			t.Fatalf("closed: %d %q", res.StatusCode, got)
		}
	}
	before := asked.Load()
	for range 5 {
		if res, got := get(t, url); res.StatusCode != 503 || got == "answer" || res.Header.Get("Retry-After") != "3600" {
			t.Fatalf("open: %d %q, Retry-After %q", res.StatusCode, got, res.Header.Get("Retry-After"))
		}
	}
	if st := circuitOf(b); asked.Load() != before || st.State != backend.CircuitOpen || st.Refused[backend.LimitCircuit] != 5 || !strings.Contains(st.Failure, "answered with 503") {
		t.Errorf("open: the backend was asked %d times more; %+v", asked.Load()-before, st)
	}
	status.Store(200)
	b.Do("SET p.circuit_time = 0") // half-open from now on
	for i, want := range []backend.CircuitState{backend.CircuitHalfOpen, backend.CircuitClosed} {
		if res, _ := get(t, url); res.StatusCode != 200 || circuitOf(b).State != want {
			t.Errorf("trial %d: %d, %v; want %v", i+1, res.StatusCode, circuitOf(b).State, want)
		}
	}
	for _, text := range []string{"circuit is open", "circuit is half-open", "circuit is closed"} {
		if !strings.Contains(b.Log.String(), text) {
			t.Errorf("the log does not say %q", text)
		}
	}
}

// A trial that fails opens the circuit again; failures are also connects that fail, and they end the waiting of those who wait.
func TestCircuitOfDeadBackends(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := ln.Addr().String()
	ln.Close()
	b := balancertest.Start(t, balancertest.Proxy([]string{dead}, "SET queue_timeout = 3600")+"SET p.circuit_errors = 2\nSET p.circuit_time = 3600\n", balancerd.Options{})
	url := b.URL("rp", "/")
	if res, _ := get(t, url); res.StatusCode != 503 { // it waits until the second connect has failed
		t.Errorf("%d", res.StatusCode)
	}
	if st := circuitOf(b); st.State != backend.CircuitOpen || st.Trips != 1 || !strings.Contains(st.Failure, dead) {
		t.Errorf("%+v", st)
	}
	b.Do("SET p.circuit_time = .001")
	balancertest.Eventually(t, "a trial opens it again", func() bool {
		get(t, url)
		return circuitOf(b).Trips >= 3
	})
}

// An answer that never comes is a failure too, and so is a connection that breaks off; what the client breaks off is none.
func TestCircuitFailures(t *testing.T) {
	for name, tt := range map[string]struct {
		serve func(nc net.Conn)
		more  string
	}{
		"breaks off": {func(nc net.Conn) { nc.Read(make([]byte, 1000)) }, ""},
		"no answer":  {func(nc net.Conn) { nc.Read(make([]byte, 1000)); nc.Read(make([]byte, 1)) }, "SET response_timeout = .05\n"},
	} {
		b := balancertest.Start(t, balancertest.Proxy([]string{balancertest.Raw(t, tt.serve)}, tt.more+"SET retry_attempts = 0")+
			"SET p.circuit_percent = 100\nSET p.circuit_min_requests = 3\nSET p.circuit_window = 3600\nSET p.circuit_time = 3600\nSET p.eject_errors = 0\n", balancerd.Options{})
		for range 3 {
			get(t, b.URL("rp", "/"))
		}
		if st := circuitOf(b); st.State != backend.CircuitOpen {
			t.Errorf("%s: %+v", name, st)
		}
	}
	began := make(chan struct{})
	stuck := balancertest.Raw(t, func(nc net.Conn) {
		nc.Read(make([]byte, 1000))
		began <- struct{}{}
		nc.Read(make([]byte, 1))
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{stuck}, "")+"SET p.circuit_errors = 1\n", balancerd.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		req, _ := http.NewRequestWithContext(ctx, "GET", b.URL("rp", "/"), nil)
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
		}
	})
	<-began
	cancel()
	asking.Wait()
	balancertest.Eventually(t, "the request has ended", func() bool { return b.Pools()[0].Nodes()[0].Active.Load() == 0 })
	if st := circuitOf(b); st.State != backend.CircuitClosed {
		t.Errorf("a client that went has opened the circuit: %+v", st)
	}
}

// A half-open circuit lets as many through at once as it says.
func TestCircuitTrialsAtOnce(t *testing.T) {
	gate := make(chan struct{})
	var asked atomic.Int64
	back := balancertest.Engine(t, func(x http1.Exchange) {
		if asked.Add(1) == 1 {
			x.Reply(502, nil)
			return
		}
		<-gate
		x.Reply(200, nil)
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET backend_persist_cache = 20")+"SET p.circuit_errors = 1\nSET p.circuit_time = 0\nSET p.circuit_probes = 3\n", balancerd.Options{})
	url := b.URL("rp", "/")
	get(t, url)
	var count [600]atomic.Int64
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			res, err := http.Get(url)
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
			count[res.StatusCode].Add(1)
		})
	}
	balancertest.Eventually(t, "three are let through and the others are refused", func() bool { return asked.Load() == 4 && count[503].Load() == 17 })
	close(gate)
	all.Wait()
	if count[200].Load() != 3 || asked.Load() != 4 || circuitOf(b).State != backend.CircuitClosed {
		t.Errorf("%d of 20 were answered, %d asked, %v", count[200].Load(), asked.Load()-1, circuitOf(b).State)
	}
}

// The pool's limits refuse what is above them at once, whichever service it comes through, and nothing else.
func TestPoolLimits(t *testing.T) {
	gate := make(chan struct{})
	back := balancertest.Engine(t, func(x http1.Exchange) {
		<-gate
		x.Reply(200, nil)
	})
	more := "CREATE SERVICE two\nSET role = reverse_proxy\nSET listen = 127.0.0.1:0\nSET pool = p\nSET persist_client = on\nENABLE two\n"
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "")+more+"SET p.max_requests = 6\nSET p.max_pending = 2\nSET p.max_connections = 2\n", balancerd.Options{})
	var count [600]atomic.Int64
	var all sync.WaitGroup
	ask := func(service string) {
		all.Go(func() {
			res, err := http.Get(b.URL(service, "/"))
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
			count[res.StatusCode].Add(1)
		})
	}
	st := func() backend.CircuitStatus { return circuitOf(b) }
	working := func(n int64) func() bool {
		return func() bool { return b.Pools()[0].Nodes()[0].Active.Load() == n && st().Pending == 0 }
	}
	ask("rp")
	balancertest.Eventually(t, "one is at work", working(1))
	ask("two")
	balancertest.Eventually(t, "two are at work", working(2))
	ask("rp")
	ask("two")
	balancertest.Eventually(t, "two wait", func() bool { return st().Pending == 2 })
	for range 3 {
		ask("rp")
	}
	balancertest.Eventually(t, "three are refused", func() bool { return count[503].Load() == 3 })
	if got := st(); got.Active != 4 || got.Refused[backend.LimitPending] != 3 {
		t.Errorf("%+v", got)
	}
	b.Do("SET p.max_pending = 0")
	ask("rp")
	ask("two")
	balancertest.Eventually(t, "six are under way", func() bool { return st().Active == 6 })
	if res, got := get(t, b.URL("two", "/")); res.StatusCode != 503 {
		t.Errorf("the seventh: %d %q", res.StatusCode, got)
	}
	if got := st(); got.Refused[backend.LimitRequests] != 1 {
		t.Errorf("%+v", got)
	}
	close(gate)
	all.Wait()
	if count[200].Load() != 6 {
		t.Errorf("%d were answered; want 6", count[200].Load())
	}
	balancertest.Eventually(t, "everything is given back", func() bool { g := st(); return g.Active == 0 && g.Pending == 0 })
}

// No more requests are tried again at once than max_retries says; the others get their failure as it was.
func TestMaxRetries(t *testing.T) {
	gate := make(chan struct{})
	slow := balancertest.Engine(t, func(x http1.Exchange) {
		if string(x.Request().Query) != "probe" {
			<-gate
		}
		x.Reply(200, nil)
	})
	broken := balancertest.Raw(t, func(nc net.Conn) { nc.Read(make([]byte, 1000)) })
	b := balancertest.Start(t, balancertest.Proxy(nil, "")+"SET p.balance_method = consistent_hash\nSET p.hash_key = path\nSET p.max_retries = 2\nSET p.eject_errors = 0\n", balancerd.Options{})
	b.Do("POOL p ADD " + broken)
	b.Do("POOL p ADD " + slow)
	path := ""
	for i := 0; path == ""; i++ { // one that belongs to the broken node; POST is not tried again
		if res, _ := do(t, "POST", b.URL("rp", fmt.Sprint("/", i, "?probe")), nil); res.StatusCode == 502 {
			path = fmt.Sprint("/", i)
		}
	}
	var count [600]atomic.Int64
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			res, err := http.Get(b.URL("rp", path))
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
			count[res.StatusCode].Add(1)
		})
	}
	balancertest.Eventually(t, "two are tried again", func() bool { return count[502].Load() == 8 && circuitOf(b).Retrying == 2 })
	close(gate)
	all.Wait()
	if st := circuitOf(b); count[200].Load() != 2 || st.Refused[backend.LimitRetries] != 8 || st.Retrying != 0 {
		t.Errorf("%d were answered; %+v", count[200].Load(), st)
	}
}
