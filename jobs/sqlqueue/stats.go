package sqlqueue

import (
	"context"
	"slices"
	"strings"
	"time"

	"wheelhouse/jobs"
)

func durationOf(ns int64) time.Duration { return time.Duration(ns) }

// Stats is as in [jobs.Queue]. It reads every job: about a second for a million.
func (q *Queue) Stats(ctx context.Context) (list []jobs.FuncStats, err error) {
	err = q.db.read(ctx, func(ctx context.Context, t tx) error {
		list, err = q.stats(ctx, t)
		return err
	})
	slices.SortFunc(list, func(a, b jobs.FuncStats) int { return strings.Compare(a.Func, b.Func) })
	return list, err
}

func (q *Queue) stats(ctx context.Context, t tx) (list []jobs.FuncStats, err error) {
	now := q.now()
	byID := make(map[int64]int)
	err = t.query(ctx, func(r row) error {
		var id, paused int64
		var s jobs.FuncStats
		err := r.Scan(&id, &s.Func, &paused)
		s.Paused = paused != 0
		byID[id] = len(list)
		list = append(list, s)
		return err
	}, "SELECT f.funcid, f.funcname, COALESCE(c.paused,0) FROM {funcmap} f LEFT JOIN {job_control} c ON c.funcid=f.funcid")
	if err != nil {
		return nil, err
	}
	err = t.query(ctx, func(r row) error {
		var id, ready, running, delayed, oldest int64
		if err := r.Scan(&id, &ready, &running, &delayed, &oldest); err != nil {
			return err
		}
		if i, ok := byID[id]; ok {
			s := &list[i]
			s.Ready, s.Running, s.Delayed, s.OldestDue = ready, running, delayed, optionalTime(oldest)
		}
		return nil
	}, `SELECT j.funcid, sum(CASE WHEN j.grabbed_until<=? AND j.run_after<=? THEN 1 ELSE 0 END), sum(CASE WHEN j.grabbed_until>? THEN 1 ELSE 0 END),
		sum(CASE WHEN j.grabbed_until<=? AND j.run_after>? THEN 1 ELSE 0 END),
		COALESCE(min(CASE WHEN j.grabbed_until<=? AND j.run_after<=? THEN j.run_after END),0) FROM {job} j GROUP BY j.funcid`,
		now, now, now, now, now, now, now)
	if err != nil {
		return nil, err
	}
	count := func(r row) error {
		var id, dead, done int64
		if err := r.Scan(&id, &dead, &done); err != nil {
			return err
		}
		if i, ok := byID[id]; ok {
			list[i].Dead, list[i].Done = list[i].Dead+dead, list[i].Done+done
		}
		return nil
	}
	err = t.query(ctx, count, `SELECT j.funcid, sum(CASE WHEN j.state='dead' THEN 1 ELSE 0 END), sum(CASE WHEN j.state='dead' THEN 0 ELSE 1 END)
		FROM {job_record} j GROUP BY j.funcid`)
	if err != nil {
		return nil, err
	}
	err = t.query(ctx, count, `SELECT j.funcid, sum(CASE WHEN COALESCE(j.status,0)=0 THEN 0 ELSE 1 END),
		sum(CASE WHEN COALESCE(j.status,0)=0 THEN 1 ELSE 0 END) `+statuses.from+"WHERE 1=1"+statuses.where+" GROUP BY j.funcid")
	return list, err
}
