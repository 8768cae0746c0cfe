package catalog

import (
	"context"
	"errors"
	"slices"
	"time"

	"wheelhouse/store"
)

// fresher is a catalog that can tell a commit that changed something from one that was done before, after which the object may
// be other than it says.
type fresher interface {
	commitFresh(ctx context.Context, c store.Commit) (replaced store.Object, missing []store.StorageID, fresh bool, err error)
}

// Commit is as in [store.Catalog].
func (k *Cache) Commit(ctx context.Context, c store.Commit) (store.Object, error) {
	f := k.objects.begin(objectKey{c.Object.Bucket, c.Object.Name})
	var outcome *entry
	defer func() { k.objects.end(f, outcome) }()
	inner, ok := k.Catalog.(fresher)
	if !ok {
		return k.Catalog.Commit(ctx, c)
	}
	old, missing, fresh, err := inner.commitFresh(ctx, c)
	if err == nil && fresh {
		c.Object.Missing = missing
		outcome = &entry{object: asStored(c.Object)}
	}
	return old, err
}

// asStored is what Find will say of an object that is committed.
func asStored(o store.Object) store.Object {
	o.Created = time.Unix(o.Created.Unix(), 0).UTC()
	if len(o.Meta) == 0 {
		o.Meta = nil
	}
	o.Meta = slices.Clone(o.Meta)
	o.Missing = slices.Clone(o.Missing)
	slices.Sort(o.Missing)
	o.Missing = slices.Compact(o.Missing)
	if len(o.Missing) == 0 {
		o.Missing = nil
	}
	return o
}

// Delete is as in [store.Catalog].
func (k *Cache) Delete(ctx context.Context, bucket store.BucketID, name string, cond store.Condition) (store.Object, error) {
	f := k.objects.begin(objectKey{bucket, name})
	var outcome *entry
	defer func() { k.objects.end(f, outcome) }()
	o, err := k.Catalog.Delete(ctx, bucket, name, cond)
	if err == nil {
		outcome = &entry{gone: true}
	}
	return o, err
}

// Update is as in [store.Catalog].
func (k *Cache) Update(ctx context.Context, o store.Object) error {
	f := k.objects.begin(objectKey{o.Bucket, o.Name})
	defer k.objects.end(f, nil)
	return k.Catalog.Update(ctx, o)
}

// Rename is as in [store.Catalog].
func (k *Cache) Rename(ctx context.Context, from store.BucketID, fromName string, to store.BucketID, toName string) error {
	f := k.objects.begin(objectKey{from, fromName})
	defer k.objects.end(f, nil)
	g := k.objects.begin(objectKey{to, toName})
	defer k.objects.end(g, nil)
	return k.Catalog.Rename(ctx, from, fromName, to, toName)
}

// AddMissing is as in [store.Catalog].
func (k *Cache) AddMissing(ctx context.Context, id store.ObjectID, storages []store.StorageID) error {
	return k.changeByID(ctx, id, func() error { return k.Catalog.AddMissing(ctx, id, storages) })
}

// ClearMissing is as in [store.Catalog].
func (k *Cache) ClearMissing(ctx context.Context, id store.ObjectID, storages []store.StorageID) error {
	return k.changeByID(ctx, id, func() error { return k.Catalog.ClearMissing(ctx, id, storages) })
}

// changeByID does a change of an object whose name is not given. It may get another name meanwhile, so it is looked for
// before and after.
func (k *Cache) changeByID(ctx context.Context, id store.ObjectID, change func() error) error {
	before, known := k.keyOf(ctx, id)
	var f *flight
	if known {
		f = k.objects.begin(before)
	}
	err := change()
	if known {
		k.objects.end(f, nil)
	}
	if after, ok := k.keyOf(ctx, id); ok && (!known || after != before) {
		k.objects.end(k.objects.begin(after), nil)
	}
	return err
}

// keyOf returns what an object would be cached under. If that cannot be learned, nothing stays cached.
func (k *Cache) keyOf(ctx context.Context, id store.ObjectID) (objectKey, bool) {
	o, err := k.Catalog.ObjectByID(context.WithoutCancel(ctx), id)
	if err != nil && !errors.Is(err, store.ErrNoObject) {
		k.objects.clear()
	}
	return objectKey{o.Bucket, o.Name}, err == nil
}

// RemoveStorage is as in [store.Catalog].
func (k *Cache) RemoveStorage(ctx context.Context, id store.StorageID) error {
	err := k.Catalog.RemoveStorage(ctx, id)
	k.objects.clear() // of any object it may have been missing
	return err
}

// ClearMissingOn is as in [store.Catalog].
func (k *Cache) ClearMissingOn(ctx context.Context, storage store.StorageID, ids []store.ObjectID) error {
	err := k.Catalog.ClearMissingOn(ctx, storage, ids)
	k.objects.clear() // of any object it may have been missing
	return err
}

// MoveObject is as in [store.Catalog].
func (k *Cache) MoveObject(ctx context.Context, old store.ObjectID, to store.Object, w *store.Written) error {
	return k.changeByID(ctx, old, func() error { return k.Catalog.MoveObject(ctx, old, to, w) })
}

// UpdateBucket is as in [store.Catalog].
func (k *Cache) UpdateBucket(ctx context.Context, b store.Bucket) error {
	k.buckets.begin()
	defer k.buckets.end()
	return k.Catalog.UpdateBucket(ctx, b)
}

// RenameBucket is as in [store.Catalog].
func (k *Cache) RenameBucket(ctx context.Context, from, to string) error {
	k.buckets.begin()
	defer k.buckets.end()
	return k.Catalog.RenameBucket(ctx, from, to)
}

// DeleteBucket is as in [store.Catalog].
func (k *Cache) DeleteBucket(ctx context.Context, name string, recursive bool) error {
	k.buckets.begin()
	defer k.buckets.end()
	return k.Catalog.DeleteBucket(ctx, name, recursive)
}
