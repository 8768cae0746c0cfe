package catalog

import (
	"context"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// scanChunk is how many rows are read before f is called with them: f may be slow, and no connection must be kept meanwhile.
const scanChunk = 256

// Scan calls f for the objects of a bucket in byte order of their names. Each object is read at most once, but a long scan
// is not one moment's state: chunks of 256 are. The *Object is valid during the call of f; what it refers to (strings,
// Meta, Missing) may be kept. A bucket that is not visible has no objects.
func (c *SQLite) Scan(ctx context.Context, bucket store.BucketID, from string, limit int, f func(*store.Object) bool) error {
	var chunk []store.Object
	after := false // from has been seen
	for limit > 0 {
		var err error
		chunk, err = c.scanChunk(ctx, chunk[:0], bucket, from, after, min(limit, scanChunk))
		if err != nil {
			return err
		}
		for i := range chunk {
			if !f(&chunk[i]) {
				return nil
			}
		}
		if len(chunk) < min(limit, scanChunk) {
			return nil
		}
		limit -= len(chunk)
		from, after = chunk[len(chunk)-1].Name, true
	}
	return nil
}

const (
	scanColumns  = `SELECT o.name, ` + objectColumns + ` FROM object o WHERE o.bucket_id=(SELECT id FROM bucket WHERE id=?1) AND `
	scanFromSQL  = scanColumns + `o.name>=?2 ORDER BY o.name LIMIT ?3`
	scanAfterSQL = scanColumns + `o.name>?2 ORDER BY o.name LIMIT ?3`
)

func (c *SQLite) scanChunk(ctx context.Context, into []store.Object, bucket store.BucketID, from string, after bool, n int) ([]store.Object, error) {
	query := scanFromSQL
	if after {
		query = scanAfterSQL
	}
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select(query)
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(bucket))
		sqldb.BindString(st, 2, from)
		st.BindInt64(3, int64(n))
		for {
			row, err := st.Step()
			if err != nil || !row {
				return err
			}
			o := store.Object{Bucket: bucket, Name: sqldb.ColumnString(st, 0)}
			status, err := c.scanObject(conn, st, 1, &o)
			if err != nil {
				return err
			}
			if status&hasMissing != 0 {
				if o.Missing, err = missingOf(conn, o.ID); err != nil {
					return err
				}
			}
			into = append(into, o)
		}
	})
	return into, err
}
