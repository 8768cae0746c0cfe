package catalog

import (
	"context"
	"errors"
	"fmt"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// Delete removes an object from view.
func (c *SQLite) Delete(ctx context.Context, bucket store.BucketID, name string, cond store.Condition) (deleted store.Object, err error) {
	err = c.write(ctx, func(t *txn) error {
		deleted, err = t.delete(bucket, name, cond)
		return err
	})
	if err != nil {
		return store.Object{}, err
	}
	return deleted, nil
}

func (t *txn) delete(bucket store.BucketID, name string, cond store.Condition) (store.Object, error) {
	o, status, err := t.visibleNamed(bucket, name)
	if errors.Is(err, store.ErrNoObject) && !cond.Holds(nil) {
		return o, store.ErrPrecondition
	}
	if err != nil {
		return o, err
	}
	if !cond.Holds(&o) {
		return o, store.ErrPrecondition
	}
	return o, t.remove(&o, status)
}

// visibleNamed is objectNamed for objects of visible buckets: to a caller, those of other buckets do not exist.
func (t *txn) visibleNamed(bucket store.BucketID, name string) (o store.Object, status int64, err error) {
	if err := t.needBucket(bucket); errors.Is(err, store.ErrNoBucket) {
		return o, 0, fmt.Errorf("%w: %q in bucket %d, which does not exist", store.ErrNoObject, name, bucket)
	} else if err != nil {
		return o, 0, err
	}
	return t.objectNamed(bucket, name)
}

// remove takes an object out of view.
func (t *txn) remove(o *store.Object, status int64) error {
	if err := t.bury(o, status); err != nil {
		return err
	}
	_, err := t.Exec("DELETE FROM object WHERE bucket_id=? AND name=?", func(st *sqldb.Stmt) {
		st.BindInt64(1, int64(o.Bucket))
		sqldb.BindString(st, 2, o.Name)
	})
	return err
}

// Update replaces the properties of an object that are not its content.
func (c *SQLite) Update(ctx context.Context, o store.Object) error {
	return c.write(ctx, func(t *txn) error {
		old, _, err := t.visibleNamed(o.Bucket, o.Name)
		if err != nil {
			return err
		}
		if old.ID != o.ID {
			return fmt.Errorf("%w: version %d of %q in bucket %d has been replaced", store.ErrNoObject, o.ID, o.Name, o.Bucket)
		}
		ct, err := c.types.id(t, o.ContentType)
		if err != nil {
			return err
		}
		_, err = t.Exec(`UPDATE object SET content_type=?3, replicas=?4, cache_control=?5, meta=?6 WHERE bucket_id=?1 AND name=?2`,
			func(st *sqldb.Stmt) {
				st.BindInt64(1, int64(o.Bucket))
				sqldb.BindString(st, 2, o.Name)
				st.BindInt64(3, ct)
				st.BindInt64(4, int64(o.Replicas))
				bindOptional(st, 5, &o)
			})
		return err
	})
}

// Rename gives an object another name.
func (c *SQLite) Rename(ctx context.Context, from store.BucketID, fromName string, to store.BucketID, toName string) error {
	if err := checkName("object", toName, store.MaxObjectName); err != nil {
		return err
	}
	return c.write(ctx, func(t *txn) error {
		if _, _, err := t.visibleNamed(from, fromName); err != nil {
			return err
		}
		if err := t.needBucket(to); err != nil {
			return err
		}
		exists := fmt.Errorf("%w: %q in bucket %d", store.ErrExists, toName, to)
		if from == to && fromName == toName {
			return exists
		}
		_, err := t.Exec("UPDATE object SET bucket_id=?3, name=?4 WHERE bucket_id=?1 AND name=?2", func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(from))
			sqldb.BindString(st, 2, fromName)
			st.BindInt64(3, int64(to))
			sqldb.BindString(st, 4, toName)
		})
		if sqldb.IsConstraint(err) {
			return exists
		}
		return err
	})
}
