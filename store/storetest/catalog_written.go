package storetest

import (
	"errors"
	"fmt"

	"wheelhouse/store"
)

// catalogWritten: what an object is owed goes by the topology at the time of its commit, whatever the writer knew when it began.
func catalogWritten(t *catalogTest) {
	b := t.bucket("b")
	c := t.cluster(store.Cluster{Name: "c"})
	other := t.cluster(store.Cluster{Name: "other"})
	var s []store.StorageID
	add := func(mode store.StorageMode, cluster store.ClusterID) store.StorageID {
		return t.storage(store.Storage{Cluster: cluster, URI: fmt.Sprint("http://s", len(t.topology().Storages)), Mode: mode})
	}
	for range 3 {
		s = append(s, add(store.ModeRW, c))
	}
	add(store.ModeRW, other)
	begun := t.topology().Version
	n := 0
	commit := func(what string, w store.Written, want ...store.StorageID) {
		t.Helper()
		n++
		o := t.object(b, fmt.Sprint("o", n))
		o.Cluster, o.Missing = c, []store.StorageID{77} // what is written decides
		_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o, Written: &w})
		t.ok(err)
		o.Missing = want
		t.wantObject(b, o)
		if tasks := t.Tasks(); (len(tasks) == 1) != (len(want) > 0) {
			t.Errorf("%s: tasks are %v", what, tasks)
		}
		// The same for an object that moves here.
		moved := t.put(b, fmt.Sprint("m", n))
		id := t.id()
		t.ok(t.Catalog.MoveObject(t.ctx, moved.ID, store.Object{ID: id, Cluster: c}, &w))
		got, err := t.Catalog.ObjectByID(t.ctx, id)
		t.ok(err)
		t.equal(what+": moved", got.Missing, want)
		t.Tasks()
	}
	all := store.Written{On: s, Topology: begun}
	commit("all have it", all)
	commit("one has not", store.Written{On: s[:2], Topology: begun}, s[2])

	// A storage that was down, or is, is owed it; one that is dead is not, until it is filled again.
	t.ok(t.Catalog.SetStorageMode(t.ctx, s[2], store.ModeDown))
	commit("down", store.Written{On: s[:2], Topology: begun}, s[2])
	t.ok(t.Catalog.SetStorageMode(t.ctx, s[2], store.ModeDead))
	dead := t.topology().Version
	commit("dead", store.Written{On: s[:2], Topology: dead})
	t.ok(t.Catalog.SetStorageMode(t.ctx, s[2], store.ModeFilling))
	commit("dead when it was begun", store.Written{On: s[:2], Topology: dead}, s[2])

	// What a storage took before it was begun anew may be gone.
	commit("written before it was blank", all, s[2])
	filling := t.topology().Version
	commit("written while it is filled", store.Written{On: s, Topology: filling})
	t.ok(t.Catalog.SetStorageMode(t.ctx, s[2], store.ModeFilling))
	commit("begun anew once more", store.Written{On: s, Topology: filling}, s[2])
	t.ok(t.Catalog.SetStorageMode(t.ctx, s[2], store.ModeRW))
	commit("filled meanwhile", store.Written{On: s, Topology: filling}, s[2])
	commit("since then", store.Written{On: s, Topology: t.topology().Version})

	// One that is added to the cluster, and one that leaves it.
	before := t.topology().Version
	fourth := add(store.ModeRW, c)
	commit("added", store.Written{On: s, Topology: before}, fourth)
	before = t.topology().Version // it is filled first
	fifth := add(store.ModeFilling, c)
	commit("added to be filled", store.Written{On: append(s[:3:3], fourth), Topology: before}, fifth)
	now := t.topology().Version
	t.ok(t.Catalog.SetStorageMode(t.ctx, fifth, store.ModeDead))
	t.ok(t.Catalog.RemoveStorage(t.ctx, fifth))
	commit("removed", store.Written{On: append(s[:3:3], fourth, fifth), Topology: now})
}

// catalogWrittenGone: an object becomes visible only if enough of those that took it still are what they were. A client is not told
// that an object is stored which nobody has.
func catalogWrittenGone(t *catalogTest) {
	b := t.bucket("b")
	c := t.cluster(store.Cluster{Name: "c"})
	other := t.cluster(store.Cluster{Name: "other"})
	var s []store.StorageID
	for i, cluster := range []store.ClusterID{c, c, c, other} {
		s = append(s, t.storage(store.Storage{Cluster: cluster, URI: fmt.Sprint("http://s", i)}))
	}
	begun := t.topology().Version
	n := 0
	refused := func(what string, w store.Written) {
		t.Helper()
		n++
		name := fmt.Sprint("o", n)
		o := t.object(b, name)
		o.Cluster = c
		_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o, Written: &w})
		if !errors.Is(err, store.ErrNoWritable) {
			t.Errorf("%s: Commit = %v; want %v", what, err, store.ErrNoWritable)
		}
		if _, _, err := t.Catalog.Find(t.ctx, b.Name, name); !errors.Is(err, store.ErrNoObject) {
			t.Errorf("%s: Find = %v; want %v", what, err, store.ErrNoObject)
		}
		// An overwrite leaves the old version, and a move the object where it was.
		old := t.put(b, name)
		o = t.object(b, name)
		o.Cluster = c
		_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: o, Written: &w})
		t.want(err, store.ErrNoWritable)
		t.want(t.Catalog.MoveObject(t.ctx, old.ID, store.Object{ID: t.id(), Cluster: c}, &w), store.ErrNoWritable)
		t.wantObject(b, old)
		if tasks := t.Tasks(); len(tasks) > 0 {
			t.Errorf("%s: tasks are %v", what, tasks)
		}
	}
	taken := func(what string, w store.Written) store.Object {
		t.Helper()
		n++
		o := t.object(b, fmt.Sprint("o", n))
		o.Cluster = c
		_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o, Written: &w})
		if err != nil {
			t.Errorf("%s: Commit = %v", what, err)
		}
		t.Tasks()
		return o
	}
	two := store.Written{On: s[:2], Topology: begun, Durable: 2}
	before := taken("as many as must", two)
	refused("none", store.Written{Topology: begun})
	refused("fewer than must", store.Written{On: s[:1], Topology: begun, Durable: 2})
	refused("one of another cluster", store.Written{On: []store.StorageID{s[0], s[3]}, Topology: begun, Durable: 2})
	t.ok(t.Catalog.SetStorageMode(t.ctx, s[1], store.ModeDown))
	taken("down is not dead", two)
	t.ok(t.Catalog.SetStorageMode(t.ctx, s[1], store.ModeDead))
	refused("dead", two)
	taken("dead, and one is enough", store.Written{On: s[:2], Topology: begun})
	// Who repeats a commit is told that it was made, whatever has happened since.
	_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: before, Written: &two})
	t.ok(err)
	t.ok(t.Catalog.SetStorageMode(t.ctx, s[1], store.ModeFilling))
	refused("begun anew", two)
	for _, id := range s[1:3] {
		t.ok(t.Catalog.SetStorageMode(t.ctx, id, store.ModeDead))
		t.ok(t.Catalog.RemoveStorage(t.ctx, id))
	}
	refused("removed", store.Written{On: s[1:3], Topology: begun})
}

// catalogWrittenTogether: a change of the topology and commits that may share its transaction. Whatever the order, an object that
// was committed after the change is owed to the storage, and the change never counts when it was undone.
func catalogWrittenTogether(t *catalogTest) {
	b := t.bucket("b")
	c := t.cluster(store.Cluster{Name: "c"})
	one := t.storage(store.Storage{Cluster: c, URI: "http://one"})
	two := t.storage(store.Storage{Cluster: c, URI: "http://two", Mode: store.ModeDead})
	for round := range 20 {
		version := t.topology().Version
		results := make(chan error)
		const commits = 8
		var objects []store.Object
		for i := range commits {
			o := t.object(b, fmt.Sprint(round, "/", i))
			o.Cluster = c
			objects = append(objects, o)
		}
		go func() {
			results <- t.Catalog.SetStorageMode(t.ctx, two, store.ModeFilling)
		}()
		go func() { // fails, after others may have counted on it
			_, err := t.Catalog.PutStorage(t.ctx, store.Storage{Cluster: c, URI: "http://one"})
			if err == nil {
				err = fmt.Errorf("a second storage at the same place was taken")
			} else {
				err = nil
			}
			results <- err
		}()
		for i := range commits {
			go func() {
				_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: objects[i], Written: &store.Written{On: []store.StorageID{one}, Topology: version}})
				results <- err
			}()
		}
		for range commits + 2 {
			t.ok(<-results)
		}
		o := t.object(b, fmt.Sprint(round, "/after"))
		o.Cluster = c
		_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o, Written: &store.Written{On: []store.StorageID{one}, Topology: version}})
		t.ok(err)
		o.Missing = []store.StorageID{two}
		t.wantObject(b, o)
		for _, o := range objects {
			got := t.find(b, o.Name)
			if len(got.Missing) > 1 || len(got.Missing) == 1 && got.Missing[0] != two {
				t.Fatalf("missing is %v", got.Missing)
			}
		}
		t.ok(t.Catalog.SetStorageMode(t.ctx, two, store.ModeDead))
		o = t.object(b, fmt.Sprint(round, "/dead"))
		o.Cluster = c
		_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: o, Written: &store.Written{On: []store.StorageID{one}, Topology: version}})
		t.ok(err)
		t.equal("owed when it is dead", len(t.find(b, o.Name).Missing), 0)
	}
}
