package sqlqueue

import (
	"cmp"
	"context"
	"sync"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/jobs"
)

// Options are the choices of a queue. The zero value is usable.
type Options struct {
	// KeepErrors is how long the texts of failures are kept, and with them the count of a job's failures.
	// Default 7 days.
	KeepErrors time.Duration
	// KeepFailed is how long there is a record of jobs that were given up. Default 7 days.
	KeepFailed time.Duration
	// Now is the clock. Default time.Now. Processes that share a queue need clocks that agree better than their leases
	// are long.
	Now func() time.Time
}

const week = 7 * 24 * time.Hour

func (o Options) withDefaults() Options {
	o.KeepErrors = cmp.Or(o.KeepErrors, week)
	o.KeepFailed = cmp.Or(o.KeepFailed, week)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Queue is a queue in a database. Safe for concurrent use, and by several processes at once.
type Queue struct {
	db     *sqldb.DB
	opts   Options
	notify jobs.Notifier

	mu    sync.RWMutex // guards both; they mirror table funcmap, whose rows are never changed
	ids   map[string]int64
	names map[int64]string
}

var _ jobs.Queue = (*Queue)(nil)

// New makes the tables in db if they are not there. db stays the caller's and is closed after the queue's last use.
func New(ctx context.Context, db *sqldb.DB, opts Options) (*Queue, error) {
	if err := db.Migrate(ctx, schema); err != nil {
		return nil, err
	}
	return &Queue{db: db, opts: opts.withDefaults(), ids: make(map[string]int64), names: make(map[int64]string)}, nil
}

// Notify is as in [jobs.Queue]: it tells of jobs that this Queue value inserted.
func (q *Queue) Notify() (<-chan struct{}, func()) { return q.notify.Notify() }

// now is the clock in whole seconds.
func (q *Queue) now() int64 { return q.opts.Now().Unix() }

// until is a time from now, rounded up: a lease is never shorter than asked for, and nothing runs too early.
func (q *Queue) until(d time.Duration) int64 {
	t := q.opts.Now().Add(d)
	s := t.Unix()
	if t.Nanosecond() > 0 {
		s++
	}
	return s
}

func unixTime(s int64) time.Time { return time.Unix(s, 0).UTC() }
