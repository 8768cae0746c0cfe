package catalog

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// A gap is a block in id_lease, closed and seen as late as what Fence has closed, whose owner names the storages that are still to be asked.
const (
	gapOwner = "not asked: storages"
	// gapWidth is how many ids at least are passed over for storages that cannot be asked, and up to as many again: more than a catalog is
	// ever behind, as far as can be foreseen, as a process that stores a hundred objects a second uses 9 million a day. How many is left
	// to chance, because a later catalog may have passed ids over at the same place.
	gapWidth = 1 << 27
)

// NextID is as in [store.Catalog].
func (c *SQLite) NextID(ctx context.Context) (next store.ObjectID, err error) {
	err = c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT value FROM counter WHERE name='next_object_id'")
		if err != nil {
			return err
		}
		row, err := st.Step()
		if err == nil && !row {
			err = fmt.Errorf("%w: there is no next_object_id", store.ErrCatalogDamage)
		}
		next = store.ObjectID(st.ColumnInt64(0))
		return err
	})
	return next, err
}

// Witness is as in [store.Catalog].
func (c *SQLite) Witness(ctx context.Context, held store.ObjectID, unasked []store.StorageID) (fenced bool, err error) {
	err = c.write(ctx, func(t *txn) error {
		next, err := t.nextIDs(0)
		if err != nil {
			return err
		}
		gaps, err := gapsOf(t)
		if err != nil {
			return err
		}
		fenced = held >= next || slices.ContainsFunc(gaps, func(g store.Gap) bool { return g.First <= held && held < g.First+store.ObjectID(g.N) })
		if fenced {
			// It leaves no gap: those become a part of the fence.
			unasked = slices.Clone(unasked)
			for _, g := range gaps {
				unasked = append(unasked, g.Unasked...)
			}
			gaps = nil
			if err := t.fence(held, store.FencedBehind); err != nil {
				return err
			}
		}
		return t.leaveGap(gaps, unasked)
	})
	return fenced && err == nil, err
}

// leaveGap passes ids over for what storages may hold, unless there is a gap for each of them.
func (t *txn) leaveGap(gaps []store.Gap, unasked []store.StorageID) error {
	covered := !slices.ContainsFunc(unasked, func(id store.StorageID) bool {
		return !slices.ContainsFunc(gaps, func(g store.Gap) bool { return slices.Contains(g.Unasked, id) })
	})
	if covered {
		return nil
	}
	next, err := t.nextIDs(0)
	if err != nil {
		return err
	}
	if next > math.MaxInt64-4*gapWidth {
		return fmt.Errorf("catalog: object id %d is out of range", next)
	}
	n := gapWidth + rand.N(gapWidth)
	if _, err := t.nextIDs(n); err != nil {
		return err
	}
	_, err = t.Exec("INSERT INTO id_lease(first,n,owner,seen,closed) VALUES(?,?,?,?,1)", func(st *sqldb.Stmt) {
		st.BindInt64(1, int64(next))
		st.BindInt64(2, int64(n))
		st.BindText(3, gapName(unasked))
		st.BindInt64(4, fenceSeen)
	})
	return err
}

func gapName(unasked []store.StorageID) string {
	var b strings.Builder
	b.WriteString(gapOwner)
	for _, id := range slices.Compact(slices.Sorted(slices.Values(unasked))) {
		fmt.Fprintf(&b, " %d", id)
	}
	return b.String()
}

// Gaps is as in [store.Catalog].
func (c *SQLite) Gaps(ctx context.Context) (list []store.Gap, err error) {
	err = c.read(ctx, func(conn *sqldb.Conn) (err error) {
		list, err = gapsOf(conn)
		return err
	})
	return list, err
}

func gapsOf(s selector) (list []store.Gap, err error) {
	st, err := s.Select("SELECT first,n,owner FROM id_lease WHERE seen=?1 AND substr(owner,1,?2)=?3 ORDER BY first")
	if err != nil {
		return nil, err
	}
	st.BindInt64(1, fenceSeen)
	st.BindInt64(2, int64(len(gapOwner)))
	st.BindText(3, gapOwner)
	err = each(st, func() {
		g := store.Gap{First: store.ObjectID(st.ColumnInt64(0)), N: st.ColumnInt(1)}
		for _, f := range strings.Fields(st.ColumnText(2)[len(gapOwner):]) {
			if id, err := strconv.ParseUint(f, 10, 32); err == nil {
				g.Unasked = append(g.Unasked, store.StorageID(id))
			}
		}
		list = append(list, g)
	})
	return list, err
}

// CloseGap is as in [store.Catalog].
func (c *SQLite) CloseGap(ctx context.Context, first store.ObjectID, storage store.StorageID) error {
	return c.write(ctx, func(t *txn) error {
		gaps, err := gapsOf(t)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(gaps, func(g store.Gap) bool { return g.First == first })
		if i < 0 {
			return nil
		}
		left := slices.DeleteFunc(gaps[i].Unasked, func(id store.StorageID) bool { return id == storage })
		if len(left) == 0 {
			_, err = t.Exec("DELETE FROM id_lease WHERE first=?", func(st *sqldb.Stmt) { st.BindInt64(1, int64(first)) })
			return err
		}
		_, err = t.Exec("UPDATE id_lease SET owner=? WHERE first=?", func(st *sqldb.Stmt) {
			st.BindText(1, gapName(left))
			st.BindInt64(2, int64(first))
		})
		return err
	})
}
