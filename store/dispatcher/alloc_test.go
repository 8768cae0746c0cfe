package dispatcher_test

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"wheelhouse/store/dispatcher"
)

// A read of a public object that is looked up and kept in memory allocates nothing, from the socket to the socket; one
// from a disk nothing either.
func TestReadsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector pools drop what they hold at random")
	}
	for _, hot := range []int64{0, 8 << 20} {
		ts := newStore(t, setup{options: dispatcher.Options{HotBytes: hot}, cached: true, local: true})
		ts.bucket("b", "X-Bucket-Access: public-read")
		ts.want(201, "PUT", "/b/o", strings.Repeat("x", 10_000))
		c, err := net.Dial("tcp", strings.TrimPrefix(ts.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		request := []byte("GET /b/o HTTP/1.1\r\nHost: x\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n")
		buf := make([]byte, 64<<10)
		get := func() {
			if _, err := c.Write(request); err != nil {
				t.Fatal(err)
			}
			for n, want := 0, 0; want == 0 || n < want; {
				m, err := c.Read(buf[n:])
				if err != nil {
					t.Fatal(err)
				}
				n += m
				if i := bytes.Index(buf[:n], []byte("\r\n\r\n")); i >= 0 {
					want = i + 4 + 10_000
				}
			}
		}
		for range 50 {
			get()
		}
		if !bytes.HasPrefix(buf, []byte("HTTP/1.1 200 ")) {
			t.Fatalf("answered %.100s", buf)
		}
		// The runtime's own background work may allocate now and then; AllocsPerRun rounds the average down.
		if n := testing.AllocsPerRun(500, get); n != 0 {
			t.Errorf("hot cache of %d bytes: %v allocations a read", hot, n)
		}
	}
}
