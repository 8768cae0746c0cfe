package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// Inspector is what operators need of a queue. Safe for concurrent use.
type Inspector interface {
	// Stats counts jobs, by function name in byte order. It may look at all of them.
	Stats(ctx context.Context) ([]FuncStats, error)
	// List returns records that match, those with the smallest ID first, without their Errors. It may end before the Limit,
	// with the record that makes the arguments longer than MaxListArgs together: what comes After it is found by another call, and
	// none is left only when a call finds none.
	List(ctx context.Context, f Filter) ([]Record, error)
	// Show returns one record with its Errors. ErrNotFound if there is none.
	Show(ctx context.Context, id ID) (Record, error)
	// Cancel takes jobs that match out of the queue, running ones too: their workers lose them at the next renewal. Kept
	// as records like dead ones. It returns how many there were.
	Cancel(ctx context.Context, f Filter) (int, error)
	// Revive makes jobs that match run as soon as possible: dead and cancelled ones (and finished ones that are still
	// kept) are put into the queue again under a new ID with no failures; delayed ones are made ready. One whose Unique
	// key has been taken meanwhile is folded into that job. It returns how many there were, folded ones included.
	Revive(ctx context.Context, f Filter) (int, error)
	// Delete forgets jobs that match, without a record. Running ones are not touched. It returns how many there were.
	Delete(ctx context.Context, f Filter) (int, error)
	// Controls returns what has been set with SetControl, by function name in byte order.
	Controls(ctx context.Context) ([]Control, error)
	// SetControl changes how a function's jobs are handed out, from the next Grab of any process on. change is given what
	// is set now and may be called more than once; that its Func is changed has no effect. A Control that is zero again is
	// removed. The error is that of [Control.Validate] where that does not like it.
	SetControl(ctx context.Context, fn string, change func(*Control)) error
}

// Scheduler keeps periodic jobs. See [Queue.Tend], which inserts them.
type Scheduler interface {
	// Schedule adds periodic jobs or replaces those of the same names, all or none. One whose Spec and Zone are what they
	// were keeps its Next; Last is always kept.
	Schedule(ctx context.Context, list []Periodic) error
	// Unschedule removes one. ErrNotFound if there is none.
	Unschedule(ctx context.Context, name string) error
	// Periodics lists all, by name in byte order.
	Periodics(ctx context.Context) ([]Periodic, error)
}

// Backend is a complete queue.
type Backend interface {
	Queue
	Inspector
	Scheduler
}

// ErrNotFound says that there is no such job, or periodic job.
var ErrNotFound = errors.New("jobs: not found")

// State is where a job stands.
type State string

// States. The first three are jobs of the queue, the others are records that are kept for a time.
const (
	StateReady     State = "ready"
	StateRunning   State = "running"
	StateDelayed   State = "delayed"
	StateDone      State = "done"
	StateDead      State = "dead"
	StateCancelled State = "cancelled"
)

// Record is a job as those who look at the queue see it.
type Record struct {
	Job
	State    State
	Owner    string    // who runs it, or ran it last
	Started  time.Time // when it was grabbed last; zero: never, or not known
	Finished time.Time // of states done, dead, cancelled
	Status   int       // exit status of states done (0) and dead
	Errors   []Failure // the newest last; Show only
	LastErr  string    // text of the newest failure
}

// Failure is one entry of a job's error log. Of a job that is done or gone the log is kept as long as its record.
type Failure struct {
	Time    time.Time
	Message string
}

// Filter chooses records. Fields that are zero do not restrict; all that are set must match. For Cancel, Revive and Delete
// a Filter that restricts nothing (Limit and After aside) is an error.
type Filter struct {
	Func     string
	State    State
	IDs      []ID
	Unique   string
	Coalesce string
	Key      string
	After    ID  // those with a larger ID
	Limit    int // List: default 100, at most 10 000; the others: default and most without limit
}

// Default and greatest Limit of List, and how many bytes of arguments are enough for one call.
const (
	DefaultLimit = 100
	MaxLimit     = 10000
	MaxListArgs  = 64 << 20
)

// ErrAll is what Cancel, Revive and Delete say to a Filter that restricts nothing.
var ErrAll = errors.New("jobs: filter restricts nothing: name a function, a state, a key or ids")

// ForList checks a filter for List and fills in the default of Limit.
func (f Filter) ForList() (Filter, error) {
	if f.Limit < 0 || f.Limit > MaxLimit {
		return f, fmt.Errorf("jobs: limit %d: want 1 to %d", f.Limit, MaxLimit)
	}
	f.Limit = cmp.Or(f.Limit, DefaultLimit)
	return f, f.validate()
}

// ForChange checks a filter for Cancel, Revive or Delete. Its Limit is then at least 1.
func (f Filter) ForChange() (Filter, error) {
	if f.Func == "" && f.State == "" && len(f.IDs) == 0 && f.Unique == "" && f.Coalesce == "" && f.Key == "" {
		return f, ErrAll
	}
	if f.Limit < 0 {
		return f, fmt.Errorf("jobs: limit %d: want 0, which is none, or more", f.Limit)
	}
	f.Limit = cmp.Or(f.Limit, math.MaxInt)
	return f, f.validate()
}

func (f *Filter) validate() error {
	switch f.State {
	case "", StateReady, StateRunning, StateDelayed, StateDone, StateDead, StateCancelled:
	default:
		return fmt.Errorf("jobs: no such state: %q: want ready, running, delayed, done, dead or cancelled", f.State)
	}
	if len(f.IDs) > MaxLimit {
		return fmt.Errorf("jobs: %d ids: want at most %d", len(f.IDs), MaxLimit)
	}
	for _, s := range [...]string{f.Func, f.Unique, f.Coalesce, f.Key} {
		if len(s) > MaxUnique || !isText(s) {
			return fmt.Errorf("jobs: filter value of %d bytes: want at most %d, UTF-8 text", len(s), MaxUnique)
		}
	}
	return nil
}

// FuncStats counts the jobs of one function.
type FuncStats struct {
	Func      string
	Ready     int64     // may run now, if the function is not paused
	Running   int64     // leased
	Delayed   int64     // to be run later, after a failure or by wish
	Dead      int64     // given up, as far as still on record
	Done      int64     // finished or cancelled, as far as still on record
	OldestDue time.Time // since when the ready job that has waited longest might have run; zero: none is ready
	Paused    bool
}

// Control is how a function's jobs are handed out, by all processes together. The zero value restricts nothing. Perl
// workers on the same tables do not know of it.
type Control struct {
	Func             string
	Paused           bool          // none is handed out; those that run go on
	MaxRunning       int           // jobs that run at a time; 0: any number
	MaxRunningPerKey int           // the same for each Key
	Rate             Rate          // jobs that are begun
	RatePerKey       Rate          // the same for each Key
	KeepDone         time.Duration // how long finished jobs are kept as records; 0: not at all
	KeepDead         time.Duration // how long dead and cancelled ones are; 0: as the queue's default says
}

// Rate limits how many jobs are begun in a time: a bucket of N tokens that is filled evenly, N in each Per. The zero value is no limit.
type Rate struct {
	N   int
	Per time.Duration
}

// Zero reports whether it restricts nothing.
func (c Control) Zero() bool { c.Func = ""; return c == Control{} }

// Validate reports what a queue would not take.
func (c *Control) Validate() error {
	if err := (&Job{Func: c.Func}).Validate(); err != nil {
		return err
	}
	switch {
	case c.MaxRunning < 0 || c.MaxRunningPerKey < 0:
		return fmt.Errorf("jobs: %s: limit of running jobs below 0", c.Func)
	case c.KeepDone < 0 || c.KeepDead < 0 || c.KeepDone > MaxKeep || c.KeepDead > MaxKeep:
		return fmt.Errorf("jobs: %s: time to keep records: want 0 to %s", c.Func, MaxKeep)
	}
	for _, r := range [...]Rate{c.Rate, c.RatePerKey} {
		if r != (Rate{}) && (r.N < 1 || r.N > MaxRate || r.Per < time.Second || r.Per > MaxLease) {
			return fmt.Errorf("jobs: %s: rate of %d per %s: want 1 to %d per %s to %s", c.Func, r.N, r.Per, MaxRate, time.Second, MaxLease)
		}
	}
	return nil
}

// Limits of a [Control].
const (
	MaxRate = 1_000_000
	MaxKeep = 10 * MaxLease
)

// Periodic is a job that is inserted again and again, once for all processes. When no process was there to insert it at
// several of its times, it is inserted once. Its jobs have Name as their Unique key: they do not pile up when they take
// longer than the time between them.
type Periodic struct {
	Name string // identifies it; 1 to MaxFunc bytes
	// Spec is when: five fields as in crontab(5), or @hourly, @daily, @weekly, @monthly, @yearly, or "@every 90s". See
	// package cron.
	Spec     string
	Zone     string // name of the time zone of Spec; "": UTC
	Func     string
	Arg      []byte
	Priority int
	Key      string
	Next     time.Time // when it is inserted next; set by the queue
	Last     time.Time // when it was inserted last; zero: never
}

// Job is what is inserted.
func (p *Periodic) Job() Job {
	return Job{Func: p.Func, Arg: p.Arg, Unique: p.Name, Priority: p.Priority, Key: p.Key}
}

// Validate reports what a queue would not take, apart from Spec and Zone.
func (p *Periodic) Validate() error {
	if p.Name == "" || len(p.Name) > MaxFunc || !isText(p.Name) {
		return fmt.Errorf("jobs: name of a periodic job of %d bytes: want 1 to %d, UTF-8 text", len(p.Name), MaxFunc)
	}
	j := p.Job()
	if err := j.Validate(); err != nil {
		return fmt.Errorf("jobs: periodic job %s: %w", p.Name, err)
	}
	return nil
}
