package jobstest

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"time"

	"wheelhouse/jobs"
)

var queueTests = []test{
	{"InsertGrab", insertGrab},
	{"Order", order},
	{"Floor", floor},
	{"Functions", functions},
	{"Shares", shares},
	{"RunAfter", runAfter},
	{"Coalesce", coalesce},
	{"ByID", byID},
	{"Lease", lease},
	{"Renew", renew},
	{"RenewProgress", renewProgress},
	{"Unique", unique},
	{"UniqueBytes", uniqueBytes},
	{"Invalid", invalid},
	{"InvalidGrab", invalidGrab},
	{"Large", large},
	{"Notify", notify},
}

func insertGrab(t *queueTest) {
	t.none("f")
	now := t.clock.now()
	want := jobs.Job{Func: "f", Arg: []byte("\x00arg\xff"), Unique: "u", Coalesce: "c", Key: "k ü", Priority: -3}
	given := want
	given.ID, given.Failures, given.GrabbedUntil, given.Progress = 77, 5, now, jobs.Progress{Done: 1} // none of the caller's business
	want.ID = t.insert(given)[0]
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
		jobs.Job{Func: "f", Arg: []byte("least"), Priority: math.MinInt16}, jobs.Job{Func: "f", Arg: []byte("most"), Priority: math.MaxInt16},
		jobs.Job{Func: "f", Arg: []byte("due"), RunAfter: t.clock.now().Add(-time.Hour)},
		jobs.Job{Func: "f", Arg: []byte("higher, later"), Priority: 9, RunAfter: t.clock.now().Add(time.Hour)})
	t.equal("first three", args(t.grab(3, "f")), "most high due")
	t.equal("rest", args(t.grab(9, "f")), "1 2 low least")
}

func floor(t *queueTest) {
	for _, p := range []int{0, 5, -5, 9} {
		t.insert(jobs.Job{Func: "f", Arg: fmt.Append(nil, p), Priority: p})
	}
	at := func(n int) string {
		return args(t.request(jobs.GrabRequest{Funcs: []string{"f"}, N: 10, Floor: &n}))
	}
	t.equal("above all", at(10), "")
	t.equal("floor 5", at(5), "9 5")
	t.equal("floor 1", at(1), "")
	t.equal("floor 0", at(0), "0")
	t.equal("no floor", args(t.grab(10, "f")), "-5")
	low := t.insert(jobs.Job{Func: "f", Coalesce: "c", Priority: -1})[0]
	zero := 0
	for what, r := range map[string]jobs.GrabRequest{"group": {Coalesce: "c"}, "prefix": {Coalesce: "c", CoalescePrefix: true}, "id": {IDs: []jobs.ID{low}}} {
		r.Funcs, r.N, r.Floor = []string{"f"}, 10, &zero
		t.equal(what+" below the floor", len(t.request(r)), 0)
	}
}

func functions(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Arg: []byte("f")}, jobs.Job{Func: "g", Arg: []byte("g")}, jobs.Job{Func: "h", Arg: []byte("h")})
	t.none()
	t.none("other")
	t.equal("N 0", len(t.grab(0, "f")), 0)
	t.equal("N -1", len(t.grab(-1, "f")), 0)
	t.equal("f, g", len(t.grab(10, "f", "g", "other", "f")), 2)
	t.equal("h", args(t.grab(10, "h")), "h")
}

func shares(t *queueTest) {
	count := func(list []jobs.Job, fn string) (n int) {
		for _, j := range list {
			if j.Func == fn {
				n++
			}
		}
		return n
	}
	for range 10 {
		t.insert(jobs.Job{Func: "f"}, jobs.Job{Func: "g"})
	}
	got := t.grab(6, "f", "g", "empty")
	t.equal("fair", []int{count(got, "f"), count(got, "g")}, []int{3, 3})
	t.insert(jobs.Job{Func: "few"})
	got = t.grab(6, "f", "few")
	t.equal("left to others", []int{count(got, "f"), count(got, "few")}, []int{5, 1})
	t.insert(jobs.Job{Func: "few"})
	got = t.grab(9, "few", "g")
	t.equal("all there are", []int{count(got, "few"), count(got, "g")}, []int{1, 7})
	t.insert(jobs.Job{Func: "f"}, jobs.Job{Func: "few"}, jobs.Job{Func: "g"})
	t.equal("the first, if not all can be served", count(t.grab(1, "few", "g", "f"), "few"), 1)
}

func runAfter(t *queueTest) {
	t.insert(jobs.Job{Func: "f", RunAfter: t.clock.now().Add(2 * time.Minute)},
		jobs.Job{Func: "f", RunAfter: time.Date(2106, 1, 1, 0, 0, 0, 0, time.UTC)})
	t.none("f")
	t.clock.add(2*time.Minute - time.Second)
	t.none("f")
	t.clock.add(time.Second)
	t.one("f")
}

func coalesce(t *queueTest) {
	for _, c := range []string{"a", "a", "ab", "a%b", "a_b", "axb", "%", "b", "", "A", "a*", `a\b`} {
		t.insert(jobs.Job{Func: "f", Arg: []byte(c), Coalesce: c})
	}
	t.insert(jobs.Job{Func: "g", Arg: []byte("g"), Coalesce: "a"})
	grab := func(value string, prefix bool) string {
		return args(t.request(jobs.GrabRequest{Funcs: []string{"f"}, N: 100, Coalesce: value, CoalescePrefix: prefix}))
	}
	t.equal("%", grab("%", false), "%")
	t.equal("a%", grab("a%", true), "a%b")
	t.equal("a_", grab("a_", true), "a_b")
	t.equal("a*", grab("a*", true), "a*")
	t.equal(`a\`, grab(`a\`, true), `a\b`)
	t.equal("value a", grab("a", false), "a a")
	t.equal("prefix a", grab("a", true), "ab axb")
	t.equal("nothing wanted", grab("", true), "b  A")
	t.equal("g", args(t.request(jobs.GrabRequest{Funcs: []string{"f", "g"}, N: 9, Coalesce: "a"})), "g")
}

func byID(t *queueTest) {
	ids := t.insert(named("f", "0", "1", "2", "3")...)
	later := t.insert(jobs.Job{Func: "f", RunAfter: t.clock.now().Add(time.Hour)})[0]
	other := t.insert(jobs.Job{Func: "g"})[0]
	grab := func(n int, ids ...jobs.ID) string {
		return args(t.request(jobs.GrabRequest{Funcs: []string{"f"}, N: n, IDs: ids}))
	}
	t.equal("two", grab(10, ids[3], ids[1], ids[1]), "1 3")
	t.equal("held, not due, of another function, unknown", grab(10, ids[1], later, other, 999999), "")
	t.equal("at most one", grab(1, ids[2], ids[0]), "0")
	t.equal("left", grab(1, ids[2], ids[0]), "2")
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

func (t *queueTest) renew(list ...jobs.Job) []jobs.Job {
	t.Helper()
	kept, err := t.q.Renew(t.ctx, list, time.Minute)
	t.ok(err)
	return kept
}

func renew(t *queueTest) {
	t.insert(jobs.Job{Func: "f", Arg: []byte("x"), Key: "k", Coalesce: "c", Unique: "u"})
	j := t.one("f")
	for range 5 {
		t.clock.add(40 * time.Second)
		t.none("f")
		want := j
		want.GrabbedUntil = t.clock.now().Add(time.Minute)
		t.equal("kept", t.renew(j, jobs.Job{ID: 999, Func: "f", GrabbedUntil: j.GrabbedUntil}), []jobs.Job{want})
		j = want
	}
	t.clock.add(2 * time.Minute) // run out, but nobody has taken it
	kept := t.renew(j)
	t.equal("late", len(kept), 1)
	t.none("f")
	t.clock.add(time.Minute)
	other := t.one("f")
	t.equal("lost", len(t.renew(kept...)), 0)
	t.equal("kept", len(t.renew(other)), 1)
	t.equal("none", len(t.renew()), 0)
	if _, err := t.q.Renew(t.ctx, []jobs.Job{other}, 0); err == nil {
		t.Error("a lease of nothing was taken")
	}
}

func renewProgress(t *queueTest) {
	id := t.insert(jobs.Job{Func: "f"})[0]
	j := t.one("f")
	j.Progress = jobs.Progress{Done: 3, Total: 1 << 40, Note: strings.Repeat("ü", 1000)}
	j = t.renew(j)[0]
	want := jobs.Progress{Done: 3, Total: 1 << 40, Note: strings.Repeat("ü", 127)}
	t.equal("shown", t.show(id).Progress, want)
	j.Progress = jobs.Progress{Done: 4, Note: "bad \xff\x00 text"}
	j = t.renew(j)[0]
	want = jobs.Progress{Done: 4, Note: "bad ?? text"}
	t.equal("listed", t.list(jobs.Filter{Func: "f"})[0].Progress, want)
	t.retry(j, 0, "x")
	t.equal("kept after a failure", t.show(id).Progress, want)
	t.equal("until it is grabbed anew", t.one("f").Progress, jobs.Progress{})
	t.equal("until it is grabbed anew", t.show(id).Progress, jobs.Progress{})
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
	t.done(got...)
	if id := t.insert(jobs.Job{Func: "f", Unique: "u"})[0]; id == 0 {
		t.Error("the key of a completed job is not free")
	}
}

// uniqueBytes: names and keys are compared byte by byte, whatever databases think of letters and blanks.
func uniqueBytes(t *queueTest) {
	keys := []string{"u", "U", "u ", " u", "ü", "u\u0308", "ß", "ss", strings.Repeat("k", jobs.MaxUnique), strings.Repeat("ü", 127)}
	for _, k := range keys {
		if t.insert(jobs.Job{Func: "f", Unique: k, Key: k, Coalesce: k})[0] == 0 {
			t.Errorf("%q was folded into another key", k)
		}
	}
	for _, k := range keys {
		got := t.request(jobs.GrabRequest{Funcs: []string{"f"}, N: 10, Coalesce: k})
		if len(got) != 1 || got[0].Unique != k || got[0].Key != k || got[0].Coalesce != k {
			t.Errorf("%q: grabbed %+v", k, got)
		}
	}
	for _, fn := range []string{"x", "X", "x ", strings.Repeat("x", jobs.MaxFunc)} {
		t.insert(jobs.Job{Func: fn, Arg: []byte(fn)})
		t.equal(fn, args(t.grab(10, fn)), fn)
	}
}

func invalid(t *queueTest) {
	for what, j := range map[string]jobs.Job{
		"no function":   {},
		"long function": {Func: strings.Repeat("f", jobs.MaxFunc+1)},
		"NUL":           {Func: "f\x00"},
		"not UTF-8":     {Func: "f", Unique: "\xff"},
		"long key":      {Func: "f", Unique: strings.Repeat("u", jobs.MaxUnique+1)},
		"long group":    {Func: "f", Coalesce: strings.Repeat("u", jobs.MaxUnique+1)},
		"long Key":      {Func: "f", Key: strings.Repeat("u", jobs.MaxUnique+1)},
		"priority":      {Func: "f", Priority: 1 << 15},
		"long argument": {Func: "f", Arg: make([]byte, jobs.MaxArg+1)},
		"too late":      {Func: "f", RunAfter: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)},
		"too early":     {Func: "f", RunAfter: time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if ids, err := t.q.Insert(t.ctx, []jobs.Job{{Func: "f"}, j}); err == nil {
			t.Errorf("%s: Insert = %v", what, ids)
		}
	}
	t.none("f") // all or none
	t.insert(jobs.Job{Func: "f"})
	j := t.one("f")
	if err := t.q.Finish(t.ctx, []jobs.Result{{Job: j, Verdict: jobs.Done, Replace: []jobs.Job{{Func: "g"}, {}}}}); err == nil {
		t.Error("an invalid replacement was taken")
	}
	if err := t.q.Finish(t.ctx, []jobs.Result{{Job: j}}); err == nil {
		t.Error("a result without a verdict was taken")
	}
	t.equal("still held", len(t.renew(j)), 1)
	t.none("g")
}

func invalidGrab(t *queueTest) {
	t.insert(jobs.Job{Func: "f"})
	for what, r := range map[string]jobs.GrabRequest{
		"no lease":       {},
		"negative lease": {Lease: -time.Second},
		"endless lease":  {Lease: 2 * jobs.MaxLease},
		"long owner":     {Lease: time.Minute, Owner: strings.Repeat("o", jobs.MaxUnique+1)},
	} {
		r.Funcs, r.N = []string{"f"}, 1
		if got, err := t.q.Grab(t.ctx, r); err == nil {
			t.Errorf("%s: Grab = %v", what, got)
		}
	}
	t.one("f")
}

func large(t *queueTest) {
	arg := bytes.Repeat([]byte("0123456789abcdef"), jobs.MaxArg/16)
	t.insert(jobs.Job{Func: "f", Arg: arg})
	j := t.one("f")
	if !bytes.Equal(j.Arg, arg) {
		t.Fatalf("the argument of %d bytes came back as %d bytes", len(arg), len(j.Arg))
	}
	t.dead(j, "too large for me")
	if r := t.show(j.ID); !bytes.Equal(r.Arg, arg) {
		t.Fatalf("the dead letter's argument of %d bytes came back as %d bytes", len(arg), len(r.Arg))
	}
}

func notify(t *queueTest) {
	ready, stop := t.q.Notify()
	second, stopSecond := t.q.Notify()
	if len(ready) != 0 {
		t.Error("told of nothing")
	}
	t.insert(jobs.Job{Func: "f"}, jobs.Job{Func: "f"})
	t.heard("inserted", ready)
	t.heard("inserted, second", second)
	stopSecond()
	stopSecond()
	for len(second) > 0 {
		<-second
	}
	got := t.grab(2, "f")
	t.finish(jobs.Result{Job: got[0], Verdict: jobs.Returned})
	t.heard("given back", ready)
	t.retry(t.one("f"), 0, "x")
	t.heard("to be tried again at once", ready)
	t.finish(jobs.Result{Job: got[1], Verdict: jobs.Done, Replace: named("g", "x")})
	t.heard("replaced", ready)
	j := t.one("f")
	t.dead(j, "x")
	_, err := t.q.Revive(t.ctx, jobs.Filter{Func: "f"})
	t.ok(err)
	t.heard("revived", ready)
	t.control("g", func(c *jobs.Control) { c.Paused = true })
	t.control("g", func(c *jobs.Control) { c.Paused = false })
	t.heard("resumed", ready)
	if len(second) != 0 {
		t.Error("told after stop")
	}
	stop()
}
