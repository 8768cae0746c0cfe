package sqlqueue

import (
	"context"

	"wheelhouse/internal/sqldb"
	"wheelhouse/jobs"
)

// Insert is as in [jobs.Queue].
func (q *Queue) Insert(ctx context.Context, list []jobs.Job) (ids []jobs.ID, err error) {
	err = q.db.Write(ctx, func(tx *sqldb.Tx) error {
		ids, err = q.InsertTx(tx, list)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// insertSQL adds a job. One that is there under the same uniqkey stays as it is; only if it is running, its insert_time is
// made to grow, which Complete notices.
const insertSQL = `INSERT INTO job(funcid,arg,uniqkey,insert_time,run_after,grabbed_until,priority,coalesce)
	VALUES(?1,?2,?3,?4,?5,0,?6,?7) ON CONFLICT(funcid,uniqkey)
	DO UPDATE SET insert_time=max(ifnull(insert_time,0)+1, ?4) WHERE grabbed_until>?4
	RETURNING jobid, grabbed_until`

// InsertTx is Insert as a part of somebody's transaction: the jobs are there if and when that is committed, and workers of
// this process are told then.
func (q *Queue) InsertTx(tx *sqldb.Tx, list []jobs.Job) ([]jobs.ID, error) {
	for i := range list {
		if err := list[i].Validate(); err != nil {
			return nil, err
		}
	}
	now := q.now()
	ids := make([]jobs.ID, len(list))
	ready := false
	for i := range list {
		j := &list[i]
		fn, err := q.funcID(tx, j.Func)
		if err != nil {
			return nil, err
		}
		after := now
		if !j.RunAfter.IsZero() {
			after = j.RunAfter.Unix()
			if j.RunAfter.Nanosecond() > 0 {
				after++
			}
		}
		_, err = tx.Returning(insertSQL, func(st *sqldb.Stmt) { bindInsert(st, j, fn, now, after) }, func(st *sqldb.Stmt) {
			if st.ColumnInt64(1) == 0 {
				ids[i] = jobs.ID(st.ColumnInt64(0))
			}
		})
		if err != nil {
			return nil, err
		}
		ready = ready || ids[i] != 0 && after <= now
	}
	if ready {
		tx.AfterCommit(q.notify.Wake)
	}
	return ids, nil
}

func bindInsert(st *sqldb.Stmt, j *jobs.Job, fn, now, after int64) {
	st.BindInt64(1, fn)
	st.BindBytes(2, j.Arg)
	bindText(st, 3, j.Unique)
	st.BindInt64(4, now)
	st.BindInt64(5, after)
	st.BindInt64(6, int64(j.Priority))
	bindText(st, 7, j.Coalesce)
}

// bindText binds a string, or NULL for "".
func bindText(st *sqldb.Stmt, param int, s string) {
	if s == "" {
		st.BindNull(param)
	} else {
		st.BindText(param, s)
	}
}
