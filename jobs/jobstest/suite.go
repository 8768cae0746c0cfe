package jobstest

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"wheelhouse/jobs"
)

// Open returns an empty queue that uses the clock it is given. second, if not nil, returns another value over the same
// storage and with the same clock, as another process would have it; the test that calls it does so at most once.
type Open func(t *testing.T, now func() time.Time) (q jobs.Backend, second func() jobs.Backend)

// Queue is the suite that all queues pass. The clock stands still until a test moves it, by whole seconds.
func Queue(t *testing.T, open Open) {
	for _, group := range [][]test{queueTests, finishTests, inspectTests, controlTests, periodicTests, concurrentTests} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel() // they wait for disks most of the time
				clock := &clock{t: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
				q, second := open(t, clock.now)
				c.run(&queueTest{T: t, q: q, second: second, clock: clock, ctx: t.Context()})
			})
		}
	}
}

type test struct {
	name string
	run  func(*queueTest)
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
	q      jobs.Backend
	second func() jobs.Backend
	clock  *clock
	ctx    context.Context
}

// other is a second value over the same storage, or the same one where there can be no second.
func (t *queueTest) other() jobs.Backend {
	if t.second == nil {
		return t.q
	}
	return t.second()
}

func (t *queueTest) ok(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *queueTest) equal(what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func (t *queueTest) insert(list ...jobs.Job) []jobs.ID {
	t.Helper()
	ids, err := t.q.Insert(t.ctx, list)
	t.ok(err)
	if len(ids) != len(list) {
		t.Fatalf("Insert of %d jobs gave %d ids", len(list), len(ids))
	}
	return ids
}

// request grabs as r says, for a minute unless it says otherwise.
func (t *queueTest) request(r jobs.GrabRequest) []jobs.Job {
	t.Helper()
	if r.Lease == 0 {
		r.Lease = time.Minute
	}
	got, err := t.q.Grab(t.ctx, r)
	t.ok(err)
	return got
}

// grab leases jobs for a minute.
func (t *queueTest) grab(n int, funcs ...string) []jobs.Job {
	t.Helper()
	return t.request(jobs.GrabRequest{Funcs: funcs, N: n, Owner: "tester/1"})
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

func (t *queueTest) finish(results ...jobs.Result) {
	t.Helper()
	t.ok(t.q.Finish(t.ctx, results))
}

func (t *queueTest) done(list ...jobs.Job) {
	t.Helper()
	results := make([]jobs.Result, len(list))
	for i, j := range list {
		results[i] = jobs.Result{Job: j, Verdict: jobs.Done}
	}
	t.finish(results...)
}

func (t *queueTest) dead(j jobs.Job, cause string) {
	t.Helper()
	t.finish(jobs.Result{Job: j, Verdict: jobs.Dead, Cause: cause})
}

func (t *queueTest) retry(j jobs.Job, after time.Duration, cause string) {
	t.Helper()
	t.finish(jobs.Result{Job: j, Verdict: jobs.Retry, After: after, Cause: cause})
}

func (t *queueTest) control(fn string, change func(*jobs.Control)) {
	t.Helper()
	t.ok(t.q.SetControl(t.ctx, fn, change))
}

func (t *queueTest) tend() time.Time {
	t.Helper()
	next, err := t.q.Tend(t.ctx)
	t.ok(err)
	return next
}

func (t *queueTest) list(f jobs.Filter) []jobs.Record {
	t.Helper()
	got, err := t.q.List(t.ctx, f)
	t.ok(err)
	return got
}

func (t *queueTest) show(id jobs.ID) jobs.Record {
	t.Helper()
	r, err := t.q.Show(t.ctx, id)
	t.ok(err)
	return r
}

// stats are a function's; OldestDue and Paused are left to the tests that are about them.
func (t *queueTest) stats(fn string) jobs.FuncStats {
	t.Helper()
	s := t.fullStats(fn)
	s.OldestDue, s.Paused = time.Time{}, false
	return s
}

func (t *queueTest) fullStats(fn string) jobs.FuncStats {
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

// heard waits until something arrives.
func (t *queueTest) heard(what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: nobody was notified", what)
	}
}

func args(list []jobs.Job) string {
	var all []string
	for _, j := range list {
		all = append(all, string(j.Arg))
	}
	return strings.Join(all, " ")
}

func recordArgs(list []jobs.Record) string {
	var all []string
	for _, r := range list {
		all = append(all, string(r.Arg))
	}
	return strings.Join(all, " ")
}

// named makes jobs of a function whose arguments are these.
func named(fn string, names ...string) []jobs.Job {
	var list []jobs.Job
	for _, n := range names {
		list = append(list, jobs.Job{Func: fn, Arg: []byte(n)})
	}
	return list
}
