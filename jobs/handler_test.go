package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/jobs"
	"wheelhouse/jobs/memqueue"
)

func show(t *testing.T, q jobs.Inspector, id jobs.ID) jobs.Record {
	t.Helper()
	r, err := q.Show(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func list(t *testing.T, q jobs.Inspector, f jobs.Filter) []jobs.Record {
	t.Helper()
	l, err := q.List(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestVerdicts(t *testing.T) {
	no := errors.New("no")
	for name, tt := range map[string]struct {
		err  error
		want func(r jobs.Record) string // "" if it is right
	}{
		"status": {jobs.WithStatus(jobs.Permanent(no), 42), func(r jobs.Record) string {
			if r.State != jobs.StateDead || r.Status != 42 || r.LastErr != "no" {
				return "dead with 42"
			}
			return ""
		}},
		"status, wrapped the other way": {fmt.Errorf("x: %w", jobs.Permanent(jobs.WithStatus(no, 70000))), func(r jobs.Record) string {
			if r.State != jobs.StateDead || r.Status != 1 || r.LastErr != "x: no" {
				return "dead with 1"
			}
			return ""
		}},
		"status alone": {jobs.WithStatus(no, 42), func(r jobs.Record) string {
			if r.State != jobs.StateDelayed || r.Failures != 1 {
				return "delayed"
			}
			return ""
		}},
		"retry after": {jobs.RetryAfter(no, 7*time.Hour), func(r jobs.Record) string {
			if r.State != jobs.StateDelayed || r.Failures != 1 || time.Until(r.RunAfter).Round(time.Minute) != 7*time.Hour {
				return "delayed by 7 hours, one failure"
			}
			return ""
		}},
		"later": {fmt.Errorf("x: %w", jobs.Later(7*time.Hour)), func(r jobs.Record) string {
			if r.State != jobs.StateDelayed || r.Failures != 0 || time.Until(r.RunAfter).Round(time.Minute) != 7*time.Hour {
				return "delayed by 7 hours, no failure"
			}
			return ""
		}},
		"declined": {fmt.Errorf("x: %w", jobs.ErrDeclined), func(r jobs.Record) string {
			if r.State != jobs.StateRunning || r.Failures != 0 {
				return "held"
			}
			return ""
		}},
		"bad replacement": {jobs.ReplaceWith(jobs.Job{Func: ""}), func(r jobs.Record) string {
			if r.State != jobs.StateDelayed || r.Failures != 1 || !strings.Contains(r.LastErr, "function name") {
				return "a failure"
			}
			return ""
		}},
		"wrong number": {jobs.Verdicts{nil, nil}, func(r jobs.Record) string {
			if r.State != jobs.StateDelayed || r.LastErr != "jobs: handler gave 2 verdicts on 1 jobs" {
				return "a failure"
			}
			return ""
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := memqueue.New(nil)
				var runs atomic.Int32
				stop := running(t, q, jobs.Options{}, map[string]jobs.Handler{"f": {
					Lease: 30 * time.Second, Backoff: func(int) time.Duration { return time.Hour },
					Work: func(context.Context, *jobs.Job) error { runs.Add(1); return tt.err },
				}})
				insert(t, q, jobs.Job{Func: "f"})
				time.Sleep(25 * time.Second)
				if r := show(t, q, 1); tt.want(r) != "" || runs.Load() != 1 {
					t.Errorf("after %d runs: %+v; want it %s after one", runs.Load(), r, tt.want(r))
				}
				stop()
			})
		})
	}
}

// TestDeclined: nobody gets the job before its lease ends.
func TestDeclined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		start := time.Now()
		var at []time.Duration
		stop := running(t, q, jobs.Options{}, map[string]jobs.Handler{"f": {Lease: 30 * time.Second, Work: func(_ context.Context, j *jobs.Job) error {
			at = append(at, time.Since(start).Round(5*time.Second))
			if len(at) < 3 {
				return jobs.ErrDeclined
			}
			return nil
		}}})
		insert(t, q, jobs.Job{Func: "f"})
		time.Sleep(5 * time.Minute)
		stop()
		if fmt.Sprint(at) != "[0s 30s 1m0s]" {
			t.Errorf("tried at %v; want each half minute", at)
		}
	})
}

func TestReplaceWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		var did []string
		stop := running(t, q, jobs.Options{Poll: time.Hour}, map[string]jobs.Handler{
			"split": {Work: func(_ context.Context, j *jobs.Job) error {
				return jobs.ReplaceWith(jobs.Job{Func: "part", Arg: []byte("1")}, jobs.Job{Func: "part", Arg: []byte("2")})
			}},
			"part": {Work: func(_ context.Context, j *jobs.Job) error {
				did = append(did, string(j.Arg))
				return jobs.ReplaceWith()
			}},
		})
		insert(t, q, jobs.Job{Func: "split"})
		synctest.Wait()
		stop()
		if fmt.Sprint(did) != "[1 2]" || len(list(t, q, jobs.Filter{})) != 0 {
			t.Errorf("did %v; left %v", did, list(t, q, jobs.Filter{}))
		}
	})
}

func TestWorkBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		for i := range 30 {
			insert(t, q, jobs.Job{Func: "mail", Coalesce: string("ab"[i%2]), Arg: fmt.Append(nil, i)})
		}
		insert(t, q, jobs.Job{Func: "mail", Arg: []byte("alone")}, jobs.Job{Func: "other", Coalesce: "a"})
		batches := map[string][]int{} // sizes, by group
		stop := running(t, q, jobs.Options{}, map[string]jobs.Handler{"mail": {
			MaxBatch: 10, Prefetch: 5, Backoff: func(int) time.Duration { return time.Hour },
			WorkBatch: func(ctx context.Context, l []*jobs.Job) error {
				jobs.Report(ctx, jobs.Progress{Done: 1})
				batches[l[0].Coalesce] = append(batches[l[0].Coalesce], len(l))
				v := make(jobs.Verdicts, len(l))
				for i, j := range l {
					if j.Coalesce != l[0].Coalesce {
						t.Errorf("%s is in a batch of %q", j.Arg, l[0].Coalesce)
					}
					if string(j.Arg) == "4" {
						v[i] = errors.New("not this one")
					}
				}
				return v
			},
		}})
		time.Sleep(10 * time.Second)
		stop()
		// What is left of a group may come in two batches: a part that is grabbed ahead at the moment cannot be gathered.
		for group, all := range map[string]int{"a": 15, "b": 15, "": 1} {
			sizes, sum := batches[group], 0
			for _, n := range sizes {
				sum += n
			}
			if len(sizes) == 0 || sizes[0] != min(all, 10) || sum != all || len(sizes) > 3 {
				t.Errorf("batches of %q: %v; want a full one first, and %d in all", group, sizes, all)
			}
		}
		left := list(t, q, jobs.Filter{Func: "mail"})
		if len(left) != 1 || string(left[0].Arg) != "4" || left[0].LastErr != "not this one" {
			t.Errorf("left: %+v", left)
		}
	})
}

// TestMore: jobs that a running job asks for are kept under lease, and share its verdict or get their own.
func TestMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		for _, c := range []string{"x%1", "x%2", "x_3", "y"} {
			insert(t, q, jobs.Job{Func: "f", Coalesce: c, Arg: []byte(c)})
		}
		first := true
		stop := running(t, q, jobs.Options{}, map[string]jobs.Handler{"f": {Prefetch: 1, Lease: 3 * time.Second, Work: func(ctx context.Context, j *jobs.Job) error {
			if !first {
				return jobs.Later(time.Hour)
			}
			first = false
			more, err := jobs.More(ctx, 10, "x%", true)
			if err != nil || len(more) != 1 || string(more[0].Arg) != "x%2" {
				t.Errorf("More = %v, %v; want x%%2", more, err)
			}
			if none, err := jobs.More(ctx, 10, "z", false); len(none) != 0 || err != nil {
				t.Errorf("More of nothing = %v, %v", none, err)
			}
			if _, err := jobs.More(ctx, 10, "", true); err == nil {
				t.Error("More of everything was taken")
			}
			time.Sleep(20 * time.Second)
			if got := list(t, q, jobs.Filter{State: jobs.StateRunning}); len(got) != 3 { // and one that waits for its turn
				t.Errorf("under lease: %v", got)
			}
			return jobs.Verdicts{nil, jobs.Permanent(errors.New("no"))}
		}}})
		time.Sleep(time.Minute)
		stop()
		if r := show(t, q, 2); r.State != jobs.StateDead || r.LastErr != "no" {
			t.Errorf("the second job: %+v; want it dead", r)
		}
		if got := list(t, q, jobs.Filter{State: jobs.StateDelayed}); len(got) != 2 {
			t.Errorf("the others: %v", got)
		}
		if _, err := jobs.More(t.Context(), 1, "x", false); !errors.Is(err, jobs.ErrNoJob) {
			t.Errorf("More outside of a job = %v", err)
		}
		jobs.Report(t.Context(), jobs.Progress{Done: 1})
	})
}

func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		step := make(chan struct{})
		stop := running(t, q, jobs.Options{}, map[string]jobs.Handler{"f": {Work: func(ctx context.Context, j *jobs.Job) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			for i := range 3 {
				jobs.Report(ctx, jobs.Progress{Done: int64(i), Total: 3, Note: fmt.Sprint("step ", i)})
				<-step
			}
			return errors.New("x")
		}}})
		insert(t, q, jobs.Job{Func: "f"})
		for i := range 3 {
			time.Sleep(1100 * time.Millisecond)
			want := jobs.Progress{Done: int64(i), Total: 3, Note: fmt.Sprint("step ", i)}
			if got := show(t, q, 1).Progress; got != want {
				t.Errorf("after a second: %+v; want %+v", got, want)
			}
			step <- struct{}{}
		}
		stop()
	})
}

// TestCancelRunning: the context of a job that is cancelled ends within five seconds, whatever its lease.
func TestCancelRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		ended := make(chan error, 1)
		w := jobs.New(q, jobs.Options{})
		err := w.Handle("f", jobs.Handler{Lease: time.Hour, Work: func(ctx context.Context, j *jobs.Job) error {
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		insert(t, q, jobs.Job{Func: "f"})
		time.Sleep(time.Minute)
		start := time.Now()
		if n, err := q.Cancel(ctx, jobs.Filter{Func: "f"}); n != 1 || err != nil {
			t.Fatalf("Cancel = %d, %v", n, err)
		}
		if cause := <-ended; !errors.Is(cause, jobs.ErrLost) || time.Since(start) > 5*time.Second {
			t.Errorf("ended by %v after %v", cause, time.Since(start))
		}
		synctest.Wait()
		if s := w.Stats()[0]; s.Begun != 1 || s.Lost != 1 || s.Done != 0 || s.Running != 0 {
			t.Errorf("Stats = %+v", s)
		}
		cancel()
		<-done
	})
}

func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quiet{memqueue.New(nil)}
		wake := make(chan struct{}, 1)
		done := make(chan struct{}, 1)
		stop := running(t, q, jobs.Options{Poll: time.Hour, Wake: wake}, map[string]jobs.Handler{"f": {Work: func(context.Context, *jobs.Job) error {
			done <- struct{}{}
			return nil
		}}})
		synctest.Wait()
		start := time.Now()
		insert(t, q, jobs.Job{Func: "f"})
		wake <- struct{}{}
		<-done
		if time.Since(start) != 0 {
			t.Errorf("done after %v", time.Since(start))
		}
		close(wake) // is no reason to spin: with that, time would not pass
		time.Sleep(time.Minute)
		stop()
	})
}

func TestFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		five := 5
		insert(t, q, jobs.Job{Func: "f", Priority: 4}, jobs.Job{Func: "f", Priority: 6})
		stop := running(t, q, jobs.Options{Floor: &five}, map[string]jobs.Handler{"f": {Work: func(context.Context, *jobs.Job) error { return nil }}})
		time.Sleep(10 * time.Second)
		stop()
		if left := list(t, q, jobs.Filter{}); len(left) != 1 || left[0].Priority != 4 {
			t.Errorf("left: %v", left)
		}
	})
}

// TestNoStarving: a function with very many jobs leaves the others their turns.
func TestNoStarving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		for range 1000 {
			insert(t, q, jobs.Job{Func: "many"})
		}
		work := func(context.Context, *jobs.Job) error { time.Sleep(time.Second); return nil }
		var at atomic.Int64
		start := time.Now()
		stop := running(t, q, jobs.Options{Poll: time.Hour}, map[string]jobs.Handler{
			"many": {Work: work, Concurrency: 4}, "a": {Work: work}, "few": {Work: func(context.Context, *jobs.Job) error { at.Store(int64(time.Since(start))); return nil }},
		})
		time.Sleep(10500 * time.Millisecond)
		insert(t, q, jobs.Job{Func: "few"}, jobs.Job{Func: "a"})
		time.Sleep(10 * time.Second)
		if d := time.Duration(at.Load()); d != 10500*time.Millisecond {
			t.Errorf("done after %v; want at once", d)
		}
		if left := len(list(t, q, jobs.Filter{Func: "many", Limit: jobs.MaxLimit})); left > 1000-4*19 {
			t.Errorf("%d of 1000 left; four a second should have been done", left)
		}
		stop()
	})
}

func TestTends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		if err := q.Schedule(t.Context(), []jobs.Periodic{{Name: "p", Spec: "*/5 * * * *", Func: "f"}}); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var late []time.Duration
		stop := running(t, q, jobs.Options{Poll: time.Hour}, map[string]jobs.Handler{"f": {Work: func(context.Context, *jobs.Job) error {
			mu.Lock()
			defer mu.Unlock()
			late = append(late, time.Since(time.Now().Truncate(5*time.Minute)))
			return nil
		}}})
		time.Sleep(21 * time.Minute)
		stop()
		if want := make([]time.Duration, 4); cmp.Diff(want, late) != "" {
			t.Errorf("late by %v; want four times at the minute", late)
		}
	})
}

func TestWorkerStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		w := jobs.New(q, jobs.Options{})
		work := func(_ context.Context, j *jobs.Job) error {
			time.Sleep(2 * time.Second)
			return map[string]error{"fail": errors.New("x"), "dead": jobs.Permanent(errors.New("x")), "later": jobs.Later(time.Hour)}[string(j.Arg)]
		}
		for _, name := range []string{"g", "f"} {
			if err := w.Handle(name, jobs.Handler{Work: work, Backoff: func(int) time.Duration { return time.Hour }}); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range []string{"", "fail", "dead", "later", "", ""} {
			insert(t, q, jobs.Job{Func: "f", Arg: []byte(a)})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(9 * time.Second)
		got := w.Stats()
		want := jobs.WorkerStats{
			Func: "f", Begun: 5, Done: 1, Failed: 1, Dead: 1, Returned: 1, Running: 1, Prefetched: 1,
			Wait: jobs.Times{Count: 5, Sum: 20 * time.Second}, Run: jobs.Times{Count: 4, Sum: 8 * time.Second},
		}
		want.Wait.Buckets[0], want.Wait.Buckets[6], want.Wait.Buckets[7] = 1, 2, 2
		want.Run.Buckets[6] = 4
		if d := cmp.Diff([]jobs.WorkerStats{want, {Func: "g"}}, got); d != "" {
			t.Errorf("Stats (-want +got):\n%s", d)
		}
		if got[0].Run.Bound(6) != 5*time.Second {
			t.Errorf("Bound = %v", got[0].Run.Bound(6))
		}
		cancel()
		<-done
	})
}
