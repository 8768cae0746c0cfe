package balancerd_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
)

// A request goes to whoever is free: a backend whose kernel accepts and whose process does not answer gets none.
func TestVerifyPassesOverAStuckBackend(t *testing.T) {
	stuck := balancertest.Raw(t, func(nc net.Conn) { io.Copy(io.Discard, nc) })
	good := balancertest.Backend(t, echo)
	b := balancertest.Start(t, balancertest.Proxy([]string{stuck, good}, "SET verify_backend = on\nSET backend_persist_cache = 5"), balancerd.Options{})
	for range 50 {
		if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 200 {
			t.Fatalf("status %d", res.StatusCode)
		}
	}
}

// High goes before normal, unless enough of those wait that they are let past now and then.
func TestQueuesAndRelief(t *testing.T) {
	for conf, want := range map[string][]string{
		"": {"/first", "/high", "/normal1", "/normal2"},
		"SET queue_relief_size = 2\nSET queue_relief_chance = 100": {"/first", "/normal1", "/high", "/normal2"},
		"SET queue_relief_size = 3\nSET queue_relief_chance = 100": {"/first", "/high", "/normal1", "/normal2"},
		"SET queue_relief_size = 2\nSET queue_relief_chance = 0":   {"/first", "/high", "/normal1", "/normal2"},
	} {
		if got := served(t, conf); !slices.Equal(got, want) {
			t.Errorf("%q: order %v; want %v", conf, got, want)
		}
	}
}

// served is the order in which requests get the one connection that there is.
func served(t *testing.T, conf string) []string {
	t.Helper()
	release := make(chan struct{})
	var order []string
	var mu sync.Mutex
	back := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		order = append(order, r.URL.Path)
		mu.Unlock()
		<-release
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back},
		"SET high_priority_cookie = fast\nSET high_priority_cookie_contents = yes\nSET queue_timeout = 60\nSET idle_timeout = 60\n"+conf)+"SET p.max_connections = 1\n", balancerd.Options{})
	var all sync.WaitGroup
	ask := func(path, cookie string) {
		all.Go(func() {
			req, _ := http.NewRequestWithContext(context.WithoutCancel(t.Context()), "GET", b.URL("rp", path), nil)
			req.Header.Set("Cookie", cookie)
			if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
				res.Body.Close()
			}
		})
	}
	waiting := func(n int) {
		balancertest.Eventually(t, fmt.Sprint(n, " waiting"), func() bool {
			sum := 0
			for _, p := range []int8{0, 1, 2} {
				c, _ := b.Service("rp").Queues(balancerPriority(p))
				sum += c
			}
			return sum == n
		})
	}
	ask("/first", "")
	balancertest.Eventually(t, "the first is there", func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == 1 })
	ask("/normal1", "")
	waiting(1)
	ask("/normal2", "fast=no") // not what high_priority_cookie_contents wants
	waiting(2)
	ask("/high", "a=b; fast=oh%20yes")
	waiting(3)
	close(release)
	all.Wait()
	return order
}

// A client that goes away while it waits is no longer in the queue.
func TestClientLeavesTheQueue(t *testing.T) {
	release := make(chan struct{})
	back := balancertest.Backend(t, func(http.ResponseWriter, *http.Request) { <-release })
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "")+"SET p.max_connections = 1\n", balancerd.Options{})
	defer close(release)
	var conns [2]net.Conn
	for i := range conns {
		var err error
		if conns[i], err = net.Dial("tcp", b.Addr("rp")); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
		fmt.Fprint(conns[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	waiting := func() int { n, _ := b.Service("rp").Queues(1); return n }
	balancertest.Eventually(t, "one waits", func() bool { return waiting() == 1 })
	conns[0].Close()
	conns[1].Close()
	balancertest.Eventually(t, "nobody waits", func() bool { return waiting() == 0 })
}
