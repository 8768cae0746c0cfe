package balancerd_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/freeport"
)

// What is stale and may stand in is given at once when no backend can be used, however long requests may wait for one; when they are only
// busy it is not.
func TestStaleInsteadOfWaiting(t *testing.T) {
	b, o := cached(t, "SET queue_timeout = 3600\nSET idle_timeout = 3600\nSET cache_stale_if_error = 3600")
	soon := func(r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
		t.Cleanup(cancel)
		*r = *r.WithContext(ctx)
	}
	url := b.URL("rp", "/")
	o.set(200, "old", "Cache-Control", "max-age=0", "ETag", `"1"`)
	get(t, url)

	// Busy: the one connection has a request.
	b.Do("SET p.max_connections = 1")
	gate := make(chan struct{})
	o.mu.Lock()
	o.gate = gate
	o.mu.Unlock()
	o.set(200, "new", "Cache-Control", "max-age=0", "ETag", `"2"`)
	var all sync.WaitGroup
	before := o.asked.Load()
	all.Go(func() { get(t, b.URL("rp", "/other"), soon) })
	balancertest.Eventually(t, "the backend is busy", func() bool { return o.asked.Load() == before+1 })
	var body string
	all.Go(func() { _, body = get(t, url, soon) })
	balancertest.Eventually(t, "one waits", func() bool { n, _ := b.Service("rp").Queues(1); return n == 1 })
	close(gate)
	all.Wait()
	if body != "new" {
		t.Errorf("while the backend is busy: %q; want to wait for the new one", body)
	}

	// Dead: nobody listens there any more, which is not known before the first request, and known to the second.
	node := b.State().Pools["p"].Nodes[0].Addr
	b.Do("POOL p REMOVE " + node + "\nPOOL p ADD " + freeport.ForTest(t) + "\nPOOL p ADD " + freeport.ForTest(t))
	for range 3 {
		res, got := get(t, url, soon)
		if got != "new" || !strings.HasPrefix(res.Header.Get("Cache-Status"), "wheelhouse; hit; ttl=-") {
			t.Errorf("while all are dead: %d %q %v", res.StatusCode, got, res.Header)
		}
	}
	b.Do("SET rp.send_proxy_protocol = 1") // each request has a connection of its own
	if _, got := get(t, url, soon); got != "new" {
		t.Errorf("with a connection of its own: %q", got)
	}
	// What may not stand in waits as ever.
	b.Do("SET rp.queue_timeout = 50ms")
	if res, _ := get(t, b.URL("rp", "/unknown"), soon); res.StatusCode != 503 {
		t.Errorf("what is not in the cache: %d", res.StatusCode)
	}
	b.Do("POOL p ADD " + node + "\nSET rp.send_proxy_protocol = 0\nSET rp.queue_timeout = 3600")
	balancertest.Eventually(t, "the backend is used again", func() bool {
		res, _ := get(t, url, soon)
		return strings.Contains(res.Header.Get("Cache-Status"), "fwd-status=304")
	})
}
