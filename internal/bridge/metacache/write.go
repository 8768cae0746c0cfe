package metacache

import (
	"context"
	"errors"
	"maps"
	"strings"

	"wheelhouse/store"
)

// Commit is as in [store.Catalog].
func (c *Cache) Commit(ctx context.Context, cm store.Commit) (old store.Object, err error) {
	err = c.change(ctx, []target{objectTarget(cm.Object.Bucket, cm.Object.Name)}, func() (err error) {
		old, err = c.Catalog.Commit(ctx, cm)
		return err
	}, nil)
	return old, err
}

// Delete is as in [store.Catalog].
func (c *Cache) Delete(ctx context.Context, bucket store.BucketID, name string, cond store.Condition) (o store.Object, err error) {
	err = c.change(ctx, []target{objectTarget(bucket, name)}, func() (err error) {
		o, err = c.Catalog.Delete(ctx, bucket, name, cond)
		return err
	}, nil)
	return o, err
}

// Update is as in [store.Catalog].
func (c *Cache) Update(ctx context.Context, o store.Object) error {
	return c.change(ctx, []target{objectTarget(o.Bucket, o.Name)}, func() error { return c.Catalog.Update(ctx, o) }, nil)
}

// Rename is as in [store.Catalog].
func (c *Cache) Rename(ctx context.Context, from store.BucketID, fromName string, to store.BucketID, toName string) error {
	return c.change(ctx, []target{objectTarget(from, fromName), objectTarget(to, toName)}, func() error {
		return c.Catalog.Rename(ctx, from, fromName, to, toName)
	}, nil)
}

// Undelete is as in [store.Catalog].
func (c *Cache) Undelete(ctx context.Context, bucket, name string, id store.ObjectID, replace bool) (o store.Object, err error) {
	b, err := c.Catalog.Bucket(ctx, bucket)
	if err != nil {
		return store.Object{}, err
	}
	err = c.change(ctx, []target{objectTarget(b.ID, name)}, func() (err error) {
		o, err = c.Catalog.Undelete(ctx, bucket, name, id, replace)
		return err
	}, func() []target {
		if o.Bucket != 0 {
			return []target{objectTarget(o.Bucket, name)} // another bucket has the name by now
		}
		if now, err := c.Catalog.Bucket(context.WithoutCancel(ctx), bucket); err == nil {
			return []target{objectTarget(now.ID, name)}
		} else if errors.Is(err, store.ErrNoBucket) {
			return nil
		}
		return anything
	})
	return o, err
}

// AddMissing is as in [store.Catalog]. Objects that storages are owed are not cached, so that ClearMissing, ClearMissingOn and RemoveStorage concern no
// cache.
func (c *Cache) AddMissing(ctx context.Context, id store.ObjectID, storages []store.StorageID) error {
	return c.changeByID(ctx, id, id, func() error { return c.Catalog.AddMissing(ctx, id, storages) })
}

// MoveObject is as in [store.Catalog].
func (c *Cache) MoveObject(ctx context.Context, old store.ObjectID, to store.Object, w *store.Written) error {
	return c.changeByID(ctx, old, to.ID, func() error { return c.Catalog.MoveObject(ctx, old, to, w) })
}

// changeByID does a change of an object whose name is not given. It may get another name meanwhile, and another id by the change, so it is looked for
// before and after. Who gives it a third name in between deletes that before its own return.
func (c *Cache) changeByID(ctx context.Context, id, then store.ObjectID, change func() error) error {
	named := func(ctx context.Context, id store.ObjectID) ([]target, error) {
		o, err := c.Catalog.ObjectByID(ctx, id)
		if errors.Is(err, store.ErrNoObject) {
			return nil, nil // nobody can see it
		}
		return []target{objectTarget(o.Bucket, o.Name)}, err
	}
	before, err := named(ctx, id)
	if err != nil {
		return err
	}
	return c.change(ctx, before, change, func() []target {
		ctx := context.WithoutCancel(ctx)
		after, err := named(ctx, then)
		if err == nil && after == nil && then != id {
			after, err = named(ctx, id)
		}
		if err != nil {
			return anything
		}
		return after
	})
}

// UpdateBucket is as in [store.Catalog].
func (c *Cache) UpdateBucket(ctx context.Context, b store.Bucket) error {
	named := func(ctx context.Context) ([]target, error) {
		k, err := c.Catalog.BucketByID(ctx, b.ID)
		if errors.Is(err, store.ErrNoBucket) {
			return nil, nil
		}
		return []target{bucketTarget(k.Name)}, err
	}
	before, err := named(ctx)
	if err != nil {
		return err
	}
	return c.change(ctx, before, func() error { return c.Catalog.UpdateBucket(ctx, b) }, func() []target {
		after, err := named(context.WithoutCancel(ctx))
		if err != nil {
			return anything
		}
		return after
	})
}

// RenameBucket is as in [store.Catalog].
func (c *Cache) RenameBucket(ctx context.Context, from, to string) error {
	return c.change(ctx, []target{bucketTarget(from), bucketTarget(to)}, func() error { return c.Catalog.RenameBucket(ctx, from, to) }, nil)
}

// DeleteBucket is as in [store.Catalog].
func (c *Cache) DeleteBucket(ctx context.Context, name string, recursive bool) error {
	return c.change(ctx, []target{bucketTarget(name)}, func() error { return c.Catalog.DeleteBucket(ctx, name, recursive) }, nil)
}

// UndeleteBucket is as in [store.Catalog]. What was cached of the bucket's objects may have been taken out meanwhile, whatever their names are: all that is
// cached becomes void, and look-ups go to the catalog for some seconds.
func (c *Cache) UndeleteBucket(ctx context.Context, name string) (store.Bucket, error) {
	b, err := c.Catalog.UndeleteBucket(ctx, name)
	return b, c.changedAll(ctx, err)
}

// Settings is as in [store.Catalog], without what processes have agreed on.
func (c *Cache) Settings(ctx context.Context) (map[string]string, error) {
	all, err := c.Catalog.Settings(ctx)
	maps.DeleteFunc(all, func(key, _ string) bool { return strings.HasPrefix(key, store.ReservedSettings) })
	return all, err
}
