package sqlqueue

import (
	"context"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/jobs"
)

// Grab is as in [jobs.Queue]. When there is nothing to grab it does not write.
func (q *Queue) Grab(ctx context.Context, funcs []string, n int, lease time.Duration) ([]jobs.Job, error) {
	any := false
	err := q.db.Read(ctx, func(c *sqldb.Conn) (err error) {
		any, err = q.anyReady(c, funcs)
		return err
	})
	if err != nil || !any {
		return nil, err
	}
	var got []jobs.Job
	err = q.db.Write(ctx, func(tx *sqldb.Tx) (err error) {
		got, err = q.grab(tx, funcs, n, lease)
		return err
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// anyReady reports whether Grab would find something.
func (q *Queue) anyReady(s selector, funcs []string) (bool, error) {
	now := q.now()
	for _, name := range funcs {
		ids, err := q.candidates(s, name, 1, now)
		if err != nil || len(ids) > 0 {
			return true, err
		}
	}
	return false, nil
}

func (q *Queue) grab(tx *sqldb.Tx, funcs []string, n int, lease time.Duration) ([]jobs.Job, error) {
	now, until := q.now(), q.until(lease)
	var got []jobs.Job
	for i, name := range funcs {
		// A fair share each, and what others leave.
		share := (n - len(got) + len(funcs) - i - 1) / (len(funcs) - i)
		ids, err := q.candidates(tx, name, share, now)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			j, err := take(tx, id, until)
			if err != nil {
				return nil, err
			}
			j.Func = name
			got = append(got, j)
		}
	}
	return got, nil
}

// candidates finds up to n ready jobs of a function: priority by priority, so that each step is a range of the index
// and nothing is sorted, however long the queue is.
func (q *Queue) candidates(s selector, name string, n int, now int64) ([]int64, error) {
	fn, err := q.lookUp(s, name)
	if err != nil || fn == 0 {
		return nil, err
	}
	var ids []int64
	for prio, more := int64(1<<31), true; more && len(ids) < n; {
		if prio, more, err = nextPriority(s, fn, prio); err != nil || !more {
			return ids, err
		}
		if ids, err = readyAt(s, fn, prio, now, n, ids); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// nextPriority returns the highest priority below one that a function has jobs of.
func nextPriority(s selector, fn, below int64) (prio int64, ok bool, err error) {
	st, err := s.Select("SELECT ifnull(priority,0) FROM job WHERE funcid=? AND ifnull(priority,0)<? ORDER BY ifnull(priority,0) DESC LIMIT 1")
	if err != nil {
		return 0, false, err
	}
	st.BindInt64(1, fn)
	st.BindInt64(2, below)
	ok, err = st.Step()
	if !ok || err != nil {
		return 0, false, err
	}
	return st.ColumnInt64(0), true, nil
}

// readyAt appends ready jobs of one priority until there are n.
func readyAt(s selector, fn, prio, now int64, n int, ids []int64) ([]int64, error) {
	st, err := s.Select(`SELECT jobid FROM job WHERE funcid=?1 AND ifnull(priority,0)=?2 AND run_after<=?3 AND grabbed_until<=?3
		ORDER BY run_after, jobid LIMIT ?4`)
	if err != nil {
		return nil, err
	}
	st.BindInt64(1, fn)
	st.BindInt64(2, prio)
	st.BindInt64(3, now)
	st.BindInt64(4, int64(n-len(ids)))
	for {
		row, err := st.Step()
		if err != nil || !row {
			return ids, err
		}
		ids = append(ids, st.ColumnInt64(0))
	}
}

// take leases one job and reads it.
func take(tx *sqldb.Tx, id, until int64) (j jobs.Job, err error) {
	_, err = tx.Returning(`UPDATE job SET grabbed_until=?2 WHERE jobid=?1
		RETURNING arg, uniqkey, ifnull(insert_time,0), run_after, ifnull(priority,0), coalesce,
		(SELECT count(*) FROM error WHERE jobid=?1)`,
		func(st *sqldb.Stmt) { st.BindInt64(1, id); st.BindInt64(2, until) },
		func(st *sqldb.Stmt) {
			j = jobs.Job{
				ID: jobs.ID(id), Unique: st.ColumnText(1), InsertTime: unixTime(st.ColumnInt64(2)), RunAfter: unixTime(st.ColumnInt64(3)),
				GrabbedUntil: unixTime(until), Priority: st.ColumnInt(4), Coalesce: st.ColumnText(5), Failures: st.ColumnInt(6),
			}
			if n := st.ColumnLen(0); n > 0 {
				j.Arg = make([]byte, n)
				st.ColumnBytes(0, j.Arg)
			}
		})
	return j, err
}

// Renew is as in [jobs.Queue].
func (q *Queue) Renew(ctx context.Context, list []jobs.Job, lease time.Duration) (kept []jobs.Job, err error) {
	err = q.db.Write(ctx, func(tx *sqldb.Tx) error {
		kept = nil
		until := q.until(lease)
		for _, j := range list {
			n, err := tx.Exec("UPDATE job SET grabbed_until=?3 WHERE jobid=?1 AND grabbed_until=?2", func(st *sqldb.Stmt) {
				bindHeld(st, &j)
				st.BindInt64(3, until)
			})
			if err != nil {
				return err
			}
			if n > 0 {
				j.GrabbedUntil = unixTime(until)
				kept = append(kept, j)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return kept, nil
}

// bindHeld sets ?1 and ?2 to what proves a lease.
func bindHeld(st *sqldb.Stmt, j *jobs.Job) {
	st.BindInt64(1, int64(j.ID))
	st.BindInt64(2, j.GrabbedUntil.Unix())
}
