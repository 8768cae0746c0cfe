package jobstest

import (
	"fmt"
	"strings"
	"time"

	"wheelhouse/jobs"
)

var finishTests = []test{
	{"Done", done},
	{"FinishLost", finishLost},
	{"FinishMixed", finishMixed},
	{"Retry", retry},
	{"Returned", returned},
	{"Dead", dead},
	{"Replace", replace},
	{"ReplaceLost", replaceLost},
	{"ReplaceUnique", replaceUnique},
	{"UniqueWhileRunning", uniqueWhileRunning},
	{"UniqueWhileFailing", uniqueWhileFailing},
}

func done(t *queueTest) {
	t.insert(jobs.Job{Func: "f"}, jobs.Job{Func: "f"}, jobs.Job{Func: "f"})
	got := t.grab(10, "f")
	t.done(got[:2]...)
	t.done(got[:2]...)
	t.done(got[0], got[0])
	t.done()
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f", Running: 1})
	t.clock.add(time.Hour)
	t.equal("left", t.one("f").ID, got[2].ID)
}

func finishLost(t *queueTest) {
	t.insert(jobs.Job{Func: "f"})
	lost := t.one("f")
	t.clock.add(2 * time.Minute)
	held := t.one("f")
	t.done(lost)
	t.retry(lost, 0, "late")
	t.dead(lost, "late")
	t.finish(jobs.Result{Job: lost, Verdict: jobs.Returned})
	t.none("f")
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f", Running: 1})
	t.equal("no error", len(t.show(held.ID).Errors), 0)
	t.done(held)
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f"})

	t.insert(jobs.Job{Func: "f"})
	late := t.one("f")
	t.clock.add(2 * time.Minute) // run out, but nobody has taken it
	t.done(late)
	t.none("f")
	t.insert(jobs.Job{Func: "f"})
	never := jobs.Job{ID: late.ID + 1, Func: "f"}
	t.done(never) // not grabbed: GrabbedUntil is zero
	t.one("f")
}

func finishMixed(t *queueTest) {
	t.insert(named("f", "done", "retry", "dead", "returned", "lost", "kept")...)
	got := t.grab(10, "f")
	lost := got[4]
	lost.GrabbedUntil = lost.GrabbedUntil.Add(-time.Second)
	t.finish(
		jobs.Result{Job: got[0], Verdict: jobs.Done, Replace: named("g", "new")},
		jobs.Result{Job: got[1], Verdict: jobs.Retry, After: time.Minute, Cause: "r"},
		jobs.Result{Job: got[2], Verdict: jobs.Dead, Cause: "d", Status: 7},
		jobs.Result{Job: got[3], Verdict: jobs.Returned},
		jobs.Result{Job: lost, Verdict: jobs.Done, Replace: named("g", "no")},
	)
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f", Ready: 1, Running: 2, Delayed: 1, Dead: 1})
	t.equal("replacement", args(t.grab(10, "g")), "new")
	t.equal("returned", args(t.grab(10, "f")), "returned")
}

func retry(t *queueTest) {
	id := t.insert(jobs.Job{Func: "f", Arg: []byte("x")})[0]
	start := t.clock.now()
	for n := range 3 {
		j := t.one("f")
		t.equal("failures", j.Failures, n)
		t.retry(j, 30*time.Second, strings.Repeat("ü", 1000)+fmt.Sprint(n))
		t.none("f")
		t.clock.add(29 * time.Second)
		t.none("f")
		t.clock.add(time.Second)
	}
	text := strings.Repeat("ü", 127)
	r := t.show(id)
	t.equal("error log", r.Errors, []jobs.Failure{{Time: start, Message: text}, {Time: start.Add(30 * time.Second), Message: text}, {Time: start.Add(time.Minute), Message: text}})
	t.equal("newest", r.LastErr, text)
	t.equal("failures shown", r.Failures, 3)
	j := t.one("f")
	t.equal("failures", j.Failures, 3)
	t.retry(j, 0, "\xff\x00")
	j = t.one("f")
	t.equal("what is not text", t.show(id).LastErr, "??")
	t.retry(j, -time.Hour, "negative")
	j = t.one("f")
	t.done(j)
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f"})
}

func returned(t *queueTest) {
	id := t.insert(jobs.Job{Func: "f"})[0]
	t.finish(jobs.Result{Job: t.one("f"), Verdict: jobs.Returned, After: time.Minute})
	t.none("f")
	t.clock.add(time.Minute)
	t.equal("failures", t.one("f").Failures, 0)
	t.clock.add(time.Hour)
	t.finish(jobs.Result{Job: t.one("f"), Verdict: jobs.Returned, Cause: "is not recorded"})
	t.equal("at once", t.one("f").Failures, 0)
	t.equal("no errors", len(t.show(id).Errors), 0)
}

func dead(t *queueTest) {
	id := t.insert(jobs.Job{Func: "f", Unique: "u", Arg: []byte("x"), Key: "k", Coalesce: "c", Priority: 3})[0]
	t.retry(t.one("f"), 0, "first")
	j := t.one("f")
	t.clock.add(10 * time.Second)
	t.finish(jobs.Result{Job: j, Verdict: jobs.Dead, Cause: "no use", Status: 17})
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f", Dead: 1})
	r := t.show(id)
	now := t.clock.now()
	j.Failures, r.GrabbedUntil, r.RunAfter = 2, j.GrabbedUntil, j.RunAfter
	t.equal("record", r, jobs.Record{
		Job: j, State: jobs.StateDead, Owner: "tester/1", Started: now.Add(-10 * time.Second), Finished: now, Status: 17, LastErr: "no use",
		Errors: []jobs.Failure{{Time: now.Add(-10 * time.Second), Message: "first"}, {Time: now, Message: "no use"}},
	})
	t.clock.add(time.Hour)
	t.none("f")
	again := t.insert(jobs.Job{Func: "f", Unique: "u"})[0]
	if again == 0 || again == id {
		t.Errorf("the key of a dead job is not free: id %d, then %d", id, again)
	}
	for _, s := range []int{-1, 0, 65536} {
		t.insert(jobs.Job{Func: "g"})
		j := t.one("g")
		t.finish(jobs.Result{Job: j, Verdict: jobs.Dead, Status: s})
		t.equal("status", t.show(j.ID).Status, 1)
	}
}

func replace(t *queueTest) {
	t.insert(jobs.Job{Func: "f"})
	j := t.one("f")
	t.clock.add(time.Second)
	t.finish(jobs.Result{Job: j, Verdict: jobs.Done, Replace: append(named("g", "1", "2"), jobs.Job{Func: "f", Arg: []byte("3"), RunAfter: t.clock.now().Add(time.Minute)})})
	t.equal("g", args(t.grab(10, "g")), "1 2")
	t.none("f")
	t.clock.add(time.Minute)
	t.equal("f", args(t.grab(10, "f")), "3")
}

func replaceLost(t *queueTest) {
	t.insert(jobs.Job{Func: "f"})
	lost := t.one("f")
	t.clock.add(2 * time.Minute)
	held := t.one("f")
	t.finish(jobs.Result{Job: lost, Verdict: jobs.Done, Replace: named("g", "lost")})
	t.none("g")
	t.finish(jobs.Result{Job: held, Verdict: jobs.Done, Replace: named("g", "held")})
	t.finish(jobs.Result{Job: held, Verdict: jobs.Done, Replace: named("g", "twice")})
	t.equal("g", args(t.grab(10, "g")), "held")
}

// replaceUnique: a job may be replaced by one with its own key.
func replaceUnique(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Unique: "u", Arg: []byte("1")})
	j := t.one("f")
	t.finish(jobs.Result{Job: j, Verdict: jobs.Done, Replace: []jobs.Job{{Func: "f", Unique: "u", Arg: []byte("2")}}})
	next := t.one("f")
	t.equal("replacement", string(next.Arg), "2")
	t.insert(jobs.Job{Func: "f", Unique: "u"}) // wants it once more
	t.finish(jobs.Result{Job: next, Verdict: jobs.Done, Replace: []jobs.Job{{Func: "f", Unique: "u", Arg: []byte("3")}}})
	t.equal("folded into the one that waits again", args(t.grab(10, "f")), "2")
}

func uniqueWhileRunning(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Unique: "u"})
	j := t.one("f")
	t.equal("folded", t.insert(jobs.Job{Func: "f", Unique: "u"})[0], jobs.ID(0))
	t.equal("folded", t.insert(jobs.Job{Func: "f", Unique: "u"})[0], jobs.ID(0))
	t.none("f") // not two at a time
	t.clock.add(30 * time.Second)
	kept := t.renew(j)
	t.equal("kept", len(kept), 1)
	t.done(kept...)
	again := t.one("f") // once more, as what was asked for meanwhile may have been missed
	t.done(again)
	t.none("f")
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f"})

	t.insert(jobs.Job{Func: "f", Unique: "v"})
	first := t.one("f")
	t.insert(jobs.Job{Func: "f", Unique: "v"})
	t.clock.add(2 * time.Minute) // its worker is gone; another grabs it, after what was asked for
	second := t.one("f")
	t.equal("the same", second.ID, first.ID)
	t.done(second)
	t.none("f")
}

func uniqueWhileFailing(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Unique: "u"})
	j := t.one("f")
	t.insert(jobs.Job{Func: "f", Unique: "u"})
	t.dead(j, "no use")
	again := t.one("f")
	t.equal("failures", again.Failures, 0)
	t.equal("waits instead", t.stats("f"), jobs.FuncStats{Func: "f", Running: 1})
	t.retry(again, time.Minute, "x")
	t.insert(jobs.Job{Func: "f", Unique: "u"})
	t.none("f") // a waiting one is not hurried
	t.clock.add(time.Minute)
	j = t.one("f")
	t.insert(jobs.Job{Func: "f", Unique: "u"})
	t.retry(j, 0, "x") // which runs after what was asked for
	j = t.one("f")
	t.equal("failures", j.Failures, 2)
	t.done(j)
	t.none("f")
}
