package sqlqueue

import (
	"context"

	"wheelhouse/jobs"
)

// maxStep is how many jobs one transaction of Cancel, Revive or Delete changes.
const maxStep = 500

// step changes jobs of one source, which are locked. It returns how many that were.
type step func(ctx context.Context, t tx, ids idList, c *changes) (int, error)

// alter applies steps to the jobs that match, some at a time.
func (q *Queue) alter(ctx context.Context, f jobs.Filter, most int, steps map[*source]step) (n int, err error) {
	if f, err = f.ForChange(); err != nil {
		return 0, &own{err}
	}
	limit := f.Limit
	for _, s := range sources(f.State) {
		do := steps[s]
		if do == nil {
			continue
		}
		for f := f; n < limit; {
			var ids idList
			did := 0
			size := min(most, limit-n)
			err := q.change(ctx, func(ctx context.Context, t tx, c *changes) error {
				if ids, err = q.find(ctx, t, s, &f, size); err != nil || len(ids) == 0 {
					return err
				}
				did, err = do(ctx, t, ids, c)
				return err
			})
			if err != nil {
				return n, err
			}
			if n += did; len(ids) < size {
				break
			}
			f.After = jobs.ID(ids[len(ids)-1])
		}
	}
	return n, nil
}

// find locks jobs that match.
func (q *Queue) find(ctx context.Context, t tx, s *source, f *jobs.Filter, n int) (idList, error) {
	fn, ok, err := q.filtered(ctx, t, f)
	if err != nil || !ok {
		return nil, err
	}
	c, none := s.condition(f, fn, q.now(), t.dialect())
	if none {
		return nil, nil
	}
	return queryInts(ctx, t, idColumn+s.from+c.text+" ORDER BY j.jobid LIMIT ? {lock}", append(c.args, n)...)
}

// Cancel is as in [jobs.Inspector]. With an error some may have been cancelled.
func (q *Queue) Cancel(ctx context.Context, f jobs.Filter) (int, error) {
	return q.alter(ctx, f, maxStep, map[*source]step{&live: q.cancel})
}

func (q *Queue) cancel(ctx context.Context, t tx, ids idList, c *changes) (int, error) {
	var list []ended
	err := t.query(ctx, func(r row) error {
		e := ended{state: jobs.StateCancelled}
		var keep, limits int64
		var fn string
		err := r.Scan(&e.id, &e.fn, &keep, &limits, &fn)
		if limits > 0 { // another may begin
			c.readied(fn)
		}
		e.keep = q.keepDead(durationOf(keep))
		list = append(list, e)
		return err
	}, `SELECT j.jobid, j.funcid, COALESCE((SELECT c.keep_dead FROM {job_control} c WHERE c.funcid=j.funcid),0),
		COALESCE((SELECT c.max_running+c.max_running_key FROM {job_control} c WHERE c.funcid=j.funcid),0), COALESCE(f.funcname,'')
		FROM {job} j `+named+`WHERE j.jobid {in}`, ids)
	if err != nil {
		return 0, err
	}
	if err := record(ctx, t, list, q.now()); err != nil {
		return 0, err
	}
	_, err = t.exec(ctx, "DELETE FROM {job} WHERE jobid {in}", ids)
	return len(ids), err
}

// Delete is as in [jobs.Inspector]. With an error some may have been deleted.
func (q *Queue) Delete(ctx context.Context, f jobs.Filter) (int, error) {
	old := func(ctx context.Context, t tx, ids idList, _ *changes) (int, error) {
		return len(ids), forget(ctx, t, ids)
	}
	return q.alter(ctx, f, maxStep, map[*source]step{&live: q.deleteWaiting, &records: old, &statuses: old})
}

func (q *Queue) deleteWaiting(ctx context.Context, t tx, ids idList, _ *changes) (int, error) {
	waiting, err := queryInts(ctx, t, "SELECT jobid FROM {job} WHERE jobid {in} AND grabbed_until<=?", ids, q.now())
	if err != nil || len(waiting) == 0 {
		return 0, err
	}
	if _, err := t.exec(ctx, "DELETE FROM {job} WHERE jobid {in}", waiting); err != nil {
		return 0, err
	}
	return len(waiting), forget(ctx, t, waiting)
}

// Revive is as in [jobs.Inspector]. What Perl gave up has left no more than an exit status, and cannot be revived. With an
// error some may have been revived.
func (q *Queue) Revive(ctx context.Context, f jobs.Filter) (int, error) {
	if f.Func != "" {
		if err := q.introduce(ctx, f.Func); err != nil {
			return 0, err
		}
	}
	return q.alter(ctx, f, maxRows, map[*source]step{&live: q.hurry, &records: q.revive})
}

// hurry makes delayed jobs ready.
func (q *Queue) hurry(ctx context.Context, t tx, ids idList, c *changes) (int, error) {
	now := q.now()
	var delayed idList
	err := t.query(ctx, func(r row) error {
		var id int64
		var fn string
		err := r.Scan(&id, &fn)
		delayed = append(delayed, id)
		c.readied(fn)
		return err
	}, `SELECT j.jobid, COALESCE(f.funcname,'') FROM {job} j `+named+`WHERE j.jobid {in} AND j.grabbed_until<=? AND j.run_after>?`, ids, now, now)
	if err != nil || len(delayed) == 0 {
		return 0, err
	}
	_, err = t.exec(ctx, "UPDATE {job} SET run_after=? WHERE jobid {in}", now, delayed)
	return len(delayed), err
}

// revive inserts jobs anew.
func (q *Queue) revive(ctx context.Context, t tx, ids idList, c *changes) (int, error) {
	var list []jobs.Job
	err := t.query(ctx, func(r row) error {
		var rec jobs.Record
		err := scanRecord(r, &rec)
		list = append(list, jobs.Job{
			Func: rec.Func, Arg: rec.Arg, Unique: rec.Unique, Coalesce: rec.Coalesce, Key: rec.Key, Priority: rec.Priority,
		})
		return err
	}, records.what+records.from+named+"WHERE j.jobid {in} ORDER BY j.jobid", ids)
	if err != nil {
		return 0, err
	}
	if _, err := q.insert(ctx, t, list, c); err != nil {
		return 0, err
	}
	return len(ids), forget(ctx, t, ids)
}
