package http1

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// wait is how long a test waits for what must happen.
const wait = 10 * time.Second

// serve starts a server on a loopback port and stops it at the test's end.
func serve(t testing.TB, h Handler, o Options) (*Server, string) {
	t.Helper()
	s := NewServer(h, o)
	ln := listen(t)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		ln.Close()
		if err := <-done; err != ErrServerClosed {
			t.Errorf("Serve = %v; want ErrServerClosed", err)
		}
	})
	return s, ln.Addr().String()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// dialTest connects, with a deadline for the whole test.
func dialTest(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(wait))
	return c.(*net.TCPConn)
}

// talk sends raw, ends its sending side if half is set, and returns all that comes until the server closes.
func talk(t testing.TB, addr, raw string, half bool) string {
	t.Helper()
	c := dialTest(t, addr)
	var wg sync.WaitGroup
	wg.Go(func() {
		io.WriteString(c, raw)
		if half {
			c.CloseWrite()
		}
	})
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("after %q: %v", b, err)
	}
	c.Close()
	wg.Wait()
	return string(b)
}

// noDate removes what differs from run to run.
func noDate(s string) string {
	var b strings.Builder
	for line := range strings.SplitAfterSeq(s, "\r\n") {
		if !strings.HasPrefix(line, "Date: ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// transcript renders bytes as lines with a prefix, for reading.
func transcript(prefix, s string) string {
	var b strings.Builder
	for line := range strings.SplitAfterSeq(s, "\n") {
		if line != "" {
			line = strings.ReplaceAll(strings.ReplaceAll(line, "\r", `\r`), "\n", `\n`)
			b.WriteString(prefix + line + "\n")
		}
	}
	return b.String()
}

// readUntil reads from c until what has come ends with suffix.
func readUntil(t testing.TB, c net.Conn, suffix string) string {
	t.Helper()
	var got []byte
	for b := make([]byte, 4096); !bytes.HasSuffix(got, []byte(suffix)); {
		n, err := c.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			t.Fatalf("read until %q: have %q: %v", suffix, got, err)
		}
	}
	return string(got)
}

// eventually waits for cond, which nothing signals.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(wait); !cond(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	t.Cleanup(cancel)
	return ctx
}

func mustWrite(t testing.TB, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

// echo answers with what it saw: for most tests of the server.
var echo = HandlerFunc(func(x Exchange) {
	r := x.Request()
	b, err := io.ReadAll(x.Body())
	if err != nil {
		e, ok := err.(*Error)
		if !ok {
			x.Abort()
			return
		}
		x.Reply(e.Status, []byte(e.Reason))
		return
	}
	x.Reply(200, []byte(r.Method+" "+string(r.Path)+" "+string(b)))
})
