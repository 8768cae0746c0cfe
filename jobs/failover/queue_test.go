package failover_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/jobs"
	"wheelhouse/jobs/failover"
	"wheelhouse/jobs/jobstest"
	"wheelhouse/jobs/memqueue"
)

func TestQueue(t *testing.T) {
	jobstest.Queue(t, func(t *testing.T, now func() time.Time) (jobs.Backend, func() jobs.Backend) {
		inner := memqueue.New(now)
		open := func() jobs.Backend {
			q, err := failover.New([]failover.Member{{Name: "only", Queue: inner}}, failover.Options{Now: now})
			if err != nil {
				t.Fatal(err)
			}
			return named{q}
		}
		return open(), open
	})
}

// named hides the one thing in which the suite sees a difference: the jobs say in which queue they are.
type named struct{ *failover.Queue }

func (n named) Grab(ctx context.Context, r jobs.GrabRequest) ([]jobs.Job, error) {
	list, err := n.Queue.Grab(ctx, r)
	for i := range list {
		list[i].Queue = ""
	}
	return list, err
}

func (n named) Renew(ctx context.Context, list []jobs.Job, lease time.Duration) ([]jobs.Job, error) {
	in := slices.Clone(list)
	for i := range in {
		in[i].Queue = "only"
	}
	list, err := n.Queue.Renew(ctx, in, lease)
	for i := range list {
		list[i].Queue = ""
	}
	return list, err
}

func (n named) Finish(ctx context.Context, list []jobs.Result) error {
	in := slices.Clone(list)
	for i := range in {
		in[i].Job.Queue = "only"
	}
	return n.Queue.Finish(ctx, in)
}

func (n named) Show(ctx context.Context, id jobs.ID) (jobs.Record, error) {
	r, err := n.Queue.Show(ctx, id)
	r.Queue = ""
	return r, err
}

// faulty is a queue whose server can be taken away.
type faulty struct {
	*memqueue.Queue
	down  atomic.Bool
	hangs atomic.Bool
	calls atomic.Int32
}

var errDown = errors.New("connection refused")

func (f *faulty) err(ctx context.Context) error {
	f.calls.Add(1)
	if f.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if f.down.Load() {
		return errDown
	}
	return nil
}

func (f *faulty) Insert(ctx context.Context, list []jobs.Job) ([]jobs.ID, error) {
	if err := f.err(ctx); err != nil {
		return nil, err
	}
	return f.Queue.Insert(ctx, list)
}

func (f *faulty) Grab(ctx context.Context, r jobs.GrabRequest) ([]jobs.Job, error) {
	if err := f.err(ctx); err != nil {
		return nil, err
	}
	return f.Queue.Grab(ctx, r)
}

func (f *faulty) Renew(ctx context.Context, list []jobs.Job, lease time.Duration) ([]jobs.Job, error) {
	if err := f.err(ctx); err != nil {
		return nil, err
	}
	return f.Queue.Renew(ctx, list, lease)
}

func (f *faulty) Finish(ctx context.Context, list []jobs.Result) error {
	if err := f.err(ctx); err != nil {
		return err
	}
	return f.Queue.Finish(ctx, list)
}

func (f *faulty) Tend(ctx context.Context) (time.Time, error) {
	if err := f.err(ctx); err != nil {
		return time.Time{}, err
	}
	return f.Queue.Tend(ctx)
}

func (f *faulty) Stats(ctx context.Context) ([]jobs.FuncStats, error) {
	if err := f.err(ctx); err != nil {
		return nil, err
	}
	return f.Queue.Stats(ctx)
}

// three are three queues as one. It must be used in a bubble of synctest.
func three(t *testing.T) (*failover.Queue, map[string]*faulty) {
	t.Helper()
	inner := make(map[string]*faulty)
	var members []failover.Member
	for _, name := range []string{"a", "b-1", "c"} {
		inner[name] = &faulty{Queue: memqueue.New(nil)}
		members = append(members, failover.Member{Name: name, Queue: inner[name]})
	}
	q, err := failover.New(members, failover.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return q, inner
}

func ready(t *testing.T, q jobs.Inspector) (n int64) {
	t.Helper()
	list, err := q.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		n += s.Ready
	}
	return n
}

func TestInsertGoesWhereThereIsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, inner := three(t)
		inner["a"].down.Store(true)
		for range 60 {
			if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f"}, {Func: "f"}}); err != nil {
				t.Fatal(err)
			}
		}
		if n := inner["a"].calls.Load(); n != 1 {
			t.Errorf("the dead queue was asked %d times; want once", n)
		}
		b, c := ready(t, inner["b-1"].Queue), ready(t, inner["c"].Queue)
		if b+c != 120 || b == 0 || c == 0 || b%2 != 0 {
			t.Errorf("%d and %d jobs; want pairs in both", b, c)
		}
		inner["a"].down.Store(false)
		time.Sleep(30 * time.Second)
		for range 60 {
			if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f"}}); err != nil {
				t.Fatal(err)
			}
		}
		if ready(t, inner["a"].Queue) == 0 {
			t.Error("a queue that lives again gets nothing")
		}
	})
}

func TestAllDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, inner := three(t)
		for _, f := range inner {
			f.down.Store(true)
		}
		_, err := q.Insert(t.Context(), []jobs.Job{{Func: "f"}})
		if !errors.Is(err, errDown) || !strings.Contains(err.Error(), "b-1") {
			t.Errorf("Insert = %v; want what each of them said", err)
		}
		if _, err = q.Insert(t.Context(), []jobs.Job{{Func: "f"}}); !errors.Is(err, failover.ErrDead) {
			t.Errorf("Insert = %v; want %v", err, failover.ErrDead)
		}
	})
}

// TestCallersMistakes do not count as a queue's death.
func TestCallersMistakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := three(t)
		ctx := t.Context()
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		_, err1 := q.Insert(ctx, []jobs.Job{{}})
		_, err2 := q.Grab(ctx, jobs.GrabRequest{Funcs: []string{"f"}, N: 1})
		_, err3 := q.Cancel(ctx, jobs.Filter{})
		_, err4 := q.List(ctx, jobs.Filter{Limit: -1})
		err5 := q.Schedule(ctx, []jobs.Periodic{{Name: "p", Func: "f", Spec: "nonsense"}})
		err6 := q.Unschedule(ctx, "p")
		err7 := q.Finish(ctx, []jobs.Result{{}})
		err8 := q.SetControl(ctx, "f", func(c *jobs.Control) { c.MaxRunning = -1 })
		for i, err := range []error{err1, err2, err3, err4, err5, err6, err7, err8} {
			if err == nil {
				t.Errorf("mistake %d was taken", i+1)
			}
		}
		_, _ = q.Stats(cancelled)
		if d := q.Dead(); len(d) != 0 {
			t.Errorf("dead: %v", d)
		}
	})
}

func TestRouting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, inner := three(t)
		ctx := t.Context()
		for i := range 90 {
			if _, err := q.Insert(ctx, []jobs.Job{{Func: "f", Arg: fmt.Append(nil, i)}}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := q.Grab(ctx, jobs.GrabRequest{Funcs: []string{"f"}, N: 100, Lease: time.Minute})
		if err != nil || len(got) != 90 {
			t.Fatalf("Grab = %d jobs, %v; want those of all queues", len(got), err)
		}
		inner["a"].down.Store(true)
		kept, err := q.Renew(ctx, got, time.Hour)
		if err != nil || len(kept) != 90 {
			t.Fatalf("Renew = %d jobs, %v", len(kept), err)
		}
		long := 0
		for _, j := range kept {
			if time.Until(j.GrabbedUntil) == time.Hour {
				long++
			} else if j.Queue != "a" {
				t.Errorf("job of %s was not renewed", j.Queue)
			}
		}
		inner["a"].down.Store(false)
		if long == 90 || long == 0 {
			t.Errorf("%d of 90 were renewed", long)
		}
		results := make([]jobs.Result, len(kept))
		for i, j := range kept {
			results[i] = jobs.Result{Job: j, Verdict: jobs.Done}
		}
		if err := q.Finish(ctx, results); err != nil {
			t.Fatal(err)
		}
		if left, err := q.List(ctx, jobs.Filter{}); len(left) != 0 || err != nil {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

// TestHangs: a queue that does not say anything at all does not stop the others.
func TestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, inner := three(t)
		ctx := t.Context()
		for range 90 {
			if _, err := q.Insert(ctx, []jobs.Job{{Func: "f"}}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := q.Grab(ctx, jobs.GrabRequest{Funcs: []string{"f"}, N: 90, Lease: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		inner["c"].hangs.Store(true)
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		kept, err := q.Renew(short, got, time.Hour)
		if err != nil || len(kept) != 90 {
			t.Errorf("Renew = %d jobs, %v; want all", len(kept), err)
		}
		for _, j := range kept {
			if (j.Queue == "c") != (time.Until(j.GrabbedUntil) < time.Minute) {
				t.Errorf("job of %s: leased for %s", j.Queue, time.Until(j.GrabbedUntil))
			}
		}
		start := time.Now()
		for range 50 {
			if _, err := q.Insert(ctx, []jobs.Job{{Func: "f"}}); err != nil {
				t.Fatal(err)
			}
			if _, err := q.Grab(ctx, jobs.GrabRequest{Funcs: []string{"f"}, N: 100, Lease: time.Minute}); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(start); d != 0 { // Renew has found out
			t.Errorf("took %s", d)
		}
		time.Sleep(time.Minute)
		start = time.Now()
		if _, err := q.Grab(ctx, jobs.GrabRequest{Funcs: []string{"f"}, N: 1000, Lease: time.Minute}); err != nil || time.Since(start) != 10*time.Second {
			t.Errorf("Grab took %s, %v; want 10s once", time.Since(start), err)
		}
	})
}

func TestUniqueStaysAtHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := three(t)
		for range 20 {
			for i := range 30 {
				if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f", Unique: fmt.Sprint(i)}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n := ready(t, q); n != 30 {
			t.Errorf("%d jobs; want 30", n)
		}
	})
}

func TestMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, inner := three(t)
		ctx := t.Context()
		want := make(map[string]bool)
		for range 50 {
			ids, err := q.Insert(ctx, []jobs.Job{{Func: "f"}})
			if err != nil {
				t.Fatal(err)
			}
			name := q.Format(ids[0])
			want[name] = true
			if id, err := q.ParseID(name); id != ids[0] || err != nil {
				t.Errorf("ParseID(%s) = %d, %v; want %d", name, id, err, ids[0])
			}
			if r, err := q.Show(ctx, ids[0]); err != nil || !strings.HasPrefix(name, r.Queue+"-") {
				t.Errorf("Show(%s) = %+v, %v", name, r, err)
			}
		}
		var after jobs.ID
		seen := 0
		for {
			page, err := q.List(ctx, jobs.Filter{After: after, Limit: 7})
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, r := range page {
				if r.ID <= after || !want[q.Format(r.ID)] {
					t.Errorf("after %s comes %s", q.Format(after), q.Format(r.ID))
				}
				after = r.ID
				seen++
			}
		}
		if seen != 50 || len(want) != 50 {
			t.Errorf("%d records of %d in the pages; want 50", seen, len(want))
		}
		if n, err := q.Cancel(ctx, jobs.Filter{Func: "f", Limit: 20}); n != 20 || err != nil {
			t.Errorf("Cancel = %d, %v; want 20", n, err)
		}
		inner["c"].down.Store(true)
		if l, err := q.Stats(ctx); !errors.Is(err, errDown) || len(l) != 1 || l[0].Ready+l[0].Done == 0 {
			t.Errorf("Stats = %+v, %v; want what there is, and the error", l, err)
		}
		for _, bad := range []string{"", "5", "x-5", "a-", "a-0", "a--5", "a-9999999999999999999"} {
			if id, err := q.ParseID(bad); err == nil {
				t.Errorf("ParseID(%q) = %d", bad, id)
			}
		}
	})
}

// TestWorker: a worker does the jobs of all queues, and one that dies in between loses none.
func TestWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, inner := three(t)
		for range 300 {
			if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f"}}); err != nil {
				t.Fatal(err)
			}
		}
		var runs atomic.Int32
		w := jobs.New(q, jobs.Options{})
		err := w.Handle("f", jobs.Handler{Concurrency: 10, Work: func(context.Context, *jobs.Job) error {
			time.Sleep(time.Second)
			if runs.Add(1) == 100 {
				inner["b-1"].down.Store(true)
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(20 * time.Second)
		inner["b-1"].down.Store(false)
		time.Sleep(3 * time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if left, err := q.List(t.Context(), jobs.Filter{}); len(left) != 0 || err != nil || runs.Load() < 300 {
			t.Errorf("%d runs, left: %v, %v", runs.Load(), left, err)
		}
	})
}

func TestNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, inner := three(t)
		ready, stop := q.Notify()
		for _, f := range inner {
			if _, err := f.Insert(t.Context(), []jobs.Job{{Func: "f"}}); err != nil {
				t.Fatal(err)
			}
			<-ready
		}
		stop()
		stop()
	})
}

func TestNew(t *testing.T) {
	m := memqueue.New(nil)
	for what, list := range map[string][]failover.Member{
		"none": nil, "no name": {{Queue: m}}, "no queue": {{Name: "a"}}, "twice": {{Name: "a", Queue: m}, {Name: "a", Queue: m}},
		"blank": {{Name: "a b", Queue: m}}, "too many": make([]failover.Member, failover.MaxMembers+1),
	} {
		if _, err := failover.New(list, failover.Options{}); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}
