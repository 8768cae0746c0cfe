package sqlqueue

import (
	"context"
	"time"

	"wheelhouse/jobs"
)

// Finish is as in [jobs.Queue].
func (q *Queue) Finish(ctx context.Context, results []jobs.Result) error {
	for i := range results {
		r := &results[i]
		if err := r.Validate(); err != nil {
			return &own{err}
		}
		if r.Verdict == jobs.Done {
			if err := q.introduceJobs(ctx, r.Replace); err != nil {
				return err
			}
		}
	}
	if len(results) == 0 {
		return nil
	}
	return q.change(ctx, func(ctx context.Context, t tx, c *changes) error {
		f := finish{q: q, now: q.now(), again: make(map[int64]idList), c: c}
		if err := f.sort(ctx, t, results); err != nil {
			return err
		}
		return f.apply(ctx, t)
	})
}

// finish is one call of Finish: what is to be done about many jobs at once.
type finish struct {
	q   *Queue
	now int64
	c   *changes

	errors  errorRows
	ended   []ended          // leave a record
	gone    idList           // are removed, those that leave a record too
	anew    idList           // were inserted again while they ran
	again   map[int64]idList // run again, by when
	replace []jobs.Job
}

// running is what a job's row says.
type running struct {
	fn, until, inserted int64
	limited             bool // when it has ended another may begin
	keepDone, keepDead  time.Duration
}

func (f *finish) sort(ctx context.Context, t tx, results []jobs.Result) error {
	ids := make(idList, len(results))
	for i := range results {
		ids[i] = int64(results[i].Job.ID)
	}
	rows := make(map[int64]running, len(ids))
	err := t.query(ctx, func(r row) error {
		var id, done, dead, limits int64
		var h running
		err := r.Scan(&id, &h.fn, &h.until, &h.inserted, &done, &dead, &limits)
		h.limited = limits > 0
		h.keepDone, h.keepDead = time.Duration(done), time.Duration(dead)
		rows[id] = h
		return err
	}, `SELECT j.jobid, j.funcid, j.grabbed_until, COALESCE(j.insert_time,0),
		COALESCE((SELECT c.keep_done FROM {job_control} c WHERE c.funcid=j.funcid),0),
		COALESCE((SELECT c.keep_dead FROM {job_control} c WHERE c.funcid=j.funcid),0),
		COALESCE((SELECT c.max_running+c.max_running_key FROM {job_control} c WHERE c.funcid=j.funcid),0)
		FROM {job} j WHERE j.jobid {in} ORDER BY j.jobid {lock}`, ids)
	if err != nil {
		return err
	}
	for i := range results {
		r := &results[i]
		h, ok := rows[int64(r.Job.ID)]
		if !ok || h.until != r.Job.GrabbedUntil.Unix() {
			continue // lost
		}
		delete(rows, int64(r.Job.ID)) // a second result for it has none to have an effect on
		f.one(r, &h)
	}
	return nil
}

// one sorts in one result of a job that is held.
func (f *finish) one(r *jobs.Result, h *running) {
	id := int64(r.Job.ID)
	if h.limited {
		f.c.readied(r.Job.Func)
	}
	anew := h.inserted != r.Job.InsertTime.Unix()
	switch {
	case r.Verdict == jobs.Done:
		f.replace = append(f.replace, r.Replace...)
		switch {
		case anew:
			f.anewJob(id, r.Job.Func)
		case h.keepDone > 0:
			f.end(ended{id: id, fn: h.fn, state: jobs.StateDone, keep: h.keepDone})
		default:
			f.gone = append(f.gone, id)
		}
	case r.Verdict == jobs.Dead && anew:
		f.anewJob(id, r.Job.Func)
	case r.Verdict == jobs.Dead:
		f.errors.add(f.now, id, h.fn, r.Cause)
		f.end(ended{id: id, fn: h.fn, state: jobs.StateDead, status: status(r.Status), keep: f.q.keepDead(h.keepDead)})
	default:
		if r.Verdict == jobs.Retry {
			f.errors.add(f.now, id, h.fn, r.Cause)
		}
		run := f.now
		if r.After > 0 {
			run = f.q.until(min(r.After, jobs.MaxLease))
		} else {
			f.c.readied(r.Job.Func)
		}
		f.again[run] = append(f.again[run], id)
	}
}

func (f *finish) anewJob(id int64, fn string) {
	f.anew = append(f.anew, id)
	f.c.readied(fn)
}

func (f *finish) end(e ended) {
	f.ended = append(f.ended, e)
	f.gone = append(f.gone, e.id)
}

// keepDead is how long a dead letter is kept.
func (q *Queue) keepDead(control time.Duration) time.Duration {
	if control > 0 {
		return control
	}
	return q.opts.KeepFailed
}

// status is a result's exit status.
func status(n int) int64 {
	if n < 1 || n > 65535 {
		return 1
	}
	return int64(n)
}

func (f *finish) apply(ctx context.Context, t tx) error {
	if err := f.errors.insert(ctx, t); err != nil {
		return err
	}
	if err := record(ctx, t, f.ended, f.now); err != nil {
		return err
	}
	if len(f.gone) > 0 {
		if _, err := t.exec(ctx, "DELETE FROM {job} WHERE jobid {in}", f.gone); err != nil {
			return err
		}
	}
	for run, ids := range f.again {
		if _, err := t.exec(ctx, "UPDATE {job} SET grabbed_until=0, run_after=? WHERE jobid {in}", run, ids); err != nil {
			return err
		}
	}
	if len(f.anew) > 0 { // what was is not held against them
		if _, err := t.exec(ctx, "UPDATE {job} SET grabbed_until=0, run_after=? WHERE jobid {in}", f.now, f.anew); err != nil {
			return err
		}
		if _, err := t.exec(ctx, "DELETE FROM {error} WHERE jobid {in}", f.anew); err != nil {
			return err
		}
	}
	if len(f.replace) == 0 {
		return nil
	}
	_, err := f.q.insert(ctx, t, f.replace, f.c)
	return err
}

// errorRows are failures to be recorded.
type errorRows struct {
	times, ids, funcs []int64
	texts             []string
}

func (e *errorRows) add(now, id, fn int64, cause string) {
	text := jobs.Text(cause)
	if text == "" {
		text = "failed" // "" would be NULL, and say nothing
	}
	e.times, e.ids, e.funcs, e.texts = append(e.times, now), append(e.ids, id), append(e.funcs, fn), append(e.texts, text)
}

func (e *errorRows) insert(ctx context.Context, t tx) error {
	for n := 0; len(e.ids) > 0; {
		n = min(len(e.ids), t.dialect().maxRows)
		r := rows{e.times[:n], e.ids[:n], e.funcs[:n], e.texts[:n]}
		e.times, e.ids, e.funcs, e.texts = e.times[n:], e.ids[n:], e.funcs[n:], e.texts[n:]
		if _, err := t.exec(ctx, "INSERT INTO {error}(error_time,jobid,funcid,message) {rows:bigint,bigint,bigint,text}", r); err != nil {
			return err
		}
	}
	return nil
}
