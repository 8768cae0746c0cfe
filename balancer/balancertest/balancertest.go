// Package balancertest starts balancers and backends for tests.
package balancertest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/config"
	"wheelhouse/internal/http1"
)

// Balancer is a balancer that ends with its test.
type Balancer struct {
	*balancerd.Balancer
	T   testing.TB
	Log *Log
	ctx config.Context
}

// Log collects what a balancer logs.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Start starts a balancer with a configuration. Options that are not set get what tests want.
func Start(t testing.TB, conf string, o balancerd.Options) *Balancer {
	t.Helper()
	b := &Balancer{T: t, Log: &Log{}}
	if o.Language == nil {
		o.Language = config.NewLanguage(config.NewPlugins())
	}
	o.Log = slog.New(slog.NewTextHandler(b.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.Balancer = balancerd.New(t.Context(), o)
	state, err := o.Language.Read(strings.NewReader(conf), "test.conf", config.Expander{}, nil)
	if err == nil {
		err = b.LoadState(state)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var ticking sync.WaitGroup
	ticking.Go(func() { b.Tick(ctx) })
	t.Cleanup(func() {
		end, stop := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer stop()
		if err := b.Shutdown(end); err != nil {
			t.Errorf("shutdown: %v\n%s", err, b.Log)
		}
		cancel()
		ticking.Wait()
	})
	return b
}

// Do executes configuration commands, one to a line; any error is fatal.
func (b *Balancer) Do(lines string) {
	b.T.Helper()
	for line := range strings.Lines(lines) {
		if err := b.Try(line); err != nil {
			b.T.Fatalf("%s: %v", strings.TrimSpace(line), err)
		}
	}
}

// Status asks a service for a path and returns the status of the answer, 0 when there is none.
func (b *Balancer) Status(service, path string) int {
	res, err := http.Get(b.URL(service, path))
	if err != nil {
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}

// Try executes one command.
func (b *Balancer) Try(line string) error {
	cmd, ok, err := config.ParseLine(line, config.Expander{})
	if err != nil || !ok {
		return err
	}
	return b.Exec(&b.ctx, cmd)
}

// Addr is where a service listens.
func (b *Balancer) Addr(service string) string {
	b.T.Helper()
	s := b.Service(service)
	if s == nil || s.Addr() == nil {
		b.T.Fatalf("service %s does not listen", service)
	}
	return s.Addr().String()
}

// URL is that of a path of a service.
func (b *Balancer) URL(service, path string) string { return "http://" + b.Addr(service) + path }

// Backend starts an HTTP server of net/http, and returns its address.
func Backend(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// Raw starts a server whose connections f has; each is closed when f returns.
func Raw(t testing.TB, f func(nc net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	all.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[nc] = true
			mu.Unlock()
			all.Go(func() {
				defer nc.Close()
				f(nc)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for nc := range conns {
			nc.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return ln.Addr().String()
}

// Engine starts a server of http1.
func Engine(t testing.TB, h http1.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := http1.NewServer(h, http1.Options{})
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(ln) })
	t.Cleanup(func() {
		_ = s.Close()
		serving.Wait()
	})
	return ln.Addr().String()
}

// Proxy is the configuration of a reverse_proxy "rp" with pool "p" of some nodes; more are further lines.
func Proxy(nodes []string, more string) string {
	var b strings.Builder
	b.WriteString("CREATE POOL p\n")
	for _, n := range nodes {
		fmt.Fprintf(&b, "POOL p ADD %s\n", n)
	}
	b.WriteString("CREATE SERVICE rp\nSET role = reverse_proxy\nSET listen = 127.0.0.1:0\nSET pool = p\n")
	b.WriteString("SET persist_client = on\nSET persist_backend = on\n")
	b.WriteString(more)
	b.WriteString("\nENABLE rp\n")
	return b.String()
}

// Send writes raw bytes to an address and returns everything that comes until the other side closes or goes silent for the
// idle time.
func Send(t testing.TB, addr, request string, idle time.Duration) string {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := io.WriteString(nc, request); err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	buf := make([]byte, 64<<10)
	for {
		if err := nc.SetReadDeadline(time.Now().Add(idle)); err != nil {
			t.Fatal(err)
		}
		n, err := nc.Read(buf)
		all.Write(buf[:n])
		if err != nil {
			return all.String()
		}
	}
}

// Eventually waits until ok holds, and fails the test when that takes more than a long time.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
