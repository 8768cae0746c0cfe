package storetest

import (
	"time"

	"wheelhouse/store"
)

// report reports one storage, and returns what that has changed.
func (t *catalogTest) report(reporter string, s store.StorageID, reason string) []store.HealthChange {
	t.Helper()
	changes, err := t.Catalog.ReportHealth(t.ctx, reporter, []store.StorageHealth{{Storage: s, OK: reason == "", Reason: reason}})
	t.ok(err)
	return changes
}

// state is a storage as the topology has it.
func (t *catalogTest) state(id store.StorageID) store.Storage {
	t.Helper()
	for _, s := range t.topology().Storages {
		if s.ID == id {
			return s
		}
	}
	t.Fatalf("storage %d is gone", id)
	return store.Storage{}
}

func (t *catalogTest) wantMode(id store.StorageID, mode, set store.StorageMode) {
	t.Helper()
	if s := t.state(id); s.Mode != mode || s.Set != set {
		t.Errorf("storage %d is %v, set %v; want %v, set %v", id, s.Mode, s.Set, mode, set)
	}
}

func catalogHealth(t *catalogTest) {
	c := t.cluster(store.Cluster{Name: "c"})
	a, b := t.storage(store.Storage{Cluster: c, URI: "http://a"}), t.storage(store.Storage{Cluster: c, URI: "http://b", Mode: store.ModeSpare})
	version := t.topology().Version
	t.equal("a report of nothing new", t.report("w", a, ""), []store.HealthChange(nil))
	if v := t.topology().Version; v != version {
		t.Errorf("a report that changes nothing made version %d of %d", v, version)
	}
	since := t.clock.now()
	down := store.Outage{Since: since, Reason: "no answer"}
	t.equal("failing", t.report("w", a, "no answer"), []store.HealthChange{{Storage: a, Mode: store.ModeDown, Outage: down}})
	t.equal("outage", t.state(a).Down, down)
	t.wantMode(a, store.ModeDown, store.ModeRW)
	t.clock.add(time.Minute)
	t.equal("failing still", t.report("w", a, "another reason"), []store.HealthChange(nil))
	t.equal("the outage began then", t.state(a).Down, down)

	// What operators set meanwhile holds as soon as it is back, and what was read can be put back.
	t.ok(t.Catalog.SetStorageMode(t.ctx, a, store.ModeDrain))
	t.wantMode(a, store.ModeDown, store.ModeDrain)
	t.storage(t.state(a))
	t.wantMode(a, store.ModeDown, store.ModeDrain)
	down.Uncounted = time.Minute // whoever sets a mode is given the whole time again
	t.equal("back", t.report("w", a, ""), []store.HealthChange{{Storage: a, Mode: store.ModeDrain, Was: down}})
	t.wantMode(a, store.ModeDrain, store.ModeDrain)
	t.equal("no outage", t.state(a).Down, store.Outage{})

	// A spare comes back as a spare; one that is dead stays dead; one that nobody knows is nothing.
	t.report("w", b, "x")
	t.wantMode(b, store.ModeDown, store.ModeSpare)
	t.report("w", b, "")
	t.wantMode(b, store.ModeSpare, store.ModeSpare)
	t.ok(t.Catalog.SetStorageMode(t.ctx, b, store.ModeDead))
	t.report("w", b, "x")
	t.wantMode(b, store.ModeDead, store.ModeDead)
	t.equal("unknown storage", t.report("w", 99, "x"), []store.HealthChange(nil))
	t.ok(t.Catalog.RemoveStorage(t.ctx, b))
}

func catalogHealthMajority(t *catalogTest) {
	s := t.storage(store.Storage{Cluster: t.cluster(store.Cluster{Name: "c"}), URI: "http://a"})
	t.report("one", s, "")
	t.report("two", s, "")
	t.report("three", s, "cut off")
	t.wantMode(s, store.ModeRW, store.ModeRW)
	t.report("two", s, "no answer")
	t.wantMode(s, store.ModeDown, store.ModeRW)
	t.report("two", s, "")
	t.wantMode(s, store.ModeRW, store.ModeRW)
	// Half of them are not enough, neither way.
	t.report("four", s, "cut off")
	t.wantMode(s, store.ModeRW, store.ModeRW)
	t.report("two", s, "no answer")
	t.report("two", s, "")
	t.wantMode(s, store.ModeDown, store.ModeRW)
	// Those that have stopped do not count, nor do those that are no longer heard.
	for _, gone := range []string{"two", "three"} {
		_, err := t.Catalog.ReportHealth(t.ctx, gone, nil)
		t.ok(err)
	}
	t.report("one", s, "")
	t.wantMode(s, store.ModeDown, store.ModeRW) // one and four
	t.clock.add(store.HealthWindow + time.Second)
	t.report("one", s, "")
	t.wantMode(s, store.ModeRW, store.ModeRW)
	// Who reports of others only takes back what it said of this one, which is weighed without that at once.
	other := t.storage(store.Storage{Cluster: t.cluster(store.Cluster{Name: "d"}), URI: "http://b"})
	t.report("two", s, "cut off")
	t.report("three", s, "")
	t.wantMode(s, store.ModeRW, store.ModeRW)
	t.report("one", other, "")
	t.wantMode(s, store.ModeRW, store.ModeRW) // half
	t.report("three", other, "")
	t.wantMode(s, store.ModeDown, store.ModeRW)
	t.report("two", other, "")
	t.wantMode(s, store.ModeDown, store.ModeRW) // of which nothing is known
	t.report("one", s, "")
	t.wantMode(s, store.ModeRW, store.ModeRW)
	// What was reported before the clock was set back does not count until it is there again.
	t.report("one", s, "no answer")
	t.report("two", s, "no answer")
	t.wantMode(s, store.ModeDown, store.ModeRW)
	t.clock.add(-time.Hour)
	t.report("one", s, "")
	t.wantMode(s, store.ModeRW, store.ModeRW)
}

func catalogHealthDead(t *catalogTest) {
	c := t.cluster(store.Cluster{Name: "c"})
	a, b := t.storage(store.Storage{Cluster: c, URI: "http://a"}), t.storage(store.Storage{Cluster: c, URI: "http://b"})
	t.report("w", a, "gone")
	down := t.state(a).Down
	t.watch(a, store.DefaultDeadAfter-time.Second)
	t.wantMode(a, store.ModeDown, store.ModeRW)
	t.clock.add(time.Second)
	t.equal("dead", t.report("w", a, "gone"), []store.HealthChange{{Storage: a, Mode: store.ModeDead, Outage: down}})
	t.wantMode(a, store.ModeDead, store.ModeDead)
	if !t.state(a).BySystem {
		t.Error("it is not noted that the system did it")
	}
	t.report("w", a, "") // it answers again: only an operator can tell what it holds
	t.wantMode(a, store.ModeDead, store.ModeDead)
	t.ok(t.Catalog.SetStorageMode(t.ctx, a, store.ModeDead))
	if t.state(a).BySystem {
		t.Error("an operator has set it dead; it is still noted as the system's")
	}

	// The last one in service is not given up, and nothing is when that is switched off.
	t.ok(t.Catalog.SetSetting(t.ctx, store.SettingDeadAfter, "10m"))
	t.report("w", b, "gone")
	t.watch(b, 20*time.Minute)
	t.wantMode(b, store.ModeDown, store.ModeRW)
	t.ok(t.Catalog.SetSetting(t.ctx, store.SettingDeadAfter, "0"))
	t.ok(t.Catalog.SetStorageMode(t.ctx, a, store.ModeRW))
	t.watch(b, 20*time.Minute)
	t.wantMode(b, store.ModeDown, store.ModeRW)
	t.ok(t.Catalog.SetSetting(t.ctx, store.SettingDeadAfter, "30s"))
	t.report("w", b, "gone")
	t.wantMode(b, store.ModeDead, store.ModeDead)
}

// watch has a storage reported to fail for a time.
func (t *catalogTest) watch(s store.StorageID, d time.Duration) {
	t.Helper()
	for ; d > 0; d -= store.HealthGap {
		t.clock.add(min(d, store.HealthGap))
		t.report("w", s, "gone")
	}
}

// Only time in which somebody watched counts: neither a clock that jumps nor a night in which nothing ran makes a storage dead, and
// both the pause and the time before it are remembered.
func catalogHealthUncounted(t *catalogTest) {
	c := t.cluster(store.Cluster{Name: "c"})
	a := t.storage(store.Storage{Cluster: c, URI: "http://a"})
	t.storage(store.Storage{Cluster: c, URI: "http://b"})
	t.ok(t.Catalog.SetSetting(t.ctx, store.SettingDeadAfter, "10m"))
	t.report("w", a, "gone")
	since := t.state(a).Down.Since
	t.watch(a, 4*time.Minute)
	for _, jump := range []time.Duration{100 * 24 * time.Hour, -200 * 24 * time.Hour, time.Hour} {
		version := t.topology().Version
		t.clock.add(jump)
		t.report("w", a, "gone")
		t.wantMode(a, store.ModeDown, store.ModeRW)
		if d := t.state(a).Down; !d.Since.Equal(since) || d.Lasted(t.clock.now()) != 4*time.Minute || t.topology().Version == version {
			t.Errorf("after a jump of %v: %+v, which has lasted %v", jump, d, d.Lasted(t.clock.now()))
		}
	}
	_, err := t.Catalog.ReportHealth(t.ctx, "w", nil) // it stops, and another one starts
	t.ok(err)
	t.clock.add(12 * time.Hour)
	t.report("v", a, "gone")
	t.watch(a, 6*time.Minute-time.Second)
	t.wantMode(a, store.ModeDown, store.ModeRW)
	t.clock.add(time.Second)
	t.report("w", a, "gone")
	t.wantMode(a, store.ModeDead, store.ModeDead)

	// An operator brings it back, which takes some time: it is not dead again with the next report.
	for _, mode := range []store.StorageMode{store.ModeFilling, store.ModeRW} {
		t.ok(t.Catalog.SetStorageMode(t.ctx, a, mode))
		t.report("w", a, "gone")
		t.watch(a, 9*time.Minute)
		t.wantMode(a, store.ModeDown, mode)
	}
	// The next outage begins at nothing.
	for range 2 { // the first one is not more than half yet
		for _, reporter := range []string{"v", "w"} {
			t.report(reporter, a, "")
		}
	}
	t.wantMode(a, store.ModeRW, store.ModeRW)
	t.report("w", a, "gone")
	t.report("v", a, "gone")
	t.equal("uncounted", t.state(a).Down.Uncounted, time.Duration(0))
}

func catalogOwed(t *catalogTest) {
	c := t.cluster(store.Cluster{Name: "c"})
	a, b := t.storage(store.Storage{Cluster: c, URI: "http://a"}), t.storage(store.Storage{Cluster: c, URI: "http://b"})
	bucket := t.bucket("b")
	want := map[store.StorageID]int64{}
	check := func() {
		t.Helper()
		got, err := t.Catalog.Owed(t.ctx)
		t.ok(err)
		t.equal("owed", got, want)
	}
	check()
	for i := range 5 {
		o := t.put(bucket, string(rune('a'+i)))
		t.ok(t.Catalog.AddMissing(t.ctx, o.ID, []store.StorageID{a}))
		want[a]++
		if i > 2 {
			t.ok(t.Catalog.AddMissing(t.ctx, o.ID, []store.StorageID{b}))
			want[b]++
		}
	}
	check()
}
