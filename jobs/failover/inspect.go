package failover

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"wheelhouse/jobs"
)

// What operators ask is asked of all queues, dead ones too: they want to know. Where one does not answer, what the others
// say is returned together with the error.

// each calls do for all members.
func (q *Queue) each(ctx context.Context, do func(m *member) error) error {
	var errs []error
	for _, m := range q.members {
		errs = append(errs, q.check(ctx, m, do(m)))
	}
	return errors.Join(errs...)
}

// Stats is as in [jobs.Inspector].
func (q *Queue) Stats(ctx context.Context) ([]jobs.FuncStats, error) {
	sum := make(map[string]*jobs.FuncStats)
	err := q.each(ctx, func(m *member) error {
		list, err := m.Queue.Stats(ctx)
		for _, s := range list {
			t := sum[s.Func]
			if t == nil {
				sum[s.Func] = &s
				continue
			}
			t.Ready, t.Running, t.Delayed, t.Dead, t.Done = t.Ready+s.Ready, t.Running+s.Running, t.Delayed+s.Delayed, t.Dead+s.Dead, t.Done+s.Done
			t.Paused = t.Paused || s.Paused
			if t.OldestDue.IsZero() || !s.OldestDue.IsZero() && s.OldestDue.Before(t.OldestDue) {
				t.OldestDue = s.OldestDue
			}
		}
		return err
	})
	list := make([]jobs.FuncStats, 0, len(sum))
	for _, s := range sum {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b jobs.FuncStats) int { return cmp.Compare(a.Func, b.Func) })
	return list, err
}

// filter is a filter as a member understands it; false: it has nothing that matches.
func (m *member) filter(f jobs.Filter) (jobs.Filter, bool) {
	if len(f.IDs) > 0 {
		if f.IDs = m.local(f.IDs); len(f.IDs) == 0 {
			return f, false
		}
	}
	if f.After > 0 {
		f.After = (f.After+MaxMembers-jobs.ID(m.index))/MaxMembers - 1
	}
	return f, true
}

func (m *member) record(r jobs.Record) jobs.Record {
	r.Job = m.outside(r.Job)
	return r
}

// List is as in [jobs.Inspector].
func (q *Queue) List(ctx context.Context, f jobs.Filter) ([]jobs.Record, error) {
	f, err := f.ForList()
	if err != nil {
		return nil, err
	}
	var list []jobs.Record
	end := jobs.ID(math.MaxInt64) // what is behind it is not known of all members
	err = q.each(ctx, func(m *member) error {
		part, any := m.filter(f)
		if !any {
			return nil
		}
		got, err := m.Queue.List(ctx, part)
		size := 0
		for _, r := range got {
			list = append(list, m.record(r))
			size += len(r.Arg)
		}
		if size > jobs.MaxListArgs {
			end = min(end, list[len(list)-1].ID)
		}
		return err
	})
	list = slices.DeleteFunc(list, func(r jobs.Record) bool { return r.ID > end })
	slices.SortFunc(list, func(a, b jobs.Record) int { return cmp.Compare(a.ID, b.ID) })
	return list[:min(len(list), f.Limit)], err
}

// Show is as in [jobs.Inspector].
func (q *Queue) Show(ctx context.Context, id jobs.ID) (jobs.Record, error) {
	i := int64(id) % MaxMembers
	if id <= 0 || i >= int64(len(q.members)) {
		return jobs.Record{}, jobs.ErrNotFound
	}
	m := q.members[i]
	r, err := m.Queue.Show(ctx, id/MaxMembers)
	if err = q.check(ctx, m, err); err != nil {
		return jobs.Record{}, err
	}
	return m.record(r), nil
}

// change does something in all members until f.Limit is reached.
func (q *Queue) change(ctx context.Context, f jobs.Filter, do func(b jobs.Backend, f jobs.Filter) (int, error)) (int, error) {
	f, err := f.ForChange()
	if err != nil {
		return 0, err
	}
	total := 0
	err = q.each(ctx, func(m *member) error {
		part, any := m.filter(f)
		if part.Limit = f.Limit - total; !any || part.Limit <= 0 {
			return nil
		}
		n, err := do(m.Queue, part)
		total += n
		return err
	})
	return total, err
}

// Cancel is as in [jobs.Inspector].
func (q *Queue) Cancel(ctx context.Context, f jobs.Filter) (int, error) {
	return q.change(ctx, f, func(b jobs.Backend, f jobs.Filter) (int, error) { return b.Cancel(ctx, f) })
}

// Revive is as in [jobs.Inspector].
func (q *Queue) Revive(ctx context.Context, f jobs.Filter) (int, error) {
	return q.change(ctx, f, func(b jobs.Backend, f jobs.Filter) (int, error) { return b.Revive(ctx, f) })
}

// Delete is as in [jobs.Inspector].
func (q *Queue) Delete(ctx context.Context, f jobs.Filter) (int, error) {
	return q.change(ctx, f, func(b jobs.Backend, f jobs.Filter) (int, error) { return b.Delete(ctx, f) })
}

// Controls is as in [jobs.Inspector]. Where queues do not agree, the first of the list is shown.
func (q *Queue) Controls(ctx context.Context) ([]jobs.Control, error) {
	var list []jobs.Control
	err := q.each(ctx, func(m *member) error {
		got, err := m.Queue.Controls(ctx)
		for _, c := range got {
			if !slices.ContainsFunc(list, func(k jobs.Control) bool { return k.Func == c.Func }) {
				list = append(list, c)
			}
		}
		return err
	})
	slices.SortFunc(list, func(a, b jobs.Control) int { return cmp.Compare(a.Func, b.Func) })
	return list, err
}

// SetControl is as in [jobs.Inspector]: it sets it in each queue.
func (q *Queue) SetControl(ctx context.Context, fn string, change func(*jobs.Control)) error {
	if err := (&jobs.Control{Func: fn}).Validate(); err != nil {
		return err
	}
	var errs []error
	for _, m := range q.members {
		var bad error
		err := m.Queue.SetControl(ctx, fn, func(c *jobs.Control) {
			change(c)
			c.Func = fn
			bad = c.Validate()
		})
		if err != nil && bad != nil {
			return bad // the caller's mistake
		}
		errs = append(errs, q.check(ctx, m, err))
	}
	return errors.Join(errs...)
}

// Schedule is as in [jobs.Scheduler]. A periodic job lives in the queue that its name belongs to.
func (q *Queue) Schedule(ctx context.Context, list []jobs.Periodic) error {
	for i := range list {
		if err := list[i].Validate(); err != nil {
			return err
		}
	}
	parts := make(map[*member][]jobs.Periodic)
	for _, p := range list {
		m := q.home(p.Name)
		parts[m] = append(parts[m], p)
	}
	var errs []error
	for m, part := range parts {
		// Not checked: what is wrong with a schedule only the queue can say, and that is no fault of its own.
		errs = append(errs, m.Queue.Schedule(ctx, part))
	}
	return errors.Join(errs...)
}

// Unschedule is as in [jobs.Scheduler].
func (q *Queue) Unschedule(ctx context.Context, name string) error {
	m := q.home(name)
	return q.check(ctx, m, m.Queue.Unschedule(ctx, name))
}

// Periodics is as in [jobs.Scheduler].
func (q *Queue) Periodics(ctx context.Context) ([]jobs.Periodic, error) {
	var list []jobs.Periodic
	err := q.each(ctx, func(m *member) error {
		got, err := m.Queue.Periodics(ctx)
		list = append(list, got...)
		return err
	})
	slices.SortFunc(list, func(a, b jobs.Periodic) int { return cmp.Compare(a.Name, b.Name) })
	return list, err
}

// Dead lists the members that have failed and are left alone, with the time of their failure.
func (q *Queue) Dead() map[string]time.Time {
	dead := make(map[string]time.Time)
	for _, m := range q.members {
		m.mu.Lock()
		if !m.dead.IsZero() {
			dead[m.Name] = m.dead
		}
		m.mu.Unlock()
	}
	return dead
}
