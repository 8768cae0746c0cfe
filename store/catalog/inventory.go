package catalog

import (
	"context"
	"fmt"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// digestKey is one row of id_digest.
type digestKey struct {
	cluster store.ClusterID
	block   uint64
}

// digestChange is an object that one call counts in or out.
type digestChange struct {
	cluster store.ClusterID
	id      store.ObjectID
	size    int64
	sign    int64
}

// digest counts an id in (sign 1) when the storages of a cluster are to hold it, and out (-1) when its entities are gone. An
// object that is deleted stays counted in until it is forgotten.
func (t *txn) digest(cluster store.ClusterID, id store.ObjectID, size, sign int64) {
	t.digests = append(t.digests, digestChange{cluster, id, size, sign})
}

func (g *group) addDigest(c digestChange) {
	key := digestKey{c.cluster, uint64(c.id) / store.DigestBlock}
	sum := g.digests[key]
	if sum == nil {
		sum = &store.BlockDigest{}
		g.digests[key] = sum
	}
	sum.Add(c.id, c.size, 0, c.sign)
}

// flushDigests writes the changes of the digests. SQLite has no exclusive or.
func (g *group) flushDigests(tx *sqldb.Tx) error {
	for key, d := range g.digests {
		_, err := tx.Exec(`INSERT INTO id_digest(cluster_id,block,objects,bytes,hash) VALUES(?1,?2,?3,?4,?5) ON CONFLICT(cluster_id,block)
			DO UPDATE SET objects=objects+?3, bytes=bytes+?4, hash=~(hash&?5)&(hash|?5)`, func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(key.cluster))
			st.BindInt64(2, int64(key.block))
			st.BindInt64(3, d.Count)
			st.BindInt64(4, d.Bytes)
			st.BindInt64(5, int64(d.Size))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fillDigests makes the digests of a catalog that was there before they were: one pass over the tables, some million rows
// a second, once.
func (c *SQLite) fillDigests(ctx context.Context) error {
	filled := false
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT value FROM counter WHERE name='id_digest'")
		if err != nil {
			return err
		}
		_, err = st.Step()
		filled = st.ColumnInt64(0) != 0
		return err
	})
	if err != nil || filled {
		return err
	}
	return c.write(ctx, func(t *txn) error {
		n, err := t.Exec("UPDATE counter SET value=1 WHERE name='id_digest' AND value=0", nil)
		if err != nil || n == 0 {
			return err // another process was faster
		}
		for _, table := range []string{"object", "deleted_object"} {
			st, err := t.Select("SELECT cluster_id, id, size FROM " + table)
			if err != nil {
				return err
			}
			err = each(st, func() {
				t.digest(store.ClusterID(st.ColumnInt64(0)), store.ObjectID(st.ColumnInt64(1)), st.ColumnInt64(2), 1)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// IDDigests summarises what a cluster's storages should hold.
func (c *SQLite) IDDigests(ctx context.Context, cluster store.ClusterID) ([]store.BlockDigest, error) {
	var list []store.BlockDigest
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT block,objects,bytes,hash FROM id_digest WHERE cluster_id=? AND (objects<>0 OR hash<>0) ORDER BY block")
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(cluster))
		return each(st, func() {
			list = append(list, store.BlockDigest{
				Block: uint64(st.ColumnInt64(0)), Count: st.ColumnInt64(1), Bytes: st.ColumnInt64(2), Size: uint64(st.ColumnInt64(3)),
			})
		})
	})
	return list, err
}

// ObjectsByID lists visible objects of a cluster. Those of a bucket that is being deleted are among them until they are
// taken out.
func (c *SQLite) ObjectsByID(ctx context.Context, cluster store.ClusterID, from, to store.ObjectID, limit int) ([]store.Object, error) {
	return c.byID(ctx, `SELECT o.bucket_id, o.name, `+objectColumns+` FROM object o WHERE o.id>=?1 AND o.id<?2 AND o.cluster_id=?3
		ORDER BY o.id LIMIT ?4`, cluster, from, to, limit)
}

// DeletedByID lists deleted objects of a cluster.
func (c *SQLite) DeletedByID(ctx context.Context, cluster store.ClusterID, from, to store.ObjectID, limit int) ([]store.Object, error) {
	return c.byID(ctx, `SELECT o.bucket_id, o.name, `+objectColumns+` FROM deleted_object o WHERE o.id>=?1 AND o.id<?2 AND o.cluster_id=?3
		ORDER BY o.id LIMIT ?4`, cluster, from, to, limit)
}

func (c *SQLite) byID(ctx context.Context, query string, cluster store.ClusterID, from, to store.ObjectID, limit int) ([]store.Object, error) {
	var list []store.Object
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select(query)
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(min(from, maxObjectID)))
		st.BindInt64(2, int64(min(to, maxObjectID)))
		st.BindInt64(3, int64(cluster))
		st.BindInt64(4, int64(max(0, limit)))
		for {
			row, err := st.Step()
			if err != nil || !row {
				return err
			}
			o := store.Object{Bucket: store.BucketID(st.ColumnInt64(0)), Name: sqldb.ColumnString(st, 1)}
			status, err := c.scanObject(conn, st, 2, &o)
			if err != nil {
				return err
			}
			if status&hasMissing != 0 {
				if o.Missing, err = missingOf(conn, o.ID); err != nil {
					return err
				}
			}
			list = append(list, o)
		}
	})
	return list, err
}

// maxObjectID bounds ids: SQLite's integers are signed.
const maxObjectID = store.ObjectID(1<<63 - 1)

// ClearMissingOn records that a storage holds objects, in pieces, between which others commit.
func (c *SQLite) ClearMissingOn(ctx context.Context, storage store.StorageID, ids []store.ObjectID) error {
	for len(ids) > 0 {
		now := ids[:min(chunk, len(ids))]
		ids = ids[len(now):]
		err := c.write(ctx, func(t *txn) error {
			for _, id := range now {
				if err := t.clearMissing(id, []store.StorageID{storage}); err != nil {
					return err
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

// MoveObject gives an object another id and cluster.
func (c *SQLite) MoveObject(ctx context.Context, old store.ObjectID, to store.Object, written *store.Written) error {
	if to.ID == 0 || to.ID > maxObjectID {
		return fmt.Errorf("catalog: object id %d is out of range", to.ID)
	}
	return c.write(ctx, func(t *txn) error {
		if err := t.needLease(to.ID); err != nil {
			return err
		}
		if err := t.needObject(old); err != nil {
			return err
		}
		st, err := t.Select(`SELECT o.bucket_id, o.name, ` + objectColumns + ` FROM object o WHERE o.id=?`)
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(old))
		if _, err := st.Step(); err != nil {
			return err
		}
		o := store.Object{Bucket: store.BucketID(st.ColumnInt64(0)), Name: sqldb.ColumnString(st, 1)}
		status, err := c.scanObject(t, st, 2, &o)
		if err != nil {
			return err
		}
		if err := t.bury(&o, status); err != nil {
			return err
		}
		o.ID, o.Cluster, o.Missing = to.ID, to.Cluster, to.Missing
		if written != nil {
			if o.Missing, err = t.owing(o.Cluster, written); err != nil {
				return err
			}
		}
		_, err = t.Exec("UPDATE object SET id=?3, cluster_id=?4, status=?5 WHERE bucket_id=?1 AND name=?2", func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(o.Bucket))
			sqldb.BindString(st, 2, o.Name)
			st.BindInt64(3, int64(o.ID))
			st.BindInt64(4, int64(o.Cluster))
			st.BindInt64(5, statusOf(&o))
		})
		if sqldb.IsConstraint(err) {
			return fmt.Errorf("%w: object id %d is in use", store.ErrExists, o.ID)
		}
		if err != nil {
			return err
		}
		return t.addCommitted(&o)
	})
}
