package jobs

import (
	"errors"
	"fmt"
	"time"
)

// Limits. They are those of TheSchwartz's tables.
const (
	MaxFunc    = 255      // bytes of a function's name
	MaxUnique  = 255      // bytes of a Unique key
	MaxMessage = 255      // bytes of an error's text that are kept
	MaxArg     = 16 << 20 // bytes of an argument
)

// ID identifies a job in its queue. Begins at 1.
type ID int64

// Job is one piece of work. Times are whole seconds in databases.
type Job struct {
	ID   ID     // given by Insert
	Func string // which handler does it
	Arg  []byte // for the handler; JSON, by custom
	// Unique makes a second job with the same Func and Unique fold into this one while it waits; if this one is running
	// then, it runs once more afterwards. "" is never folded.
	Unique   string
	Coalesce string // groups jobs that could be done in one go
	// InsertTime is when it was inserted, or last inserted again; set by Insert.
	InsertTime time.Time
	RunAfter   time.Time // not before; zero: at once
	// GrabbedUntil is how long it is leased to the worker that grabbed it. Together with ID it is what that worker shows
	// to Renew, Complete, Retry and Fail.
	GrabbedUntil time.Time
	Priority     int // larger first, among the jobs of one function; -32768 to 32767
	Failures     int // how often it has failed so far
}

// Validate reports what a queue would not take.
func (j *Job) Validate() error {
	switch {
	case j.Func == "" || len(j.Func) > MaxFunc:
		return fmt.Errorf("jobs: function name of %d bytes: want 1 to %d", len(j.Func), MaxFunc)
	case len(j.Unique) > MaxUnique || len(j.Coalesce) > MaxUnique:
		return fmt.Errorf("jobs: %s: Unique or Coalesce of more than %d bytes", j.Func, MaxUnique)
	case len(j.Arg) > MaxArg:
		return fmt.Errorf("jobs: %s: argument of %d bytes: want at most %d", j.Func, len(j.Arg), MaxArg)
	case j.Priority != int(int16(j.Priority)):
		return fmt.Errorf("jobs: %s: priority %d: want -32768 to 32767", j.Func, j.Priority)
	}
	return nil
}

// ErrLost is why the context of a job ends whose lease has run out or was given to another worker: another one may be
// doing it already. What the handler returns then counts for nothing.
var ErrLost = errors.New("jobs: lease lost")

// ErrStopping is why the contexts of jobs end when the worker has to stop and they did not finish in time.
var ErrStopping = errors.New("jobs: worker is stopping")

// permanent marks an error that trying again will not cure.
type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }

// Permanent wraps an error so that the job it is returned for is not tried again. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

// IsPermanent reports whether err has been made so by [Permanent].
func IsPermanent(err error) bool {
	var p *permanent
	return errors.As(err, &p)
}

// later is what Later returns.
type later time.Duration

func (l later) Error() string { return "jobs: not now, in " + time.Duration(l).String() }

// Later is returned by a handler that declines a job for now: it comes back after d, and this is no failure.
func Later(d time.Duration) error { return later(d) }

// Message is an error's text as queues keep it: at most MaxMessage bytes, cut between characters.
func Message(err error) string {
	s := err.Error()
	if len(s) <= MaxMessage {
		return s
	}
	n := MaxMessage
	for n > 0 && s[n]&0xC0 == 0x80 { // not into a UTF-8 sequence
		n--
	}
	return s[:n]
}
