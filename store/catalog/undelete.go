package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// beingDeleted is the bit of deleted_object.status that says that a worker may have begun to delete the entities: the
// version cannot be brought back any more.
const beingDeleted = 2

// BeginDelete is as in [store.Catalog].
func (c *SQLite) BeginDelete(ctx context.Context, id store.ObjectID) (store.Object, error) {
	err := c.write(ctx, func(t *txn) error {
		var deletedAt int64
		n, err := t.Returning("UPDATE deleted_object SET status=status|?2 WHERE id=?1 RETURNING deleted_at",
			func(st *sqldb.Stmt) { st.BindInt64(1, int64(id)); st.BindInt64(2, beingDeleted) },
			func(st *sqldb.Stmt) { deletedAt = st.ColumnInt64(0) })
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: id %d is not a deleted one", store.ErrNoObject, id)
		}
		if left := time.Duration(deletedAt-c.now())*time.Second + c.opts.Grace; left >= time.Second {
			return fmt.Errorf("%w: object %d: its grace time ends in %s", store.ErrInUse, id, left)
		}
		return nil
	})
	if err != nil {
		return store.Object{}, err
	}
	return c.DeletedObject(ctx, id)
}

// Deleted is as in [store.Catalog]. It reads all rows of deleted_object: they are few, or there is a reason to wait.
func (c *SQLite) Deleted(ctx context.Context, bucket, prefix string, limit int) ([]store.DeletedVersion, error) {
	var list []store.DeletedVersion
	err := c.view(ctx, func(conn *sqldb.Conn) error {
		list = nil
		b, err := bucketNamed(conn, bucket)
		if err != nil {
			return err
		}
		st, err := conn.Select(`SELECT o.deleted_at, o.name, ` + objectColumns + ` FROM deleted_object o
			WHERE o.bucket_id=?1 AND o.name>=?2 AND o.status&?3=0 ORDER BY o.name, o.id DESC`)
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(b.ID))
		sqldb.BindString(st, 2, prefix)
		st.BindInt64(3, beingDeleted)
		for len(list) < limit {
			row, err := st.Step()
			if err != nil || !row {
				return err
			}
			v := store.DeletedVersion{Deleted: unixTime(st.ColumnInt64(0))}
			v.Bucket, v.Name, v.Until = b.ID, sqldb.ColumnString(st, 1), v.Deleted.Add(c.opts.Grace)
			if !strings.HasPrefix(v.Name, prefix) {
				return nil
			}
			if _, err := c.scanObject(conn, st, 2, &v.Object); err != nil {
				return err
			}
			list = append(list, v)
		}
		return nil
	})
	return list, err
}

// Undelete is as in [store.Catalog].
func (c *SQLite) Undelete(ctx context.Context, bucket, name string, id store.ObjectID, replace bool) (o store.Object, err error) {
	err = c.write(ctx, func(t *txn) error {
		b, err := bucketNamed(t, bucket)
		if err != nil {
			return err
		}
		if o, err = t.deletedNamed(b.ID, name, id); err != nil {
			return err
		}
		switch old, status, err := t.objectNamed(b.ID, name); {
		case err == nil && !replace:
			return fmt.Errorf("%w: /%s/%s, version %d", store.ErrExists, bucket, name, old.ID)
		case err == nil:
			if err := t.remove(&old, status); err != nil {
				return err
			}
		case !errors.Is(err, store.ErrNoObject):
			return err
		}
		return t.exhume(&o)
	})
	if err != nil {
		return store.Object{}, err
	}
	return o, nil
}

// deletedNamed finds a version that can be brought back, the newest one if id is 0.
func (t *txn) deletedNamed(bucket store.BucketID, name string, id store.ObjectID) (o store.Object, err error) {
	st, err := t.Select(`SELECT ` + objectColumns + ` FROM deleted_object o
		WHERE o.bucket_id=?1 AND o.name=?2 AND (?3=0 OR o.id=?3) AND o.status&?4=0 ORDER BY o.id DESC LIMIT 1`)
	if err != nil {
		return o, err
	}
	st.BindInt64(1, int64(bucket))
	sqldb.BindString(st, 2, name)
	st.BindInt64(3, int64(id))
	st.BindInt64(4, beingDeleted)
	row, err := st.Step()
	if err != nil {
		return o, err
	}
	if !row {
		return o, fmt.Errorf("%w: no version of %q that could be brought back", store.ErrNoObject, name)
	}
	o.Bucket, o.Name = bucket, name
	_, err = t.c.scanObject(t, st, 0, &o)
	return o, err
}

// exhume undoes bury, for a name that no object has.
func (t *txn) exhume(o *store.Object) error {
	bind := func(st *sqldb.Stmt) { st.BindInt64(1, int64(o.ID)) }
	_, err := t.Exec(`INSERT INTO object(bucket_id,name,id,cluster_id,size,etag,content_type,created,status,replicas,cache_control,meta)
		SELECT bucket_id,name,id,cluster_id,size,etag,content_type,created,0,replicas,cache_control,meta FROM deleted_object WHERE id=?`, bind)
	if err != nil {
		return err
	}
	if _, err := t.Exec("DELETE FROM deleted_object WHERE id=?", bind); err != nil {
		return err
	}
	t.count(o.Cluster, 1, o.Size, -1)
	t.enqueue(store.NewRepair(o.ID, 0))
	return nil
}

// UndeleteBucket is as in [store.Catalog].
func (c *SQLite) UndeleteBucket(ctx context.Context, name string) (b store.Bucket, err error) {
	err = c.write(ctx, func(t *txn) error {
		if _, err := bucketNamed(t, name); err == nil {
			return fmt.Errorf("%w: bucket %q", store.ErrExists, name)
		} else if !errors.Is(err, store.ErrNoBucket) {
			return err
		}
		st, err := t.Select("SELECT " + bucketColumns + " FROM deleted_bucket WHERE name=? ORDER BY id DESC LIMIT 1")
		if err != nil {
			return err
		}
		sqldb.BindString(st, 1, name)
		row, err := st.Step()
		if err != nil {
			return err
		}
		if !row {
			return noBucket(name)
		}
		b = scanBucket(st)
		t.forgetBuckets()
		// Its gen was forgotten; one that it cannot have had tells caches that this is news.
		gen := c.now()
		_, err = t.Exec("INSERT INTO bucket("+bucketColumns+",gen) SELECT "+bucketColumns+",?2 FROM deleted_bucket WHERE id=?1",
			func(st *sqldb.Stmt) { st.BindInt64(1, int64(b.ID)); st.BindInt64(2, gen) })
		if err != nil {
			return err
		}
		_, err = t.Exec("DELETE FROM deleted_bucket WHERE id=?", func(st *sqldb.Stmt) { st.BindInt64(1, int64(b.ID)) })
		return err
	})
	if err != nil {
		return store.Bucket{}, err
	}
	return b, nil
}

// Undelete is as in [store.Catalog].
func (k *Cache) Undelete(ctx context.Context, bucket, name string, id store.ObjectID, replace bool) (store.Object, error) {
	b, err := k.Catalog.Bucket(ctx, bucket)
	if err != nil {
		return store.Object{}, err
	}
	f := k.objects.begin(objectKey{b.ID, name})
	defer k.objects.end(f, nil)
	return k.Catalog.Undelete(ctx, bucket, name, id, replace)
}

// UndeleteBucket is as in [store.Catalog]. What was cached of the bucket's objects may have been taken out meanwhile.
func (k *Cache) UndeleteBucket(ctx context.Context, name string) (store.Bucket, error) {
	k.buckets.begin()
	defer k.buckets.end()
	defer k.objects.clear()
	return k.Catalog.UndeleteBucket(ctx, name)
}
