package jobstest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/jobs"
)

// Queue is the suite that all queues pass. open returns an empty queue that uses the clock it is given.
func Queue(t *testing.T, open func(t *testing.T, now func() time.Time) jobs.Queue) {
	for _, c := range []struct {
		name string
		run  func(*queueTest)
	}{
		{"InsertGrab", insertGrab},
		{"Order", order},
		{"Functions", functions},
		{"RunAfter", runAfter},
		{"Lease", lease},
		{"Renew", renew},
		{"Complete", complete},
		{"CompleteLost", completeLost},
		{"Retry", retry},
		{"Later", later},
		{"Fail", fail},
		{"Unique", unique},
		{"UniqueWhileRunning", uniqueWhileRunning},
		{"UniqueWhileFailing", uniqueWhileFailing},
		{"Invalid", invalid},
		{"Stats", stats},
		{"Notify", notify},
		{"Many", many},
		{"Concurrent", concurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they wait for disks most of the time
			clock := &clock{t: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
			c.run(&queueTest{T: t, q: open(t, clock.now), clock: clock, ctx: t.Context()})
		})
	}
}

// clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type queueTest struct {
	*testing.T
	q     jobs.Queue
	clock *clock
	ctx   context.Context
}

func (t *queueTest) ok(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *queueTest) equal(what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func (t *queueTest) insert(list ...jobs.Job) []jobs.ID {
	t.Helper()
	ids, err := t.q.Insert(t.ctx, list)
	t.ok(err)
	return ids
}

// grab leases jobs for a minute.
func (t *queueTest) grab(n int, funcs ...string) []jobs.Job {
	t.Helper()
	got, err := t.q.Grab(t.ctx, funcs, n, time.Minute)
	t.ok(err)
	return got
}

// one grabs the only job there is.
func (t *queueTest) one(fn string) jobs.Job {
	t.Helper()
	got := t.grab(10, fn)
	if len(got) != 1 {
		t.Fatalf("Grab = %d jobs; want 1: %+v", len(got), got)
	}
	return got[0]
}

func (t *queueTest) none(funcs ...string) {
	t.Helper()
	if got := t.grab(10, funcs...); len(got) != 0 {
		t.Fatalf("Grab = %+v; want none", got)
	}
}

func args(list []jobs.Job) string {
	var all []string
	for _, j := range list {
		all = append(all, string(j.Arg))
	}
	return strings.Join(all, " ")
}

func (t *queueTest) stats(fn string) jobs.FuncStats {
	t.Helper()
	list, err := t.q.Stats(t.ctx)
	t.ok(err)
	for _, s := range list {
		if s.Func == fn {
			return s
		}
	}
	return jobs.FuncStats{Func: fn}
}

func insertGrab(t *queueTest) {
	t.none("f")
	now := t.clock.now()
	want := jobs.Job{Func: "f", Arg: []byte("\x00arg\xff"), Unique: "u", Coalesce: "c", Priority: -3}
	want.ID = t.insert(want)[0]
	if want.ID == 0 {
		t.Fatal("job without ID")
	}
	want.InsertTime, want.RunAfter, want.GrabbedUntil = now, now, now.Add(time.Minute)
	t.equal("job", t.one("f"), want)
	t.none("f")
	bare := t.insert(jobs.Job{Func: "f"})[0]
	t.equal("bare", t.one("f"), jobs.Job{ID: bare, Func: "f", InsertTime: now, RunAfter: now, GrabbedUntil: now.Add(time.Minute)})
	t.equal("ids of none", len(t.insert()), 0)
}

func order(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Arg: []byte("1")}, jobs.Job{Func: "f", Arg: []byte("2")},
		jobs.Job{Func: "f", Arg: []byte("low"), Priority: -1}, jobs.Job{Func: "f", Arg: []byte("high"), Priority: 7},
		jobs.Job{Func: "f", Arg: []byte("due"), RunAfter: t.clock.now().Add(-time.Hour)},
		jobs.Job{Func: "f", Arg: []byte("higher, later"), Priority: 9, RunAfter: t.clock.now().Add(time.Hour)})
	t.equal("first two", args(t.grab(2, "f")), "high due")
	t.equal("rest", args(t.grab(9, "f")), "1 2 low")
}

func functions(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Arg: []byte("f")}, jobs.Job{Func: "g", Arg: []byte("g")}, jobs.Job{Func: "h", Arg: []byte("h")})
	t.none()
	t.none("other")
	t.equal("f, g", len(t.grab(10, "f", "g", "other")), 2)
	t.equal("h", args(t.grab(10, "h")), "h")
	for range 6 {
		t.insert(jobs.Job{Func: "f", Arg: []byte("f")})
	}
	t.insert(jobs.Job{Func: "g", Arg: []byte("g")})
	if got := t.grab(3, "f", "g"); len(got) != 3 {
		t.Errorf("Grab of 3 = %q", args(got))
	}
	t.equal("the rest", len(t.grab(10, "f", "g")), 4)
}

func runAfter(t *queueTest) {
	t.insert(jobs.Job{Func: "f", RunAfter: t.clock.now().Add(2 * time.Minute)})
	t.none("f")
	t.clock.add(2*time.Minute - time.Second)
	t.none("f")
	t.clock.add(time.Second)
	t.one("f")
}

func lease(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Arg: []byte("x")})
	first := t.one("f")
	t.clock.add(59 * time.Second)
	t.none("f")
	t.clock.add(time.Second)
	second := t.one("f") // as if the first worker had been killed
	if second.ID != first.ID || second.Failures != 0 || !second.GrabbedUntil.After(first.GrabbedUntil) {
		t.Errorf("after the lease: %+v; first %+v", second, first)
	}
}

func renew(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Arg: []byte("x")})
	j := t.one("f")
	for range 5 {
		t.clock.add(40 * time.Second)
		t.none("f")
		kept, err := t.q.Renew(t.ctx, []jobs.Job{j, {ID: 999, GrabbedUntil: j.GrabbedUntil}}, time.Minute)
		t.ok(err)
		want := j
		want.GrabbedUntil = t.clock.now().Add(time.Minute)
		t.equal("kept", kept, []jobs.Job{want})
		j = kept[0]
	}
	t.clock.add(time.Minute)
	other := t.one("f")
	kept, err := t.q.Renew(t.ctx, []jobs.Job{j}, time.Minute)
	t.ok(err)
	t.equal("lost", len(kept), 0)
	kept, err = t.q.Renew(t.ctx, []jobs.Job{other}, time.Minute)
	t.ok(err)
	t.equal("kept", len(kept), 1)
}

func complete(t *queueTest) {
	t.insert(jobs.Job{Func: "f"}, jobs.Job{Func: "f"}, jobs.Job{Func: "f"})
	got := t.grab(10, "f")
	t.ok(t.q.Complete(t.ctx, got[:2]))
	t.ok(t.q.Complete(t.ctx, got[:2]))
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f", Running: 1})
	t.clock.add(time.Hour)
	t.equal("left", t.one("f").ID, got[2].ID)
}

func completeLost(t *queueTest) {
	t.insert(jobs.Job{Func: "f"})
	lost := t.one("f")
	t.clock.add(2 * time.Minute)
	held := t.one("f")
	t.ok(t.q.Complete(t.ctx, []jobs.Job{lost}))
	t.ok(t.q.Retry(t.ctx, lost, 0, errors.New("late")))
	t.ok(t.q.Fail(t.ctx, lost, errors.New("late")))
	t.none("f")
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f", Running: 1})
	t.ok(t.q.Complete(t.ctx, []jobs.Job{held}))
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f"})
}

func retry(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Arg: []byte("x")})
	for n := range 3 {
		j := t.one("f")
		t.equal("failures", j.Failures, n)
		t.ok(t.q.Retry(t.ctx, j, 30*time.Second, errors.New(strings.Repeat("ü", 1000))))
		t.none("f")
		t.clock.add(29 * time.Second)
		t.none("f")
		t.clock.add(time.Second)
	}
	j := t.one("f")
	t.equal("failures", j.Failures, 3)
	t.ok(t.q.Complete(t.ctx, []jobs.Job{j}))
}

func later(t *queueTest) {
	t.insert(jobs.Job{Func: "f"})
	t.ok(t.q.Retry(t.ctx, t.one("f"), time.Minute, nil))
	t.none("f")
	t.clock.add(time.Minute)
	t.equal("failures", t.one("f").Failures, 0)
	t.clock.add(time.Hour)
	t.ok(t.q.Retry(t.ctx, t.one("f"), 0, nil))
	t.equal("at once", t.one("f").Failures, 0)
}

func fail(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Unique: "u"})
	t.ok(t.q.Fail(t.ctx, t.one("f"), errors.New("no use")))
	t.clock.add(time.Hour)
	t.none("f")
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f", Failed: 1})
	if id := t.insert(jobs.Job{Func: "f", Unique: "u"})[0]; id == 0 {
		t.Error("the key of a failed job is not free")
	}
}

func unique(t *queueTest) {
	ids := t.insert(jobs.Job{Func: "f", Unique: "u", Arg: []byte("1")}, jobs.Job{Func: "f", Unique: "u", Arg: []byte("2")},
		jobs.Job{Func: "f", Unique: "v"}, jobs.Job{Func: "g", Unique: "u"}, jobs.Job{Func: "f"}, jobs.Job{Func: "f"})
	for i, id := range ids {
		if (id == 0) != (i == 1) {
			t.Errorf("job %d has id %d", i, id)
		}
	}
	t.equal("folded", t.insert(jobs.Job{Func: "f", Unique: "u"})[0], jobs.ID(0))
	got := t.grab(10, "f")
	t.equal("jobs", len(got), 4)
	t.equal("the first stays", string(got[0].Arg), "1")
	t.ok(t.q.Complete(t.ctx, got))
	if id := t.insert(jobs.Job{Func: "f", Unique: "u"})[0]; id == 0 {
		t.Error("the key of a completed job is not free")
	}
}

func uniqueWhileRunning(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Unique: "u"})
	j := t.one("f")
	t.equal("folded", t.insert(jobs.Job{Func: "f", Unique: "u"})[0], jobs.ID(0))
	t.equal("folded", t.insert(jobs.Job{Func: "f", Unique: "u"})[0], jobs.ID(0))
	t.none("f") // not two at a time
	t.clock.add(30 * time.Second)
	kept, err := t.q.Renew(t.ctx, []jobs.Job{j}, time.Minute)
	t.ok(err)
	t.equal("kept", len(kept), 1)
	t.ok(t.q.Complete(t.ctx, kept))
	again := t.one("f") // once more, as what was asked for meanwhile may have been missed
	t.ok(t.q.Complete(t.ctx, []jobs.Job{again}))
	t.none("f")
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f"})
}

func uniqueWhileFailing(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Unique: "u"})
	j := t.one("f")
	t.insert(jobs.Job{Func: "f", Unique: "u"})
	t.ok(t.q.Fail(t.ctx, j, errors.New("no use")))
	again := t.one("f")
	t.equal("failures", again.Failures, 0)
	t.ok(t.q.Retry(t.ctx, again, time.Minute, errors.New("x")))
	t.insert(jobs.Job{Func: "f", Unique: "u"})
	t.none("f") // a waiting one is not hurried
	t.clock.add(time.Minute)
	j = t.one("f")
	t.ok(t.q.Complete(t.ctx, []jobs.Job{j}))
	t.none("f")
}

func invalid(t *queueTest) {
	for what, j := range map[string]jobs.Job{
		"no function":   {},
		"long function": {Func: strings.Repeat("f", jobs.MaxFunc+1)},
		"long key":      {Func: "f", Unique: strings.Repeat("u", jobs.MaxUnique+1)},
		"long group":    {Func: "f", Coalesce: strings.Repeat("u", jobs.MaxUnique+1)},
		"priority":      {Func: "f", Priority: 1 << 15},
		"long argument": {Func: "f", Arg: make([]byte, jobs.MaxArg+1)},
	} {
		if ids, err := t.q.Insert(t.ctx, []jobs.Job{{Func: "f"}, j}); err == nil {
			t.Errorf("%s: Insert = %v", what, ids)
		}
	}
	t.none("f") // all or none
}

func stats(t *queueTest) {
	list, err := t.q.Stats(t.ctx)
	t.ok(err)
	t.equal("none", len(list), 0)
	for i := range 4 {
		t.insert(jobs.Job{Func: "b", Arg: []byte(fmt.Sprint(i))})
	}
	t.insert(jobs.Job{Func: "a", RunAfter: t.clock.now().Add(time.Hour)})
	got := t.grab(2, "b")
	t.ok(t.q.Retry(t.ctx, got[0], time.Hour, errors.New("x")))
	list, err = t.q.Stats(t.ctx)
	t.ok(err)
	t.equal("Stats", list, []jobs.FuncStats{{Func: "a", Delayed: 1}, {Func: "b", Ready: 2, Running: 1, Delayed: 1}})
	t.clock.add(time.Hour)
	list, err = t.q.Stats(t.ctx)
	t.ok(err)
	t.equal("Stats", list, []jobs.FuncStats{{Func: "a", Ready: 1}, {Func: "b", Ready: 4}})
}

func notify(t *queueTest) {
	ready, stop := t.q.Notify()
	second, stopSecond := t.q.Notify()
	heard := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	t.equal("nothing yet", heard(ready), false)
	t.insert(jobs.Job{Func: "f"}, jobs.Job{Func: "f"})
	t.equal("inserted", heard(ready), true)
	t.equal("inserted, second", heard(second), true)
	t.equal("once", heard(ready), false)
	stopSecond()
	stopSecond()
	t.ok(t.q.Retry(t.ctx, t.grab(1, "f")[0], 0, nil))
	t.equal("given back", heard(ready), true)
	t.equal("stopped", heard(second), false)
	stop()
}

func many(t *queueTest) {
	const n = 1000
	list := make([]jobs.Job, n)
	for i := range list {
		list[i] = jobs.Job{Func: "f", Arg: []byte(fmt.Sprintf("%04d", i))}
	}
	t.insert(list...)
	for i := 0; i < n; {
		got := t.grab(64, "f")
		if len(got) == 0 {
			t.Fatalf("no job left after %d", i)
		}
		for _, j := range got {
			t.equal("order", string(j.Arg), fmt.Sprintf("%04d", i))
			i++
		}
		t.ok(t.q.Complete(t.ctx, got))
	}
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f"})
}

// concurrent: no job is given to two at a time, and none is lost.
func concurrent(t *queueTest) {
	const n, workers = 400, 8
	var mu sync.Mutex
	done := make(map[string]int)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range n / workers {
				if _, err := t.q.Insert(t.ctx, []jobs.Job{{Func: "f", Arg: []byte(fmt.Sprintf("%d/%d", w, i))}}); err != nil {
					t.Error(err)
				}
			}
			for !t.Failed() {
				got, err := t.q.Grab(t.ctx, []string{"f"}, 5, time.Minute)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				for _, j := range got {
					done[string(j.Arg)]++
				}
				all := len(done) == n
				mu.Unlock()
				if err := t.q.Complete(t.ctx, got); err != nil {
					t.Error(err)
				}
				if all {
					return
				}
			}
		})
	}
	wg.Wait()
	for arg, times := range done {
		if times != 1 {
			t.Errorf("%s was done %d times", arg, times)
		}
	}
	t.equal("done", len(done), n)
}
