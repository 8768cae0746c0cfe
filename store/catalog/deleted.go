package catalog

import (
	"context"
	"fmt"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// DeletedObject finds an object whose entities are still to be deleted. Its Missing is nil: what was missing is no longer
// known.
func (c *SQLite) DeletedObject(ctx context.Context, id store.ObjectID) (store.Object, error) {
	var o store.Object
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select(`SELECT o.bucket_id, o.name, ` + objectColumns + ` FROM deleted_object o WHERE o.id=?`)
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(id))
		row, err := st.Step()
		if err != nil {
			return err
		}
		if !row {
			return fmt.Errorf("%w: id %d is not a deleted one", store.ErrNoObject, id)
		}
		return c.scanNamed(conn, st, &o)
	})
	if err != nil {
		return store.Object{}, err
	}
	return o, nil
}

// chunk is how many ids one turn of a connection or one transaction handles.
const chunk = 256

// ForgetDeleted drops the rows of deleted objects. An id that has none is no error.
func (c *SQLite) ForgetDeleted(ctx context.Context, ids []store.ObjectID) error {
	for len(ids) > 0 {
		now := ids[:min(chunk, len(ids))]
		ids = ids[len(now):]
		err := c.write(ctx, func(t *txn) error {
			for _, id := range now {
				var cluster store.ClusterID
				var size int64
				n, err := t.Returning("DELETE FROM deleted_object WHERE id=? RETURNING cluster_id, size",
					func(st *sqldb.Stmt) { st.BindInt64(1, int64(id)) },
					func(st *sqldb.Stmt) { cluster, size = store.ClusterID(st.ColumnInt64(0)), st.ColumnInt64(1) })
				if err != nil {
					return err
				}
				if n > 0 {
					t.count(cluster, 0, 0, -1)
					t.digest(cluster, id, size, -1)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Unknown returns those of ids that no row mentions, in the order given. Objects of a deleted bucket that are not taken
// out yet are known.
func (c *SQLite) Unknown(ctx context.Context, ids []store.ObjectID) ([]store.ObjectID, error) {
	var unknown []store.ObjectID
	for len(ids) > 0 {
		now := ids[:min(chunk, len(ids))]
		ids = ids[len(now):]
		// One state for both tables: between them an object may move from one to the other.
		err := c.view(ctx, func(conn *sqldb.Conn) error {
			for _, id := range now {
				st, err := conn.Select(`SELECT EXISTS(SELECT 1 FROM object WHERE id=?1) OR EXISTS(SELECT 1 FROM deleted_object WHERE id=?1)`)
				if err != nil {
					return err
				}
				st.BindInt64(1, int64(id))
				if _, err := st.Step(); err != nil {
					return err
				}
				if !st.ColumnBool(0) {
					unknown = append(unknown, id)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return unknown, nil
}

// Totals counts what is there: exact, and cheap but for the number of buckets, which are counted.
func (c *SQLite) Totals(ctx context.Context) (store.Totals, error) {
	var s store.Totals
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select(`SELECT (SELECT count(*) FROM bucket), coalesce(sum(objects),0), coalesce(sum(bytes),0),
			(SELECT value FROM counter WHERE name='missing'), coalesce(sum(deleted),0), (SELECT count(*) FROM deleted_bucket) FROM total`)
		if err != nil {
			return err
		}
		if _, err := st.Step(); err != nil {
			return err
		}
		for i, p := range []*int64{&s.Buckets, &s.Objects, &s.Bytes, &s.Missing, &s.DeletedObjects, &s.DeletedBuckets} {
			*p = st.ColumnInt64(i)
		}
		return nil
	})
	return s, err
}
