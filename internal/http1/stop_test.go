package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestStopBeforeStartAndTwice(t *testing.T) {
	s := NewServer(echo, Options{})
	for range 2 {
		if err := s.Shutdown(testContext(t)); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		if idle, err := s.Drain(testContext(t)); idle != nil || err != nil {
			t.Errorf("Drain = %v, %v", idle, err)
		}
	}
	ln := listen(t)
	defer ln.Close()
	if err := s.Serve(ln); err != ErrServerClosed {
		t.Errorf("Serve = %v", err)
	}
	a, b := net.Pipe()
	s.ServeConn(a)
	if _, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a connection given to a closed server: %v", err)
	}
}

func TestShutdown(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	s, addr := serve(t, HandlerFunc(func(x Exchange) {
		if string(x.Request().Path) == "/wait" {
			entered <- true
			<-leave
		}
		x.Reply(200, []byte("done"))
	}), Options{})
	idle, busy := dialTest(t, addr), dialTest(t, addr)
	mustWrite(t, idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	readUntil(t, idle, "done")
	mustWrite(t, busy, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
	<-entered
	done := make(chan error)
	go func() { done <- s.Shutdown(testContext(t)) }()
	if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the idle connection: %v; want EOF", err)
	}
	select {
	case err := <-done:
		t.Fatalf("Shutdown = %v before the answer", err)
	default:
	}
	close(leave)
	b, err := io.ReadAll(busy)
	if err != nil || !strings.Contains(string(b), "Connection: close\r\n") || !strings.HasSuffix(string(b), "done") {
		t.Errorf("in flight: %q, %v", b, err)
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the listener is still open")
	}
}

func TestShutdownTimeout(t *testing.T) {
	entered := make(chan bool)
	s, addr := serve(t, HandlerFunc(func(x Exchange) {
		entered <- true
		<-x.Context().Done()
	}), Options{})
	c := dialTest(t, addr)
	mustWrite(t, c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-entered
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown = %v", err)
	}
	if st := s.Stats(); st.Active+st.Idle != 0 {
		t.Errorf("left: %+v", st)
	}
}

// TestDrain goes through the states in which a connection can be when a server is drained.
func TestDrain(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	h := HandlerFunc(func(x Exchange) {
		if string(x.Request().Path) == "/wait" {
			entered <- true
			<-leave
		}
		echo(x)
	})
	s := NewServer(h, Options{})
	ln := listen(t)
	defer ln.Close()
	addr := ln.Addr().String()
	serveDone := make(chan error)
	go func() { serveDone <- s.Serve(ln) }()

	fresh := dialTest(t, addr)
	idle := dialTest(t, addr)
	mustWrite(t, idle, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")
	readUntil(t, idle, "GET /1 ")
	begun := dialTest(t, addr)
	mustWrite(t, begun, "GET /begun HT")
	busy := dialTest(t, addr)
	// Two requests and a part of a third are in the server's buffer.
	mustWrite(t, busy, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\nGET /piped HTTP/1.1\r\nHost: h\r\n\r\nGET /par")
	<-entered
	eventually(t, "all connections taken", func() bool { st := s.Stats(); return st.Idle == 2 && st.Active == 2 })

	type result struct {
		idle []net.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		idle, err := s.Drain(testContext(t))
		done <- result{idle, err}
	}()
	if err := <-serveDone; err != ErrServerClosed {
		t.Errorf("Serve = %v", err)
	}
	close(leave)
	got := readUntil(t, busy, "GET /piped ")
	mustWrite(t, busy, "tial HTTP/1.1\r\nHost: h\r\n\r\n")
	got += readUntil(t, busy, "GET /partial ")
	mustWrite(t, begun, "TP/1.1\r\nHost: h\r\n\r\n")
	got += readUntil(t, begun, "GET /begun ")
	if strings.Contains(got, "close") {
		t.Errorf("an answer says close: %q", got)
	}
	r := <-done
	if r.err != nil || len(r.idle) != 4 {
		t.Fatalf("Drain = %d connections, %v; want 4", len(r.idle), r.err)
	}

	// Meanwhile clients connect to the listener, which is open, and send on what they have.
	late := dialTest(t, addr)
	conns := []net.Conn{fresh, idle, begun, busy, late}
	for i, c := range conns {
		mustWrite(t, c, fmt.Sprintf("GET /next%d HTTP/1.1\r\nHost: h\r\n\r\n", i))
	}
	next := NewServer(echo, Options{})
	defer next.Close()
	go next.Serve(ln)
	for _, c := range r.idle {
		next.ServeConn(c)
	}
	for i, c := range conns {
		readUntil(t, c, fmt.Sprintf("GET /next%d ", i))
	}
}

// TestDrainUnderLoad hands a running load from server to server: no request fails.
func TestDrainUnderLoad(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	start := func() (*Server, chan error) {
		s := NewServer(echo, Options{})
		done := make(chan error, 1)
		go func() { done <- s.Serve(ln) }()
		return s, done
	}
	s, served := start()
	var stop atomic.Bool
	var wg sync.WaitGroup
	var requests atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			c, err := net.Dial("unix", ln.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(wait))
			b := make([]byte, 4096)
			for n := 0; !stop.Load(); n++ {
				want := fmt.Sprintf("PUT /%d-%d body", i, n)
				req := fmt.Sprintf("PUT /%d-%d HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody", i, n)
				k := n % len(req) // in two pieces, cut anywhere
				io.WriteString(c, req[:k])
				io.WriteString(c, req[k:])
				got := ""
				for !strings.HasSuffix(got, want) {
					m, err := c.Read(b)
					if got += string(b[:m]); err != nil || strings.Contains(got, "close") {
						t.Errorf("client %d, request %d: %q, %v", i, n, got, err)
						return
					}
				}
				requests.Add(1)
			}
		})
	}
	for range 20 {
		base := requests.Load()
		eventually(t, "requests", func() bool { return requests.Load() > base+50 || t.Failed() })
		idle, err := s.Drain(testContext(t))
		if err != nil || <-served != ErrServerClosed {
			t.Fatalf("Drain: %v", err)
		}
		s, served = start()
		for _, c := range idle {
			s.ServeConn(c)
		}
	}
	stop.Store(true)
	wg.Wait()
	if err := s.Shutdown(testContext(t)); err != nil {
		t.Error(err)
	}
	<-served
}

func TestDrainTimeout(t *testing.T) {
	s, addr := serve(t, echo, Options{})
	begun, fresh := dialTest(t, addr), dialTest(t, addr)
	mustWrite(t, begun, "GET / HT")
	eventually(t, "both taken", func() bool { st := s.Stats(); return st.Active == 1 && st.Idle == 1 })
	ctx, cancel := context.WithTimeout(testContext(t), 20*time.Millisecond)
	defer cancel()
	idle, err := s.Drain(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || len(idle) != 1 {
		t.Errorf("Drain = %d, %v; want 1, deadline exceeded", len(idle), err)
	}
	idle[0].Close()
	fresh.Close()
	if _, err := begun.Read(make([]byte, 1)); err == nil {
		t.Error("what could not be finished was not cut")
	}
}

func TestTLS(t *testing.T) {
	// httptest's certificate serves.
	h := httptest.NewTLSServer(nil)
	defer h.Close()
	entered, leave := make(chan bool), make(chan bool)
	s := NewServer(HandlerFunc(func(x Exchange) {
		if !x.TLS() {
			t.Error("TLS() = false")
		}
		if string(x.Request().Path) == "/wait" {
			entered <- true
			<-leave
		}
		x.Start(200, 200<<10)
		x.ReadFrom(strings.NewReader(strings.Repeat("x", 200<<10)))
	}), Options{})
	ln := listen(t)
	defer ln.Close()
	go s.Serve(tls.NewListener(ln, h.TLS))
	dial := func() net.Conn {
		c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(wait))
		t.Cleanup(func() { c.Close() })
		return c
	}
	idle, busy := dial(), dial()
	mustWrite(t, idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if got := readUntil(t, idle, strings.Repeat("x", 200<<10)); strings.Contains(got, "close") {
		t.Error("closed without need")
	}
	mustWrite(t, busy, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
	<-entered
	go close(leave)
	if conns, err := s.Drain(testContext(t)); err != nil || len(conns) != 0 {
		t.Errorf("Drain = %v, %v", conns, err)
	}
	got, err := io.ReadAll(busy)
	if err != nil || !strings.HasSuffix(string(got), "xxx") {
		t.Errorf("in flight: %d bytes, %v", len(got), err)
	}
	if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("idle: %v; want EOF", err)
	}
}
