package http1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A body whose server becomes slow is ended by who watches it; one whose reader is slow is not.
func TestWatchedBody(t *testing.T) {
	const burst, size = 200 << 10, 1 << 20
	errSlow := errors.New("too slow")
	slow := func(n int64, waited time.Duration) error {
		if waited > 100*time.Millisecond && float64(n) < 1e6*waited.Seconds() {
			return fmt.Errorf("%w: %d bytes", errSlow, n)
		}
		return nil
	}
	trickle := func(c *net.TCPConn) {
		say(t, c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)+strings.Repeat("x", burst))
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range size - burst {
			<-tick.C
			if _, err := io.WriteString(c, "y"); err != nil {
				return
			}
		}
	}
	stall := func(c *net.TCPConn) {
		say(t, c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)+strings.Repeat("x", burst))
		_, _ = io.Copy(io.Discard, c) // until the client gives up
	}
	ample := func(c *net.TCPConn) {
		say(t, c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)+strings.Repeat("x", size))
	}
	for _, tt := range []struct {
		name   string
		server func(*net.TCPConn)
		reader io.Writer // slow ones wait before each write
		want   int64     // bytes at least
		fails  bool
	}{
		{"trickle", trickle, io.Discard, burst, true},
		{"stall", stall, io.Discard, burst, true},
		{"ample", ample, io.Discard, size, false},
		{"slow reader", ample, lazy{}, size, false},
		{"trickle, spliced", trickle, nil, burst, true},
		{"stall, spliced", stall, nil, burst, true},
		{"ample, spliced", ample, nil, size, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewClient(ClientOptions{})
			defer c.Close()
			res, err := c.Do(testContext(t), &OutRequest{Method: "GET", Addr: script(t, tt.server)})
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			res.Body.Watch(300*time.Millisecond, slow)
			w := tt.reader
			if w == nil {
				w = drained(t)
			}
			begun := time.Now()
			n, err := res.Body.WriteTo(w)
			var read *BodyReadError
			if tt.fails != (err != nil) || err != nil && !errors.As(err, &read) || n < tt.want {
				t.Errorf("%d bytes, %v", n, err)
			}
			if strings.HasPrefix(tt.name, "trickle") && !errors.Is(err, errSlow) {
				t.Errorf("error %v; want the watcher's", err)
			}
			if took := time.Since(begun); tt.fails && took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// lazy takes its time.
type lazy struct{}

func (lazy) Write(p []byte) (int, error) {
	<-time.After(20 * time.Millisecond)
	return len(p), nil
}

// drained is a connection whose other end reads all.
func drained(t *testing.T) *net.TCPConn {
	ln := listen(t)
	defer ln.Close()
	accepted, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		c, err := ln.Accept()
		close(accepted) // a listener that is closed before resets the connection
		if err == nil {
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	<-accepted
	t.Cleanup(func() { c.Close(); <-done })
	return c.(*net.TCPConn)
}
