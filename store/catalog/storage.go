package catalog

import (
	"context"
	"errors"
	"fmt"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// PutStorage creates or replaces a storage. Created is kept when it is replaced, and now if it is zero. One that is new to a cluster that holds
// objects has none of them: it is filled first.
func (c *SQLite) PutStorage(ctx context.Context, s store.Storage) (store.StorageID, error) {
	id := s.ID
	err := c.changeTopology(ctx, func(t *txn) (bool, error) {
		if err := t.needCluster(s.Cluster); err != nil {
			return false, err
		}
		created := s.Created.Unix()
		if s.Created.IsZero() {
			created = c.now()
		}
		mode := s.Mode
		if s.Down.Active() {
			mode = s.Set
		}
		if old, was, err := t.placeOf(s.ID); err == nil && old != s.Cluster {
			if err := t.mayLeave(old, was); err != nil {
				return false, err
			}
		} else if err != nil && !errors.Is(err, store.ErrNoStorage) {
			return false, err
		}
		behind, err := t.newToObjects(&s)
		if err != nil {
			return false, err
		}
		if behind && mode != store.ModeSpare && mode != store.ModeDead {
			mode = store.ModeFilling
		}
		_, err = t.Exec(`INSERT INTO storage(id,cluster_id,uri,mode,capacity,used,created) VALUES(nullif(?1,0),?2,?3,?4,?5,?6,?7)
			ON CONFLICT(id) DO UPDATE SET cluster_id=?2, uri=?3, mode=?4, capacity=?5, used=?6, by_system=by_system AND mode=?4`, func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(s.ID))
			st.BindInt64(2, int64(s.Cluster))
			st.BindText(3, s.URI)
			st.BindInt64(4, int64(mode))
			st.BindInt64(5, s.Capacity)
			st.BindInt64(6, s.Used)
			st.BindInt64(7, created)
		})
		if sqldb.IsConstraint(err) {
			return false, fmt.Errorf("%w: a storage at %s", store.ErrExists, s.URI)
		}
		if s.ID == 0 {
			id = store.StorageID(t.LastInsertID())
		}
		if err == nil && mode == store.ModeFilling {
			err = t.begunAnew(id)
		}
		return true, err
	})
	return id, err
}

// newToObjects reports whether a storage is about to come to a cluster that holds objects, on others than dead storages.
func (t *txn) newToObjects(s *store.Storage) (bool, error) {
	st, err := t.Select("SELECT coalesce(sum(id=?1),0), coalesce(sum(mode<>?3),0) FROM storage WHERE cluster_id=?2")
	if err != nil {
		return false, err
	}
	st.BindInt64(1, int64(s.ID))
	st.BindInt64(2, int64(s.Cluster))
	st.BindInt64(3, int64(store.ModeDead))
	_, err = st.Step()
	if itself, living := st.ColumnInt(0), st.ColumnInt(1); err != nil || itself > 0 || living == 0 {
		return false, err
	}
	switch err := t.needNoObjects(s.Cluster); {
	case errors.Is(err, store.ErrInUse):
		return true, nil
	default:
		return false, err
	}
}

// SetStorageMode changes the mode that is set. One that is set to be filled has nothing from then on, also if it was being filled.
// Where it is down, the time until it is declared dead begins anew.
func (c *SQLite) SetStorageMode(ctx context.Context, id store.StorageID, mode store.StorageMode) error {
	return c.changeTopology(ctx, func(t *txn) (bool, error) {
		// Otherwise one that was declared dead, and that an operator has brought back, would be dead again with the next report: some
		// time goes by until it is seen to be well.
		_, err := t.Exec("UPDATE storage SET down_seen=?2, down_uncounted=?2-down_since WHERE id=?1 AND down_since<>0", func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(id))
			st.BindInt64(2, c.now())
		})
		if err != nil {
			return false, err
		}
		if mode == store.ModeFilling {
			if err := t.begunAnew(id); err != nil {
				return false, err
			}
			_, err := t.updateStorage(id, "UPDATE storage SET mode=?2, by_system=0 WHERE id=?1", int64(mode), 0)
			return err == nil, err
		}
		return t.updateStorage(id, "UPDATE storage SET mode=?2, by_system=0 WHERE id=?1 AND (mode<>?2 OR by_system<>0)", int64(mode), 0)
	})
}

// SetStorageUsage records what a storage said of itself. The topology's version grows only if that is news.
func (c *SQLite) SetStorageUsage(ctx context.Context, id store.StorageID, capacity, used int64) error {
	return c.changeTopology(ctx, func(t *txn) (bool, error) {
		return t.updateStorage(id, "UPDATE storage SET capacity=?2, used=?3 WHERE id=?1 AND (capacity<>?2 OR used<>?3)", capacity, used)
	})
}

// updateStorage runs an update that leaves a row alone that has the values already.
func (t *txn) updateStorage(id store.StorageID, query string, a, b int64) (changed bool, err error) {
	n, err := t.Exec(query, func(st *sqldb.Stmt) {
		st.BindInt64(1, int64(id))
		st.BindInt64(2, a)
		if st.BindParamCount() > 2 {
			st.BindInt64(3, b)
		}
	})
	if err != nil || n > 0 {
		return n > 0, err
	}
	there, err := t.queryInt("SELECT count(*) FROM storage WHERE id=?", int64(id))
	if err == nil && there == 0 {
		err = noStorage(id)
	}
	return false, err
}

func noStorage(id store.StorageID) error { return fmt.Errorf("%w: id %d", store.ErrNoStorage, id) }

// RemoveStorage removes a storage that is dead and not the last of its cluster, or whose cluster holds nothing, and what it was owed.
func (c *SQLite) RemoveStorage(ctx context.Context, id store.StorageID) error {
	err := c.changeTopology(ctx, func(t *txn) (bool, error) {
		cluster, mode, err := t.placeOf(id)
		if err != nil {
			return false, err
		}
		if err := t.mayLeave(cluster, mode); err != nil {
			return false, err
		}
		bind := func(st *sqldb.Stmt) { st.BindInt64(1, int64(id)) }
		if _, err := t.Exec("DELETE FROM health WHERE storage_id=?", bind); err != nil {
			return false, err
		}
		_, err = t.Exec("DELETE FROM storage WHERE id=?", bind)
		return true, err
	})
	if err != nil {
		return err
	}
	return c.forgetMissing(ctx, id)
}

// placeOf is where a storage is, and the mode that is set. ErrNoStorage.
func (t *txn) placeOf(id store.StorageID) (store.ClusterID, store.StorageMode, error) {
	st, err := t.Select("SELECT cluster_id, mode FROM storage WHERE id=?")
	if err != nil {
		return 0, 0, err
	}
	st.BindInt64(1, int64(id))
	row, err := st.Step()
	if err == nil && !row {
		err = noStorage(id)
	}
	return store.ClusterID(st.ColumnInt64(0)), store.StorageMode(st.ColumnInt64(1)), err
}

// mayLeave returns ErrInUse if a cluster cannot do without a storage: one that counts as alive is one of the places where its objects are,
// and without any storage nobody would know that there are objects which cannot be read.
func (t *txn) mayLeave(cluster store.ClusterID, mode store.StorageMode) error {
	left, err := t.storagesOf(cluster)
	if err != nil || mode == store.ModeDead && left > 1 {
		return err
	}
	return t.needNoObjects(cluster)
}

// forgetMissing removes what a storage is owed, in pieces, between which others commit: a disk that has died may be owed
// millions.
func (c *SQLite) forgetMissing(ctx context.Context, id store.StorageID) error {
	var after store.ObjectID
	for {
		owed, err := c.MissingOn(ctx, id, after, chunk)
		if err != nil || len(owed) == 0 {
			return err
		}
		err = c.write(ctx, func(t *txn) error {
			for _, o := range owed {
				if err := t.clearMissing(o, []store.StorageID{id}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		after = owed[len(owed)-1]
	}
}
