package catalog

import (
	"context"
	"fmt"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// Find looks an object up: one statement, when the bucket has been seen before. The object's Name is the string given.
func (c *SQLite) Find(ctx context.Context, bucket, name string) (store.Bucket, store.Object, error) {
	var b *cachedBucket
	var o store.Object
	var found bool
	err := c.read(ctx, func(conn *sqldb.Conn) (err error) {
		if b = c.buckets.get(bucket); b != nil {
			var current bool
			if current, found, err = c.findIn(conn, b, name, &o); err != nil || current {
				return err
			}
		}
		b = nil
		return nil
	})
	if err == nil && b == nil {
		b, found, err = c.findSlowly(ctx, bucket, name, &o)
	}
	if err != nil {
		return store.Bucket{}, store.Object{}, err
	}
	if !found {
		return b.Bucket, store.Object{}, fmt.Errorf("%w: /%s/%s", store.ErrNoObject, bucket, name)
	}
	return b.Bucket, o, nil
}

// No JOIN here: SQLite would prepare the statement anew each time a parameter is bound, which is the cost of five lookups.
// (It looks at the values to choose a plan, unless the plan is obvious: one table, all columns of a unique key.)
const (
	findSQL = `SELECT (SELECT gen FROM bucket WHERE id=?1), ` + objectColumns + ` FROM object o WHERE o.bucket_id=?1 AND o.name=?2`
	genSQL  = `SELECT gen FROM bucket WHERE id=?`
)

// findIn looks for an object in a bucket that was seen before. current says whether the bucket still is what b says;
// if not, nothing else is known.
func (c *SQLite) findIn(conn *sqldb.Conn, b *cachedBucket, name string, o *store.Object) (current, found bool, err error) {
	st, err := conn.Select(findSQL)
	if err != nil {
		return false, false, err
	}
	st.BindInt64(1, int64(b.ID))
	sqldb.BindString(st, 2, name)
	row, err := st.Step()
	if err != nil {
		return false, false, err
	}
	if !row {
		current, err := isGen(conn, b)
		return current, false, err
	}
	if st.ColumnInt64(0) != b.gen {
		return false, false, nil
	}
	o.Bucket, o.Name = b.ID, name
	status, err := c.scanObject(conn, st, 1, o)
	if err == nil && status&hasMissing != 0 {
		o.Missing, err = missingOf(conn, o.ID)
	}
	return true, err == nil, err
}

// isGen reports whether a bucket is unchanged. If it is now, it was when the statement before this one ran.
func isGen(conn *sqldb.Conn, b *cachedBucket) (bool, error) {
	st, err := conn.Select(genSQL)
	if err != nil {
		return false, err
	}
	st.BindInt64(1, int64(b.ID))
	row, err := st.Step()
	return row && st.ColumnInt64(0) == b.gen, err
}

// findSlowly reads the bucket anew, in the same state of the database as the object.
func (c *SQLite) findSlowly(ctx context.Context, bucket, name string, o *store.Object) (b *cachedBucket, found bool, err error) {
	err = c.view(ctx, func(conn *sqldb.Conn) error {
		var err error
		if b, err = bucketNamed(conn, bucket); err != nil {
			return err
		}
		var current bool
		current, found, err = c.findIn(conn, b, name, o)
		if err == nil && !current {
			err = fmt.Errorf("%w: bucket %d changed within a transaction", store.ErrCatalogDamage, b.ID)
		}
		return err
	})
	if err == nil {
		c.buckets.put(b)
	} else {
		c.buckets.drop(bucket)
	}
	return b, found, err
}

// ObjectByID finds a visible object by its id.
func (c *SQLite) ObjectByID(ctx context.Context, id store.ObjectID) (store.Object, error) {
	var o store.Object
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select(`SELECT o.bucket_id, o.name, ` + objectColumns + `, EXISTS(SELECT 1 FROM bucket WHERE id=o.bucket_id)
			FROM object o WHERE o.id=?`)
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(id))
		row, err := st.Step()
		if err != nil {
			return err
		}
		if !row || !st.ColumnBool(2+objectWidth) {
			return fmt.Errorf("%w: id %d", store.ErrNoObject, id)
		}
		return c.scanNamed(conn, st, &o)
	})
	if err != nil {
		return store.Object{}, err
	}
	return o, nil
}

// scanNamed reads bucket_id, name and objectColumns, and what is missing.
func (c *SQLite) scanNamed(s selector, st *sqldb.Stmt, o *store.Object) error {
	o.Bucket = store.BucketID(st.ColumnInt64(0))
	o.Name = sqldb.ColumnString(st, 1)
	status, err := c.scanObject(s, st, 2, o)
	if err != nil {
		return err
	}
	o.Missing = nil
	if status&hasMissing != 0 {
		o.Missing, err = missingOf(s, o.ID)
	}
	return err
}
