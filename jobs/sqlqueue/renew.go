package sqlqueue

import (
	"context"
	"time"

	"wheelhouse/jobs"
)

// Renew is as in [jobs.Queue].
func (q *Queue) Renew(ctx context.Context, list []jobs.Job, lease time.Duration) (kept []jobs.Job, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	if err := (&jobs.GrabRequest{Lease: lease}).Validate(); err != nil {
		return nil, &own{err}
	}
	ids := make(idList, len(list))
	for i := range list {
		ids[i] = int64(list[i].ID)
	}
	until := q.until(lease)
	err = q.db.write(ctx, func(ctx context.Context, t tx) error {
		held, err := renewable(ctx, t, ids)
		if err != nil {
			return err
		}
		kept = nil
		var mine idList
		for i := range list {
			j := list[i]
			h, ok := held[int64(j.ID)]
			if !ok || h.until != j.GrabbedUntil.Unix() {
				continue
			}
			delete(held, int64(j.ID)) // once
			if p := shown(j.Progress); p != h.progress {
				if err := setProgress(ctx, t, int64(j.ID), p); err != nil {
					return err
				}
			}
			mine = append(mine, int64(j.ID))
			j.GrabbedUntil = unixTime(until)
			kept = append(kept, j)
		}
		if len(mine) == 0 {
			return nil
		}
		_, err = t.exec(ctx, "UPDATE {job} SET grabbed_until=? WHERE jobid {in}", until, mine)
		return err
	})
	if err != nil { // and kept may still be written to
		return attempted(list, until), err
	}
	return kept, nil
}

// attempted is how jobs are if they were renewed.
func attempted(list []jobs.Job, until int64) (out []jobs.Job) {
	seen := make(map[jobs.ID]bool, len(list))
	for _, j := range list {
		if !seen[j.ID] {
			seen[j.ID] = true
			j.GrabbedUntil = unixTime(until)
			out = append(out, j)
		}
	}
	return out
}

// shown is progress as it is recorded.
func shown(p jobs.Progress) jobs.Progress {
	p.Note = jobs.Text(p.Note)
	return p
}

// leased is what a job's row says of its lease.
type leased struct {
	until    int64
	progress jobs.Progress
}

func renewable(ctx context.Context, t tx, ids idList) (map[int64]leased, error) {
	held := make(map[int64]leased, len(ids))
	err := t.query(ctx, func(r row) error {
		var id int64
		var l leased
		err := r.Scan(&id, &l.until, &l.progress.Done, &l.progress.Total, &l.progress.Note)
		held[id] = l
		return err
	}, `SELECT jobid, grabbed_until, COALESCE(progress_done,0), COALESCE(progress_total,0), COALESCE(progress_note,'')
		FROM {job} WHERE jobid {in} ORDER BY jobid {lock}`, ids)
	return held, err
}

func setProgress(ctx context.Context, t tx, id int64, p jobs.Progress) error {
	_, err := t.exec(ctx, "UPDATE {job} SET progress_done=?, progress_total=?, progress_note=? WHERE jobid=?", p.Done, p.Total, p.Note, id)
	return err
}
