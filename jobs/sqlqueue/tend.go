package sqlqueue

import (
	"context"
	"errors"
	"time"

	"wheelhouse/jobs"
)

// pruneStep is how many records of each kind one Tend removes at most.
const pruneStep = 1000

// Tend is as in [jobs.Queue]. It removes at most 1000 records of each kind. A periodic job whose Spec is not understood
// (another program's) does not keep it from the others; the error names it.
func (q *Queue) Tend(ctx context.Context) (time.Time, error) {
	if err := q.setClock(ctx); err != nil {
		return time.Time{}, err
	}
	var due []jobs.Periodic
	work := false
	now := q.now()
	err := q.db.read(ctx, func(ctx context.Context, t tx) (err error) {
		if due, err = q.periodics(ctx, t, "WHERE p.next_time>0 AND p.next_time<=?", now); err != nil {
			return err
		}
		work, err = q.anyOld(ctx, t, now)
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	var errs []error
	for _, p := range due {
		errs = append(errs, q.insertDue(ctx, p))
	}
	if work {
		errs = append(errs, q.db.write(ctx, func(ctx context.Context, t tx) error { return q.prune(ctx, t, now) }))
	}
	var first int64
	err = q.db.read(ctx, func(ctx context.Context, t tx) error {
		first, _, err = queryInt(ctx, t, "SELECT COALESCE(min(next_time),0) FROM {job_periodic} WHERE next_time>?", now)
		return err
	})
	return optionalTime(first), errors.Join(append(errs, err)...)
}

// old are the tables of what is kept for a time: how its rows are numbered, and which are old, with the time before
// which as the parameter. Errors are kept as long as any record may be.
var old = []struct{ table, id, where string }{
	{"{job_record}", "jobid", "delete_after<?"},
	{"{exitstatus}", "jobid", "delete_after<?"},
	{"{error}", "{errorid}", "error_time<?"},
}

// before is the time before which rows of a table are old.
func (q *Queue) before(ctx context.Context, t tx, table string, now int64) (int64, error) {
	if table != "{error}" {
		return now, nil
	}
	longest, _, err := queryInt(ctx, t, "SELECT COALESCE(max(CASE WHEN keep_done>keep_dead THEN keep_done ELSE keep_dead END),0) FROM {job_control}")
	keep := max(q.opts.KeepErrors, q.opts.KeepFailed, durationOf(longest))
	return now - int64(keep/time.Second), err
}

// anyOld reports whether there is something to be removed, so that as a rule nothing is written.
func (q *Queue) anyOld(ctx context.Context, t tx, now int64) (bool, error) {
	for _, o := range old {
		before, err := q.before(ctx, t, o.table, now)
		if err != nil {
			return false, err
		}
		_, any, err := queryInt(ctx, t, "SELECT 1 FROM "+o.table+" WHERE "+o.where+" LIMIT 1", before)
		if any || err != nil {
			return any, err
		}
	}
	_, any, err := queryInt(ctx, t, "SELECT 1 FROM {job_bucket} WHERE full_at<? LIMIT 1", now)
	return any, err
}

func (q *Queue) prune(ctx context.Context, t tx, now int64) error {
	for _, o := range old {
		before, err := q.before(ctx, t, o.table, now)
		if err != nil {
			return err
		}
		ids, err := queryInts(ctx, t, "SELECT "+o.id+" FROM "+o.table+" WHERE "+o.where+" LIMIT ? {skip}", before, pruneStep)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			continue
		}
		if _, err := t.exec(ctx, "DELETE FROM "+o.table+" WHERE "+o.id+" {in}", ids); err != nil {
			return err
		}
	}
	ids, err := queryInts(ctx, t, "SELECT DISTINCT funcid FROM {job_bucket} WHERE full_at<?", now)
	if err != nil {
		return err
	}
	for _, fn := range ids { // in turn with those who grab
		if _, _, err := queryInt(ctx, t, "SELECT funcid FROM {job_control} WHERE funcid=? {lock}", fn); err != nil {
			return err
		}
		if _, err := t.exec(ctx, "DELETE FROM {job_bucket} WHERE funcid=? AND full_at<?", fn, now); err != nil {
			return err
		}
	}
	return nil
}
