package catalog

import (
	"context"
	"fmt"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// maxLease bounds a block of ids.
const maxLease = 1 << 32

// LeaseIDs hands out a block of n ids, 1 to 2³².
func (c *SQLite) LeaseIDs(ctx context.Context, owner string, n int) (first store.ObjectID, err error) {
	if n < 1 || int64(n) > maxLease {
		return 0, fmt.Errorf("catalog: lease of %d ids: want 1 to %d", n, int64(maxLease))
	}
	err = c.write(ctx, func(t *txn) error {
		if first, err = t.nextIDs(n); err != nil {
			return err
		}
		now := c.now()
		_, err = t.Exec("INSERT INTO id_lease(first,n,owner,seen,closed) VALUES(?,?,?,?,0)", func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(first))
			st.BindInt64(2, int64(n))
			st.BindText(3, owner)
			st.BindInt64(4, now)
		})
		return err
	})
	if err != nil {
		return 0, err
	}
	return first, nil
}

func (t *txn) nextIDs(n int) (first store.ObjectID, err error) {
	rows, err := t.Returning("UPDATE counter SET value=value+? WHERE name='next_object_id' RETURNING value",
		func(st *sqldb.Stmt) { st.BindInt64(1, int64(n)) },
		func(st *sqldb.Stmt) { first = store.ObjectID(st.ColumnInt64(0) - int64(n)) })
	if err == nil && rows != 1 {
		err = fmt.Errorf("%w: there is no next_object_id", store.ErrCatalogDamage)
	}
	return first, err
}

// RenewLeases says that owner still uses its blocks. Blocks that are closed, dropped, or somebody else's are passed over: a
// Commit with an id of theirs will say so.
func (c *SQLite) RenewLeases(ctx context.Context, owner string, firsts []store.ObjectID) error {
	return c.write(ctx, func(t *txn) error {
		now := c.now()
		for _, first := range firsts {
			_, err := t.Exec("UPDATE id_lease SET seen=? WHERE first=? AND owner=? AND closed=0", func(st *sqldb.Stmt) {
				st.BindInt64(1, now)
				st.BindInt64(2, int64(first))
				st.BindText(3, owner)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Leases returns the blocks that were last renewed before t, which is compared in whole seconds. Those that Fence has closed are
// among them only when t is in the future, which is how somebody asks for all.
func (c *SQLite) Leases(ctx context.Context, before time.Time, limit int) ([]store.Lease, error) {
	var list []store.Lease
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT first,n,owner,seen FROM id_lease WHERE seen<?1 OR seen=?3 AND ?1>?4 ORDER BY seen,first LIMIT ?2")
		if err != nil {
			return err
		}
		st.BindInt64(1, before.Unix())
		st.BindInt64(2, int64(max(0, limit)))
		st.BindInt64(3, fenceSeen)
		st.BindInt64(4, c.now())
		return each(st, func() {
			list = append(list, store.Lease{
				First: store.ObjectID(st.ColumnInt64(0)), N: st.ColumnInt(1),
				Owner: st.ColumnText(2), Seen: unixTime(st.ColumnInt64(3)),
			})
		})
	})
	return list, err
}

// CloseLease fences a block of ids off. One that is not there is no error.
func (c *SQLite) CloseLease(ctx context.Context, first store.ObjectID) error {
	return c.changeLease(ctx, first, "UPDATE id_lease SET closed=1 WHERE first=?")
}

// DropLease forgets a block of ids, which fences it off too. One that is not there is no error.
func (c *SQLite) DropLease(ctx context.Context, first store.ObjectID) error {
	return c.changeLease(ctx, first, "DELETE FROM id_lease WHERE first=?")
}

func (c *SQLite) changeLease(ctx context.Context, first store.ObjectID, query string) error {
	return c.write(ctx, func(t *txn) error {
		t.group.leases = nil
		_, err := t.Exec(query, func(st *sqldb.Stmt) { st.BindInt64(1, int64(first)) })
		return err
	})
}

// openLease is a block of ids that may be used.
type openLease struct{ first, last store.ObjectID }

// needLease returns ErrLease unless an id is of an open block. Blocks that were looked up are remembered for the
// transaction; who closes one in it forgets them all.
func (t *txn) needLease(id store.ObjectID) error {
	for _, l := range t.group.leases {
		if l.first <= id && id <= l.last {
			return nil
		}
	}
	st, err := t.Select("SELECT first,n,closed FROM id_lease WHERE first<=? ORDER BY first DESC LIMIT 1")
	if err != nil {
		return err
	}
	st.BindInt64(1, int64(id))
	row, err := st.Step()
	if err != nil {
		return err
	}
	first := store.ObjectID(st.ColumnInt64(0))
	last := first + store.ObjectID(st.ColumnInt64(1)) - 1
	if !row || id > last || st.ColumnBool(2) {
		return fmt.Errorf("%w: id %d", store.ErrLease, id)
	}
	t.group.leases = append(t.group.leases, openLease{first, last})
	return nil
}
