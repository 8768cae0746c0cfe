package sqlqueue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"wheelhouse/jobs"
	"wheelhouse/jobs/cron"
)

const periodicColumns = `SELECT p.name, p.spec, p.zone, p.funcname, p.arg, p.priority, p.limit_key, p.next_time, p.last_time FROM {job_periodic} p `

func scanPeriodic(r row, p *jobs.Periodic) error {
	var next, last int64
	err := r.Scan(&p.Name, &p.Spec, &p.Zone, &p.Func, &p.Arg, &p.Priority, &p.Key, &next, &last)
	p.Next, p.Last = optionalTime(next), optionalTime(last)
	if len(p.Arg) == 0 {
		p.Arg = nil
	}
	return err
}

func (q *Queue) periodics(ctx context.Context, t tx, rest string, args ...any) (list []jobs.Periodic, err error) {
	err = t.query(ctx, func(r row) error {
		var p jobs.Periodic
		err := scanPeriodic(r, &p)
		list = append(list, p)
		return err
	}, periodicColumns+rest, args...)
	return list, err
}

// next is when a periodic job is due after a time, in Unix seconds; 0 for never.
func next(p *jobs.Periodic, now time.Time) (int64, error) {
	s, err := cron.Parse(p.Spec)
	if err != nil {
		return 0, fmt.Errorf("periodic job %s: %w", p.Name, err)
	}
	loc, err := time.LoadLocation(cmp.Or(p.Zone, "UTC"))
	if err != nil {
		return 0, fmt.Errorf("jobs: periodic job %s: time zone: %w", p.Name, err)
	}
	at := s.Next(now.In(loc))
	if at.IsZero() {
		return 0, nil
	}
	return ceil(at), nil
}

// Schedule is as in [jobs.Scheduler].
func (q *Queue) Schedule(ctx context.Context, list []jobs.Periodic) error {
	now := q.clock()
	nexts := make([]int64, len(list))
	for i := range list {
		err := list[i].Validate()
		if err == nil {
			nexts[i], err = next(&list[i], now)
		}
		if err != nil {
			return &own{err}
		}
	}
	return q.change(ctx, func(ctx context.Context, t tx, _ *changes) error {
		for i := range list {
			if err := q.schedule(ctx, t, &list[i], nexts[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// schedule stores one. Processes that begin at the same time schedule the same jobs at the same time.
func (q *Queue) schedule(ctx context.Context, t tx, p *jobs.Periodic, next int64) error {
	insert := `INSERT INTO {job_periodic}(spec,zone,funcname,arg,priority,limit_key,next_time,name,last_time) VALUES(?,?,?,?,?,?,?,?,0) `
	if t.dialect().kind == mysqlDB {
		insert += "ON DUPLICATE KEY UPDATE name=name"
	} else {
		insert += "ON CONFLICT(name) DO NOTHING"
	}
	n, err := t.exec(ctx, insert, p.Spec, p.Zone, p.Func, p.Arg, p.Priority, p.Key, next, p.Name)
	if err != nil || n > 0 {
		return err
	}
	old, err := q.periodics(ctx, t, "WHERE p.name=? {lock}", p.Name)
	if err != nil {
		return err
	}
	if len(old) > 0 && old[0].Spec == p.Spec && old[0].Zone == p.Zone && !old[0].Next.IsZero() {
		next = old[0].Next.Unix()
	}
	_, err = t.exec(ctx, `UPDATE {job_periodic} SET spec=?, zone=?, funcname=?, arg=?, priority=?, limit_key=?, next_time=? WHERE name=?`,
		p.Spec, p.Zone, p.Func, p.Arg, p.Priority, p.Key, next, p.Name)
	return err
}

// Unschedule is as in [jobs.Scheduler].
func (q *Queue) Unschedule(ctx context.Context, name string) error {
	return q.change(ctx, func(ctx context.Context, t tx, _ *changes) error {
		n, err := t.exec(ctx, "DELETE FROM {job_periodic} WHERE name=?", name)
		if err == nil && n == 0 {
			err = jobs.ErrNotFound
		}
		return err
	})
}

// Periodics is as in [jobs.Scheduler].
func (q *Queue) Periodics(ctx context.Context) (list []jobs.Periodic, err error) {
	err = q.db.read(ctx, func(ctx context.Context, t tx) error {
		list, err = q.periodics(ctx, t, "")
		return err
	})
	slices.SortFunc(list, func(a, b jobs.Periodic) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// insertDue inserts a periodic job that is due, unless another process just has.
func (q *Queue) insertDue(ctx context.Context, p jobs.Periodic) error {
	now := q.clock()
	at, err := next(&p, now)
	if err != nil {
		return err
	}
	if err := q.introduce(ctx, p.Func); err != nil {
		return err
	}
	return q.change(ctx, func(ctx context.Context, t tx, c *changes) error {
		n, err := t.exec(ctx, "UPDATE {job_periodic} SET next_time=?, last_time=? WHERE name=? AND next_time=? AND spec=?",
			at, now.Unix(), p.Name, p.Next.Unix(), p.Spec)
		if err != nil || n == 0 {
			return err
		}
		_, err = q.insert(ctx, t, []jobs.Job{p.Job()}, c)
		return err
	})
}
