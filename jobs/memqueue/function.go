package memqueue

import (
	"time"

	"wheelhouse/jobs"
)

// function is the jobs of one function. Those that are ready lie in lanes, one for each Key, so that a key that is at its
// limit does not hold up the others.
type function struct {
	name    string
	control jobs.Control
	bucket  bucket
	lanes   map[string]*lane
	ready   heap[*lane]  // those with ready jobs, by their first job
	delayed heap[*entry] // by RunAfter
	running heap[*entry] // by GrabbedUntil
	groups  map[string]map[*entry]struct{}
	waiting int // ready jobs
	records map[jobs.State]int64
}

// lane is the jobs of one Key.
type lane struct {
	key     string
	ready   heap[*entry]
	running int
	live    int // jobs in any place
	pos     int
	bucket  bucket
}

// place is where an entry is.
type place uint8

const (
	ready place = iota + 1
	delayed
	running
)

// entry is a job of the queue. Its GrabbedUntil is zero when nobody holds a lease, however old.
type entry struct {
	jobs.Job
	lane    *lane
	place   place
	pos     int  // in the heap of its place
	again   bool // it was inserted again while it ran
	owner   string
	started time.Time
	errors  []jobs.Failure
}

func entryPos(e *entry) *int { return &e.pos }

// before is the order in which jobs are handed out.
func before(a, b *entry) bool {
	if a.Priority != b.Priority {
		return a.Priority > b.Priority
	}
	if !a.RunAfter.Equal(b.RunAfter) {
		return a.RunAfter.Before(b.RunAfter)
	}
	return a.ID < b.ID
}

func newFunction(name string) *function {
	return &function{
		name: name, lanes: make(map[string]*lane), groups: make(map[string]map[*entry]struct{}), records: make(map[jobs.State]int64),
		ready:   heap[*lane]{less: func(a, b *lane) bool { return before(a.ready.top(), b.ready.top()) }, pos: func(l *lane) *int { return &l.pos }},
		delayed: heap[*entry]{less: func(a, b *entry) bool { return a.RunAfter.Before(b.RunAfter) }, pos: entryPos},
		running: heap[*entry]{less: func(a, b *entry) bool { return a.GrabbedUntil.Before(b.GrabbedUntil) }, pos: entryPos},
	}
}

// add takes a job in.
func (f *function) add(e *entry, now time.Time) {
	l := f.lanes[e.Key]
	if l == nil {
		l = &lane{key: e.Key, ready: heap[*entry]{less: before, pos: entryPos}}
		f.lanes[e.Key] = l
	}
	l.live++
	e.lane = l
	if e.Coalesce != "" {
		if f.groups[e.Coalesce] == nil {
			f.groups[e.Coalesce] = make(map[*entry]struct{})
		}
		f.groups[e.Coalesce][e] = struct{}{}
	}
	f.wait(e, now)
}

// drop lets a job go.
func (f *function) drop(e *entry, now time.Time) {
	f.unplace(e)
	e.lane.live--
	f.forget(e.lane, now)
	if g := f.groups[e.Coalesce]; g != nil {
		delete(g, e)
		if len(g) == 0 {
			delete(f.groups, e.Coalesce)
		}
	}
}

// forget removes a lane that remembers nothing any more.
func (f *function) forget(l *lane, now time.Time) {
	if l.live == 0 && (f.control.RatePerKey == (jobs.Rate{}) || !l.bucket.tat.After(now)) {
		delete(f.lanes, l.key)
	}
}

// wait puts a job that is nowhere among those that are ready or delayed.
func (f *function) wait(e *entry, now time.Time) {
	if e.RunAfter.After(now) {
		e.place = delayed
		f.delayed.push(e)
		return
	}
	e.place = ready
	l := e.lane
	l.ready.push(e)
	f.waiting++
	if l.ready.len() == 1 {
		f.ready.push(l)
	} else {
		f.ready.fix(l)
	}
}

// run puts a job that is nowhere among those that run.
func (f *function) run(e *entry) {
	e.place = running
	f.running.push(e)
	e.lane.running++
}

// unplace takes a job out of its place.
func (f *function) unplace(e *entry) {
	switch l := e.lane; e.place {
	case delayed:
		f.delayed.remove(e)
	case running:
		f.running.remove(e)
		l.running--
	case ready:
		f.waiting--
		if l.ready.len() == 1 {
			f.ready.remove(l)
			l.ready.remove(e)
		} else {
			l.ready.remove(e)
			f.ready.fix(l)
		}
	}
	e.place = 0
}

// advance moves what has become due, and what was not renewed, to the ready jobs.
func (f *function) advance(now time.Time) {
	for f.delayed.len() > 0 && !f.delayed.top().RunAfter.After(now) {
		e := f.delayed.top()
		f.unplace(e)
		f.wait(e, now)
	}
	for f.running.len() > 0 && !f.running.top().GrabbedUntil.After(now) {
		e := f.running.top()
		f.unplace(e)
		f.wait(e, now)
	}
}

// room is how many jobs may be begun now, of any key.
func (f *function) room(now time.Time) int {
	c := &f.control
	n := f.waiting
	if c.Paused {
		return 0
	}
	if c.MaxRunning > 0 {
		n = min(n, c.MaxRunning-f.running.len())
	}
	return min(n, f.bucket.room(c.Rate, now, n))
}

// laneRoom reports whether one more job of a key may be begun.
func (f *function) laneRoom(l *lane, now time.Time) bool {
	c := &f.control
	return (c.MaxRunningPerKey == 0 || l.running < c.MaxRunningPerKey) && l.bucket.room(c.RatePerKey, now, 1) > 0
}

// bucket counts the tokens of a [jobs.Rate]: tat is when it will be full again. The zero value is full.
type bucket struct{ tat time.Time }

// room is how many tokens there are, or most if that is less or there is no limit.
func (b *bucket) room(r jobs.Rate, now time.Time, most int) int {
	if r.N == 0 {
		return most
	}
	return min(most, r.N, int((r.Per-max(0, b.tat.Sub(now)))/(r.Per/time.Duration(r.N))))
}

func (b *bucket) take(r jobs.Rate, now time.Time) {
	if r.N == 0 {
		return
	}
	if b.tat.Before(now) {
		b.tat = now
	}
	b.tat = b.tat.Add(r.Per / time.Duration(r.N))
}
