package balancerd_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/freeport"
	"wheelhouse/internal/http1"
)

// statesOf are the states of the first pool's nodes, by their addresses.
func statesOf(b *balancertest.Balancer) map[string]string {
	m := map[string]string{}
	for _, n := range b.Pools()[0].Nodes() {
		m[n.Addr] = n.Status(time.Now()).State
	}
	return m
}

// Of nodes that all fail no more than eject_max percent are left alone.
func TestEjectMax(t *testing.T) {
	for percent, want := range map[int]int{0: 0, 50: 1, 100: 2} {
		var nodes []string
		for range 2 {
			nodes = append(nodes, balancertest.Raw(t, func(nc net.Conn) { bufio.NewReader(nc).ReadString('\n') }))
		}
		b := balancertest.Start(t, balancertest.Proxy(nodes, "SET retry_attempts = 1\nSET queue_timeout = .1")+
			fmt.Sprintf("SET p.balance_method = round_robin\nSET p.eject_errors = 1\nSET p.eject_time = 3600\nSET p.eject_max = %d\n", percent), balancerd.Options{})
		for range 6 {
			get(t, b.URL("rp", "/"))
		}
		out := 0
		for _, state := range statesOf(b) {
			if state == "ejected" {
				out++
			}
		}
		if out != want {
			t.Errorf("eject_max = %d: of two nodes that fail %d are ejected; want %d", percent, out, want)
		}
	}
}

// A node whose time is over gets eject_probes requests at once, however many want it and by whichever method, until it has answered one; with
// 0 it gets all.
func TestEjectProbes(t *testing.T) {
	const clients = 12
	for _, method := range []string{"random", "round_robin", "least_conn", "consistent_hash"} {
		for _, probes := range []int{1, 3, 0} {
			t.Run(fmt.Sprint(method, probes), func(t *testing.T) {
				var broken atomic.Bool
				var asked atomic.Int64
				gate := make(chan struct{})
				broken.Store(true)
				back := balancertest.Engine(t, func(x http1.Exchange) {
					if broken.Load() {
						x.Abort()
						return
					}
					asked.Add(1)
					<-gate
					x.Reply(200, nil)
				})
				b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET retry_attempts = 0")+fmt.Sprintf(
					"SET p.balance_method = %s\nSET p.eject_errors = 1\nSET p.eject_max = 100\nSET p.eject_time = .1\nSET p.eject_probes = %d\n", method, probes), balancerd.Options{})
				if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 502 {
					t.Fatal(res.Status)
				}
				broken.Store(false)
				balancertest.Eventually(t, "its time is over", func() bool { return statesOf(b)[back] != "ejected" })
				var all sync.WaitGroup
				for range clients {
					all.Go(func() {
						res, err := http.Get(b.URL("rp", "/"))
						if err != nil {
							t.Error(err)
							return
						}
						res.Body.Close()
						if res.StatusCode != 200 {
							t.Error(res.Status)
						}
					})
				}
				let := int64(probes)
				if probes == 0 {
					let = clients
				}
				balancertest.Eventually(t, fmt.Sprint(let, " at work, the others wait"), func() bool {
					waiting, _ := b.Service("rp").Queues(balancerPriority(1))
					return asked.Load() >= let && asked.Load()+int64(waiting) == clients
				})
				if got := asked.Load(); got != let {
					t.Errorf("%d requests at once; want %d", got, let)
				}
				close(gate)
				all.Wait()
				if got := asked.Load(); got != clients || statesOf(b)[back] != "up" {
					t.Errorf("%d of %d were asked for in the end, the node is %s", got, clients, statesOf(b)[back])
				}
			})
		}
	}
}

// For slow_start a node that comes back gets a small part of its share.
func TestSlowStart(t *testing.T) {
	for _, method := range []string{"round_robin", "least_conn", "power_of_two"} {
		var sick atomic.Bool
		a := balancertest.Engine(t, func(x http1.Exchange) {
			status := 200
			if sick.Load() && string(x.Request().Path) == "/health" {
				status = 500
			}
			x.Reply(status, []byte("a"))
		})
		c := balancertest.Engine(t, func(x http1.Exchange) { x.Reply(200, []byte("c")) })
		sick.Store(true)
		b := balancertest.Start(t, balancertest.Proxy([]string{a, c}, "")+"SET p.slow_start = 36000\nSET p.balance_method = "+method+
			"\nSET p.health_interval = .01\nSET p.health_fall = 1\nSET p.health_rise = 1\nSET p.health_path = /health\n", balancerd.Options{})
		balancertest.Eventually(t, "the node is sick", func() bool { return statesOf(b)[a] == "sick" })
		sick.Store(false)
		balancertest.Eventually(t, "the node is well", func() bool { return statesOf(b)[a] == "up" })
		share := func() (n int) {
			for range 200 {
				if _, got := get(t, b.URL("rp", "/")); got == "a" {
					n++
				}
			}
			return n
		}
		if n := share(); n > 60 { // about ten by round_robin, none by the others, who look at the share before chance does
			t.Errorf("%s: of 200 requests %d went to a node that has just come back", method, n)
		}
		b.Do("SET p.slow_start = 0")
		if n := share(); n < 50 {
			t.Errorf("%s: without slow_start %d of 200 went to it", method, n)
		}
	}
}

// A request that one node has failed goes to another at once, whatever idles at the first; where the other cannot be reached the first may have
// it again.
func TestRetryGoesElsewhere(t *testing.T) {
	const kept = 4
	begun, gate := make(chan struct{}, kept), make(chan struct{})
	first := balancertest.Engine(t, func(x http1.Exchange) {
		if string(x.Request().Path) == "/bad" {
			x.Abort()
			return
		}
		begun <- struct{}{}
		<-gate
		x.Reply(200, nil)
	})
	second := balancertest.Engine(t, func(x http1.Exchange) { x.Reply(200, []byte("second")) })
	b := balancertest.Start(t, balancertest.Proxy([]string{first}, fmt.Sprint("SET idle_timeout = 600\nSET backend_persist_cache = ", kept))+"SET p.eject_errors = 0\n", balancerd.Options{})
	var all sync.WaitGroup
	for range kept {
		all.Go(func() { get(t, b.URL("rp", "/")) })
	}
	for range kept {
		<-begun
	}
	close(gate)
	all.Wait() // so many connections idle at the first
	b.Do("POOL p ADD " + second)
	for range kept + 2 {
		if res, got := get(t, b.URL("rp", "/bad")); res.StatusCode != 200 || got != "second" {
			t.Fatalf("%d %q", res.StatusCode, got)
		}
	}
	b.Do("POOL p REMOVE " + second + "\nPOOL p ADD " + freeport.ForTest(t))
	for range 3 {
		if res, _ := get(t, b.URL("rp", "/bad")); res.StatusCode != 502 {
			t.Fatalf("where nobody else can be reached: %d; want 502", res.StatusCode)
		}
	}
}

// Requests with a connection of their own wait for max_connections too, in their order, for queue_timeout.
func TestOwnConnectionsWait(t *testing.T) {
	begun, gate := make(chan struct{}, 10), make(chan struct{})
	var busy, most atomic.Int64
	back := balancertest.Raw(t, func(nc net.Conn) {
		r := bufio.NewReader(nc)
		if _, err := r.ReadString('\n'); err != nil { // the PROXY header
			return
		}
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		if n := busy.Add(1); n > most.Load() {
			most.Store(n)
		}
		begun <- struct{}{}
		<-gate
		busy.Add(-1)
		fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET send_proxy_protocol = 1\nSET queue_timeout = 3600")+"SET p.max_connections = 2\n", balancerd.Options{})
	status := make(chan int, 10)
	ask := func() { status <- b.Status("rp", "/") }
	for range 2 {
		go ask()
		<-begun
	}
	b.Do("SET rp.queue_timeout = .05")
	ask()
	if got := <-status; got != 503 {
		t.Errorf("a third, for as long as queue_timeout: %d; want 503", got)
	}
	b.Do("SET rp.queue_timeout = 3600")
	for range 4 {
		go ask()
	}
	balancertest.Eventually(t, "four wait", func() bool { return b.Requests() == 7 })
	close(gate)
	for range 6 {
		if got := <-status; got != 200 {
			t.Errorf("%d; want 200", got)
		}
	}
	if most.Load() > 2 {
		t.Errorf("%d at once; want 2 at most", most.Load())
	}
}

// A dead node opens the circuit for those with a connection of their own too, and ends their waiting.
func TestOwnConnectionsAndTheCircuit(t *testing.T) {
	b := balancertest.Start(t, balancertest.Proxy([]string{freeport.ForTest(t)}, "SET send_proxy_protocol = 2\nSET queue_timeout = 3600")+
		"SET p.circuit_errors = 2\nSET p.circuit_time = 3600\n", balancerd.Options{})
	for range 2 {
		if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
			t.Errorf("%d %v", res.StatusCode, res.Header)
		}
	}
}
