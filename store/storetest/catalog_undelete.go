package storetest

import (
	"time"

	"wheelhouse/store"
)

// deletedIDs are the versions that can be brought back.
func (t *catalogTest) deletedIDs(bucket, prefix string) (ids []store.ObjectID) {
	t.Helper()
	list, err := t.Catalog.Deleted(t.ctx, bucket, prefix, 100)
	t.ok(err)
	for _, v := range list {
		ids = append(ids, v.ID)
	}
	return ids
}

func catalogUndelete(t *catalogTest) {
	b := t.bucket("b")
	o := t.object(b, "x")
	o.Meta = []store.Field{{Name: "a", Value: "1"}}
	o.Missing = storages(2)
	_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o})
	t.ok(err)
	t.put(b, "y")
	before, err := t.Catalog.Totals(t.ctx)
	t.ok(err)
	_, err = t.Catalog.Undelete(t.ctx, "b", "x", 0, false)
	t.want(err, store.ErrNoObject)
	_, err = t.Catalog.Delete(t.ctx, b.ID, "x", store.Condition{})
	t.ok(err)

	list, err := t.Catalog.Deleted(t.ctx, "b", "", 10)
	t.ok(err)
	o.Missing = nil // it is no longer known
	t.equal("Deleted", list, []store.DeletedVersion{{Object: o, Deleted: t.clock.now(), Until: t.clock.now().Add(t.Grace)}})
	t.equal("Deleted with another prefix", t.deletedIDs("b", "y"), []store.ObjectID(nil))
	_, err = t.Catalog.Deleted(t.ctx, "nothing", "", 10)
	t.want(err, store.ErrNoBucket)
	_, err = t.Catalog.Undelete(t.ctx, "b", "x", o.ID+1000, false)
	t.want(err, store.ErrNoObject)
	_, err = t.Catalog.Undelete(t.ctx, "nothing", "x", 0, false)
	t.want(err, store.ErrNoBucket)

	t.Tasks()
	got, err := t.Catalog.Undelete(t.ctx, "b", "x", 0, false)
	t.ok(err)
	t.equal("Undelete", got, o)
	t.wantTasks(store.NewRepair(o.ID, 0))
	t.wantObject(b, o)
	_, err = t.Catalog.DeletedObject(t.ctx, o.ID)
	t.want(err, store.ErrNoObject)
	_, err = t.Catalog.BeginDelete(t.ctx, o.ID) // the task that is still on its way
	t.want(err, store.ErrNoObject)
	after, err := t.Catalog.Totals(t.ctx)
	t.ok(err)
	before.Missing = 0
	t.equal("Totals", after, before)
}

func catalogUndeleteOverwritten(t *catalogTest) {
	b := t.bucket("b")
	first, second, third := t.put(b, "x"), t.put(b, "x"), t.put(b, "x")
	t.equal("Deleted", t.deletedIDs("b", "x"), []store.ObjectID{second.ID, first.ID})
	_, err := t.Catalog.Undelete(t.ctx, "b", "x", 0, false)
	t.want(err, store.ErrExists)
	t.wantObject(b, third)
	_, err = t.Catalog.Undelete(t.ctx, "b", "x", first.ID, true)
	t.ok(err)
	t.wantObject(b, first)
	t.equal("Deleted", t.deletedIDs("b", "x"), []store.ObjectID{third.ID, second.ID})
	list, err := t.Catalog.Deleted(t.ctx, "b", "", 1)
	t.ok(err)
	if len(list) != 1 {
		t.Errorf("%d versions; want at most 1", len(list))
	}
}

func catalogUndeleteTooLate(t *catalogTest) {
	b := t.bucket("b")
	o := t.put(b, "x")
	_, err := t.Catalog.Delete(t.ctx, b.ID, "x", store.Condition{})
	t.ok(err)
	_, err = t.Catalog.BeginDelete(t.ctx, o.ID)
	t.want(err, store.ErrInUse)
	t.equal("before its time", t.deletedIDs("b", ""), []store.ObjectID{o.ID})
	t.clock.add(t.Grace)
	for range 2 { // a task that is tried again
		got, err := t.Catalog.BeginDelete(t.ctx, o.ID)
		t.ok(err)
		t.equal("BeginDelete", got, o)
	}
	t.equal("after it", t.deletedIDs("b", ""), []store.ObjectID(nil))
	_, err = t.Catalog.Undelete(t.ctx, "b", "x", o.ID, false)
	t.want(err, store.ErrNoObject)
	t.wantGone(b, "x")
}

func catalogUndeleteBucket(t *catalogTest) {
	b := t.bucket("b")
	x, y := t.put(b, "x"), t.put(b, "y")
	z := t.put(b, "z")
	_, err := t.Catalog.UndeleteBucket(t.ctx, "b")
	t.want(err, store.ErrExists)
	_, err = t.Catalog.UndeleteBucket(t.ctx, "nothing")
	t.want(err, store.ErrNoBucket)
	t.wantObject(b, x)
	before, err := t.Catalog.Totals(t.ctx)
	t.ok(err)
	t.ok(t.Catalog.DeleteBucket(t.ctx, "b", true))
	other := t.bucket("b")
	_, err = t.Catalog.UndeleteBucket(t.ctx, "b")
	t.want(err, store.ErrExists)
	t.ok(t.Catalog.DeleteBucket(t.ctx, "b", false))
	got, err := t.Catalog.UndeleteBucket(t.ctx, "b")
	t.ok(err)
	t.equal("UndeleteBucket", got, b)
	t.wantObject(b, x)
	t.wantGone(b, "nothing")
	_, err = t.Catalog.EmptyBucket(t.ctx, b.ID, 10) // the task that is still on its way
	t.want(err, store.ErrInUse)
	after, err := t.Catalog.Totals(t.ctx)
	t.ok(err)
	t.equal("Totals", after, before)
	if other.ID == b.ID {
		t.Error("two buckets have one id")
	}

	// What has been taken out comes back one by one.
	t.ok(t.Catalog.DeleteBucket(t.ctx, "b", true))
	t.clock.add(time.Minute)
	if n, err := t.Catalog.EmptyBucket(t.ctx, b.ID, 2); n != 2 || err != nil {
		t.Fatalf("EmptyBucket = %d, %v; want 2", n, err)
	}
	_, err = t.Catalog.UndeleteBucket(t.ctx, "b")
	t.ok(err)
	t.wantGone(b, "x")
	t.wantGone(b, "y")
	t.wantObject(b, z)
	for _, o := range []store.Object{x, y} {
		_, err = t.Catalog.Undelete(t.ctx, "b", o.Name, 0, false)
		t.ok(err)
		t.wantObject(b, o)
	}
}
