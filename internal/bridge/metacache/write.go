package metacache

import (
	"context"
	"errors"
	"maps"
	"strings"

	"wheelhouse/store"
)

// Commit is as in [store.Catalog].
func (c *Cache) Commit(ctx context.Context, cm store.Commit) (store.Object, error) {
	old, err := c.Catalog.Commit(ctx, cm)
	return old, c.changed(ctx, err, objectTarget(cm.Object.Bucket, cm.Object.Name))
}

// Delete is as in [store.Catalog].
func (c *Cache) Delete(ctx context.Context, bucket store.BucketID, name string, cond store.Condition) (store.Object, error) {
	o, err := c.Catalog.Delete(ctx, bucket, name, cond)
	return o, c.changed(ctx, err, objectTarget(bucket, name))
}

// Update is as in [store.Catalog].
func (c *Cache) Update(ctx context.Context, o store.Object) error {
	return c.changed(ctx, c.Catalog.Update(ctx, o), objectTarget(o.Bucket, o.Name))
}

// Rename is as in [store.Catalog].
func (c *Cache) Rename(ctx context.Context, from store.BucketID, fromName string, to store.BucketID, toName string) error {
	err := c.Catalog.Rename(ctx, from, fromName, to, toName)
	return c.changed(ctx, err, objectTarget(from, fromName), objectTarget(to, toName))
}

// Undelete is as in [store.Catalog].
func (c *Cache) Undelete(ctx context.Context, bucket, name string, id store.ObjectID, replace bool) (store.Object, error) {
	o, err := c.Catalog.Undelete(ctx, bucket, name, id, replace)
	if err == nil {
		return o, c.changed(ctx, nil, objectTarget(o.Bucket, name))
	}
	return o, c.changedRarely(ctx, err) // in which bucket it may have been done is not known
}

// AddMissing is as in [store.Catalog]. Objects that storages are owed are not cached, so that ClearMissing, ClearMissingOn and RemoveStorage concern no
// cache.
func (c *Cache) AddMissing(ctx context.Context, id store.ObjectID, storages []store.StorageID) error {
	return c.changeByID(ctx, id, func() error { return c.Catalog.AddMissing(ctx, id, storages) })
}

// MoveObject is as in [store.Catalog].
func (c *Cache) MoveObject(ctx context.Context, old store.ObjectID, to store.Object, w *store.Written) error {
	return c.changeByID(ctx, old, func() error { return c.Catalog.MoveObject(ctx, old, to, w) }, to.ID)
}

// changeByID does a change of an object whose name is not given. It may get another name meanwhile, and another id by the change, so it is looked for
// before and after. Who gives it a third name in between deletes that before its own return.
func (c *Cache) changeByID(ctx context.Context, id store.ObjectID, change func() error, then ...store.ObjectID) error {
	ctx = context.WithoutCancel(ctx)
	before, beforeErr := c.Catalog.ObjectByID(ctx, id)
	err := change()
	var targets []target
	add := func(o store.Object, err error) {
		switch {
		case err == nil:
			targets = append(targets, objectTarget(o.Bucket, o.Name))
		case !errors.Is(err, store.ErrNoObject):
			targets = anything
		}
	}
	add(before, beforeErr)
	for _, id := range append(then, id) {
		if o, err := c.Catalog.ObjectByID(ctx, id); err != nil || beforeErr != nil || o.Bucket != before.Bucket || o.Name != before.Name {
			add(o, err)
		}
	}
	if len(targets) == 0 {
		return err // nobody can see it
	}
	return c.changed(ctx, err, targets...)
}

// UpdateBucket is as in [store.Catalog].
func (c *Cache) UpdateBucket(ctx context.Context, b store.Bucket) error {
	before, beforeErr := c.Catalog.BucketByID(ctx, b.ID)
	err := c.Catalog.UpdateBucket(ctx, b)
	after, afterErr := c.Catalog.BucketByID(context.WithoutCancel(ctx), b.ID)
	if beforeErr != nil || afterErr != nil {
		return c.changedRarely(ctx, err)
	}
	return c.changed(ctx, err, bucketTarget(before.Name), bucketTarget(after.Name))
}

// RenameBucket is as in [store.Catalog].
func (c *Cache) RenameBucket(ctx context.Context, from, to string) error {
	return c.changed(ctx, c.Catalog.RenameBucket(ctx, from, to), bucketTarget(from), bucketTarget(to))
}

// DeleteBucket is as in [store.Catalog].
func (c *Cache) DeleteBucket(ctx context.Context, name string, recursive bool) error {
	return c.changed(ctx, c.Catalog.DeleteBucket(ctx, name, recursive), bucketTarget(name))
}

// UndeleteBucket is as in [store.Catalog]. What was cached of the bucket's objects may have been taken out meanwhile, whatever their names are: all that is
// cached becomes void, and look-ups go to the catalog for some seconds.
func (c *Cache) UndeleteBucket(ctx context.Context, name string) (store.Bucket, error) {
	b, err := c.Catalog.UndeleteBucket(ctx, name)
	return b, c.changedRarely(ctx, err)
}

// Settings is as in [store.Catalog], without what processes have agreed on.
func (c *Cache) Settings(ctx context.Context) (map[string]string, error) {
	all, err := c.Catalog.Settings(ctx)
	maps.DeleteFunc(all, func(key, _ string) bool { return strings.HasPrefix(key, store.ReservedSettings) })
	return all, err
}
