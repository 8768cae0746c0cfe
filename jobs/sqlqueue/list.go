package sqlqueue

import (
	"context"
	"slices"

	"wheelhouse/jobs"
)

// source is one of the three tables that know of jobs: the queue, the records, and the exit statuses of jobs that have no
// record because Perl finished them.
type source struct {
	from  string // with j as the name of the table
	what  string // columns behind those of a job
	times int    // how often the clock is a parameter of what
	where string
}

const (
	idColumn   = "SELECT j.jobid "
	lastError  = ", COALESCE((SELECT e.message FROM {error} e WHERE e.jobid=j.jobid ORDER BY e.{errorid} DESC LIMIT 1),'') "
	jobColumns = `SELECT j.jobid, COALESCE(f.funcname,''), j.arg, COALESCE(j.uniqkey,''), COALESCE(j.insert_time,0), j.run_after,
		COALESCE(j.coalesce,''), COALESCE(j.limit_key,''), CASE WHEN j.started IS NULL THEN '' ELSE COALESCE(j.owner,'') END,
		COALESCE(j.started,0), COALESCE(j.progress_done,0), COALESCE(j.progress_total,0), COALESCE(j.progress_note,''), `
	named = "LEFT JOIN {funcmap} f ON f.funcid=j.funcid "
)

var (
	live = source{
		from: "FROM {job} j ", times: 2,
		what: jobColumns + `{prio}, j.grabbed_until, (SELECT count(*) FROM {error} e WHERE e.jobid=j.jobid), 0, 0,
			CASE WHEN j.grabbed_until>? THEN 'running' WHEN j.run_after>? THEN 'delayed' ELSE 'ready' END` + lastError,
	}
	records = source{
		from: "FROM {job_record} j ",
		what: jobColumns + "COALESCE(j.priority,0), 0, j.failures, j.finished, j.status, j.state" + lastError,
	}
	statuses = source{
		from: "FROM {exitstatus} j ",
		what: `SELECT j.jobid, COALESCE(f.funcname,''), NULL, '', 0, 0, '', '', '', 0, 0, 0, '', 0, 0,
			(SELECT count(*) FROM {error} e WHERE e.jobid=j.jobid), COALESCE(j.completion_time,0), COALESCE(j.status,0),
			CASE WHEN COALESCE(j.status,0)=0 THEN 'done' ELSE 'dead' END` + lastError,
		where: ` AND NOT EXISTS(SELECT 1 FROM {job_record} r WHERE r.jobid=j.jobid) AND NOT EXISTS(SELECT 1 FROM {job} l WHERE l.jobid=j.jobid)`,
	}
)

// sources are those in which jobs of a state are.
func sources(s jobs.State) []*source {
	switch s {
	case jobs.StateReady, jobs.StateRunning, jobs.StateDelayed:
		return []*source{&live}
	case jobs.StateCancelled:
		return []*source{&records}
	case jobs.StateDone, jobs.StateDead:
		return []*source{&records, &statuses}
	}
	return []*source{&live, &records, &statuses}
}

// condition is a part of a WHERE clause.
type condition struct {
	text string
	args []any
}

func (c *condition) and(text string, args ...any) {
	c.text += " AND " + text
	c.args = append(c.args, args...)
}

// where is what a filter wants of a source; none if there can be nothing. fn is the number of f.Func.
func (s *source) condition(f *jobs.Filter, fn, now int64, d *dialect) (c condition, none bool) {
	c.and("j.jobid>?", int64(f.After))
	c.text = "WHERE" + c.text[len(" AND"):]
	if f.Func != "" {
		c.and("j.funcid=?", fn)
	}
	if len(f.IDs) > 0 {
		ids := make(idList, len(f.IDs))
		for i, id := range f.IDs {
			ids[i] = int64(id)
		}
		c.and("j.jobid {in}", ids)
	}
	if s == &statuses && (f.Unique != "" || f.Coalesce != "" || f.Key != "") {
		return c, true
	}
	for _, k := range [...]struct{ column, value string }{{"uniqkey", f.Unique}, {"coalesce", f.Coalesce}, {"limit_key", f.Key}} {
		if k.value != "" {
			c.and("j."+k.column+"=?", k.value)
		}
	}
	switch {
	case f.State == "":
	case s == &live:
		switch f.State {
		case jobs.StateRunning:
			c.and("j.grabbed_until>?", now)
		case jobs.StateDelayed:
			c.and("j.grabbed_until<=?", now)
			c.and("j.run_after>?", now)
		default:
			c.and("j.grabbed_until<=?", now)
			c.and("j.run_after<=?", now)
		}
	case s == &records:
		c.and("j.state=?", string(f.State))
	case f.State == jobs.StateDone:
		c.and("COALESCE(j.status,0)=0")
	default:
		c.and("COALESCE(j.status,0)<>0")
	}
	c.text += s.where
	return c, false
}

// List is as in [jobs.Inspector].
func (q *Queue) List(ctx context.Context, f jobs.Filter) (list []jobs.Record, err error) {
	if f, err = f.ForList(); err != nil {
		return nil, &own{err}
	}
	err = q.db.read(ctx, func(ctx context.Context, t tx) error {
		list = nil
		fn, ok, err := q.filtered(ctx, t, &f)
		if err != nil || !ok {
			return err
		}
		var end jobs.ID // what is behind it is not known of all sources
		for _, s := range sources(f.State) {
			n := len(list)
			whole, err := q.listSource(ctx, t, s, &f, fn, &list)
			if err != nil {
				return err
			}
			if last := len(list) - 1; !whole && (end == 0 || list[last].ID < end) && last >= n {
				end = list[last].ID
			}
		}
		if end != 0 {
			list = slices.DeleteFunc(list, func(r jobs.Record) bool { return r.ID > end })
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// A job that was finished between two of the statements is found twice.
	slices.SortStableFunc(list, func(a, b jobs.Record) int { return int(a.ID - b.ID) })
	list = slices.CompactFunc(list, func(a, b jobs.Record) bool { return a.ID == b.ID })
	return list[:min(len(list), f.Limit)], nil
}

// filtered returns the number of the function that a filter names; false if there is none of that name.
func (q *Queue) filtered(ctx context.Context, t tx, f *jobs.Filter) (fn int64, ok bool, err error) {
	if f.Func == "" {
		return 0, true, nil
	}
	fn, err = q.lookUp(ctx, t, f.Func)
	return fn, fn != 0, err
}

// listSource appends what one source has; not the whole of it where that would be too long.
func (q *Queue) listSource(ctx context.Context, t tx, s *source, f *jobs.Filter, fn int64, list *[]jobs.Record) (whole bool, err error) {
	now := q.now()
	c, none := s.condition(f, fn, now, t.dialect())
	if none {
		return true, nil
	}
	args := make([]any, 0, 16)
	for range s.times {
		args = append(args, now)
	}
	args = append(append(args, c.args...), f.Limit)
	size := 0
	err = t.query(ctx, func(r row) error {
		var rec jobs.Record
		if err := scanRecord(r, &rec); err != nil {
			return err
		}
		*list = append(*list, rec)
		if size += len(rec.Arg); size > jobs.MaxListArgs {
			return errEnough
		}
		return nil
	}, s.what+s.from+named+c.text+" ORDER BY j.jobid LIMIT ?", args...)
	return size <= jobs.MaxListArgs, err
}

func scanRecord(r row, rec *jobs.Record) error {
	var id, inserted, after, started, until, finished int64
	var state string
	err := r.Scan(&id, &rec.Func, &rec.Arg, &rec.Unique, &inserted, &after, &rec.Coalesce, &rec.Key, &rec.Owner, &started,
		&rec.Progress.Done, &rec.Progress.Total, &rec.Progress.Note, &rec.Priority, &until, &rec.Failures, &finished, &rec.Status, &state, &rec.LastErr)
	rec.ID, rec.State = jobs.ID(id), jobs.State(state)
	rec.InsertTime, rec.RunAfter, rec.GrabbedUntil = optionalTime(inserted), optionalTime(after), optionalTime(until)
	rec.Started, rec.Finished = optionalTime(started), optionalTime(finished)
	if len(rec.Arg) == 0 {
		rec.Arg = nil
	}
	return err
}

// Show is as in [jobs.Inspector].
func (q *Queue) Show(ctx context.Context, id jobs.ID) (jobs.Record, error) {
	list, err := q.List(ctx, jobs.Filter{IDs: []jobs.ID{id}, Limit: 1})
	if err != nil {
		return jobs.Record{}, err
	}
	if len(list) == 0 {
		return jobs.Record{}, jobs.ErrNotFound
	}
	rec := list[0]
	err = q.db.read(ctx, func(ctx context.Context, t tx) error {
		rec.Errors = nil
		return t.query(ctx, func(r row) error {
			var at int64
			var f jobs.Failure
			err := r.Scan(&at, &f.Message)
			f.Time = unixTime(at)
			rec.Errors = append(rec.Errors, f)
			return err
		}, "SELECT e.error_time, e.message FROM {error} e WHERE e.jobid=? ORDER BY e.{errorid} DESC LIMIT ?", int64(id), jobs.MaxErrors)
	})
	slices.Reverse(rec.Errors)
	return rec, err
}
