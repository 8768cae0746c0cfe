package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"wheelhouse/store"
)

func (t *catalogTest) topology() *store.Topology {
	t.Helper()
	top, err := t.Catalog.Topology(t.ctx)
	t.ok(err)
	return top
}

func (t *catalogTest) cluster(c store.Cluster) store.ClusterID {
	t.Helper()
	id, err := t.Catalog.PutCluster(t.ctx, c)
	t.ok(err)
	return id
}

func (t *catalogTest) storage(s store.Storage) store.StorageID {
	t.Helper()
	id, err := t.Catalog.PutStorage(t.ctx, s)
	t.ok(err)
	return id
}

// A storage that comes to a cluster with objects has none of them.
func catalogNewStorage(t *catalogTest) {
	one, two := t.cluster(store.Cluster{Name: "one"}), t.cluster(store.Cluster{Name: "two"})
	n := 0
	add := func(c store.ClusterID, mode, want store.StorageMode) store.StorageID {
		t.Helper()
		n++
		id := t.storage(store.Storage{Cluster: c, URI: fmt.Sprintf("http://127.0.0.1/dev%d", n), Mode: mode})
		for _, s := range t.topology().Storages {
			if s.ID == id && (s.Mode != want || s.Set != want) {
				t.Errorf("storage %d was put as %v and is %v, set %v; want %v", n, mode, s.Mode, s.Set, want)
			}
		}
		return id
	}
	first := add(one, store.ModeRW, store.ModeRW)
	add(one, store.ModeRW, store.ModeRW)
	b := t.bucket("b")
	id, err := t.Catalog.LeaseIDs(t.ctx, "one", 1)
	t.ok(err)
	_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: store.Object{ID: id, Bucket: b.ID, Name: "o", Cluster: one, Created: t.clock.now()}})
	t.ok(err)
	for _, mode := range []store.StorageMode{store.ModeRW, store.ModeRO, store.ModeDown, store.ModeFilling} {
		add(one, mode, store.ModeFilling)
	}
	add(one, store.ModeSpare, store.ModeSpare)
	add(one, store.ModeDead, store.ModeDead)
	moved := add(two, store.ModeRW, store.ModeRW)
	t.equal("id", t.storage(store.Storage{ID: moved, Cluster: one, URI: "http://127.0.0.1/moved"}), moved)
	t.equal("id", t.storage(store.Storage{ID: first, Cluster: one, URI: "http://127.0.0.1/elsewhere"}), first)
	for _, s := range t.topology().Storages {
		if s.ID == moved && s.Mode != store.ModeFilling || s.ID == first && s.Mode != store.ModeRW {
			t.Errorf("storage %d is %v", s.ID, s.Mode)
		}
		t.ok(t.Catalog.SetStorageMode(t.ctx, s.ID, store.ModeDead))
	}
	add(one, store.ModeRW, store.ModeRW) // nobody could fill it
}

func catalogTopology(t *catalogTest) {
	before := t.topology()
	if len(before.Clusters)+len(before.Storages)+len(before.Classes) != 0 {
		t.Fatalf("a new catalog has %+v", before)
	}
	// A change made here is seen here at once, though the clock stands still.
	changed := func(what string) *store.Topology {
		t.Helper()
		now := t.topology()
		if now.Version <= before.Version {
			t.Fatalf("%s: version %d after %d", what, now.Version, before.Version)
		}
		before = now
		return now
	}
	one := t.cluster(store.Cluster{Name: "one"})
	two := t.cluster(store.Cluster{Name: "two", Mode: store.ClusterRO})
	nine := t.cluster(store.Cluster{ID: 9, Name: "nine"})
	if one == 0 || two <= one || nine != 9 {
		t.Fatalf("ids are %d, %d, %d", one, two, nine)
	}
	t.equal("clusters", changed("PutCluster").Clusters, []store.Cluster{
		{ID: one, Name: "one"}, {ID: two, Name: "two", Mode: store.ClusterRO}, {ID: 9, Name: "nine"},
	})
	if next := t.cluster(store.Cluster{Name: "next"}); next <= 9 {
		t.Errorf("next free id after 9 is %d", next)
	}
	t.equal("id", t.cluster(store.Cluster{ID: two, Name: "zwei", Mode: store.ClusterRetire}), two)
	t.equal("replaced", changed("PutCluster").Clusters[1], store.Cluster{ID: two, Name: "zwei", Mode: store.ClusterRetire})

	s := store.Storage{Cluster: one, URI: "http://127.0.0.1:7500/dev1", Mode: store.ModeSpare, Capacity: 100, Used: 7}
	s.ID = t.storage(s)
	s.Created, s.Set = t.clock.now(), s.Mode
	t.equal("storages", changed("PutStorage").Storages, []store.Storage{s})
	_, err := t.Catalog.PutStorage(t.ctx, store.Storage{Cluster: 77, URI: "http://a"})
	t.want(err, store.ErrNoCluster)
	_, err = t.Catalog.PutStorage(t.ctx, store.Storage{Cluster: one, URI: s.URI})
	t.want(err, store.ErrExists)
	t.clock.add(time.Hour)
	s.URI, s.Cluster, s.Mode, s.Capacity, s.Used = "http://127.0.0.1:7500/dev2", two, store.ModeRW, 200, 8
	s.Set = s.Mode
	t.equal("id", t.storage(s), s.ID)
	t.equal("replaced", changed("PutStorage").Storages, []store.Storage{s})

	t.ok(t.Catalog.SetStorageMode(t.ctx, s.ID, store.ModeDown))
	s.Mode, s.Set = store.ModeDown, store.ModeDown
	t.equal("mode", changed("SetStorageMode").Storages, []store.Storage{s})
	t.ok(t.Catalog.SetStorageUsage(t.ctx, s.ID, 1<<40, 1<<39))
	s.Capacity, s.Used = 1<<40, 1<<39
	t.equal("usage", changed("SetStorageUsage").Storages, []store.Storage{s})
	t.ok(t.Catalog.SetStorageUsage(t.ctx, s.ID, 1<<40, 1<<39))
	t.want(t.Catalog.SetStorageMode(t.ctx, 99, store.ModeRW), store.ErrNoStorage)
	t.want(t.Catalog.SetStorageUsage(t.ctx, 99, 1, 1), store.ErrNoStorage)

	t.ok(t.Catalog.PutClass(t.ctx, store.Class{Name: "photos", Clusters: []store.ClusterID{9, one}, MinDurable: 3}))
	t.ok(t.Catalog.PutClass(t.ctx, store.Class{Name: store.DefaultClass}))
	t.ok(t.Catalog.PutClass(t.ctx, store.Class{Name: "photos", Clusters: []store.ClusterID{two}, MinDurable: 1}))
	t.equal("classes", changed("PutClass").Classes, []store.Class{
		{Name: store.DefaultClass}, {Name: "photos", Clusters: []store.ClusterID{two}, MinDurable: 1},
	})
}

func catalogRemoveCluster(t *catalogTest) {
	id := t.cluster(store.Cluster{Name: "c"})
	t.want(t.Catalog.RemoveCluster(t.ctx, 99), store.ErrNoCluster)
	s := t.storage(store.Storage{Cluster: id, URI: "http://a"})
	t.want(t.Catalog.RemoveCluster(t.ctx, id), store.ErrInUse)
	t.ok(t.Catalog.RemoveStorage(t.ctx, s))
	b := t.bucket("b")
	o := t.object(b, "x")
	o.Cluster = id
	_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o})
	t.ok(err)
	t.want(t.Catalog.RemoveCluster(t.ctx, id), store.ErrInUse)
	_, err = t.Catalog.Delete(t.ctx, b.ID, "x", store.Condition{})
	t.ok(err)
	t.want(t.Catalog.RemoveCluster(t.ctx, id), store.ErrInUse) // its entities are not deleted yet
	t.ok(t.Catalog.ForgetDeleted(t.ctx, []store.ObjectID{o.ID}))
	t.ok(t.Catalog.RemoveCluster(t.ctx, id))
	t.want(t.Catalog.RemoveCluster(t.ctx, id), store.ErrNoCluster)
	t.equal("clusters", len(t.topology().Clusters), 0)
	if again := t.cluster(store.Cluster{Name: "c"}); again == id {
		t.Error("the id of a removed cluster was used again")
	}
}

func catalogRemoveStorage(t *catalogTest) {
	c := t.cluster(store.Cluster{Name: "c"})
	a := t.storage(store.Storage{Cluster: c, URI: "http://a"})
	d := t.storage(store.Storage{Cluster: c, URI: "http://d"})
	t.want(t.Catalog.RemoveStorage(t.ctx, 99), store.ErrNoStorage)
	b := t.bucket("b")
	o := t.object(b, "x")
	o.Cluster, o.Missing = c, storages(a, d)
	_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o})
	t.ok(err)
	only := t.object(b, "y")
	only.Cluster, only.Missing = c, storages(d)
	_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: only})
	t.ok(err)
	t.wantObject(b, o)
	t.wantObject(b, only)
	t.want(t.Catalog.RemoveStorage(t.ctx, d), store.ErrInUse)
	t.ok(t.Catalog.SetStorageMode(t.ctx, d, store.ModeDead))
	t.ok(t.Catalog.RemoveStorage(t.ctx, d))
	t.want(t.Catalog.RemoveStorage(t.ctx, d), store.ErrNoStorage)
	o.Missing, only.Missing = storages(a), nil
	t.wantObject(b, o)
	t.wantObject(b, only)
	totals, err := t.Catalog.Totals(t.ctx)
	t.ok(err)
	t.equal("missing", totals.Missing, int64(1))
	// Nor does one leave by being put into another cluster.
	other := t.cluster(store.Cluster{Name: "other"})
	move := func() error {
		_, err := t.Catalog.PutStorage(t.ctx, store.Storage{ID: a, Cluster: other, URI: "http://a"})
		return err
	}
	t.want(move(), store.ErrInUse)
	t.ok(t.Catalog.SetStorageMode(t.ctx, a, store.ModeDead))
	t.want(t.Catalog.RemoveStorage(t.ctx, a), store.ErrInUse) // nobody would know that there are objects which cannot be read
	t.want(move(), store.ErrInUse)
	for _, s := range t.topology().Storages {
		if s.ID == a && s.Cluster != c {
			t.Errorf("storage %d has left its cluster", a)
		}
	}
	if again := t.storage(store.Storage{Cluster: c, URI: "http://d"}); again == d {
		t.Error("the id of a removed storage was used again")
	}
}

func catalogAccounts(t *catalogTest) {
	ann, err := t.Catalog.CreateAccount(t.ctx, store.Account{Name: "ann", Role: store.RoleAdmin})
	t.ok(err)
	t.equal("CreateAccount", ann, store.Account{ID: ann.ID, Name: "ann", Role: store.RoleAdmin, Created: t.clock.now()})
	_, err = t.Catalog.CreateAccount(t.ctx, store.Account{Name: "ann"})
	t.want(err, store.ErrExists)
	bob, err := t.Catalog.CreateAccount(t.ctx, store.Account{Name: "bob", Role: store.RoleRead})
	t.ok(err)
	list, err := t.Catalog.Accounts(t.ctx)
	t.ok(err)
	t.equal("Accounts", list, []store.Account{ann, bob})

	k := store.AccessKey{ID: "AKIAAAAAAAAAAAAAAAAA", Secret: "s3cr3t", Account: ann.ID}
	t.ok(t.Catalog.PutKey(t.ctx, k))
	k.Created = t.clock.now()
	t.want(t.Catalog.PutKey(t.ctx, k), store.ErrExists)
	t.want(t.Catalog.PutKey(t.ctx, store.AccessKey{ID: "B", Account: 999}), store.ErrNoAccount)
	key, account, err := t.Catalog.Key(t.ctx, k.ID)
	t.ok(err)
	t.equal("key", key, k)
	t.equal("account", account, ann)
	_, _, err = t.Catalog.Key(t.ctx, "nothing")
	t.want(err, store.ErrNoAccount)
	second := store.AccessKey{ID: "AKIAAAAAAAAAAAAAAAAB", Secret: "x", Account: ann.ID}
	t.ok(t.Catalog.PutKey(t.ctx, second))
	second.Created = t.clock.now()
	keys, err := t.Catalog.Keys(t.ctx, ann.ID)
	t.ok(err)
	t.equal("Keys", keys, []store.AccessKey{k, second})
	t.ok(t.Catalog.RemoveKey(t.ctx, k.ID))
	t.want(t.Catalog.RemoveKey(t.ctx, k.ID), store.ErrNoAccount)
	_, _, err = t.Catalog.Key(t.ctx, k.ID)
	t.want(err, store.ErrNoAccount)

	b, err := t.Catalog.CreateBucket(t.ctx, store.Bucket{Name: "b", Owner: ann.ID})
	t.ok(err)
	t.want(t.Catalog.RemoveAccount(t.ctx, ann.ID), store.ErrInUse)
	b.Owner = 0
	t.ok(t.Catalog.UpdateBucket(t.ctx, b))
	t.ok(t.Catalog.RemoveAccount(t.ctx, ann.ID))
	t.want(t.Catalog.RemoveAccount(t.ctx, ann.ID), store.ErrNoAccount)
	_, _, err = t.Catalog.Key(t.ctx, second.ID)
	t.want(err, store.ErrNoAccount)
	keys, err = t.Catalog.Keys(t.ctx, ann.ID)
	t.ok(err)
	t.equal("Keys", keys, []store.AccessKey(nil))
	again, err := t.Catalog.CreateAccount(t.ctx, store.Account{Name: "ann"})
	t.ok(err)
	if again.ID == ann.ID {
		t.Error("the id of a removed account was used again")
	}
}

func catalogSettings(t *catalogTest) {
	check := func(want map[string]string) {
		t.Helper()
		got, err := t.Catalog.Settings(t.ctx)
		t.ok(err)
		t.equal("Settings", got, want)
	}
	check(map[string]string{})
	t.ok(t.Catalog.SetSetting(t.ctx, "store.a", "1"))
	t.ok(t.Catalog.SetSetting(t.ctx, "store.b", "zwei\x00ü"))
	t.ok(t.Catalog.SetSetting(t.ctx, "store.a", "2"))
	check(map[string]string{"store.a": "2", "store.b": "zwei\x00ü"})
	t.ok(t.Catalog.SetSetting(t.ctx, "store.a", ""))
	t.ok(t.Catalog.SetSetting(t.ctx, "store.c", ""))
	check(map[string]string{"store.b": "zwei\x00ü"})
}

func catalogSwapSetting(t *catalogTest) {
	swap := func(old, value string, want bool) {
		t.Helper()
		got, err := t.Catalog.SwapSetting(t.ctx, "store.x", old, value)
		t.ok(err)
		if got != want {
			t.Errorf("SwapSetting(%q, %q) = %v; want %v", old, value, got, want)
		}
	}
	is := func(want string) {
		t.Helper()
		all, err := t.Catalog.Settings(t.ctx)
		t.ok(err)
		if got := all["store.x"]; got != want {
			t.Errorf("the setting is %q; want %q", got, want)
		}
	}
	swap("a", "b", false)
	is("")
	swap("", "a", true)
	swap("", "b", false)
	swap("b", "c", false)
	is("a")
	swap("a", "a", true)
	swap("a", "b", true)
	is("b")
	swap("b", "", true)
	is("")
	swap("", "", true)
	is("")
	if all, err := t.Catalog.Settings(t.ctx); err != nil || len(all) != 0 {
		t.Errorf("settings: %q, %v; want none", all, err)
	}
	// Of many who count up together none loses a step.
	t.together(8, func(int) {
		for done := 0; done < 5; {
			all, err := t.Catalog.Settings(t.ctx)
			if err != nil {
				t.Error(err)
				return
			}
			old := all["store.x"]
			swapped, err := t.Catalog.SwapSetting(t.ctx, "store.x", old, old+"i")
			if err != nil {
				t.Error(err)
				return
			}
			if swapped {
				done++
			}
		}
	})
	is(strings.Repeat("i", 40))
}

// catalogContext: a context that has ended means that nothing was done.
func catalogContext(t *catalogTest) {
	b := t.bucket("b")
	ended, cancel := context.WithCancel(t.ctx)
	cancel()
	o := t.object(b, "x")
	if _, err := t.Catalog.Commit(ended, store.Commit{Object: o}); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit = %v; want %v", err, context.Canceled)
	}
	t.wantGone(b, "x")
	_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o})
	t.ok(err)
	if _, err := t.Catalog.Delete(ended, b.ID, "x", store.Condition{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Delete = %v; want %v", err, context.Canceled)
	}
	t.wantObject(b, o)
}
