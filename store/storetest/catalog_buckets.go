package storetest

import (
	"fmt"
	"strings"
	"time"

	"wheelhouse/store"
)

func catalogBuckets(t *catalogTest) {
	_, err := t.Catalog.Bucket(t.ctx, "b")
	t.want(err, store.ErrNoBucket)
	want := store.Bucket{Name: "b", Access: store.PublicRead, Class: "photos", CacheControl: "no-cache", Owner: 7}
	b, err := t.Catalog.CreateBucket(t.ctx, want)
	t.ok(err)
	if b.ID == 0 {
		t.Fatal("bucket without ID")
	}
	want.ID, want.Created = b.ID, t.clock.now()
	t.equal("CreateBucket", b, want)
	check := func() {
		t.Helper()
		for range 2 {
			got, err := t.Catalog.Bucket(t.ctx, want.Name)
			t.ok(err)
			t.equal("Bucket", got, want)
		}
		got, err := t.Catalog.BucketByID(t.ctx, want.ID)
		t.ok(err)
		t.equal("BucketByID", got, want)
		t.wantGone(want, "x") // Find's bucket
	}
	check()

	t.clock.add(time.Hour)
	there, err := t.Catalog.CreateBucket(t.ctx, store.Bucket{Name: "b"})
	t.want(err, store.ErrExists)
	t.equal("the bucket that is there", there, want)

	want.Access, want.Class, want.CacheControl, want.Owner = store.Private, "", "", 0
	given := want
	given.Name, given.Created = "ignored", time.Time{}
	t.ok(t.Catalog.UpdateBucket(t.ctx, given))
	check()
	given.ID = 999
	t.want(t.Catalog.UpdateBucket(t.ctx, given), store.ErrNoBucket)
	_, err = t.Catalog.BucketByID(t.ctx, 999)
	t.want(err, store.ErrNoBucket)
	for _, name := range []string{"", strings.Repeat("b", store.MaxBucketName+1)} {
		if _, err := t.Catalog.CreateBucket(t.ctx, store.Bucket{Name: name}); err == nil {
			t.Errorf("bucket with a name of %d bytes was made", len(name))
		}
	}
}

func catalogListBuckets(t *catalogTest) {
	list := func(after string, limit int) []string {
		t.Helper()
		buckets, err := t.Catalog.ListBuckets(t.ctx, after, limit)
		t.ok(err)
		var names []string
		for _, b := range buckets {
			names = append(names, b.Name)
		}
		return names
	}
	t.equal("none", list("", 10), []string(nil))
	want := []string{"A", "a", "a\x00", "ab", "b", "\xff"}
	for _, i := range shuffled(len(want)) {
		t.bucket(want[i])
	}
	t.equal("all", list("", 10), want)
	t.equal("limit", list("", 2), want[:2])
	t.equal("limit 0", list("", 0), []string(nil))
	t.equal("after one", list("a", 10), want[2:])
	t.equal("after none of them", list("aa", 1), want[3:4])
	t.equal("after all", list("\xff", 10), []string(nil))
}

func catalogRenameBucket(t *catalogTest) {
	b := t.bucket("old")
	o := t.put(b, "x")
	other := t.bucket("other")
	t.wantObject(b, o)
	t.want(t.Catalog.RenameBucket(t.ctx, "nothing", "new"), store.ErrNoBucket)
	t.want(t.Catalog.RenameBucket(t.ctx, "old", "other"), store.ErrExists)
	t.want(t.Catalog.RenameBucket(t.ctx, "old", "old"), store.ErrExists)
	t.wantObject(b, o)

	t.ok(t.Catalog.RenameBucket(t.ctx, "old", "new"))
	_, _, err := t.Catalog.Find(t.ctx, "old", "x")
	t.want(err, store.ErrNoBucket)
	b.Name = "new"
	t.wantObject(b, o)

	// Another one under the old name, and then back and forth: names must never be mixed up.
	second := t.bucket("old")
	t.wantGone(second, "x")
	mine := t.put(second, "x")
	t.ok(t.Catalog.RenameBucket(t.ctx, "old", "third"))
	t.ok(t.Catalog.RenameBucket(t.ctx, "new", "old"))
	b.Name, second.Name = "old", "third"
	t.wantObject(b, o)
	t.wantObject(second, mine)
	t.wantGone(other, "x")
}

func catalogDeleteBucket(t *catalogTest) {
	b := t.bucket("b")
	t.want(t.Catalog.DeleteBucket(t.ctx, "nothing", true), store.ErrNoBucket)
	o := t.put(b, "x")
	t.want(t.Catalog.DeleteBucket(t.ctx, "b", false), store.ErrNotEmpty)
	t.wantObject(b, o)
	_, err := t.Catalog.Delete(t.ctx, b.ID, "x", store.Condition{})
	t.ok(err)
	t.Tasks()
	t.ok(t.Catalog.DeleteBucket(t.ctx, "b", false))
	t.wantTasks()
	_, err = t.Catalog.Bucket(t.ctx, "b")
	t.want(err, store.ErrNoBucket)
	_, _, err = t.Catalog.Find(t.ctx, "b", "x")
	t.want(err, store.ErrNoBucket)
	_, err = t.Catalog.BucketByID(t.ctx, b.ID)
	t.want(err, store.ErrNoBucket)
	_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: t.object(b, "late")})
	t.want(err, store.ErrNoBucket)
	t.want(t.Catalog.DeleteBucket(t.ctx, "b", false), store.ErrNoBucket)
	if again := t.bucket("b"); again.ID == b.ID {
		t.Error("the id of a deleted bucket was used again")
	}
}

func catalogDeleteBucketRecursive(t *catalogTest) {
	b := t.bucket("b")
	const n = 300
	objects := make(map[store.ObjectID]store.Object)
	for i := range n {
		o := t.put(b, fmt.Sprintf("%03d", i))
		objects[o.ID] = o
	}
	first := t.find(b, "000")
	if got, err := t.Catalog.EmptyBucket(t.ctx, b.ID, 10); err == nil {
		t.Fatalf("EmptyBucket of a bucket that is not deleted = %d", got)
	}
	t.ok(t.Catalog.DeleteBucket(t.ctx, "b", true))
	t.wantTasks(store.NewDeleteBucket(b.ID, t.clock.now().Add(t.Grace)))
	_, _, err := t.Catalog.Find(t.ctx, "b", "000")
	t.want(err, store.ErrNoBucket)
	_, err = t.Catalog.ObjectByID(t.ctx, first.ID)
	t.want(err, store.ErrNoObject)
	_, err = t.Catalog.Delete(t.ctx, b.ID, "000", store.Condition{})
	t.want(err, store.ErrNoObject)
	t.want(t.Catalog.Update(t.ctx, first), store.ErrNoObject)
	t.equal("Scan", t.names(b, "", 10), []string(nil))
	got, err := t.Catalog.BucketByID(t.ctx, b.ID)
	t.ok(err)
	t.equal("BucketByID", got, b)

	// The name is free, and the new bucket has nothing of the old one.
	second := t.bucket("b")
	t.wantGone(second, "000")
	mine := t.put(second, "000")

	t.Tasks()
	left := n
	for left > 0 {
		m, err := t.Catalog.EmptyBucket(t.ctx, b.ID, 140)
		t.ok(err)
		if m == 0 {
			t.Fatalf("EmptyBucket = 0; want more: %d are left", left)
		}
		left -= m
	}
	tasks := t.Tasks()
	if len(tasks) != n {
		t.Errorf("%d tasks; want %d", len(tasks), n)
	}
	for id, o := range objects {
		got, err := t.Catalog.DeletedObject(t.ctx, id)
		t.ok(err)
		t.equal("DeletedObject", got, o)
	}
	if m, err := t.Catalog.EmptyBucket(t.ctx, b.ID, 100); m != 0 || err != nil {
		t.Errorf("EmptyBucket of an empty one = %d, %v", m, err)
	}
	_, err = t.Catalog.BucketByID(t.ctx, b.ID)
	t.want(err, store.ErrNoBucket)
	t.wantObject(second, mine)
}
