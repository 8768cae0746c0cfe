package balancerd_test

import (
	"bytes"
	"io"
	"testing"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/http1"
)

// What the balancer costs before a handler of its own process.
func BenchmarkLocal(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 10240)
	h := http1.HandlerFunc(func(x http1.Exchange) { x.Reply(200, body) })
	bal := balancertest.Start(b, balancertest.Proxy([]string{"local:store"}, ""), balancerd.Options{Local: map[string]http1.Handler{"store": h}})
	for name, addr := range map[string]string{"direct": balancertest.Engine(b, h), "front": bal.Addr("rp")} {
		b.Run("via="+name, func(b *testing.B) {
			c := http1.NewClient(http1.ClientOptions{})
			defer c.Close()
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				res, err := c.Do(b.Context(), &http1.OutRequest{Method: "GET", Addr: addr, Target: "/a/b"})
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		})
	}
}

// What a request costs that goes to a backend over a connection that is kept.
func BenchmarkProxy(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 10240)
	h := http1.HandlerFunc(func(x http1.Exchange) {
		x.Header().Set("Content-Type", "text/plain")
		x.Reply(200, body)
	})
	bal := balancertest.Start(b, balancertest.Proxy([]string{balancertest.Engine(b, h)}, "SET backend_persist_cache = 100"), balancerd.Options{})
	addr := bal.Addr("rp")
	b.ReportAllocs()
	b.SetParallelism(25)
	b.RunParallel(func(pb *testing.PB) {
		c := http1.NewClient(http1.ClientOptions{})
		defer c.Close()
		for pb.Next() {
			res, err := c.Do(b.Context(), &http1.OutRequest{Method: "GET", Addr: addr, Target: "/a/b"})
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	})
}
