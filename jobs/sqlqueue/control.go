package sqlqueue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"wheelhouse/jobs"
)

const controlColumns = `SELECT f.funcname, c.paused, c.max_running, c.max_running_key, c.rate_n, c.rate_per, c.key_rate_n, c.key_rate_per,
	c.keep_done, c.keep_dead FROM {job_control} c JOIN {funcmap} f ON f.funcid=c.funcid`

func scanControl(r row, c *jobs.Control) error {
	var paused int
	var rate, keyRate, done, dead int64
	err := r.Scan(&c.Func, &paused, &c.MaxRunning, &c.MaxRunningPerKey, &c.Rate.N, &rate, &c.RatePerKey.N, &keyRate, &done, &dead)
	c.Paused = paused != 0
	c.Rate.Per, c.RatePerKey.Per = time.Duration(rate), time.Duration(keyRate)
	c.KeepDone, c.KeepDead = time.Duration(done), time.Duration(dead)
	return err
}

// lockControl reads a function's control and locks it for the rest of the transaction.
func lockControl(ctx context.Context, t tx, fn int64) (c jobs.Control, ok bool, err error) {
	_, ok, err = queryInt(ctx, t, "SELECT funcid FROM {job_control} WHERE funcid=? {lock}", fn)
	if err != nil || !ok {
		return c, false, err
	}
	err = t.query(ctx, func(r row) error { return scanControl(r, &c) }, controlColumns+" WHERE c.funcid=?", fn)
	return c, true, err
}

// Controls is as in [jobs.Inspector].
func (q *Queue) Controls(ctx context.Context) (list []jobs.Control, err error) {
	err = q.db.read(ctx, func(ctx context.Context, t tx) error {
		list = nil
		return t.query(ctx, func(r row) error {
			var c jobs.Control
			err := scanControl(r, &c)
			list = append(list, c)
			return err
		}, controlColumns)
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b jobs.Control) int { return strings.Compare(a.Func, b.Func) })
	return list, nil
}

// SetControl is as in [jobs.Inspector]. A Grab of another process that has begun may still heed what was set before. Jobs that
// Perl grabs are not counted.
func (q *Queue) SetControl(ctx context.Context, fn string, change func(*jobs.Control)) error {
	if err := (&jobs.Control{Func: fn}).Validate(); err != nil {
		return &own{err}
	}
	if err := q.introduce(ctx, fn); err != nil {
		return err
	}
	return q.change(ctx, func(ctx context.Context, t tx, ch *changes) error {
		id, err := q.funcID(ctx, t, fn, ch)
		if err != nil {
			return err
		}
		// Two that set the first control of a function have no row of it to lock yet.
		if _, _, err := queryInt(ctx, t, "SELECT funcid FROM {funcmap} WHERE funcid=? {lock}", id); err != nil {
			return err
		}
		old, exists, err := lockControl(ctx, t, id)
		if err != nil {
			return err
		}
		old.Func = fn
		c := old
		change(&c)
		c.Func = fn
		if err := c.Validate(); err != nil {
			return &own{err}
		}
		ch.readied(fn) // whoever waits may find more than before
		return q.putControl(ctx, t, id, &c, &old, exists)
	})
}

// putControl stores a control. A row that is there is changed, not replaced: somebody may be waiting for its lock.
func (q *Queue) putControl(ctx context.Context, t tx, id int64, c, old *jobs.Control, exists bool) error {
	if c.Zero() {
		for _, table := range []string{"{job_control}", "{job_slot}", "{job_bucket}"} {
			if _, err := t.exec(ctx, "DELETE FROM "+table+" WHERE funcid=?", id); err != nil {
				return err
			}
		}
		return nil
	}
	query := `INSERT INTO {job_control}(paused,max_running,max_running_key,rate_n,rate_per,key_rate_n,key_rate_per,keep_done,keep_dead,funcid)
		VALUES(?,?,?,?,?,?,?,?,?,?)`
	if exists {
		query = `UPDATE {job_control} SET paused=?, max_running=?, max_running_key=?, rate_n=?, rate_per=?, key_rate_n=?, key_rate_per=?,
			keep_done=?, keep_dead=? WHERE funcid=?`
	}
	paused := 0
	if c.Paused {
		paused = 1
	}
	_, err := t.exec(ctx, query, paused, c.MaxRunning, c.MaxRunningPerKey, c.Rate.N, int64(c.Rate.Per), c.RatePerKey.N, int64(c.RatePerKey.Per),
		int64(c.KeepDone), int64(c.KeepDead), id)
	if err != nil {
		return fmt.Errorf("control of %s: %w", c.Func, err)
	}
	if (c.MaxRunning > 0 || c.MaxRunningPerKey > 0) && old.MaxRunning == 0 && old.MaxRunningPerKey == 0 {
		return fillSlots(ctx, t, "funcid=? AND grabbed_until>?", id, q.now())
	}
	return nil
}
