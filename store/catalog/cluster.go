package catalog

import (
	"context"
	"fmt"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// PutCluster creates or replaces a cluster.
func (c *SQLite) PutCluster(ctx context.Context, k store.Cluster) (store.ClusterID, error) {
	id := k.ID
	err := c.changeTopology(ctx, func(t *txn) (bool, error) {
		_, err := t.Exec(`INSERT INTO cluster(id,name,mode) VALUES(nullif(?1,0),?2,?3)
			ON CONFLICT(id) DO UPDATE SET name=?2, mode=?3`, func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(k.ID))
			st.BindText(2, k.Name)
			st.BindInt64(3, int64(k.Mode))
		})
		if k.ID == 0 {
			id = store.ClusterID(t.LastInsertID())
		}
		return true, err
	})
	return id, err
}

// RemoveCluster removes a cluster that has no storages and no objects. Objects that are deleted but whose entities are
// not count too. That is one row of the totals, which are exact: no object is looked at.
func (c *SQLite) RemoveCluster(ctx context.Context, id store.ClusterID) error {
	return c.changeTopology(ctx, func(t *txn) (bool, error) {
		if err := t.needCluster(id); err != nil {
			return false, err
		}
		if n, err := t.storagesOf(id); err != nil {
			return false, err
		} else if n > 0 {
			return false, fmt.Errorf("%w: cluster %d has %d storages", store.ErrInUse, id, n)
		}
		if err := t.needNoObjects(id); err != nil {
			return false, err
		}
		bind := func(st *sqldb.Stmt) { st.BindInt64(1, int64(id)) }
		if _, err := t.Exec("DELETE FROM total WHERE cluster_id=?", bind); err != nil {
			return false, err
		}
		_, err := t.Exec("DELETE FROM cluster WHERE id=?", bind)
		return true, err
	})
}

func (t *txn) needCluster(id store.ClusterID) error {
	n, err := t.queryInt("SELECT count(*) FROM cluster WHERE id=?", int64(id))
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: id %d", store.ErrNoCluster, id)
	}
	return err
}

func (t *txn) storagesOf(id store.ClusterID) (int64, error) {
	return t.queryInt("SELECT count(*) FROM storage WHERE cluster_id=?", int64(id))
}

// needNoObjects returns ErrInUse if a cluster holds objects, counting what this group has done and not written down yet.
func (t *txn) needNoObjects(id store.ClusterID) error {
	n, err := t.queryInt("SELECT coalesce(sum(objects+deleted),0) FROM total WHERE cluster_id=?", int64(id))
	if err != nil {
		return err
	}
	if y := t.group.totals[id]; y != nil {
		n += y.objects + y.deleted
	}
	if n != 0 {
		return fmt.Errorf("%w: cluster %d holds %d objects", store.ErrInUse, id, n)
	}
	return nil
}

// queryInt runs a query with one parameter that returns one integer.
func (t *txn) queryInt(query string, arg int64) (int64, error) {
	st, err := t.Select(query)
	if err != nil {
		return 0, err
	}
	st.BindInt64(1, arg)
	row, err := st.Step()
	if err != nil || !row {
		return 0, err
	}
	return st.ColumnInt64(0), nil
}

// PutClass creates or replaces a class.
func (c *SQLite) PutClass(ctx context.Context, k store.Class) error {
	return c.changeTopology(ctx, func(t *txn) (bool, error) {
		_, err := t.Exec(`INSERT INTO class(name,clusters,min_durable) VALUES(?1,?2,?3)
			ON CONFLICT(name) DO UPDATE SET clusters=?2, min_durable=?3`, func(st *sqldb.Stmt) {
			st.BindText(1, k.Name)
			st.BindText(2, formatClusters(k.Clusters))
			st.BindInt64(3, int64(k.MinDurable))
		})
		return true, err
	})
}
