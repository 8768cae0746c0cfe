package memcached

import (
	"fmt"
	"strings"
	"testing"
)

// alone is a connection without a network: requests are handled, answers are thrown away.
func alone(t testing.TB, s *Server) *conn {
	t.Helper()
	return &conn{s: s, nc: packetConn{}, stripe: &s.stripes[0], datagram: true, authed: true, w: newWork(readBuffer)}
}

func (c *conn) do(t testing.TB, requests string) string {
	w := c.w
	w.r, w.n, c.scanned = 0, copy(w.in, requests), 0 // whatever was left there
	w.out = w.out[:0]
	if err := c.process(); err != nil {
		t.Fatal(err)
	}
	return string(w.out)
}

var hotRequests = []struct{ name, request string }{
	{"get", "get key:%012d\r\n"},
	{"gets", "gets key:%012d\r\n"},
	{"mg", "mg key:%012d v\r\n"},
	{"mgflags", "mg key:%012d v t f c k O123\r\n"},
	{"gat", "gat 0 key:%012d\r\n"},
	{"set", "set key:%012d 0 0 100\r\n" + strings.Repeat("x", 100) + "\r\n"},
	{"ms", "ms key:%012d 100\r\n" + strings.Repeat("x", 100) + "\r\n"},
	{"incr", "incr n%012d 1\r\n"},
	{"miss", "get none:%012d\r\n"},
}

func fillFor(t testing.TB, c *conn, n int) {
	for i := range n {
		c.do(t, fmt.Sprintf("set key:%012d 0 0 100\r\n%s\r\n", i, strings.Repeat("x", 100)))
		c.do(t, fmt.Sprintf("set n%012d 0 0 10\r\n1000000000\r\n", i))
	}
}

func BenchmarkCommands(b *testing.B) {
	s := serve(b, Options{Limit: 256 << 20})
	c := alone(b, s.Server)
	const keys = 100_000
	fillFor(b, c, keys)
	for _, r := range hotRequests {
		b.Run("cmd="+r.name, func(b *testing.B) {
			requests := make([][]byte, 4096)
			for i := range requests {
				requests[i] = fmt.Appendf(nil, r.request, i*7919%keys)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				w := c.w
				w.r, w.n = 0, copy(w.in, requests[i%len(requests)])
				w.out = w.out[:0]
				if err := c.process(); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// No request for one item takes memory from the collector.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates; only the results are looked at")
	}
	s := serve(t, Options{})
	c := alone(t, s.Server)
	fillFor(t, c, 10)
	for _, r := range hotRequests {
		request := fmt.Sprintf(r.request, 7)
		want := c.do(t, request)
		if r.name != "miss" && (strings.HasPrefix(want, "END") || strings.Contains(want, "ERROR")) {
			t.Fatalf("%s: %q", r.name, want)
		}
		n := testing.AllocsPerRun(200, func() {
			w := c.w
			w.r, w.n = 0, copy(w.in, request)
			w.out = w.out[:0]
			if err := c.process(); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", r.name, n)
		}
	}
}
