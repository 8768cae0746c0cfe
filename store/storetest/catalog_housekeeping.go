package storetest

import (
	"time"

	"wheelhouse/store"
)

func storages(ids ...store.StorageID) []store.StorageID { return ids }

func catalogMissing(t *catalogTest) {
	b := t.bucket("b")
	o := t.object(b, "x")
	o.Missing = storages(9, 3)
	_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o})
	t.ok(err)
	t.wantTasks(store.NewReplicate(o.ID))
	o.Missing = storages(3, 9)
	t.wantObject(b, o)
	var scanned store.Object
	t.ok(t.Catalog.Scan(t.ctx, b.ID, "", 1, func(p *store.Object) bool { scanned = *p; return true }))
	t.equal("Scan", scanned, o)

	t.ok(t.Catalog.ClearMissing(t.ctx, o.ID, storages(3, 4)))
	o.Missing = storages(9)
	t.wantObject(b, o)
	t.ok(t.Catalog.AddMissing(t.ctx, o.ID, storages(9, 5)))
	t.wantTasks(store.NewReplicate(o.ID))
	o.Missing = storages(5, 9)
	t.wantObject(b, o)
	t.ok(t.Catalog.ClearMissing(t.ctx, o.ID, storages(5, 9)))
	o.Missing = nil
	t.wantObject(b, o)
	t.ok(t.Catalog.ClearMissing(t.ctx, o.ID, storages(5, 9)))
	t.wantObject(b, o)
	t.ok(t.Catalog.AddMissing(t.ctx, o.ID, storages(1)))
	o.Missing = storages(1)
	t.wantObject(b, o)

	// It goes along with the object.
	t.ok(t.Catalog.Rename(t.ctx, b.ID, "x", b.ID, "y"))
	o.Name = "y"
	t.wantObject(b, o)
	o.ContentType = "text/plain"
	t.ok(t.Catalog.Update(t.ctx, o))
	t.wantObject(b, o)
	t.ok(t.Catalog.AddMissing(t.ctx, o.ID, nil))
	t.ok(t.Catalog.ClearMissing(t.ctx, o.ID, nil))
	t.wantObject(b, o)
}

func catalogMissingOn(t *catalogTest) {
	b := t.bucket("b")
	var ids []store.ObjectID
	for _, name := range []string{"c", "a", "b"} {
		o := t.object(b, name)
		o.Missing = storages(2)
		_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o})
		t.ok(err)
		ids = append(ids, o.ID)
	}
	t.ok(t.Catalog.AddMissing(t.ctx, ids[1], storages(3)))
	on := func(s store.StorageID, after store.ObjectID, limit int) []store.ObjectID {
		t.Helper()
		got, err := t.Catalog.MissingOn(t.ctx, s, after, limit)
		t.ok(err)
		return got
	}
	t.equal("all", on(2, 0, 10), ids)
	t.equal("limit", on(2, 0, 2), ids[:2])
	t.equal("after", on(2, ids[0], 10), ids[1:])
	t.equal("other", on(3, 0, 10), ids[1:2])
	t.equal("none", on(4, 0, 10), []store.ObjectID(nil))
	t.ok(t.Catalog.ClearMissing(t.ctx, ids[0], storages(2)))
	t.equal("cleared", on(2, 0, 10), ids[1:])
	_, err := t.Catalog.Delete(t.ctx, b.ID, "b", store.Condition{})
	t.ok(err)
	t.equal("deleted", on(2, 0, 10), ids[1:2])
}

// catalogMissingGone: objects that are not visible are owed nothing.
func catalogMissingGone(t *catalogTest) {
	t.want(t.Catalog.AddMissing(t.ctx, 12345, storages(1)), store.ErrNoObject)
	t.ok(t.Catalog.ClearMissing(t.ctx, 12345, storages(1)))
	b := t.bucket("b")
	o := t.put(b, "x")
	newer := t.put(b, "x")
	t.want(t.Catalog.AddMissing(t.ctx, o.ID, storages(1)), store.ErrNoObject)
	t.ok(t.Catalog.ClearMissing(t.ctx, o.ID, storages(1)))
	t.Tasks()
	t.ok(t.Catalog.DeleteBucket(t.ctx, "b", true))
	t.want(t.Catalog.AddMissing(t.ctx, newer.ID, storages(1)), store.ErrNoObject)
	t.wantTasks(store.NewDeleteBucket(b.ID, t.clock.now().Add(t.Grace)))
}

func catalogRepair(t *catalogTest) {
	b := t.bucket("b")
	o := t.put(b, "x")
	t.ok(t.Catalog.EnqueueRepair(t.ctx, o.ID, 3))
	t.wantTasks(store.NewRepair(o.ID, 3))
	t.wantObject(b, o)
}

func catalogDeletedObjects(t *catalogTest) {
	b := t.bucket("b")
	o := t.object(b, "x")
	o.Missing = storages(2)
	_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o})
	t.ok(err)
	_, err = t.Catalog.DeletedObject(t.ctx, o.ID)
	t.want(err, store.ErrNoObject)
	deleted, err := t.Catalog.Delete(t.ctx, b.ID, "x", store.Condition{})
	t.ok(err)
	o.Missing = nil
	deleted.Missing = nil
	t.equal("Delete", deleted, o)
	got, err := t.Catalog.DeletedObject(t.ctx, o.ID)
	t.ok(err)
	t.equal("DeletedObject", got, o)

	t.ok(t.Catalog.ForgetDeleted(t.ctx, []store.ObjectID{o.ID, 98765}))
	_, err = t.Catalog.DeletedObject(t.ctx, o.ID)
	t.want(err, store.ErrNoObject)
	t.ok(t.Catalog.ForgetDeleted(t.ctx, []store.ObjectID{o.ID}))
	t.ok(t.Catalog.ForgetDeleted(t.ctx, nil))

	visible := t.put(b, "y")
	t.ok(t.Catalog.ForgetDeleted(t.ctx, []store.ObjectID{visible.ID}))
	t.wantObject(b, visible)
}

func catalogUnknown(t *catalogTest) {
	b, c := t.bucket("b"), t.bucket("c")
	visible := t.put(b, "visible")
	deleted := t.put(b, "deleted")
	inDeleted := t.put(c, "x")
	forgotten := t.put(b, "forgotten")
	never := t.id()
	for _, name := range []string{"deleted", "forgotten"} {
		_, err := t.Catalog.Delete(t.ctx, b.ID, name, store.Condition{})
		t.ok(err)
	}
	t.ok(t.Catalog.DeleteBucket(t.ctx, "c", true))
	t.ok(t.Catalog.ForgetDeleted(t.ctx, []store.ObjectID{forgotten.ID}))
	ids := []store.ObjectID{never, visible.ID, deleted.ID, inDeleted.ID, forgotten.ID}
	for i := range 600 {
		ids = append(ids, store.ObjectID(1_000_000+i))
	}
	got, err := t.Catalog.Unknown(t.ctx, ids)
	t.ok(err)
	t.equal("Unknown", got, append([]store.ObjectID{never, forgotten.ID}, ids[5:]...))
	got, err = t.Catalog.Unknown(t.ctx, nil)
	t.ok(err)
	t.equal("Unknown of none", got, []store.ObjectID(nil))
}

func catalogTotals(t *catalogTest) {
	want := store.Totals{}
	check := func() {
		t.Helper()
		got, err := t.Catalog.Totals(t.ctx)
		t.ok(err)
		t.equal("Totals", got, want)
	}
	check()
	b, c := t.bucket("b"), t.bucket("c")
	x := t.put(b, "x")
	y := t.object(b, "y")
	y.Cluster, y.Missing = 2, storages(1, 2)
	_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: y})
	t.ok(err)
	z := t.put(c, "z")
	want = store.Totals{Buckets: 2, Objects: 3, Bytes: x.Size + y.Size + z.Size, Missing: 2}
	check()
	_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: t.object(b, "x"), Condition: store.Condition{Absent: true}})
	t.want(err, store.ErrPrecondition)
	check()
	newer := t.put(b, "y")
	want.Bytes += newer.Size - y.Size
	want.Missing, want.DeletedObjects = 0, 1
	check()
	_, err = t.Catalog.Delete(t.ctx, b.ID, "x", store.Condition{})
	t.ok(err)
	want.Objects, want.Bytes, want.DeletedObjects = 2, want.Bytes-x.Size, 2
	check()
	t.ok(t.Catalog.ForgetDeleted(t.ctx, []store.ObjectID{x.ID, y.ID, x.ID}))
	want.DeletedObjects = 0
	check()
	t.ok(t.Catalog.AddMissing(t.ctx, z.ID, storages(4)))
	t.ok(t.Catalog.AddMissing(t.ctx, z.ID, storages(4, 5)))
	want.Missing = 2
	check()
	t.ok(t.Catalog.DeleteBucket(t.ctx, "c", true))
	want.Buckets, want.DeletedBuckets = 1, 1
	check()
	for n := 1; n > 0; {
		n, err = t.Catalog.EmptyBucket(t.ctx, c.ID, 10)
		t.ok(err)
	}
	want.Objects, want.Bytes, want.Missing, want.DeletedObjects, want.DeletedBuckets = 1, newer.Size, 0, 1, 0
	check()
	t.clock.add(time.Hour)
	check()
}
