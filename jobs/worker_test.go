package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/jobs"
	"wheelhouse/jobs/memqueue"
)

// running starts a worker and returns a function that stops it and waits. It must be used in a bubble of synctest.
func running(t *testing.T, q jobs.Queue, opts jobs.Options, handlers map[string]jobs.Handler) (stop func()) {
	t.Helper()
	w := jobs.New(q, opts)
	for name, h := range handlers {
		if err := w.Handle(name, h); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	}
}

func insert(t *testing.T, q jobs.Queue, list ...jobs.Job) {
	t.Helper()
	if _, err := q.Insert(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

func statsOf(t *testing.T, q jobs.Inspector, fn string) jobs.FuncStats {
	t.Helper()
	list, err := q.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Func == fn {
			s.OldestDue = time.Time{}
			return s
		}
	}
	return jobs.FuncStats{Func: fn}
}

func TestWorkerAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		start := time.Now()
		var got []string
		stop := running(t, q, jobs.Options{Poll: time.Hour}, map[string]jobs.Handler{"f": {Work: func(ctx context.Context, j *jobs.Job) error {
			got = append(got, string(j.Arg))
			return nil
		}}})
		synctest.Wait()
		insert(t, q, jobs.Job{Func: "f", Arg: []byte("a")}, jobs.Job{Func: "f", Arg: []byte("b")}, jobs.Job{Func: "other"})
		synctest.Wait()
		if fmt.Sprint(got) != "[a b]" || time.Since(start) != 0 {
			t.Errorf("done %v after %v; want both at once", got, time.Since(start))
		}
		if s := statsOf(t, q, "f"); s != (jobs.FuncStats{Func: "f"}) {
			t.Errorf("left: %+v", s)
		}
		stop()
		if s := statsOf(t, q, "other"); s.Ready != 1 {
			t.Errorf("a job without a handler: %+v", s)
		}
	})
}

// quiet is a queue whose jobs come from another process.
type quiet struct{ *memqueue.Queue }

func (quiet) Notify() (<-chan struct{}, func()) { return nil, func() {} }

func TestWorkerPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quiet{memqueue.New(nil)}
		done := make(chan time.Time, 1)
		stop := running(t, q, jobs.Options{}, map[string]jobs.Handler{"f": {Work: func(context.Context, *jobs.Job) error {
			done <- time.Now()
			return nil
		}}})
		synctest.Wait()
		start := time.Now()
		insert(t, q, jobs.Job{Func: "f"})
		if d := (<-done).Sub(start); d < 900*time.Millisecond || d > 1100*time.Millisecond {
			t.Errorf("done after %v; want about a second", d)
		}
		stop()
	})
}

func TestWorkerRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		var times []time.Duration
		start := time.Now()
		stop := running(t, q, jobs.Options{Poll: 10 * time.Millisecond}, map[string]jobs.Handler{"f": {
			MaxFailures: 4,
			Backoff:     func(n int) time.Duration { return time.Duration(n) * time.Second },
			Work: func(ctx context.Context, j *jobs.Job) error {
				times = append(times, time.Since(start).Round(100*time.Millisecond))
				if len(times) == 2 {
					panic("ouch")
				}
				return errors.New("again")
			},
		}})
		insert(t, q, jobs.Job{Func: "f"})
		time.Sleep(time.Minute)
		stop()
		if got := fmt.Sprint(times); got != "[0s 1s 3s 6s]" {
			t.Errorf("tried at %v; want after 1, 2 and 3 seconds", got)
		}
		if s := statsOf(t, q, "f"); s != (jobs.FuncStats{Func: "f", Dead: 1}) {
			t.Errorf("stats: %+v; want one failed", s)
		}
	})
}

func TestWorkerVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		tried := make(map[string]int)
		stop := running(t, q, jobs.Options{Poll: 10 * time.Millisecond}, map[string]jobs.Handler{"f": {
			MaxFailures: -1,
			Backoff:     func(int) time.Duration { return time.Second },
			Work: func(ctx context.Context, j *jobs.Job) error {
				arg := string(j.Arg)
				tried[arg]++
				switch {
				case arg == "permanent":
					return fmt.Errorf("wrapped: %w", jobs.Permanent(errors.New("no")))
				case arg == "later" && tried[arg] < 5:
					return jobs.Later(time.Second)
				case arg == "later" && j.Failures != 0:
					t.Errorf("Later counts as a failure")
				case arg == "stubborn" && tried[arg] < 40:
					return errors.New("no")
				}
				return nil
			},
		}})
		insert(t, q, jobs.Job{Func: "f", Arg: []byte("permanent")}, jobs.Job{Func: "f", Arg: []byte("later")}, jobs.Job{Func: "f", Arg: []byte("stubborn")})
		time.Sleep(time.Minute)
		stop()
		if got := fmt.Sprint(tried); got != "map[later:5 permanent:1 stubborn:40]" {
			t.Errorf("tried %v", got)
		}
		if s := statsOf(t, q, "f"); s != (jobs.FuncStats{Func: "f", Dead: 1}) {
			t.Errorf("stats: %+v; want one failed", s)
		}
	})
}

// TestWorkerRenews: a job that takes longer than its lease stays this worker's.
func TestWorkerRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		var runs atomic.Int32
		h := map[string]jobs.Handler{"f": {Lease: 3 * time.Second, Work: func(ctx context.Context, j *jobs.Job) error {
			runs.Add(1)
			select {
			case <-time.After(time.Minute):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}}}
		insert(t, q, jobs.Job{Func: "f"})
		stopA := running(t, q, jobs.Options{}, h)
		stopB := running(t, q, jobs.Options{}, h)
		time.Sleep(2 * time.Minute)
		if n := runs.Load(); n != 1 {
			t.Errorf("%d runs; want 1", n)
		}
		if s := statsOf(t, q, "f"); s != (jobs.FuncStats{Func: "f"}) {
			t.Errorf("left: %+v", s)
		}
		stopA()
		stopB()
	})
}

// deaf is a queue that cannot be reached for renewals.
type deaf struct {
	*memqueue.Queue
	lost atomic.Bool
}

func (q *deaf) Renew(ctx context.Context, list []jobs.Job, lease time.Duration) ([]jobs.Job, error) {
	if q.lost.Load() {
		return nil, nil
	}
	return nil, errors.New("no route to host")
}

// TestWorkerLosesLease: its context ends, and what it returns counts for nothing.
func TestWorkerLosesLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &deaf{Queue: memqueue.New(nil)}
		var cause error
		ended := make(chan struct{})
		stop := running(t, q, jobs.Options{Poll: time.Hour}, map[string]jobs.Handler{"f": {Lease: 6 * time.Second, Work: func(ctx context.Context, j *jobs.Job) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			close(ended)
			return nil
		}}})
		synctest.Wait()
		insert(t, q, jobs.Job{Func: "f"})
		time.Sleep(7 * time.Second)
		other, err := q.Grab(t.Context(), jobs.GrabRequest{Funcs: []string{"f"}, N: 1, Lease: time.Hour})
		if err != nil || len(other) != 1 {
			t.Fatalf("Grab after the lease = %v, %v", other, err)
		}
		q.lost.Store(true)
		<-ended
		if !errors.Is(cause, jobs.ErrLost) {
			t.Errorf("context ended by %v; want %v", cause, jobs.ErrLost)
		}
		synctest.Wait()
		if s := statsOf(t, q, "f"); s.Running != 1 {
			t.Errorf("stats: %+v; want the other's", s)
		}
		stop()
	})
}

// TestWorkerStops: what runs is finished, what is leased but does not run is given back.
func TestWorkerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		done := 0
		stop := running(t, q, jobs.Options{}, map[string]jobs.Handler{"f": {Prefetch: 5, Work: func(ctx context.Context, j *jobs.Job) error {
			select {
			case <-time.After(10 * time.Second):
				done++
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}})
		for range 8 {
			insert(t, q, jobs.Job{Func: "f"})
		}
		time.Sleep(time.Second)
		if s := statsOf(t, q, "f"); s.Running != 5 {
			t.Errorf("stats: %+v; want 5 under lease", s)
		}
		stop()
		if s := statsOf(t, q, "f"); done != 1 || s != (jobs.FuncStats{Func: "f", Ready: 7}) {
			t.Errorf("%d done, %+v; want 1 done and 7 ready", done, s)
		}
	})
}

func TestWorkerStopTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		stop := running(t, q, jobs.Options{StopTimeout: 5 * time.Second}, map[string]jobs.Handler{"f": {Work: func(ctx context.Context, j *jobs.Job) error {
			<-ctx.Done()
			return ctx.Err()
		}}})
		insert(t, q, jobs.Job{Func: "f"})
		synctest.Wait()
		start := time.Now()
		stop()
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("stopped after %v; want 5s", d)
		}
		if s := statsOf(t, q, "f"); s != (jobs.FuncStats{Func: "f", Ready: 1}) {
			t.Errorf("stats: %+v; want it given back", s)
		}
		got, err := q.Grab(t.Context(), jobs.GrabRequest{Funcs: []string{"f"}, N: 1, Lease: time.Minute})
		if err != nil || len(got) != 1 || got[0].Failures != 0 {
			t.Errorf("Grab = %+v, %v; want it without a failure", got, err)
		}
	})
}

func TestWorkerConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		var mu sync.Mutex
		now, most, done := 0, 0, 0
		stop := running(t, q, jobs.Options{}, map[string]jobs.Handler{"f": {Concurrency: 3, Work: func(ctx context.Context, j *jobs.Job) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			done++
			mu.Unlock()
			return nil
		}}})
		for range 30 {
			insert(t, q, jobs.Job{Func: "f"})
		}
		time.Sleep(10*time.Second + 100*time.Millisecond)
		stop()
		if most != 3 || done != 30 {
			t.Errorf("%d done, at most %d at a time; want 30 and 3 within ten seconds", done, most)
		}
	})
}

func TestWorkerMisuse(t *testing.T) {
	w := jobs.New(memqueue.New(nil), jobs.Options{})
	work := func(context.Context, *jobs.Job) error { return nil }
	if err := w.Handle("f", jobs.Handler{}); err == nil {
		t.Error("handler without Work was taken")
	}
	if err := w.Handle("f", jobs.Handler{Work: work}); err != nil {
		t.Fatal(err)
	}
	if err := w.Handle("f", jobs.Handler{Work: work}); err == nil {
		t.Error("second handler was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 { // Run may be called again
		if err := w.Run(ctx); err != nil {
			t.Errorf("Run = %v", err)
		}
	}
}

func TestMessage(t *testing.T) {
	for in, want := range map[string]int{"x": 1, string(make([]byte, 300)): 255} {
		if got := jobs.Message(errors.New(in)); len(got) != want {
			t.Errorf("Message of %d bytes has %d; want %d", len(in), len(got), want)
		}
	}
	long := "a"
	for len(long) < 400 {
		long += "ü"
	}
	if got := jobs.Message(errors.New(long)); len(got) != 255 || got != long[:255] {
		t.Errorf("Message = %d bytes %q", len(got), got)
	}
}

func TestDefaultBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{0: 2 * time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 12: time.Hour, 1000: time.Hour} {
		if got := jobs.DefaultBackoff(n); got < want*8/10 || got > want*12/10 {
			t.Errorf("DefaultBackoff(%d) = %v; want about %v", n, got, want)
		}
	}
}
