package catalog

import (
	"context"
	"errors"
	"fmt"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

const bucketColumns = `id, name, access, class, cache_control, owner, created`

// scanBucket reads bucketColumns.
func scanBucket(st *sqldb.Stmt) store.Bucket {
	return store.Bucket{
		ID:           store.BucketID(st.ColumnInt64(0)),
		Name:         sqldb.ColumnString(st, 1),
		Access:       store.Access(st.ColumnInt64(2)),
		Class:        st.ColumnText(3),
		CacheControl: st.ColumnText(4),
		Owner:        store.AccountID(st.ColumnInt64(5)),
		Created:      unixTime(st.ColumnInt64(6)),
	}
}

// bucketNamed reads a bucket. ErrNoBucket.
func bucketNamed(s selector, name string) (*cachedBucket, error) {
	st, err := s.Select("SELECT " + bucketColumns + ", gen FROM bucket WHERE name=?")
	if err != nil {
		return nil, err
	}
	sqldb.BindString(st, 1, name)
	row, err := st.Step()
	if err != nil {
		return nil, err
	}
	if !row {
		return nil, noBucket(name)
	}
	return &cachedBucket{Bucket: scanBucket(st), gen: st.ColumnInt64(7)}, nil
}

func noBucket(name string) error { return fmt.Errorf("%w: %q", store.ErrNoBucket, name) }

// Bucket looks a bucket up by name.
func (c *SQLite) Bucket(ctx context.Context, name string) (store.Bucket, error) {
	var b *cachedBucket
	err := c.read(ctx, func(conn *sqldb.Conn) (err error) {
		b, err = bucketNamed(conn, name)
		return err
	})
	if err != nil {
		return store.Bucket{}, err
	}
	return b.Bucket, nil
}

// BucketByID finds a bucket whether visible or being deleted.
func (c *SQLite) BucketByID(ctx context.Context, id store.BucketID) (store.Bucket, error) {
	var b store.Bucket
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT " + bucketColumns + " FROM bucket WHERE id=?1 UNION ALL SELECT " + bucketColumns +
			" FROM deleted_bucket WHERE id=?1")
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(id))
		row, err := st.Step()
		if err != nil {
			return err
		}
		if !row {
			return fmt.Errorf("%w: id %d", store.ErrNoBucket, id)
		}
		b = scanBucket(st)
		return nil
	})
	return b, err
}

// CreateBucket makes a bucket.
func (c *SQLite) CreateBucket(ctx context.Context, b store.Bucket) (store.Bucket, error) {
	if err := checkName("bucket", b.Name, store.MaxBucketName); err != nil {
		return store.Bucket{}, err
	}
	out := b
	err := c.write(ctx, func(t *txn) error {
		there, err := bucketNamed(t, b.Name)
		if err == nil {
			out = there.Bucket
			return fmt.Errorf("%w: bucket %q", store.ErrExists, b.Name)
		}
		if !errors.Is(err, store.ErrNoBucket) {
			return err
		}
		t.forgetBuckets()
		now := c.now()
		_, err = t.Exec(`INSERT INTO bucket(name,access,class,cache_control,owner,created,gen) VALUES(?1,?2,?3,?4,?5,?6,1)`,
			func(st *sqldb.Stmt) {
				bindBucket(st, &b)
				st.BindInt64(6, now)
			})
		out = b
		out.ID, out.Created = store.BucketID(t.LastInsertID()), unixTime(now)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrExists) {
		return store.Bucket{}, err
	}
	return out, err
}

// bindBucket sets ?1 to ?5.
func bindBucket(st *sqldb.Stmt, b *store.Bucket) {
	sqldb.BindString(st, 1, b.Name)
	st.BindInt64(2, int64(b.Access))
	st.BindText(3, b.Class)
	st.BindText(4, b.CacheControl)
	st.BindInt64(5, int64(b.Owner))
}

// UpdateBucket replaces Access, Class, CacheControl and Owner.
func (c *SQLite) UpdateBucket(ctx context.Context, b store.Bucket) error {
	return c.write(ctx, func(t *txn) error {
		n, err := t.Exec(`UPDATE bucket SET access=?2, class=?3, cache_control=?4, owner=?5, gen=gen+1 WHERE id=?6`,
			func(st *sqldb.Stmt) {
				bindBucket(st, &b)
				st.BindInt64(6, int64(b.ID))
			})
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: id %d", store.ErrNoBucket, b.ID)
		}
		return err
	})
}

// RenameBucket gives a bucket another name.
func (c *SQLite) RenameBucket(ctx context.Context, from, to string) error {
	if err := checkName("bucket", to, store.MaxBucketName); err != nil {
		return err
	}
	return c.write(ctx, func(t *txn) error {
		b, err := bucketNamed(t, from)
		if err != nil {
			return err
		}
		if from == to {
			return fmt.Errorf("%w: bucket %q", store.ErrExists, to)
		}
		_, err = t.Exec("UPDATE bucket SET name=?2, gen=gen+1 WHERE id=?1", func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(b.ID))
			sqldb.BindString(st, 2, to)
		})
		if sqldb.IsConstraint(err) {
			return fmt.Errorf("%w: bucket %q", store.ErrExists, to)
		}
		return err
	})
}

// ListBuckets returns buckets in byte order of their names.
func (c *SQLite) ListBuckets(ctx context.Context, after string, limit int) ([]store.Bucket, error) {
	var list []store.Bucket
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT " + bucketColumns + " FROM bucket WHERE name>? ORDER BY name LIMIT ?")
		if err != nil {
			return err
		}
		sqldb.BindString(st, 1, after)
		st.BindInt64(2, int64(max(0, limit)))
		return each(st, func() { list = append(list, scanBucket(st)) })
	})
	return list, err
}

// each steps through all rows.
func each(st *sqldb.Stmt, f func()) error {
	for {
		row, err := st.Step()
		if err != nil || !row {
			return err
		}
		f()
	}
}
