package memqueue

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"wheelhouse/jobs"
	"wheelhouse/jobs/cron"
)

// periodic is a periodic job whose spec has been read.
type periodic struct {
	jobs.Periodic
	schedule cron.Schedule
	zone     *time.Location
}

func newPeriodic(p jobs.Periodic) (*periodic, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	s, err := cron.Parse(p.Spec)
	if err != nil {
		return nil, fmt.Errorf("jobs: periodic job %s: %w", p.Name, err)
	}
	zone, err := cron.Zone(p.Zone)
	if err != nil {
		return nil, fmt.Errorf("jobs: periodic job %s: %w", p.Name, err)
	}
	p.Arg = slices.Clone(p.Arg)
	return &periodic{p, s, zone}, nil
}

// after is when it comes next after a time, in UTC.
func (p *periodic) after(now time.Time) time.Time {
	if t := p.schedule.Next(now.In(p.zone)); !t.IsZero() {
		return t.UTC()
	}
	return time.Time{}
}

// Schedule is as in [jobs.Scheduler].
func (q *Queue) Schedule(ctx context.Context, list []jobs.Periodic) error {
	made := make([]*periodic, len(list))
	for i := range list {
		var err error
		if made[i], err = newPeriodic(list[i]); err != nil {
			return err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	for _, p := range made {
		p.Next, p.Last = p.after(now), time.Time{}
		if old := q.periodics[p.Name]; old != nil {
			p.Last = old.Last
			if old.Spec == p.Spec && old.Zone == p.Zone {
				p.Next = old.Next
			}
		}
		q.periodics[p.Name] = p
	}
	return nil
}

// Unschedule is as in [jobs.Scheduler].
func (q *Queue) Unschedule(ctx context.Context, name string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.periodics[name] == nil {
		return jobs.ErrNotFound
	}
	delete(q.periodics, name)
	return nil
}

// Periodics is as in [jobs.Scheduler].
func (q *Queue) Periodics(ctx context.Context) ([]jobs.Periodic, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []jobs.Periodic
	for _, name := range slices.Sorted(maps.Keys(q.periodics)) {
		p := q.periodics[name].Periodic
		p.Arg = slices.Clone(p.Arg)
		list = append(list, p)
	}
	return list, nil
}

// Tend is as in [jobs.Queue].
func (q *Queue) Tend(ctx context.Context) (next time.Time, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	for _, p := range q.periodics {
		if !p.Next.IsZero() && !p.Next.After(now) {
			q.insert([]jobs.Job{p.Job()}, now)
			p.Last, p.Next = now, p.after(now)
		}
		if !p.Next.IsZero() && (next.IsZero() || p.Next.Before(next)) {
			next = p.Next
		}
	}
	for q.expiry.len() > 0 && !q.expiry.top().deleteAt.After(now) {
		q.discard(q.expiry.top())
	}
	for _, f := range q.funcs {
		for _, l := range f.lanes {
			f.forget(l, now)
		}
	}
	return next, nil
}
