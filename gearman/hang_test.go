package gearman_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/gearman"
	"wheelhouse/gearman/gearmantest"
)

// silent is a job server that hangs: connections to it are open, as the kernel sees to that, and nobody answers.
func silent(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

const patience = 300 * time.Millisecond

func newHangClient(t *testing.T, servers ...string) *gearman.Client {
	t.Helper()
	c, err := gearman.NewClient(servers, gearman.ClientOptions{DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A server that hangs is passed over like one that cannot be reached.
func TestClientHungServer(t *testing.T) {
	c := newHangClient(t, silent(t), gearmantest.StartDebian(t))
	var callers sync.WaitGroup
	began := time.Now()
	for range 40 {
		callers.Go(func() {
			if _, err := c.Submit(t.Context(), gearman.Job{Func: "f"}); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if d := time.Since(began); d > 10*patience {
		t.Errorf("took %v: the callers waited one after the other", d)
	}
}

func TestClientHungServerAlone(t *testing.T) {
	_, err := newHangClient(t, silent(t)).Do(t.Context(), gearman.Job{Func: "f"})
	if !errors.Is(err, gearman.ErrNoServer) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within") {
		t.Errorf("err = %v; want ErrNoServer with a reason", err)
	}
}

// Who gives up while a connection is being opened takes nothing from others.
func TestClientImpatientCaller(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted, gave := make(chan struct{}), make(chan struct{})
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		first, err := ln.Accept()
		if err != nil {
			return
		}
		defer first.Close()
		close(accepted)
		nc, err := ln.Accept() // of the second caller, who had waited for the first one's
		if err != nil {
			return
		}
		defer nc.Close()
		buf := make([]byte, 1<<16)
		for _, a := range []string{noOption, jobCreated} {
			if _, err := nc.Read(buf); err != nil {
				return
			}
			if _, err := nc.Write([]byte(a)); err != nil {
				return
			}
		}
		<-gave
	})
	defer close(gave)
	c, err := gearman.NewClient([]string{ln.Addr().String()}, gearman.ClientOptions{DialTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := c.Submit(ctx, gearman.Job{Func: "f"})
		first <- err
	}()
	<-accepted
	second := make(chan error, 1)
	go func() {
		_, err := c.Submit(t.Context(), gearman.Job{Func: "f"})
		second <- err
	}()
	select {
	case err := <-second:
		t.Errorf("second, before the first gave up: %v", err)
	case <-time.After(50 * time.Millisecond): // it waits, if it was fast enough to be here
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("first: %v; want context.Canceled", err)
	}
	if err := <-second; err != nil {
		t.Errorf("second: %v", err)
	}
}

// A worker with one slot does the jobs of its other servers while one hangs, from the start or later.
func TestWorkerHungServer(t *testing.T) {
	done := map[string]gearman.Func{
		"f": func(ctx context.Context, c *gearman.Call) ([]byte, error) { return []byte("done"), nil },
	}
	const echo = "\x00RES\x00\x00\x00\x11\x00\x00\x00\x00"
	for name, hung := range map[string]string{"at once": silent(t), "later": later(t, echo)} {
		t.Run(name, func(t *testing.T) {
			good := gearmantest.StartDebian(t)
			gearmantest.StartWorker(t, []string{hung, good}, gearman.WorkerOptions{DialTimeout: patience, AnswerTimeout: patience}, done)
			c := gearmantest.NewClient(t, good)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for range 5 {
				if got, err := c.Do(ctx, gearman.Job{Func: "f"}); err != nil || string(got) != "done" {
					t.Fatalf("Do = %q, %v", got, err)
				}
			}
		})
	}
}

// later is a job server that gives its first connection one answer, and is silent then.
func later(t *testing.T, answer string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = nc.Close() })
		_, _ = nc.Read(make([]byte, 1<<16))
		_, _ = nc.Write([]byte(answer))
	}()
	return ln.Addr().String()
}
