package jobstest

import (
	"errors"
	"strings"
	"sync"
	"time"

	"wheelhouse/jobs"
)

var periodicTests = []test{
	{"Periodic", periodic},
	{"PeriodicZone", periodicZone},
	{"PeriodicMissed", periodicMissed},
	{"PeriodicPiles", periodicPiles},
	{"PeriodicErrors", periodicErrors},
	{"PeriodicOnce", periodicOnce},
}

func (t *queueTest) schedule(list ...jobs.Periodic) {
	t.Helper()
	t.ok(t.q.Schedule(t.ctx, list))
}

func (t *queueTest) periodics() []jobs.Periodic {
	t.Helper()
	list, err := t.q.Periodics(t.ctx)
	t.ok(err)
	return list
}

func periodic(t *queueTest) {
	t.equal("nothing to tend", t.tend(), time.Time{})
	start := t.clock.now() // noon
	h := jobs.Periodic{Name: "hourly", Spec: "0 * * * *", Func: "f", Arg: []byte("h\x00"), Priority: 3, Key: "k"}
	m := jobs.Periodic{Name: "A", Spec: "@every 10m", Func: "f", Arg: []byte("m")}
	t.schedule(h, m)
	h.Next, m.Next = start.Add(time.Hour), start.Add(10*time.Minute)
	t.equal("listed", t.periodics(), []jobs.Periodic{m, h})
	t.equal("next", t.tend(), m.Next)
	t.none("f")
	t.clock.add(10 * time.Minute)
	m.Last, m.Next = start.Add(10*time.Minute), start.Add(20*time.Minute)
	t.equal("next", t.tend(), m.Next)
	t.equal("next", t.tend(), m.Next)
	j := t.one("f")
	t.equal("job", []string{string(j.Arg), j.Unique}, []string{"m", "A"})
	t.done(j)
	t.schedule(m, h) // as a process does that starts
	t.equal("keep their times", t.periodics(), []jobs.Periodic{m, h})
	t.ok(t.q.Unschedule(t.ctx, "A"))
	t.equal("next", t.tend(), h.Next)
	t.clock.add(50 * time.Minute)
	h.Last, h.Next = start.Add(time.Hour), start.Add(2*time.Hour)
	t.equal("next", t.tend(), h.Next)
	j = t.one("f")
	t.equal("job", []any{string(j.Arg), j.Priority, j.Key}, []any{"h\x00", 3, "k"})
	h.Spec, h.Arg = "30 13 * * *", []byte("changed")
	t.schedule(h)
	h.Next = start.Add(90 * time.Minute)
	t.equal("changed", t.periodics(), []jobs.Periodic{h})
	if err := t.q.Unschedule(t.ctx, "A"); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("Unschedule of nothing = %v; want %v", err, jobs.ErrNotFound)
	}
}

func periodicZone(t *queueTest) {
	t.schedule(jobs.Periodic{Name: "p", Spec: "0 9 * * *", Zone: "Asia/Tokyo", Func: "f"})
	want := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	t.equal("next", t.tend(), want)
	t.schedule(jobs.Periodic{Name: "p", Spec: "0 9 * * *", Zone: "Europe/Berlin", Func: "f"})
	t.equal("next", t.tend(), want.Add(8*time.Hour))
}

// periodicMissed: when nobody was there for a while it comes once, and goes on as it should. A process that starts then, and
// schedules what it always does, does not put it off.
func periodicMissed(t *queueTest) {
	start := t.clock.now()
	p := jobs.Periodic{Name: "p", Spec: "*/10 * * * *", Func: "f"}
	t.schedule(p)
	t.clock.add(25*time.Hour + 3*time.Minute)
	t.schedule(p)
	t.equal("next", t.tend(), start.Add(25*time.Hour+10*time.Minute))
	t.done(t.one("f"))
	t.none("f")
}

// periodicPiles: the jobs of one that takes too long do not pile up.
func periodicPiles(t *queueTest) {
	t.schedule(jobs.Periodic{Name: "p", Spec: "@every 10s", Func: "f"})
	for range 3 {
		t.clock.add(10 * time.Second)
		t.tend()
	}
	j := t.one("f")
	t.clock.add(10 * time.Second)
	t.tend()
	t.none("f")
	t.done(j)
	t.done(t.one("f"))
	t.none("f")
}

func periodicErrors(t *queueTest) {
	good := jobs.Periodic{Name: "good", Spec: "@daily", Func: "f"}
	for what, p := range map[string]jobs.Periodic{
		"no name":     {Spec: "@daily", Func: "f"},
		"long name":   {Name: strings.Repeat("n", jobs.MaxFunc+1), Spec: "@daily", Func: "f"},
		"no function": {Name: "p", Spec: "@daily"},
		"no spec":     {Name: "p", Func: "f"},
		"bad spec":    {Name: "p", Func: "f", Spec: "61 * * * *"},
		"bad zone":    {Name: "p", Func: "f", Spec: "@daily", Zone: "Mars/Olympus"},
		"priority":    {Name: "p", Func: "f", Spec: "@daily", Priority: 1 << 20},
	} {
		if err := t.q.Schedule(t.ctx, []jobs.Periodic{good, p}); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	t.equal("all or none", len(t.periodics()), 0)
}

// periodicOnce: of many that tend at the same time, one inserts.
func periodicOnce(t *queueTest) {
	t.schedule(jobs.Periodic{Name: "p", Spec: "@every 1m", Func: "f"})
	queues := [2]jobs.Backend{t.q, t.other()}
	for range 5 {
		t.clock.add(time.Minute)
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				if _, err := queues[i%2].Tend(t.ctx); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		j := t.one("f")
		t.done(j) // had a second one been folded into it, it would come again
		t.none("f")
	}
}
