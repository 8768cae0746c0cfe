package jobstest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"wheelhouse/jobs"
)

var inspectTests = []test{
	{"Stats", stats},
	{"List", list},
	{"ListPages", listPages},
	{"Show", show},
	{"ErrorLog", errorLog},
	{"FilterErrors", filterErrors},
	{"Cancel", cancel},
	{"CancelRunning", cancelRunning},
	{"Revive", revive},
	{"ReviveFolded", reviveFolded},
	{"Delete", deleteJobs},
	{"Retention", retention},
}

func stats(t *queueTest) {
	start := t.clock.now()
	read := func(fn string) jobs.FuncStats { t.Helper(); return t.fullStats(fn) }
	t.equal("nothing", read("b"), jobs.FuncStats{Func: "b"})
	for range 6 {
		t.insert(jobs.Job{Func: "b"})
	}
	t.insert(jobs.Job{Func: "b", RunAfter: start.Add(-time.Minute), Priority: -1})
	t.insert(jobs.Job{Func: "a", RunAfter: start.Add(time.Hour)})
	got := t.grab(4, "b")
	t.retry(got[0], time.Hour, "x")
	t.dead(got[1], "x")
	t.control("b", func(c *jobs.Control) { c.KeepDone = time.Hour })
	t.done(got[2])
	t.equal("b", read("b"), jobs.FuncStats{Func: "b", Ready: 3, Running: 1, Delayed: 1, Dead: 1, Done: 1, OldestDue: start.Add(-time.Minute)})
	t.equal("a", read("a"), jobs.FuncStats{Func: "a", Delayed: 1})
	t.control("b", func(c *jobs.Control) { c.Paused = true })
	t.clock.add(time.Hour)
	t.equal("b, paused, later", read("b"), jobs.FuncStats{Func: "b", Ready: 5, Dead: 1, Done: 1, OldestDue: start.Add(-time.Minute), Paused: true})
	all, err := t.q.Stats(t.ctx)
	t.ok(err)
	var names []string
	for _, s := range all {
		if s.Ready > 0 {
			names = append(names, s.Func)
		}
	}
	t.equal("order", strings.Join(names, " "), "a b")
}

// everyState makes one job of f in each state, with the state as its argument.
func everyState(t *queueTest) map[jobs.State]jobs.ID {
	t.Helper()
	t.control("f", func(c *jobs.Control) { c.KeepDone = 24 * time.Hour })
	ids := t.insert(named("f", "done", "dead", "cancelled", "running", "delayed", "ready")...)
	got := t.grab(5, "f")
	t.done(got[0])
	t.dead(got[1], "no use")
	n, err := t.q.Cancel(t.ctx, jobs.Filter{IDs: ids[2:3]})
	t.ok(err)
	t.equal("cancelled", n, 1)
	t.retry(got[4], time.Hour, "not yet")
	return map[jobs.State]jobs.ID{
		jobs.StateDone: ids[0], jobs.StateDead: ids[1], jobs.StateCancelled: ids[2],
		jobs.StateRunning: ids[3], jobs.StateDelayed: ids[4], jobs.StateReady: ids[5],
	}
}

func list(t *queueTest) {
	t.equal("nothing", len(t.list(jobs.Filter{})), 0)
	ids := everyState(t)
	t.equal("all", recordArgs(t.list(jobs.Filter{})), "done dead cancelled running delayed ready")
	now := t.clock.now()
	for state, id := range ids {
		got := t.list(jobs.Filter{State: state})
		t.equal(string(state), recordArgs(got), string(state))
		r := got[0]
		t.equal("id", r.ID, id)
		t.equal("state", r.State, state)
		t.equal("inserted", r.InsertTime, now)
		t.equal("log", len(r.Errors), 0)
		finished := state == jobs.StateDone || state == jobs.StateDead || state == jobs.StateCancelled
		t.equal("finished", r.Finished.Equal(now), finished)
		t.equal("lease", r.GrabbedUntil.After(now), state == jobs.StateRunning)
		if state != jobs.StateReady {
			t.equal("owner", r.Owner, "tester/1")
			t.equal("started", r.Started, now)
		}
	}
	t.equal("status", t.list(jobs.Filter{State: jobs.StateDead})[0].Status, 1)
	t.equal("text", t.list(jobs.Filter{State: jobs.StateDelayed})[0].LastErr, "not yet")
	g := t.insert(jobs.Job{Func: "g", Arg: []byte("g1"), Unique: "u", Key: "k", Coalesce: "c"}, jobs.Job{Func: "g", Arg: []byte("g2"), Key: "k"})
	for want, f := range map[string]jobs.Filter{
		"g1 g2":      {Func: "g"},
		"g1":         {Unique: "u"},
		"g1 ":        {Func: "g", Coalesce: "c"},
		"g1 g2 ":     {Key: "k"},
		"ready g1":   {IDs: []jobs.ID{g[0], ids[jobs.StateReady], 999999}},
		"":           {Func: "f", Key: "k"},
		"ready":      {Func: "f", State: jobs.StateReady},
		"done ready": {IDs: []jobs.ID{ids[jobs.StateReady], ids[jobs.StateDone]}, Func: "f"},
	} {
		t.equal(fmt.Sprintf("%+v", f), recordArgs(t.list(f)), strings.TrimSpace(want))
	}
	t.clock.add(time.Minute)
	t.equal("run out", recordArgs(t.list(jobs.Filter{State: jobs.StateReady, Func: "f"})), "running ready")
}

func listPages(t *queueTest) {
	for i := range 130 {
		t.insert(jobs.Job{Func: "f", Arg: fmt.Append(nil, i)})
	}
	for range 13 { // spread them over the states
		got := t.grab(3, "f")
		t.dead(got[0], "x")
		t.retry(got[1], time.Hour, "x")
	}
	t.equal("default", len(t.list(jobs.Filter{Func: "f"})), jobs.DefaultLimit)
	var all []string
	for after := jobs.ID(0); ; {
		page := t.list(jobs.Filter{Func: "f", After: after, Limit: 7})
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			if r.ID <= after {
				t.Fatalf("id %d comes after %d", r.ID, after)
			}
			after = r.ID
			all = append(all, string(r.Arg))
		}
	}
	var want []string
	for i := range 130 {
		want = append(want, fmt.Sprint(i))
	}
	t.equal("pages", all, want)
}

func show(t *queueTest) {
	if _, err := t.q.Show(t.ctx, 12345); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("Show of nothing = %v; want %v", err, jobs.ErrNotFound)
	}
	j := jobs.Job{Func: "f", Unique: "u", Key: "k", Coalesce: "c", Arg: []byte("x"), Priority: 4, RunAfter: t.clock.now().Add(time.Hour)}
	j.ID = t.insert(j)[0]
	j.InsertTime = t.clock.now()
	t.equal("delayed", t.show(j.ID), jobs.Record{Job: j, State: jobs.StateDelayed})
}

func errorLog(t *queueTest) {
	id := t.insert(jobs.Job{Func: "f"})[0]
	for i := range jobs.MaxErrors + 5 {
		t.retry(t.one("f"), 0, fmt.Sprint("failure ", i))
	}
	r := t.show(id)
	t.equal("failures", r.Failures, jobs.MaxErrors+5)
	t.equal("entries", len(r.Errors), jobs.MaxErrors)
	t.equal("oldest", r.Errors[0].Message, "failure 5")
	t.equal("newest", r.Errors[jobs.MaxErrors-1].Message, r.LastErr)
	t.equal("newest", r.LastErr, fmt.Sprint("failure ", jobs.MaxErrors+4))
}

func filterErrors(t *queueTest) {
	t.insert(jobs.Job{Func: "f"})
	for what, change := range map[string]func(jobs.Filter) (int, error){
		"Cancel": func(f jobs.Filter) (int, error) { return t.q.Cancel(t.ctx, f) },
		"Revive": func(f jobs.Filter) (int, error) { return t.q.Revive(t.ctx, f) },
		"Delete": func(f jobs.Filter) (int, error) { return t.q.Delete(t.ctx, f) },
	} {
		if n, err := change(jobs.Filter{Limit: 5, After: 0}); !errors.Is(err, jobs.ErrAll) {
			t.Errorf("%s of everything = %d, %v; want %v", what, n, err, jobs.ErrAll)
		}
		if n, err := change(jobs.Filter{State: "dying"}); err == nil {
			t.Errorf("%s of a state that is none = %d", what, n)
		}
		if n, err := change(jobs.Filter{Func: "g"}); n != 0 || err != nil {
			t.Errorf("%s of nothing = %d, %v", what, n, err)
		}
	}
	for _, f := range []jobs.Filter{{State: "dying"}, {Limit: -1}, {Limit: jobs.MaxLimit + 1}, {Func: "\xff"}} {
		if got, err := t.q.List(t.ctx, f); err == nil {
			t.Errorf("List %+v = %v", f, got)
		}
	}
	t.one("f")
}

func cancel(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Unique: "u", Arg: []byte("1")}, jobs.Job{Func: "f", Arg: []byte("2"), RunAfter: t.clock.now().Add(time.Hour)},
		jobs.Job{Func: "f", Arg: []byte("3")}, jobs.Job{Func: "g"})
	n, err := t.q.Cancel(t.ctx, jobs.Filter{Func: "f", Limit: 2})
	t.ok(err)
	t.equal("cancelled", n, 2)
	t.equal("left", args(t.grab(10, "f")), "3")
	t.equal("records", recordArgs(t.list(jobs.Filter{State: jobs.StateCancelled})), "1 2")
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f", Running: 1, Done: 2})
	if t.insert(jobs.Job{Func: "f", Unique: "u"})[0] == 0 {
		t.Error("the key of a cancelled job is not free")
	}
	n, err = t.q.Cancel(t.ctx, jobs.Filter{State: jobs.StateCancelled})
	t.ok(err)
	t.equal("cancelled already", n, 0)
	t.equal("g", len(t.grab(10, "g")), 1)
}

func cancelRunning(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Unique: "u", Arg: []byte("x")})
	j := t.one("f")
	j.Progress = jobs.Progress{Done: 5, Total: 9}
	j = t.renew(j)[0]
	n, err := t.q.Cancel(t.ctx, jobs.Filter{State: jobs.StateRunning})
	t.ok(err)
	t.equal("cancelled", n, 1)
	t.equal("lost", len(t.renew(j)), 0)
	t.finish(jobs.Result{Job: j, Verdict: jobs.Done, Replace: named("g", "no")})
	t.retry(j, 0, "late")
	t.none("f", "g")
	r := t.show(j.ID)
	t.equal("state", r.State, jobs.StateCancelled)
	t.equal("progress", r.Progress, jobs.Progress{Done: 5, Total: 9})
	t.equal("errors", len(r.Errors), 0)
}

func revive(t *queueTest) {
	ids := everyState(t)
	t.clock.add(time.Second)
	n, err := t.q.Revive(t.ctx, jobs.Filter{Func: "f"})
	t.ok(err)
	t.equal("revived", n, 4)
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f", Ready: 5, Running: 1})
	got := t.grab(10, "f")
	t.equal("order of those that waited longer", args(got[:1]), "ready")
	for _, j := range got[1:] {
		if arg := string(j.Arg); arg == "delayed" {
			t.equal("a delayed one is itself", j.ID, ids[jobs.StateDelayed])
			t.equal("with its failures", j.Failures, 1)
		} else {
			if j.ID <= ids[jobs.StateReady] || j.Failures != 0 || !j.InsertTime.Equal(t.clock.now()) {
				t.Errorf("revived %s: %+v; want a new job", arg, j)
			}
			if _, err := t.q.Show(t.ctx, ids[jobs.State(arg)]); !errors.Is(err, jobs.ErrNotFound) {
				t.Errorf("the record of the %s job that was revived: %v", arg, err)
			}
			t.equal("no errors", len(t.show(j.ID).Errors), 0)
		}
	}
}

func reviveFolded(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Unique: "u", Arg: []byte("old"), Key: "k", Coalesce: "c", Priority: 2})
	t.dead(t.one("f"), "x")
	t.insert(jobs.Job{Func: "f", Unique: "u", Arg: []byte("new")})
	n, err := t.q.Revive(t.ctx, jobs.Filter{Unique: "u"})
	t.ok(err)
	t.equal("revived", n, 1)
	t.equal("waits", args(t.grab(10, "f")), "new")
	t.equal("no record", t.stats("f"), jobs.FuncStats{Func: "f", Running: 1})

	t.insert(jobs.Job{Func: "g", Unique: "u", Arg: []byte("x"), Key: "k", Coalesce: "c", Priority: 2})
	old := t.one("g")
	t.dead(old, "x")
	_, err = t.q.Revive(t.ctx, jobs.Filter{IDs: []jobs.ID{old.ID}})
	t.ok(err)
	j := t.one("g")
	j.ID = old.ID
	t.equal("as it was", j, old)
}

func deleteJobs(t *queueTest) {
	ids := everyState(t)
	n, err := t.q.Delete(t.ctx, jobs.Filter{Func: "f"})
	t.ok(err)
	t.equal("deleted", n, 5)
	t.equal("left", recordArgs(t.list(jobs.Filter{})), "running")
	if _, err := t.q.Show(t.ctx, ids[jobs.StateDead]); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("Show of what was deleted = %v", err)
	}
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f", Running: 1})
	t.insert(jobs.Job{Func: "f", Unique: "u"})
	_, err = t.q.Delete(t.ctx, jobs.Filter{Unique: "u"})
	t.ok(err)
	if t.insert(jobs.Job{Func: "f", Unique: "u"})[0] == 0 {
		t.Error("the key of a deleted job is not free")
	}
}

func retention(t *queueTest) {
	t.control("f", func(c *jobs.Control) { c.KeepDone, c.KeepDead = time.Hour, 3*time.Hour })
	t.insert(named("f", "done", "dead", "cancelled")...)
	got := t.grab(2, "f")
	t.done(got[0])
	t.dead(got[1], "x")
	_, err := t.q.Cancel(t.ctx, jobs.Filter{State: jobs.StateReady})
	t.ok(err)
	t.insert(named("g", "dead by default", "done is not kept")...)
	got = t.grab(2, "g")
	t.dead(got[0], "x")
	t.done(got[1])
	for _, step := range []struct {
		wait time.Duration
		left string
	}{
		{0, "done dead cancelled dead by default"},
		{59 * time.Minute, "done dead cancelled dead by default"},
		{2 * time.Minute, "dead cancelled dead by default"},
		{118 * time.Minute, "dead cancelled dead by default"},
		{2 * time.Minute, "dead by default"},
		{6 * 24 * time.Hour, "dead by default"},
		{366 * 24 * time.Hour, ""},
	} {
		t.clock.add(step.wait)
		t.tend()
		t.equal("records", recordArgs(t.list(jobs.Filter{})), step.left)
	}
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f"})
}
