package sqlqueue

import (
	"context"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/jobs"
)

// Complete is as in [jobs.Queue].
func (q *Queue) Complete(ctx context.Context, list []jobs.Job) error {
	return q.db.Write(ctx, func(tx *sqldb.Tx) error {
		for i := range list {
			if err := q.end(tx, &list[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// end removes a job that is held, or puts it back if it was inserted again while it ran.
func (q *Queue) end(tx *sqldb.Tx, j *jobs.Job) error {
	n, err := tx.Exec("DELETE FROM job WHERE jobid=?1 AND grabbed_until=?2 AND ifnull(insert_time,0)=?3", func(st *sqldb.Stmt) {
		bindHeld(st, j)
		st.BindInt64(3, j.InsertTime.Unix())
	})
	if err != nil || n > 0 {
		return err
	}
	now := q.now()
	n, err = tx.Exec("UPDATE job SET grabbed_until=0, run_after=?3 WHERE jobid=?1 AND grabbed_until=?2", func(st *sqldb.Stmt) {
		bindHeld(st, j)
		st.BindInt64(3, now)
	})
	if err != nil || n == 0 {
		return err
	}
	tx.AfterCommit(q.notify.Wake)
	// It begins anew: what was is not held against it.
	_, err = tx.Exec("DELETE FROM error WHERE jobid=?", func(st *sqldb.Stmt) { st.BindInt64(1, int64(j.ID)) })
	return err
}

// Retry is as in [jobs.Queue].
func (q *Queue) Retry(ctx context.Context, j jobs.Job, after time.Duration, cause error) error {
	return q.db.Write(ctx, func(tx *sqldb.Tx) error {
		run := q.now()
		if after > 0 {
			run = q.until(after)
		}
		n, err := tx.Exec("UPDATE job SET grabbed_until=0, run_after=?3 WHERE jobid=?1 AND grabbed_until=?2", func(st *sqldb.Stmt) {
			bindHeld(st, &j)
			st.BindInt64(3, run)
		})
		if err != nil || n == 0 {
			return err
		}
		if after <= 0 {
			tx.AfterCommit(q.notify.Wake)
		}
		if cause == nil {
			return nil
		}
		return q.recordError(tx, &j, cause)
	})
}

// Fail is as in [jobs.Queue].
func (q *Queue) Fail(ctx context.Context, j jobs.Job, cause error) error {
	return q.db.Write(ctx, func(tx *sqldb.Tx) error {
		held, err := q.holds(tx, &j)
		if err != nil || !held {
			return err
		}
		if err := q.recordError(tx, &j, cause); err != nil {
			return err
		}
		if err := q.recordStatus(tx, &j, 1); err != nil {
			return err
		}
		return q.end(tx, &j)
	})
}

func (q *Queue) holds(tx *sqldb.Tx, j *jobs.Job) (bool, error) {
	st, err := tx.Select("SELECT 1 FROM job WHERE jobid=?1 AND grabbed_until=?2")
	if err != nil {
		return false, err
	}
	bindHeld(st, j)
	return st.Step()
}

// recordError keeps the text of a failure, and prunes old ones.
func (q *Queue) recordError(tx *sqldb.Tx, j *jobs.Job, cause error) error {
	fn, err := q.funcID(tx, j.Func)
	if err != nil {
		return err
	}
	now := q.now()
	_, err = tx.Exec("INSERT INTO error(error_time,jobid,message,funcid) VALUES(?,?,?,?)", func(st *sqldb.Stmt) {
		st.BindInt64(1, now)
		st.BindInt64(2, int64(j.ID))
		st.BindText(3, jobs.Message(cause))
		st.BindInt64(4, fn)
	})
	if err != nil {
		return err
	}
	return prune(tx, "DELETE FROM error WHERE rowid IN (SELECT rowid FROM error WHERE error_time<? ORDER BY error_time LIMIT 1000)",
		now-int64(q.opts.KeepErrors/time.Second))
}

// recordStatus keeps how a job ended, and prunes old records.
func (q *Queue) recordStatus(tx *sqldb.Tx, j *jobs.Job, status int64) error {
	fn, err := q.funcID(tx, j.Func)
	if err != nil {
		return err
	}
	now := q.now()
	_, err = tx.Exec("INSERT OR REPLACE INTO exitstatus(jobid,funcid,status,completion_time,delete_after) VALUES(?,?,?,?,?)",
		func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(j.ID))
			st.BindInt64(2, fn)
			st.BindInt64(3, status)
			st.BindInt64(4, now)
			st.BindInt64(5, now+int64(q.opts.KeepFailed/time.Second))
		})
	if err != nil {
		return err
	}
	return prune(tx, "DELETE FROM exitstatus WHERE jobid IN (SELECT jobid FROM exitstatus WHERE delete_after<? ORDER BY delete_after LIMIT 1000)", now)
}

func prune(tx *sqldb.Tx, query string, before int64) error {
	_, err := tx.Exec(query, func(st *sqldb.Stmt) { st.BindInt64(1, before) })
	return err
}
