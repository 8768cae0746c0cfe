package gearman_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"wheelhouse/gearman"
	"wheelhouse/gearman/gearmantest"
)

func TestWithDebiansServer(t *testing.T) {
	gearmantest.Client(t, func(t *testing.T) string { return gearmantest.StartDebian(t) })
}

// refusing is an address where nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestFailover(t *testing.T) {
	a, b := refusing(t), gearmantest.StartDebian(t)
	gearmantest.StartWorker(t, []string{a, b}, gearman.WorkerOptions{}, map[string]gearman.Func{
		"f": func(ctx context.Context, c *gearman.Call) ([]byte, error) { return []byte("done"), nil },
	})
	c := gearmantest.NewClient(t, a, b)
	for i := range 20 {
		got, err := c.Do(t.Context(), gearman.Job{Func: "f", Unique: fmt.Sprint(i)})
		if err != nil || string(got) != "done" {
			t.Errorf("%d: %q, %v", i, got, err)
		}
	}
}

func TestNoServer(t *testing.T) {
	c := gearmantest.NewClient(t, refusing(t), refusing(t))
	if _, err := c.Do(t.Context(), gearman.Job{Func: "f"}); !errors.Is(err, gearman.ErrNoServer) {
		t.Errorf("err = %v; want ErrNoServer", err)
	}
	if _, err := c.Submit(t.Context(), gearman.Job{Func: "f", Unique: "u"}); !errors.Is(err, gearman.ErrNoServer) {
		t.Errorf("err = %v; want ErrNoServer", err)
	}
}

// script is a job server that does what it is told: it answers each packet that it reads with the next text.
func script(t *testing.T, answers ...string) string {
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
		defer nc.Close()
		buf := make([]byte, 1<<16)
		for _, a := range answers {
			if _, err := nc.Read(buf); err != nil {
				return
			}
			if _, err := nc.Write([]byte(a)); err != nil {
				return
			}
		}
	}()
	return ln.Addr().String()
}

const (
	noOption   = "\x00RES\x00\x00\x00\x13\x00\x00\x00\x10UNKNOWN_OPTION\x00x"
	jobCreated = "\x00RES\x00\x00\x00\x08\x00\x00\x00\x05H:x:1"
)

func TestServerThatGoesAway(t *testing.T) {
	c := gearmantest.NewClient(t, script(t, noOption, jobCreated))
	if _, err := c.Do(t.Context(), gearman.Job{Func: "f"}); !errors.Is(err, gearman.ErrDisconnected) {
		t.Errorf("err = %v; want ErrDisconnected", err)
	}
}

func TestServersNonsense(t *testing.T) {
	for _, tt := range []struct{ name, answer string }{
		{"text", "OK what do you want\r\n"},
		{"request", "\x00REQ\x00\x00\x00\x08\x00\x00\x00\x05H:x:1"},
		{"unknown type", "\x00RES\x00\x00\x00\x63\x00\x00\x00\x00"},
		{"too large", "\x00RES\x00\x00\x00\x08\xff\xff\xff\xff"},
		{"a worker's packet", "\x00RES\x00\x00\x00\x0a\x00\x00\x00\x00"},
		{"too few arguments", "\x00RES\x00\x00\x00\x13\x00\x00\x00\x01x"},
		{"more answers than questions", jobCreated + jobCreated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := gearmantest.NewClient(t, script(t, noOption, tt.answer, ""))
			if _, err := c.Do(t.Context(), gearman.Job{Func: "f"}); !errors.Is(err, gearman.ErrDisconnected) {
				t.Errorf("err = %v; want ErrDisconnected", err)
			}
		})
	}
}

func TestQueueError(t *testing.T) {
	c := gearmantest.NewClient(t, script(t, noOption, "\x00RES\x00\x00\x00\x13\x00\x00\x00\x1dQUEUE_ERROR\x00Job queue is full"))
	_, err := c.Submit(t.Context(), gearman.Job{Func: "f"})
	if se, ok := errors.AsType[*gearman.ServerError](err); !ok || se.Code != "QUEUE_ERROR" || se.Text != "Job queue is full" {
		t.Errorf("err = %v", err)
	}
}

func TestClosedClient(t *testing.T) {
	addr := gearmantest.StartDebian(t)
	c, err := gearman.NewClient([]string{addr}, gearman.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	task, err := c.Start(t.Context(), gearman.Job{Func: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := task.Result(t.Context()); !errors.Is(err, gearman.ErrClosed) {
		t.Errorf("err = %v; want ErrClosed", err)
	}
	if _, err := c.Do(t.Context(), gearman.Job{Func: "f"}); !errors.Is(err, gearman.ErrClosed) {
		t.Errorf("err = %v; want ErrClosed", err)
	}
}

// A worker outlives its server, and serves the next one at the same address.
func TestWorkerReconnects(t *testing.T) {
	first := script(t, "") // takes what it can do, and goes away
	second := gearmantest.StartDebian(t)
	gearmantest.StartWorker(t, []string{first, second}, gearman.WorkerOptions{}, map[string]gearman.Func{
		"f": func(ctx context.Context, c *gearman.Call) ([]byte, error) { return []byte("done"), nil },
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if got, err := gearmantest.NewClient(t, second).Do(ctx, gearman.Job{Func: "f"}); err != nil || string(got) != "done" {
		t.Errorf("Do = %q, %v", got, err)
	}
}
