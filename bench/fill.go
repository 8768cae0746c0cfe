package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// catalogBuckets is how many buckets the objects of a filled catalog are spread over.
const catalogBuckets = 4

// filled is a catalog with rows that were written all at once.
type filled struct {
	file    string
	buckets []store.Bucket
	rows    int
	created time.Time
	first   store.ObjectID // of the filling's ids
	size    int64          // of the file
	took    time.Duration
	next    int64 // number of the next object to commit
}

// filledCatalog is a catalog with n rows. Each size is made once in a run.
func (l *lab) filledCatalog(ctx context.Context, n int) (*filled, error) {
	if f := l.catalogs[n]; f != nil {
		return f, nil
	}
	dir, err := l.mkdir("catalog")
	if err != nil {
		return nil, err
	}
	f := &filled{file: filepath.Join(dir, "catalog.db"), rows: n, created: time.Now().UTC().Truncate(time.Second), next: int64(n)}
	l.logf("filling a catalog with %d rows", n)
	begun := time.Now()
	if err := f.fill(ctx); err != nil {
		return nil, fmt.Errorf("fill a catalog with %d rows: %w", n, err)
	}
	f.took = time.Since(begun)
	l.catalogs[n] = f
	return f, nil
}

func (f *filled) fill(ctx context.Context) error {
	c, err := openForFilling(ctx, f.file)
	if err != nil {
		return err
	}
	if err := f.fillOpen(ctx, c); err != nil {
		return errors.Join(err, c.Close())
	}
	if err := c.Close(); err != nil { // which copies all of the log into the file
		return err
	}
	st, err := os.Stat(f.file)
	if err != nil {
		return err
	}
	f.size = st.Size()
	return f.verify(ctx)
}

// openForFilling opens a catalog with a page cache that holds all of it: rows come in an order that is not the tables'.
func openForFilling(ctx context.Context, file string) (*catalog.SQLite, error) {
	return catalog.OpenSQLite(ctx, file, catalog.Options{DB: sqldb.Options{WriterCache: 4 << 30}})
}

func (f *filled) fillOpen(ctx context.Context, c *catalog.SQLite) error {
	for i := range catalogBuckets {
		b, err := c.CreateBucket(ctx, store.Bucket{Name: fmt.Sprint("bucket", i)})
		if err != nil {
			return err
		}
		f.buckets = append(f.buckets, b)
	}
	var err error
	f.first, err = bulkInsert(ctx, c, f.rows, f.object)
	return err
}

// object is the object with number i, except for its id.
func (f *filled) object(i int64, o *store.Object) {
	*o = store.Object{
		Bucket: f.buckets[i%catalogBuckets].ID, Name: string(photoName(nil, i)), Cluster: 1, Size: 10 << 10,
		ContentType: "image/jpeg", Created: f.created,
	}
	for k := range 8 {
		o.ETag[k], o.ETag[k+8] = byte(splitmix(uint64(i)+1)>>(8*k)), byte(splitmix(uint64(i)+2)>>(8*k))
	}
}

// verify asks the catalog, opened as usual, for some of the rows.
func (f *filled) verify(ctx context.Context) error {
	c, err := catalog.OpenSQLite(ctx, f.file, catalog.Options{})
	if err != nil {
		return err
	}
	for i := int64(0); i < int64(f.rows); i += max(1, int64(f.rows)/97) {
		var want store.Object
		f.object(i, &want)
		want.ID = f.first + store.ObjectID(i)
		if err := verifyObject(ctx, c, f.buckets[i%catalogBuckets].Name, want); err != nil {
			return errors.Join(err, c.Close())
		}
	}
	return c.Close()
}

func verifyObject(ctx context.Context, c store.Catalog, bucket string, want store.Object) error {
	_, got, err := c.Find(ctx, bucket, want.Name)
	if err != nil {
		return err
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("the row that was filled in reads %v; want %v", got, want)
	}
	return nil
}

// objectColumns is how many columns the table had when bulkInsert was written.
const objectColumns = 12

// bulkInsert commits n objects without missing entities, with ids that it leases, in one transaction: the rows that as many
// calls of Commit would have written, in a twentieth of the time. Object 0 is committed, so that there is a row of the
// catalog's own, and its content type has a number; all must have that content type.
func bulkInsert(ctx context.Context, c *catalog.SQLite, n int, object func(i int64, o *store.Object)) (first store.ObjectID, err error) {
	if first, err = c.LeaseIDs(ctx, "bench", n); err != nil {
		return 0, err
	}
	var model store.Object
	object(0, &model)
	model.ID = first
	if _, err := c.Commit(ctx, store.Commit{Object: model}); err != nil {
		return 0, err
	}
	err = c.DB().Write(ctx, func(tx *sqldb.Tx) error {
		contentType, err := contentTypeOf(tx, model.ContentType)
		if err != nil {
			return err
		}
		var bytes int64
		for i := int64(1); i < int64(n); i++ {
			if i%10_000 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			var o store.Object
			object(i, &o)
			o.ID = first + store.ObjectID(i)
			bytes += o.Size
			if err := insertRow(tx, &o, contentType); err != nil {
				return err
			}
		}
		_, err = tx.Exec("UPDATE total SET objects=objects+?, bytes=bytes+? WHERE cluster_id=?", func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(n-1))
			st.BindInt64(2, bytes)
			st.BindInt64(3, int64(model.Cluster))
		})
		if err != nil {
			return err
		}
		// Its digests by id are made when it is opened next.
		if _, err := tx.Exec("DELETE FROM id_digest", nil); err != nil {
			return err
		}
		_, err = tx.Exec("UPDATE counter SET value=0 WHERE name='id_digest'", nil)
		return err
	})
	return first, errors.Join(err, c.DropLease(ctx, first))
}

// contentTypeOf finds the number of a content type, and refuses tables that are not those that this was written for.
func contentTypeOf(tx *sqldb.Tx, value string) (int64, error) {
	st, err := tx.Select("SELECT (SELECT id FROM content_type WHERE value=?), (SELECT count(*) FROM pragma_table_info('object'))")
	if err != nil {
		return 0, err
	}
	st.BindText(1, value)
	if _, err := st.Step(); err != nil {
		return 0, err
	}
	if n := st.ColumnInt(1); n != objectColumns {
		return 0, fmt.Errorf("table object has %d columns; bulkInsert knows %d", n, objectColumns)
	}
	return st.ColumnInt64(0), nil
}

func insertRow(tx *sqldb.Tx, o *store.Object, contentType int64) error {
	_, err := tx.Exec(`INSERT INTO object(bucket_id,name,id,cluster_id,size,etag,content_type,created,status,replicas)
		VALUES(?,?,?,?,?,?,?,?,0,0)`, func(st *sqldb.Stmt) {
		st.BindInt64(1, int64(o.Bucket))
		sqldb.BindString(st, 2, o.Name)
		st.BindInt64(3, int64(o.ID))
		st.BindInt64(4, int64(o.Cluster))
		st.BindInt64(5, o.Size)
		st.BindBytes(6, o.ETag[:])
		st.BindInt64(7, contentType)
		st.BindInt64(8, o.Created.Unix())
	})
	return err
}
