package sqlqueue

import (
	"context"
	"math"
	"slices"
	"time"

	"wheelhouse/jobs"
)

// limits is what a function's control leaves to be grabbed. Its row is locked while this is in use, so that all processes
// together keep to it. Functions without a row do not come here.
type limits struct {
	c       jobs.Control
	fn      int64
	micros  int64          // the time
	running map[string]int // jobs by Key
	total   int            // of them
	all     bucket
	keys    map[string]*bucket
}

// limited grabs of a function that has a control. It returns the jobs to be leased.
func (g *grab) limited(ctx context.Context, t tx, w *wanted, n int) ([]jobs.Job, error) {
	c, ok, err := lockControl(ctx, t, w.id)
	switch {
	case err != nil || c.Paused:
		return nil, err
	case !ok: // removed meanwhile
		return g.candidates(ctx, t, w, n, nil)
	}
	l := &limits{c: c, fn: w.id, micros: g.q.clock().UnixMicro()}
	if err := l.load(ctx, t, g.now); err != nil {
		return nil, err
	}
	var got []jobs.Job
	full := l.full()
	for n = min(n, l.room()); len(got) < n; {
		list, err := g.candidates(ctx, t, w, n, full)
		if err != nil {
			return nil, err
		}
		before := len(full)
		for i := range list {
			k := list[i].Key
			switch {
			case slices.Contains(full, k) || slices.ContainsFunc(got, func(j jobs.Job) bool { return j.ID == list[i].ID }):
			case len(got) >= n:
			case !l.begin(k):
				full = append(full, k)
			default:
				got = append(got, list[i])
			}
		}
		if len(list) < n || len(full) == before {
			break // there are no others
		}
	}
	if len(got) == 0 {
		return nil, nil
	}
	return got, l.save(ctx, t, got)
}

// load reads what runs and what is left in the buckets.
func (l *limits) load(ctx context.Context, t tx, now int64) error {
	l.running, l.keys = make(map[string]int), make(map[string]*bucket)
	if l.c.MaxRunning > 0 || l.c.MaxRunningPerKey > 0 {
		// The rows of job_slot say which jobs to look at; the jobs themselves say whether they still run.
		_, err := t.exec(ctx, `DELETE FROM {job_slot} WHERE funcid=? AND NOT EXISTS
			(SELECT 1 FROM {job} j WHERE j.jobid={job_slot}.jobid AND j.grabbed_until>?)`, l.fn, now)
		if err != nil {
			return err
		}
		err = t.query(ctx, func(r row) error {
			var key string
			var n int
			err := r.Scan(&key, &n)
			l.running[key] = n
			l.total += n
			return err
		}, "SELECT limit_key, count(*) FROM {job_slot} WHERE funcid=? GROUP BY limit_key", l.fn)
		if err != nil {
			return err
		}
	}
	l.all = bucket{rate: l.c.Rate, micro: full(l.c.Rate)}
	if l.c.Rate.N == 0 && l.c.RatePerKey.N == 0 {
		return nil
	}
	return t.query(ctx, func(r row) error {
		var kind, tokens, filled int64
		var key string
		if err := r.Scan(&kind, &key, &tokens, &filled); err != nil {
			return err
		}
		if kind == 0 {
			l.all.fill(tokens, filled, l.micros)
		} else if l.c.RatePerKey.N > 0 {
			b := &bucket{rate: l.c.RatePerKey}
			b.fill(tokens, filled, l.micros)
			l.keys[key] = b
		}
		return nil
	}, "SELECT kind, limit_key, tokens, filled FROM {job_bucket} WHERE funcid=? AND full_at>=?", l.fn, now)
}

// room is how many jobs may be begun, whatever their keys.
func (l *limits) room() int {
	n := math.MaxInt
	if l.c.MaxRunning > 0 {
		n = max(0, l.c.MaxRunning-l.total)
	}
	if l.c.Rate.N > 0 {
		n = min(n, l.all.tokens())
	}
	return n
}

// full lists the keys of which no job may be begun.
func (l *limits) full() (list textList) {
	if l.c.MaxRunningPerKey > 0 {
		for key, n := range l.running {
			if n >= l.c.MaxRunningPerKey {
				list = append(list, key)
			}
		}
	}
	for key, b := range l.keys {
		if b.tokens() == 0 && !slices.Contains(list, key) {
			list = append(list, key)
		}
	}
	return list
}

// begin counts a job with a key, or reports that it may not be begun.
func (l *limits) begin(key string) bool {
	if l.c.MaxRunningPerKey > 0 && l.running[key] >= l.c.MaxRunningPerKey {
		return false
	}
	if l.c.RatePerKey.N > 0 {
		b := l.keys[key]
		if b == nil {
			b = &bucket{rate: l.c.RatePerKey, micro: full(l.c.RatePerKey)}
			l.keys[key] = b
		}
		if b.tokens() == 0 {
			return false
		}
		b.take()
	}
	if l.c.Rate.N > 0 {
		l.all.take()
	}
	l.running[key]++
	return true
}

// save records the jobs that are begun.
func (l *limits) save(ctx context.Context, t tx, got []jobs.Job) error {
	if l.c.MaxRunning > 0 || l.c.MaxRunningPerKey > 0 {
		ids := make(idList, len(got))
		for i := range got {
			ids[i] = int64(got[i].ID)
		}
		if err := fillSlots(ctx, t, "jobid {in}", ids); err != nil {
			return err
		}
	}
	if l.all.changed {
		if err := l.saveBucket(ctx, t, 0, "", &l.all); err != nil {
			return err
		}
	}
	for key, b := range l.keys {
		if b.changed {
			if err := l.saveBucket(ctx, t, 1, key, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillSlots notes jobs that are to be counted as running.
func fillSlots(ctx context.Context, t tx, where string, args ...any) error {
	if _, err := t.exec(ctx, "DELETE FROM {job_slot} WHERE jobid IN (SELECT jobid FROM {job} WHERE "+where+")", args...); err != nil {
		return err
	}
	_, err := t.exec(ctx, "INSERT INTO {job_slot}(jobid,funcid,limit_key) SELECT jobid, funcid, COALESCE(limit_key,'') FROM {job} WHERE "+where, args...)
	return err
}

func (l *limits) saveBucket(ctx context.Context, t tx, kind int64, key string, b *bucket) error {
	_, err := t.exec(ctx, "DELETE FROM {job_bucket} WHERE funcid=? AND kind=? AND limit_key=?", l.fn, kind, key)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, "INSERT INTO {job_bucket}(funcid,kind,limit_key,tokens,filled,full_at) VALUES(?,?,?,?,?,?)",
		l.fn, kind, key, b.micro, l.micros, b.fullAt(l.micros))
	return err
}

// bucket holds tokens, each of which lets one job begin.
type bucket struct {
	rate    jobs.Rate
	micro   int64 // millionths of tokens
	changed bool
}

const token = 1_000_000

func full(r jobs.Rate) int64 { return int64(r.N) * token }

// fill sets what a bucket holds now that held some tokens at a time, in microseconds.
func (b *bucket) fill(micro, then, now int64) {
	if b.rate.N == 0 {
		return
	}
	gained := float64(now-then) * float64(full(b.rate)) / float64(b.rate.Per/time.Microsecond)
	b.micro = int64(min(float64(full(b.rate)), math.Round(float64(micro)+max(0, gained))))
}

func (b *bucket) tokens() int { return int(b.micro / token) }

func (b *bucket) take() { b.micro, b.changed = b.micro-token, true }

// fullAt is the second from which on it need not be remembered.
func (b *bucket) fullAt(now int64) int64 {
	wait := float64(full(b.rate)-b.micro) * float64(b.rate.Per/time.Microsecond) / float64(full(b.rate))
	return (now+int64(wait))/1e6 + 1
}
