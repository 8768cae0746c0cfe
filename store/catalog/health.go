package catalog

import (
	"context"
	"maps"
	"slices"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// inForce is the mode of a storage for which a mode is set and an outage is reported.
func inForce(set store.StorageMode, down store.Outage) store.StorageMode {
	if down.Active() && set != store.ModeDead {
		return store.ModeDown
	}
	return set
}

// maxReason bounds what is kept of a report's reason, in bytes.
const maxReason = 300

// ReportHealth is as in [store.Health].
func (c *SQLite) ReportHealth(ctx context.Context, reporter string, list []store.StorageHealth) ([]store.HealthChange, error) {
	var changes []store.HealthChange
	err := c.changeTopology(ctx, func(t *txn) (bool, error) {
		changes = nil // it may run twice
		j := judge{t: t, now: c.now()}
		if err := j.prepare(); err != nil {
			return false, err
		}
		said, err := j.takeBack(reporter)
		if err != nil {
			return false, err
		}
		for _, h := range list {
			if known, err := j.record(reporter, h); err != nil {
				return false, err
			} else if known {
				said[h.Storage] = true
			}
		}
		for _, id := range slices.Sorted(maps.Keys(said)) {
			change, err := j.storage(id)
			if err != nil {
				return false, err
			}
			if change != nil {
				changes = append(changes, *change)
			}
		}
		return len(changes) > 0 || j.shifted, nil
	})
	return changes, err
}

// judge weighs reports in a transaction.
type judge struct {
	t         *txn
	now       int64
	deadAfter int64 // seconds; 0: never
	shifted   bool  // there was time that does not count
}

// prepare reads the setting and forgets reports that no longer count.
func (j *judge) prepare() error {
	st, err := j.t.Select("SELECT value FROM config WHERE key=?")
	if err != nil {
		return err
	}
	st.BindText(1, store.SettingDeadAfter)
	if _, err := st.Step(); err != nil {
		return err
	}
	after, err := store.ParseDeadAfter(st.ColumnText(0))
	if err != nil {
		after = store.DefaultDeadAfter // whoever set it was told; storages must not stay down for ever because of it
	}
	j.deadAfter = int64(after / time.Second)
	if after > 0 {
		j.deadAfter = max(1, j.deadAfter)
	}
	_, err = j.t.Exec("DELETE FROM health WHERE seen<?1-?2 OR seen>?1+?2", func(st *sqldb.Stmt) { // or said before the clock was set back
		st.BindInt64(1, j.now)
		st.BindInt64(2, int64(store.HealthWindow/time.Second))
	})
	return err
}

// takeBack forgets what a reporter has said, and returns of which storages.
func (j *judge) takeBack(reporter string) (map[store.StorageID]bool, error) {
	st, err := j.t.Select("SELECT storage_id FROM health WHERE reporter=?")
	if err != nil {
		return nil, err
	}
	st.BindText(1, reporter)
	said := map[store.StorageID]bool{}
	for {
		row, err := st.Step()
		if err != nil {
			return nil, err
		}
		if !row {
			break
		}
		said[store.StorageID(st.ColumnInt64(0))] = true
	}
	_, err = j.t.Exec("DELETE FROM health WHERE reporter=?", func(st *sqldb.Stmt) { st.BindText(1, reporter) })
	return said, err
}

// record keeps one report, if there is such a storage.
func (j *judge) record(reporter string, h store.StorageHealth) (known bool, err error) {
	n, err := j.t.Exec(`INSERT INTO health(storage_id,reporter,ok,reason,seen) SELECT id,?2,?3,?4,?5 FROM storage WHERE id=?1
		ON CONFLICT DO UPDATE SET ok=?3, reason=?4, seen=?5`, func(st *sqldb.Stmt) {
		st.BindInt64(1, int64(h.Storage))
		st.BindText(2, reporter)
		st.BindBool(3, h.OK)
		st.BindText(4, h.Reason[:min(len(h.Reason), maxReason)])
		st.BindInt64(5, j.now)
	})
	return n > 0, err
}

// storage judges one storage by what is reported of it. It returns nil when nothing changes.
func (j *judge) storage(id store.StorageID) (*store.HealthChange, error) {
	st, err := j.t.Select(`SELECT s.mode, s.down_since, s.down_reason, s.cluster_id, count(*), sum(NOT h.ok), max(CASE WHEN h.ok THEN '' ELSE h.reason END),
			s.down_seen, s.down_uncounted
		FROM storage s JOIN health h ON h.storage_id=s.id WHERE s.id=?`)
	if err != nil {
		return nil, err
	}
	st.BindInt64(1, int64(id))
	if _, err := st.Step(); err != nil {
		return nil, err
	}
	set, since := store.StorageMode(st.ColumnInt64(0)), st.ColumnInt64(1)
	was := store.Outage{Since: unixTime(since), Reason: st.ColumnText(2)}
	cluster := store.ClusterID(st.ColumnInt64(3))
	heard, failing, reason := st.ColumnInt64(4), st.ColumnInt64(5), st.ColumnText(6)
	seen, uncounted := st.ColumnInt64(7), st.ColumnInt64(8)
	was.Uncounted = time.Duration(uncounted) * time.Second
	switch {
	case since == 0 && 2*failing > heard:
		now := store.Outage{Since: unixTime(j.now), Reason: reason}
		return &store.HealthChange{Storage: id, Mode: inForce(set, now), Outage: now}, j.setOutage(id, j.now, reason)
	case since != 0 && 2*failing < heard:
		return &store.HealthChange{Storage: id, Mode: set, Was: was}, j.setOutage(id, 0, "")
	case since != 0:
		if err := j.count(id, seen, &uncounted); err != nil {
			return nil, err
		}
		if was.Uncounted = time.Duration(uncounted) * time.Second; set != store.ModeDead && j.deadAfter > 0 && j.now-since-uncounted >= j.deadAfter {
			return j.declareDead(id, cluster, was)
		}
	}
	return nil, nil
}

func (j *judge) setOutage(id store.StorageID, since int64, reason string) error {
	_, err := j.t.Exec("UPDATE storage SET down_since=?2, down_reason=?3, down_seen=?2, down_uncounted=0 WHERE id=?1", func(st *sqldb.Stmt) {
		st.BindInt64(1, int64(id))
		st.BindInt64(2, since)
		st.BindText(3, reason)
	})
	return err
}

// count notes that a storage that is down is judged now, and adds to uncounted what does not count of the time since seen.
func (j *judge) count(id store.StorageID, seen int64, uncounted *int64) error {
	if gap := j.now - seen; seen != 0 && (gap < 0 || gap > int64(store.HealthGap/time.Second)) { // 0: of a catalog that did not note it
		*uncounted += gap
		j.shifted = true
	}
	_, err := j.t.Exec("UPDATE storage SET down_seen=?2, down_uncounted=?3 WHERE id=?1", func(st *sqldb.Stmt) {
		st.BindInt64(1, int64(id))
		st.BindInt64(2, j.now)
		st.BindInt64(3, *uncounted)
	})
	return err
}

// declareDead gives a storage up, if a sibling is in service.
func (j *judge) declareDead(id store.StorageID, cluster store.ClusterID, was store.Outage) (*store.HealthChange, error) {
	st, err := j.t.Select("SELECT count(*) FROM storage WHERE cluster_id=? AND id<>? AND down_since=0 AND mode IN (?,?,?)")
	if err != nil {
		return nil, err
	}
	for i, v := range []int64{int64(cluster), int64(id), int64(store.ModeRW), int64(store.ModeRO), int64(store.ModeDrain)} {
		st.BindInt64(i+1, v)
	}
	if _, err := st.Step(); err != nil || st.ColumnInt64(0) == 0 {
		return nil, err
	}
	_, err = j.t.Exec("UPDATE storage SET mode=?2, by_system=1 WHERE id=?1", func(st *sqldb.Stmt) {
		st.BindInt64(1, int64(id))
		st.BindInt64(2, int64(store.ModeDead))
	})
	return &store.HealthChange{Storage: id, Mode: store.ModeDead, Outage: was}, err
}

// Owed is as in [store.Health].
func (c *SQLite) Owed(ctx context.Context) (map[store.StorageID]int64, error) {
	owed := map[store.StorageID]int64{}
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT storage_id, count(*) FROM missing GROUP BY storage_id")
		if err != nil {
			return err
		}
		return each(st, func() { owed[store.StorageID(st.ColumnInt64(0))] = st.ColumnInt64(1) })
	})
	return owed, err
}
