// Package gearmantest is what Gearman's parts are tested with: a suite that our client and worker pass with every job server, and
// the real job server.
package gearmantest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/gearman"
)

// Client is the suite of package gearman's client and worker. start returns the address of a job server that nobody
// else uses, which lives as long as the test.
func Client(t *testing.T, start func(t *testing.T) string) {
	for _, c := range []struct {
		name string
		run  func(*clientTest)
	}{
		{"Do", do},
		{"BigAndEmpty", bigAndEmpty},
		{"Events", events},
		{"Fail", fail},
		{"Exception", exception},
		{"Panic", panics},
		{"Background", inBackground},
		{"RunAt", runAt},
		{"UniqueOnOneConnection", uniqueOnOneConnection},
		{"UniqueAcrossClients", uniqueAcrossClients},
		{"Priority", priority},
		{"Reducer", reducer},
		{"Status", status},
		{"Echo", echo},
		{"Cancel", cancelled},
		{"Concurrency", concurrency},
		{"Map", mapInOrder},
		{"MapLeftEarly", mapLeftEarly},
		{"GracefulStop", gracefulStop},
		{"WorkerTimeout", workerTimeout},
		{"Many", many},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			t.Cleanup(cancel)
			addr := start(t)
			c.run(&clientTest{T: t, ctx: ctx, addr: addr, c: NewClient(t, addr)})
		})
	}
}

type clientTest struct {
	*testing.T
	ctx  context.Context
	addr string
	c    *gearman.Client
}

// NewClient returns a client that is closed at the end of the test.
func NewClient(t testing.TB, addrs ...string) *gearman.Client {
	t.Helper()
	c, err := gearman.NewClient(addrs, gearman.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// StartWorker runs a worker until stop is called or the test ends.
func StartWorker(t testing.TB, addrs []string, opts gearman.WorkerOptions, funcs map[string]gearman.Func) (stop func()) {
	t.Helper()
	w, err := gearman.NewWorker(addrs, opts)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range funcs {
		if err := w.Handle(name, f, 0); err != nil {
			t.Fatal(err)
		}
	}
	return run(t, w)
}

func run(t testing.TB, w *gearman.Worker) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (ct *clientTest) worker(n int, funcs map[string]gearman.Func) (stop func()) {
	ct.Helper()
	return StartWorker(ct, []string{ct.addr}, gearman.WorkerOptions{Concurrency: n}, funcs)
}

func reverse(ctx context.Context, c *gearman.Call) ([]byte, error) {
	out := slices.Clone(c.Arg)
	slices.Reverse(out)
	return out, nil
}

func (ct *clientTest) want(job gearman.Job, want string) {
	ct.Helper()
	got, err := ct.c.Do(ct.ctx, job)
	if err != nil || string(got) != want {
		ct.Errorf("Do(%s) = %.60q, %v; want %.60q", job.Func, got, err, want)
	}
}

func do(ct *clientTest) {
	ct.worker(1, map[string]gearman.Func{"reverse": reverse, "who": func(ctx context.Context, c *gearman.Call) ([]byte, error) {
		return []byte(c.Func + " " + c.Unique), nil
	}})
	ct.want(gearman.Job{Func: "reverse", Arg: []byte("hello")}, "olleh")
	ct.want(gearman.Job{Func: "reverse", Arg: []byte("a\x00b")}, "b\x00a")
	ct.want(gearman.Job{Func: "who", Unique: "u1"}, "who u1")
	if _, err := ct.c.Do(ct.ctx, gearman.Job{Func: "x\x00y"}); err == nil {
		ct.Error("a function with a NUL was taken")
	}
	if _, err := ct.c.Do(ct.ctx, gearman.Job{Func: "who", Unique: strings.Repeat("u", 64)}); err == nil {
		ct.Error("a unique key of 64 bytes was taken")
	}
}

func bigAndEmpty(ct *clientTest) {
	ct.worker(1, map[string]gearman.Func{"reverse": reverse})
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	back := slices.Clone(big)
	slices.Reverse(back)
	ct.want(gearman.Job{Func: "reverse", Arg: big}, string(back))
	ct.want(gearman.Job{Func: "reverse"}, "")
}

func events(ct *clientTest) {
	ct.worker(1, map[string]gearman.Func{"f": func(ctx context.Context, c *gearman.Call) ([]byte, error) {
		err := errors.Join(c.Status(1, 3), c.Data([]byte("one ")), c.Warning([]byte("careful")), c.Data([]byte("two ")))
		return []byte("three"), err
	}})
	t, err := ct.c.Start(ct.ctx, gearman.Job{Func: "f"})
	if err != nil {
		ct.Fatal(err)
	}
	if t.Handle().Server != ct.addr || t.Handle().ID == "" {
		ct.Errorf("handle %v", t.Handle())
	}
	var got []gearman.Event
	for {
		e, err := t.Next(ct.ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			ct.Fatal(err)
		}
		got = append(got, e)
	}
	want := []gearman.Event{
		{Type: gearman.EventStatus, Num: 1, Den: 3},
		{Type: gearman.EventData, Data: []byte("one ")},
		{Type: gearman.EventWarning, Data: []byte("careful")},
		{Type: gearman.EventData, Data: []byte("two ")},
		{Type: gearman.EventComplete, Data: []byte("three")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		ct.Errorf("events (-want +got):\n%s", diff)
	}
	ct.want(gearman.Job{Func: "f"}, "one two three")
}

func fail(ct *clientTest) {
	ct.worker(1, map[string]gearman.Func{"f": func(ctx context.Context, c *gearman.Call) ([]byte, error) {
		return nil, gearman.ErrFailed
	}})
	if _, err := ct.c.Do(ct.ctx, gearman.Job{Func: "f"}); !errors.Is(err, gearman.ErrFailed) {
		ct.Errorf("err = %v; want ErrFailed", err)
	}
}

func (ct *clientTest) exception(fn string) string {
	ct.Helper()
	_, err := ct.c.Do(ct.ctx, gearman.Job{Func: fn})
	ex, ok := errors.AsType[*gearman.Exception](err)
	if !ok {
		ct.Fatalf("err = %v; want an exception", err)
	}
	return string(ex.Data)
}

func exception(ct *clientTest) {
	ct.worker(1, map[string]gearman.Func{
		"raw": func(ctx context.Context, c *gearman.Call) ([]byte, error) {
			return nil, &gearman.Exception{Data: []byte("a\x00b")}
		},
		"text": func(ctx context.Context, c *gearman.Call) ([]byte, error) { return nil, errors.New("no such photo") },
	})
	if got := ct.exception("raw"); got != "a\x00b" {
		ct.Errorf("exception %q", got)
	}
	if got := ct.exception("text"); got != "no such photo" {
		ct.Errorf("exception %q", got)
	}
}

func panics(ct *clientTest) {
	ct.worker(1, map[string]gearman.Func{
		"boom":    func(ctx context.Context, c *gearman.Call) ([]byte, error) { panic("boom") },
		"reverse": reverse,
	})
	if got := ct.exception("boom"); got != "panic: boom" {
		ct.Errorf("exception %q", got)
	}
	ct.want(gearman.Job{Func: "reverse", Arg: []byte("ab")}, "ba") // the worker lives
}

func inBackground(ct *clientTest) {
	did := make(chan string, 10)
	for i := range 3 {
		h, err := ct.c.Submit(ct.ctx, gearman.Job{Func: "f", Arg: []byte(strconv.Itoa(i))})
		if err != nil || h.ID == "" {
			ct.Fatal(h, err)
		}
	}
	ct.worker(1, map[string]gearman.Func{"f": func(ctx context.Context, c *gearman.Call) ([]byte, error) {
		did <- string(c.Arg)
		return nil, nil
	}})
	for i := range 3 {
		if got := <-did; got != strconv.Itoa(i) {
			ct.Errorf("job %d is %s", i, got)
		}
	}
}

func runAt(ct *clientTest) {
	did := make(chan time.Time, 1)
	opts := gearman.WorkerOptions{Poll: time.Second} // not every server calls when the time has come
	StartWorker(ct, []string{ct.addr}, opts, map[string]gearman.Func{"f": func(ctx context.Context, c *gearman.Call) ([]byte, error) {
		did <- time.Now()
		return nil, nil
	}})
	at := time.Now().Add(1500 * time.Millisecond).Truncate(time.Second)
	if _, err := ct.c.Submit(ct.ctx, gearman.Job{Func: "f", RunAt: at}); err != nil {
		ct.Fatal(err)
	}
	if got := <-did; got.Before(at) {
		ct.Errorf("done %v early", at.Sub(got))
	}
	if _, err := ct.c.Do(ct.ctx, gearman.Job{Func: "f", RunAt: at}); err == nil {
		ct.Error("Do took a job with a time")
	}
}

// blocker is a function that counts its jobs and holds them until it is let go.
type blocker struct {
	n     atomic.Int32
	began chan string
	letGo chan struct{}
}

func newBlocker() *blocker {
	return &blocker{began: make(chan string, 1000), letGo: make(chan struct{})}
}

func (b *blocker) do(ctx context.Context, c *gearman.Call) ([]byte, error) {
	b.n.Add(1)
	b.began <- string(c.Arg)
	select {
	case <-b.letGo:
		return []byte("did " + string(c.Arg)), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func uniqueOnOneConnection(ct *clientTest) {
	b := newBlocker()
	ct.worker(2, map[string]gearman.Func{"f": b.do})
	var wg sync.WaitGroup
	first, err := ct.c.Start(ct.ctx, gearman.Job{Func: "f", Unique: "u", Arg: []byte("first")})
	if err != nil {
		ct.Fatal(err)
	}
	<-b.began
	for i := range 100 {
		t, err := ct.c.Start(ct.ctx, gearman.Job{Func: "f", Unique: "u", Arg: []byte(strconv.Itoa(i))})
		if err != nil {
			ct.Fatal(err)
		}
		if t.Handle() != first.Handle() {
			ct.Errorf("handle %v; want %v", t.Handle(), first.Handle())
		}
		wg.Go(func() {
			if got, err := t.Result(ct.ctx); string(got) != "did first" || err != nil {
				ct.Errorf("Result = %q, %v", got, err)
			}
		})
	}
	close(b.letGo)
	if got, err := first.Result(ct.ctx); string(got) != "did first" || err != nil {
		ct.Errorf("Result = %q, %v", got, err)
	}
	wg.Wait()
	if n := b.n.Load(); n != 1 {
		ct.Errorf("done %d times", n)
	}
	ct.want(gearman.Job{Func: "f", Unique: "u", Arg: []byte("again")}, "did again")
}

func uniqueAcrossClients(ct *clientTest) {
	b := newBlocker()
	ct.worker(2, map[string]gearman.Func{"f": b.do})
	var tasks []*gearman.Task
	for range 5 {
		for range 2 {
			t, err := NewClient(ct, ct.addr).Start(ct.ctx, gearman.Job{Func: "f", Unique: "-", Arg: []byte("same")})
			if err != nil {
				ct.Fatal(err)
			}
			tasks = append(tasks, t)
		}
	}
	close(b.letGo)
	for _, t := range tasks {
		if got, err := t.Result(ct.ctx); string(got) != "did same" || err != nil {
			ct.Errorf("Result = %q, %v", got, err)
		}
	}
	if n := b.n.Load(); n != 1 {
		ct.Errorf("done %d times", n)
	}
}

func priority(ct *clientTest) {
	var want []string
	for _, p := range []gearman.Priority{gearman.Low, gearman.Normal, gearman.High} {
		for i := range 2 {
			if _, err := ct.c.Submit(ct.ctx, gearman.Job{Func: "f", Priority: p, Arg: fmt.Append(nil, p, i)}); err != nil {
				ct.Fatal(err)
			}
		}
	}
	for _, p := range []gearman.Priority{gearman.High, gearman.Normal, gearman.Low} {
		for i := range 2 {
			want = append(want, fmt.Sprint(p, i))
		}
	}
	did := make(chan string, 10)
	ct.worker(1, map[string]gearman.Func{"f": func(ctx context.Context, c *gearman.Call) ([]byte, error) {
		did <- string(c.Arg)
		return nil, nil
	}})
	for _, w := range want {
		if got := <-did; got != w {
			ct.Errorf("got %s; want %s", got, w)
		}
	}
}

func reducer(ct *clientTest) {
	ct.worker(1, map[string]gearman.Func{"map": func(ctx context.Context, c *gearman.Call) ([]byte, error) {
		return []byte(c.Func + " then " + c.Reducer + ": " + string(c.Arg)), nil
	}})
	ct.want(gearman.Job{Func: "map", Reducer: "sum", Arg: []byte("1 2 3")}, "map then sum: 1 2 3")
}

func status(ct *clientTest) {
	reported := make(chan struct{})
	letGo := make(chan struct{})
	ct.worker(1, map[string]gearman.Func{"f": func(ctx context.Context, c *gearman.Call) ([]byte, error) {
		err := c.Status(3, 10)
		close(reported)
		<-letGo
		return nil, err
	}})
	h, err := ct.c.Submit(ct.ctx, gearman.Job{Func: "f", Unique: "the-job"})
	if err != nil {
		ct.Fatal(err)
	}
	<-reported
	// The report and the question come on different connections.
	var s gearman.Status
	for s.Den == 0 {
		if s, err = ct.c.Status(ct.ctx, h); err != nil {
			ct.Fatal(err)
		}
	}
	if want := (gearman.Status{Known: true, Running: true, Num: 3, Den: 10}); s != want {
		ct.Errorf("Status = %+v; want %+v", s, want)
	}
	s, err = ct.c.StatusUnique(ct.ctx, "the-job")
	if err != nil || !s.Known || !s.Running || s.Num != 3 || s.Den != 10 {
		ct.Errorf("StatusUnique = %+v, %v", s, err)
	}
	close(letGo)
	for s.Known {
		if s, err = ct.c.Status(ct.ctx, h); err != nil {
			ct.Fatal(err)
		}
	}
	if s, err = ct.c.StatusUnique(ct.ctx, "nobody"); err != nil || s.Known {
		ct.Errorf("StatusUnique(nobody) = %+v, %v", s, err)
	}
}

func echo(ct *clientTest) {
	if err := ct.c.Echo(ct.ctx, ct.addr, []byte("a\x00b")); err != nil {
		ct.Error(err)
	}
	if err := ct.c.Echo(ct.ctx, "127.0.0.1:1", nil); err == nil {
		ct.Error("a server that is not the client's answered")
	}
}

func cancelled(ct *clientTest) {
	b := newBlocker()
	ct.worker(1, map[string]gearman.Func{"f": b.do, "reverse": reverse})
	ctx, cancel := context.WithCancel(ct.ctx)
	done := make(chan error, 1)
	go func() {
		_, err := ct.c.Do(ctx, gearman.Job{Func: "f", Arg: []byte("x")})
		done <- err
	}()
	<-b.began
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		ct.Errorf("err = %v", err)
	}
	close(b.letGo)
	ct.want(gearman.Job{Func: "reverse", Arg: []byte("ab")}, "ba") // the connection is as good as before
}

func concurrency(ct *clientTest) {
	b := newBlocker()
	ct.worker(5, map[string]gearman.Func{"f": b.do})
	var tasks []*gearman.Task
	for i := range 7 {
		t, err := ct.c.Start(ct.ctx, gearman.Job{Func: "f", Arg: []byte(strconv.Itoa(i))})
		if err != nil {
			ct.Fatal(err)
		}
		tasks = append(tasks, t)
	}
	for range 5 {
		<-b.began
	}
	if n := b.n.Load(); n != 5 {
		ct.Errorf("%d run; want 5", n)
	}
	close(b.letGo)
	for _, t := range tasks {
		if _, err := t.Result(ct.ctx); err != nil {
			ct.Error(err)
		}
	}
}

func numbers(n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for i := range n {
			if !yield([]byte(strconv.Itoa(i))) {
				return
			}
		}
	}
}

func mapInOrder(ct *clientTest) {
	ct.worker(8, map[string]gearman.Func{"double": func(ctx context.Context, c *gearman.Call) ([]byte, error) {
		n, err := strconv.Atoi(string(c.Arg))
		if n == 13 {
			return nil, errors.New("unlucky")
		}
		return []byte(strconv.Itoa(2 * n)), err
	}})
	i := 0
	for out, err := range gearman.Map(ct.ctx, ct.c, "double", numbers(500), gearman.MapOptions{}) {
		if i == 13 {
			if _, ok := errors.AsType[*gearman.Exception](err); !ok {
				ct.Errorf("13: %v", err)
			}
		} else if string(out) != strconv.Itoa(2*i) || err != nil {
			ct.Errorf("%d: %q, %v", i, out, err)
		}
		i++
	}
	if i != 500 {
		ct.Errorf("%d results", i)
	}
}

func mapLeftEarly(ct *clientTest) {
	ct.worker(2, map[string]gearman.Func{"reverse": reverse})
	taken := 0
	endless := func(yield func([]byte) bool) {
		for yield([]byte("x")) {
			taken++
		}
	}
	n := 0
	for _, err := range gearman.Map(ct.ctx, ct.c, "reverse", endless, gearman.MapOptions{Parallel: 4}) {
		if err != nil {
			ct.Fatal(err)
		}
		if n++; n == 10 {
			break
		}
	}
	if taken > 10+2*4+1 {
		ct.Errorf("%d inputs were taken for 10 results", taken)
	}
}

func gracefulStop(ct *clientTest) {
	b := newBlocker()
	stop := ct.worker(1, map[string]gearman.Func{"f": b.do})
	t, err := ct.c.Start(ct.ctx, gearman.Job{Func: "f", Arg: []byte("x")})
	if err != nil {
		ct.Fatal(err)
	}
	<-b.began
	stopped := make(chan struct{})
	go func() {
		stop()
		close(stopped)
	}()
	select {
	case <-stopped:
		ct.Error("Run returned while a job ran")
	case <-time.After(50 * time.Millisecond):
	}
	close(b.letGo)
	<-stopped
	if got, err := t.Result(ct.ctx); string(got) != "did x" || err != nil {
		ct.Errorf("Result = %q, %v", got, err)
	}
}

func workerTimeout(ct *clientTest) {
	w, err := gearman.NewWorker([]string{ct.addr}, gearman.WorkerOptions{})
	if err != nil {
		ct.Fatal(err)
	}
	var n atomic.Int32
	err = w.Handle("slow", func(ctx context.Context, c *gearman.Call) ([]byte, error) {
		if n.Add(1) == 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return []byte("second time"), nil
	}, time.Second)
	if err != nil {
		ct.Fatal(err)
	}
	run(ct, w)
	// The server and the worker note the end of the second at about the same time: the job is failed or done again.
	out, err := ct.c.Do(ct.ctx, gearman.Job{Func: "slow"})
	if _, thrown := errors.AsType[*gearman.Exception](err); !thrown && (err != nil || string(out) != "second time") {
		ct.Errorf("Do = %q, %v", out, err)
	}
}

func many(ct *clientTest) {
	ct.worker(4, map[string]gearman.Func{"reverse": reverse})
	var wg sync.WaitGroup
	for g := range 20 {
		wg.Go(func() {
			for i := range 50 {
				arg := fmt.Sprintf("%d-%d", g, i)
				back := []byte(arg)
				slices.Reverse(back)
				ct.want(gearman.Job{Func: "reverse", Arg: []byte(arg)}, string(back))
			}
		})
	}
	wg.Wait()
}
