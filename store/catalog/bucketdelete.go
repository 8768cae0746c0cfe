package catalog

import (
	"context"
	"errors"
	"fmt"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// emptyChunk is how many objects one transaction takes out of a deleted bucket, so that others need not wait long.
const emptyChunk = 128

// DeleteBucket removes a bucket from view. One without objects is gone at once; else it becomes a row of deleted_bucket
// that a task empties after the grace time: until then it can be brought back as it was.
func (c *SQLite) DeleteBucket(ctx context.Context, name string, recursive bool) error {
	return c.write(ctx, func(t *txn) error {
		b, err := bucketNamed(t, name)
		if err != nil {
			return err
		}
		empty, err := t.isEmpty(b.ID)
		if err != nil {
			return err
		}
		if !empty && !recursive {
			return fmt.Errorf("%w: %q", store.ErrNotEmpty, name)
		}
		t.forgetBuckets()
		bind := func(st *sqldb.Stmt) { st.BindInt64(1, int64(b.ID)) }
		if !empty {
			now := c.opts.Now()
			_, err := t.Exec(`INSERT INTO deleted_bucket(`+bucketColumns+`,deleted_at) SELECT `+bucketColumns+`,?2 FROM bucket WHERE id=?1`,
				func(st *sqldb.Stmt) { bind(st); st.BindInt64(2, now.Unix()) })
			if err != nil {
				return err
			}
			t.enqueue(store.NewDeleteBucket(b.ID, now.Add(c.opts.Grace)))
		}
		_, err = t.Exec("DELETE FROM bucket WHERE id=?", bind)
		return err
	})
}

func (t *txn) isEmpty(id store.BucketID) (bool, error) {
	st, err := t.Select("SELECT 1 FROM object WHERE bucket_id=? LIMIT 1")
	if err != nil {
		return false, err
	}
	st.BindInt64(1, int64(id))
	row, err := st.Step()
	return !row, err
}

// EmptyBucket takes objects of a deleted bucket out. ErrInUse when the bucket is visible.
func (c *SQLite) EmptyBucket(ctx context.Context, id store.BucketID, n int) (int, error) {
	total := 0
	for total < n {
		want := min(emptyChunk, n-total)
		var got int
		err := c.write(ctx, func(t *txn) (err error) {
			got, err = t.emptyBucket(id, want)
			return err
		})
		if err != nil {
			return total, err
		}
		total += got
		if got < want {
			break
		}
	}
	return total, nil
}

func (t *txn) emptyBucket(id store.BucketID, n int) (int, error) {
	err := t.needBucket(id)
	if err == nil {
		return 0, fmt.Errorf("%w: bucket %d is not deleted", store.ErrInUse, id)
	}
	if !errors.Is(err, store.ErrNoBucket) {
		return 0, err
	}
	objects, status, err := t.someObjects(id, n)
	if err != nil {
		return 0, err
	}
	for i := range objects {
		if err := t.remove(&objects[i], status[i]); err != nil {
			return 0, err
		}
	}
	if len(objects) > 0 {
		return len(objects), nil
	}
	_, err = t.Exec("DELETE FROM deleted_bucket WHERE id=?", func(st *sqldb.Stmt) { st.BindInt64(1, int64(id)) })
	return 0, err
}

// someObjects reads the first n objects of a bucket.
func (t *txn) someObjects(id store.BucketID, n int) (objects []store.Object, status []int64, err error) {
	st, err := t.Select(`SELECT o.name, ` + objectColumns + ` FROM object o WHERE o.bucket_id=? ORDER BY o.name LIMIT ?`)
	if err != nil {
		return nil, nil, err
	}
	st.BindInt64(1, int64(id))
	st.BindInt64(2, int64(n))
	for {
		row, err := st.Step()
		if err != nil || !row {
			return objects, status, err
		}
		o := store.Object{Bucket: id, Name: sqldb.ColumnString(st, 0)}
		s, err := t.c.scanObject(t, st, 1, &o)
		if err != nil {
			return nil, nil, err
		}
		objects, status = append(objects, o), append(status, s)
	}
}
