package sqlqueue

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/jobs"
)

// Queue is a queue in a database. Safe for concurrent use, and by several processes at once.
type Queue struct {
	db     database
	opts   Options
	notify jobs.Notifier
	ears   ears
	gather gather

	ahead    atomic.Int64 // how far the database's clock is ahead of ours, in ns
	measured atomic.Int64 // when that was measured, in Unix seconds of ours

	mu    sync.RWMutex // guards both; they mirror table funcmap, whose rows are never changed
	ids   map[string]int64
	names map[int64]string
}

var _ jobs.Backend = (*Queue)(nil)

// New makes the tables in db if they are not there. db stays the caller's and is closed after the queue's last use.
func New(ctx context.Context, db *sqldb.DB, opts Options) (*Queue, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if err := migrateSQLite(ctx, db, opts.Prefix); err != nil {
		return nil, err
	}
	return newQueue(&sqliteDB{db: db, d: newDialect(sqlite, opts.Prefix)}, opts), nil
}

func newQueue(db database, opts Options) *Queue {
	return &Queue{db: db, opts: opts.withDefaults(), ids: make(map[string]int64), names: make(map[int64]string)}
}

// Close ends what [OpenURL] has begun. Nobody may be using the queue. A queue of [New] needs no Close.
func (q *Queue) Close() error { return q.db.close() }

// Wake tells the subscribers of Notify in this process that jobs may be ready: to be called when somebody else says so, and
// after the commit of a transaction that [Queue.InsertSQLTx] or [Queue.InsertPgxTx] was a part of. funcs, if there are any,
// are given to Options.Announce too.
func (q *Queue) Wake(funcs ...string) {
	q.notify.Wake()
	if len(funcs) > 0 && q.opts.Announce != nil {
		q.opts.Announce(funcs)
	}
}

// clock is what the time is.
func (q *Queue) clock() time.Time {
	if q.opts.Now != nil {
		return q.opts.Now()
	}
	return time.Now().Add(time.Duration(q.ahead.Load()))
}

// clockAge is how old a measurement of the server's clock may be.
const clockAge = time.Minute

// setClock measures how far the database's clock is ahead, if that is due.
func (q *Queue) setClock(ctx context.Context) error {
	now := time.Now()
	if q.opts.Now != nil || now.Unix()-q.measured.Load() < int64(clockAge/time.Second) {
		return nil
	}
	d, err := q.db.offset(ctx)
	if err != nil {
		return err
	}
	q.ahead.Store(int64(d))
	q.measured.Store(now.Unix())
	return nil
}

// now is the clock in whole seconds.
func (q *Queue) now() int64 { return q.clock().Unix() }

// until is a time from now, rounded up: a lease is never shorter than asked for, and nothing runs too early.
func (q *Queue) until(d time.Duration) int64 { return ceil(q.clock().Add(d)) }

// ceil is a time in whole seconds, rounded up.
func ceil(t time.Time) int64 {
	s := t.Unix()
	if t.Nanosecond() > 0 {
		s++
	}
	return s
}

func unixTime(s int64) time.Time { return time.Unix(s, 0).UTC() }

// optionalTime is the zero time for 0.
func optionalTime(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return unixTime(s)
}

// changes is what a transaction that was committed must be followed by.
type changes struct {
	ready []string         // functions whose jobs became ready
	funcs map[string]int64 // new rows of funcmap
}

func (c *changes) readied(fn string) {
	if !slices.Contains(c.ready, fn) {
		c.ready = append(c.ready, fn)
	}
}

// change runs f in a transaction and tells those who want to know when it has been committed.
func (q *Queue) change(ctx context.Context, f func(ctx context.Context, t tx, c *changes) error) error {
	var c changes
	err := q.db.write(ctx, func(ctx context.Context, t tx) error {
		c = changes{}
		if err := f(ctx, t, &c); err != nil {
			return err
		}
		return tellOthers(ctx, t, &c)
	})
	if err == nil {
		q.committed(&c)
	}
	return err
}

// tellOthers tells other processes, if and when the transaction is committed.
func tellOthers(ctx context.Context, t tx, c *changes) error {
	if len(c.ready) == 0 || t.dialect().kind != postgres {
		return nil
	}
	_, err := t.exec(ctx, "SELECT pg_notify('{prefix}theschwartz_job','')")
	return err
}

func (q *Queue) committed(c *changes) {
	for name, id := range c.funcs {
		q.know(id, name)
	}
	if len(c.ready) > 0 {
		q.Wake(c.ready...)
	}
}
