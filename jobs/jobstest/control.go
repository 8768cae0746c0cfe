package jobstest

import (
	"fmt"
	"strings"
	"time"

	"wheelhouse/jobs"
)

var controlTests = []test{
	{"Controls", controls},
	{"Pause", pause},
	{"MaxRunning", maxRunning},
	{"MaxRunningPerKey", maxRunningPerKey},
	{"PerKeyOrder", perKeyOrder},
	{"Rate", rate},
	{"RatePerKey", ratePerKey},
	{"LimitsTogether", limitsTogether},
	{"LimitsOfChosen", limitsOfChosen},
}

func controls(t *queueTest) {
	read := func() []jobs.Control {
		t.Helper()
		list, err := t.q.Controls(t.ctx)
		t.ok(err)
		return list
	}
	t.equal("none", len(read()), 0)
	f := jobs.Control{
		Func: "f", Paused: true, MaxRunning: 5, MaxRunningPerKey: 2, Rate: jobs.Rate{N: 10, Per: time.Minute},
		RatePerKey: jobs.Rate{N: 3, Per: time.Hour}, KeepDone: time.Minute, KeepDead: time.Hour,
	}
	t.control("f", func(c *jobs.Control) {
		t.equal("given", *c, jobs.Control{Func: "f"})
		*c = f
		c.Func = "other"
	})
	t.control("a", func(c *jobs.Control) { c.MaxRunning = 1 })
	t.equal("two", read(), []jobs.Control{{Func: "a", MaxRunning: 1}, f})
	t.control("f", func(c *jobs.Control) { t.equal("given", *c, f); c.Paused = false })
	f.Paused = false
	t.control("a", func(c *jobs.Control) { c.MaxRunning = 0 })
	t.equal("one", read(), []jobs.Control{f})
	for what, bad := range map[string]jobs.Control{
		"negative":      {MaxRunning: -1},
		"negative keep": {KeepDead: -time.Second},
		"no time":       {Rate: jobs.Rate{N: 5}},
		"no number":     {RatePerKey: jobs.Rate{Per: time.Minute}},
	} {
		if err := t.q.SetControl(t.ctx, "f", func(c *jobs.Control) { *c = bad }); err == nil {
			t.Errorf("%s: was taken", what)
		}
	}
	if err := t.q.SetControl(t.ctx, "", func(c *jobs.Control) { c.Paused = true }); err == nil {
		t.Error("a function without a name was taken")
	}
	t.equal("as it was", read(), []jobs.Control{f})
	t.equal("seen by others", func() jobs.Control { l, err := t.other().Controls(t.ctx); t.ok(err); return l[0] }(), f)
}

func pause(t *queueTest) {
	other := t.other()
	t.insert(named("f", "1", "2")...)
	t.insert(named("g", "g")...)
	j := t.grab(1, "f")[0]
	t.ok(other.SetControl(t.ctx, "f", func(c *jobs.Control) { c.Paused = true }))
	t.none("f")
	t.equal("others are not", args(t.grab(10, "f", "g")), "g")
	t.equal("not by id either", len(t.request(jobs.GrabRequest{Funcs: []string{"f"}, N: 9, IDs: []jobs.ID{j.ID, j.ID + 1}})), 0)
	t.equal("what runs goes on", len(t.renew(j)), 1)
	t.done(j)
	t.insert(named("f", "3")...)
	t.none("f")
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f", Ready: 2})
	t.ok(other.SetControl(t.ctx, "f", func(c *jobs.Control) { c.Paused = false }))
	t.equal("resumed", args(t.grab(10, "f")), "2 3")
}

func maxRunning(t *queueTest) {
	t.insert(named("f", "1", "2", "3", "4", "5", "6", "7", "8")...)
	t.control("f", func(c *jobs.Control) { c.MaxRunning = 3 })
	ready, stop := t.q.Notify()
	defer stop()
	got := t.grab(2, "f")
	got = append(got, t.grab(10, "f")...)
	t.equal("at most", args(got), "1 2 3")
	t.none("f")
	t.done(got[0])
	t.heard("room", ready)
	t.equal("one more", args(t.grab(10, "f")), "4")
	t.retry(got[1], time.Hour, "x")
	t.equal("one more", args(t.grab(10, "f")), "5")
	t.clock.add(time.Minute) // all leases end, and those jobs come first
	t.equal("again", args(t.grab(10, "f")), "3 4 5")
	t.control("f", func(c *jobs.Control) { c.MaxRunning = 0 })
	t.equal("no limit", args(t.grab(10, "f")), "6 7 8")
	t.control("f", func(c *jobs.Control) { c.MaxRunning = 1 })
	t.insert(named("f", "9")...)
	t.none("f") // more run than may
}

func maxRunningPerKey(t *queueTest) {
	keyed := func(key string, n int) {
		for i := range n {
			t.insert(jobs.Job{Func: "f", Key: key, Arg: fmt.Appendf(nil, "%s%d", key, i)})
		}
	}
	keyed("a", 5)
	keyed("", 3)
	keyed("b", 1)
	t.control("f", func(c *jobs.Control) { c.MaxRunningPerKey = 2 })
	got := t.grab(100, "f")
	t.equal("two each", args(got), "a0 a1 0 1 b0")
	t.none("f")
	t.done(got[0], got[2])
	t.equal("one each", args(t.grab(100, "f")), "a2 2")
	t.clock.add(time.Minute)
	t.equal("after the leases", args(t.grab(3, "f")), "a1 a2 1")
}

// perKeyOrder: a key with very many jobs does not hide those of others behind them.
func perKeyOrder(t *queueTest) {
	var list []jobs.Job
	for i := range 3000 {
		list = append(list, jobs.Job{Func: "f", Key: "busy", Arg: fmt.Append(nil, i), Priority: 5})
	}
	list = append(list, jobs.Job{Func: "f", Key: "small", Arg: []byte("x")})
	t.insert(list...)
	t.control("f", func(c *jobs.Control) { c.MaxRunningPerKey = 1 })
	t.equal("both", args(t.grab(10, "f")), "0 x")
	t.none("f")
	t.insert(jobs.Job{Func: "f", Key: "new", Arg: []byte("y")})
	t.equal("new", args(t.grab(10, "f")), "y")
}

func rate(t *queueTest) {
	for range 100 {
		t.insert(jobs.Job{Func: "f"})
	}
	t.control("f", func(c *jobs.Control) { c.Rate = jobs.Rate{N: 6, Per: time.Minute} })
	for i, step := range []struct {
		wait time.Duration
		n    int
	}{{0, 6}, {0, 0}, {9 * time.Second, 0}, {time.Second, 1}, {0, 0}, {30 * time.Second, 3}, {25 * time.Second, 2}, {5 * time.Second, 1}, {time.Hour, 6}, {time.Minute, 6}} {
		t.clock.add(step.wait)
		got := t.grab(20, "f")
		t.equal(fmt.Sprintf("begun in step %d, after %s", i, step.wait), len(got), step.n)
		t.done(got...)
	}
	t.clock.add(time.Hour)
	t.equal("a few", len(t.grab(2, "f")), 2)
	t.equal("the rest of the bucket", len(t.grab(20, "f")), 4)
	t.control("f", func(c *jobs.Control) { c.Rate = jobs.Rate{} })
	t.equal("no limit", len(t.grab(20, "f")), 20)
}

func ratePerKey(t *queueTest) {
	for i := range 20 {
		t.insert(jobs.Job{Func: "f", Key: "a", Arg: fmt.Append(nil, i)})
	}
	t.insert(jobs.Job{Func: "f", Key: "b", Arg: []byte("b")})
	t.control("f", func(c *jobs.Control) { c.RatePerKey = jobs.Rate{N: 2, Per: 10 * time.Second} })
	begin := func(want string) {
		t.Helper()
		got := t.grab(100, "f")
		t.equal("begun", args(got), want)
		t.done(got...)
		t.tend() // which may forget buckets that are full, and no others
	}
	begin("0 1 b")
	begin("")
	t.insert(jobs.Job{Func: "f", Key: "b", Arg: []byte("b2")}, jobs.Job{Func: "f", Key: "b", Arg: []byte("b3")})
	begin("b2")
	t.clock.add(5 * time.Second)
	begin("2 b3")
	t.clock.add(time.Hour)
	begin("3 4")
}

func limitsTogether(t *queueTest) {
	for i := range 12 {
		t.insert(jobs.Job{Func: "f", Key: string("abc"[i%3]), Arg: fmt.Appendf(nil, "%c%d", "abc"[i%3], i/3)})
	}
	t.insert(named("g", "g")...)
	t.control("f", func(c *jobs.Control) {
		c.MaxRunning, c.MaxRunningPerKey, c.Rate = 5, 2, jobs.Rate{N: 4, Per: time.Minute}
	})
	got := t.grab(100, "f", "g")
	if s := args(got); !strings.Contains(s, "a0 b0 c0 a1") || !strings.Contains(s, "g") || len(got) != 5 {
		t.Errorf("Grab = %q; want a0 b0 c0 a1 by the rate, and g", s)
	}
	t.clock.add(30 * time.Second)
	t.equal("by the number", args(t.grab(100, "f")), "b1")
	t.none("f")
}

func limitsOfChosen(t *queueTest) {
	for i := range 6 {
		t.insert(jobs.Job{Func: "f", Key: string("ab"[i%2]), Coalesce: "c", Arg: fmt.Append(nil, i)})
	}
	t.control("f", func(c *jobs.Control) { c.MaxRunningPerKey, c.MaxRunning = 1, 2 })
	t.equal("by group", args(t.request(jobs.GrabRequest{Funcs: []string{"f"}, N: 10, Coalesce: "c"})), "0 1")
	t.equal("no more", len(t.request(jobs.GrabRequest{Funcs: []string{"f"}, N: 10, Coalesce: "c", CoalescePrefix: true})), 0)
}
