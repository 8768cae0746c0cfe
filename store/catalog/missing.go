package catalog

import (
	"context"
	"fmt"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// AddMissing records that storages have to be given an entity of an object. ErrNoObject unless it is visible.
func (c *SQLite) AddMissing(ctx context.Context, id store.ObjectID, storages []store.StorageID) error {
	if len(storages) == 0 {
		return nil
	}
	return c.write(ctx, func(t *txn) error {
		if err := t.needObject(id); err != nil {
			return err
		}
		if err := t.addMissing(id, storages); err != nil {
			return err
		}
		if err := t.setStatus(id, hasMissing, 0); err != nil {
			return err
		}
		t.enqueue(store.NewReplicate(id))
		return nil
	})
}

// ClearMissing records that storages hold the object. One that was not missing, or an object that is no longer visible, is
// no error.
func (c *SQLite) ClearMissing(ctx context.Context, id store.ObjectID, storages []store.StorageID) error {
	if len(storages) == 0 {
		return nil
	}
	return c.write(ctx, func(t *txn) error { return t.clearMissing(id, storages) })
}

func (t *txn) clearMissing(id store.ObjectID, storages []store.StorageID) error {
	cleared := 0
	for _, s := range storages {
		n, err := t.Exec("DELETE FROM missing WHERE object_id=? AND storage_id=?", func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(id))
			st.BindInt64(2, int64(s))
		})
		if err != nil {
			return err
		}
		cleared += n
	}
	t.missing -= int64(cleared)
	if cleared == 0 {
		return nil
	}
	left, err := missingOf(t, id)
	if err != nil || len(left) > 0 {
		return err
	}
	return t.setStatus(id, 0, hasMissing)
}

// MissingOn lists objects that a storage has to be given.
func (c *SQLite) MissingOn(ctx context.Context, storage store.StorageID, after store.ObjectID, limit int) ([]store.ObjectID, error) {
	var ids []store.ObjectID
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT object_id FROM missing WHERE storage_id=? AND object_id>? ORDER BY object_id LIMIT ?")
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(storage))
		st.BindInt64(2, int64(after))
		st.BindInt64(3, int64(max(0, limit)))
		return each(st, func() { ids = append(ids, store.ObjectID(st.ColumnInt64(0))) })
	})
	return ids, err
}

// EnqueueRepair enqueues a check of an object's entities.
func (c *SQLite) EnqueueRepair(ctx context.Context, id store.ObjectID, storage store.StorageID) error {
	return c.write(ctx, func(t *txn) error {
		t.enqueue(store.NewRepair(id, storage))
		return nil
	})
}

// addMissing makes the rows.
func (t *txn) addMissing(id store.ObjectID, storages []store.StorageID) error {
	now := t.c.now()
	for _, s := range storages {
		n, err := t.Exec("INSERT INTO missing(object_id,storage_id,since) VALUES(?,?,?) ON CONFLICT DO NOTHING", func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(id))
			st.BindInt64(2, int64(s))
			st.BindInt64(3, now)
		})
		if err != nil {
			return err
		}
		t.missing += int64(n)
	}
	return nil
}

// dropMissing removes all rows of an object.
func (t *txn) dropMissing(id store.ObjectID) error {
	n, err := t.Exec("DELETE FROM missing WHERE object_id=?", func(st *sqldb.Stmt) { st.BindInt64(1, int64(id)) })
	t.missing -= int64(n)
	return err
}

// setStatus sets and clears bits of an object's status.
func (t *txn) setStatus(id store.ObjectID, set, unset int64) error {
	_, err := t.Exec("UPDATE object SET status=(status|?2)&~?3 WHERE id=?1 AND status<>(status|?2)&~?3", func(st *sqldb.Stmt) {
		st.BindInt64(1, int64(id))
		st.BindInt64(2, set)
		st.BindInt64(3, unset)
	})
	return err
}

// needObject returns ErrNoObject unless an object is visible.
func (t *txn) needObject(id store.ObjectID) error {
	visible, err := t.queryInt("SELECT EXISTS(SELECT 1 FROM bucket WHERE id=o.bucket_id) FROM object o WHERE o.id=?", int64(id))
	if err == nil && visible == 0 {
		err = fmt.Errorf("%w: id %d", store.ErrNoObject, id)
	}
	return err
}
