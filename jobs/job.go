package jobs

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits. They are those of TheSchwartz's tables.
const (
	MaxFunc    = 255       // bytes of a function's name
	MaxUnique  = 255       // bytes of a Unique key, of Coalesce, Key and Owner
	MaxMessage = 255       // bytes of an error's text, and of a progress note, that are kept
	MaxArg     = 16 << 20  // bytes of an argument
	MaxErrors  = 100       // entries of a job's error log that Show returns: the newest
	MaxTime    = 1<<32 - 1 // latest second since 1970 of a RunAfter
)

// ID identifies a job in its queue. Begins at 1.
type ID int64

// Job is one piece of work. Times are whole seconds in databases.
type Job struct {
	ID ID // given by Insert
	// Queue names the queue it is in, where several are used together (package failover). "" otherwise.
	Queue string
	Func  string // which handler does it
	Arg   []byte // for the handler; JSON, by custom
	// Unique makes a second job with the same Func and Unique fold into this one while it waits; if this one is running
	// then, it runs once more afterwards. "" is never folded.
	Unique   string
	Coalesce string // groups jobs that could be done in one go
	// Key is what limits per key count by (see [Control]): a customer, a host that is called. "" counts as a key too.
	Key string
	// InsertTime is when it was inserted, or last inserted again; set by Insert.
	InsertTime time.Time
	RunAfter   time.Time // not before; zero: at once
	// GrabbedUntil is how long it is leased to the worker that grabbed it. Together with ID it is what that worker shows
	// to Renew and Finish.
	GrabbedUntil time.Time
	Priority     int // larger first, among the jobs of one function; -32768 to 32767
	Failures     int // how often it has failed so far
	Progress     Progress
}

// Progress is how far a running job has come, as it says itself. It is recorded by Renew and kept until the job is grabbed
// anew.
type Progress struct {
	Done, Total int64  // in the job's own unit; Total 0: not known
	Note        string // at most MaxMessage bytes
}

// Validate reports what a queue would not take. Names and keys are valid UTF-8 without NUL, as not every database has others.
func (j *Job) Validate() error {
	switch {
	case j.Func == "" || len(j.Func) > MaxFunc:
		return fmt.Errorf("jobs: function name of %d bytes: want 1 to %d", len(j.Func), MaxFunc)
	case !isText(j.Func):
		return fmt.Errorf("jobs: function name %q is not UTF-8 text", j.Func)
	case len(j.Arg) > MaxArg:
		return fmt.Errorf("jobs: %s: argument of %d bytes: want at most %d", j.Func, len(j.Arg), MaxArg)
	case j.Priority != int(int16(j.Priority)):
		return fmt.Errorf("jobs: %s: priority %d: want -32768 to 32767", j.Func, j.Priority)
	case !j.RunAfter.IsZero() && (j.RunAfter.Unix() < 0 || j.RunAfter.Unix() > MaxTime):
		return fmt.Errorf("jobs: %s: RunAfter %s: want a time from 1970 to 2106", j.Func, j.RunAfter)
	}
	for _, k := range [...]struct{ name, value string }{{"Unique", j.Unique}, {"Coalesce", j.Coalesce}, {"Key", j.Key}} {
		if len(k.value) > MaxUnique || !isText(k.value) {
			return fmt.Errorf("jobs: %s: %s of %d bytes: want at most %d, UTF-8 text", j.Func, k.name, len(k.value), MaxUnique)
		}
	}
	return nil
}

func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// ErrLost is why the context of a job ends whose lease has run out or was given to another worker: another one may be
// doing it already. What the handler returns then counts for nothing.
var ErrLost = errors.New("jobs: lease lost")

// ErrStopping is why the contexts of jobs end when the worker has to stop and they did not finish in time.
var ErrStopping = errors.New("jobs: worker is stopping")

// Text is s as queues keep it of failures and notes: at most MaxMessage bytes of UTF-8, cut between characters, with a
// question mark for what is not text.
func Text(s string) string {
	if !isText(s) {
		s = strings.ReplaceAll(strings.ToValidUTF8(s[:min(len(s), 4*MaxMessage)], "?"), "\x00", "?")
	}
	if len(s) <= MaxMessage {
		return s
	}
	n := MaxMessage
	for n > 0 && s[n]&0xC0 == 0x80 { // not into a UTF-8 sequence
		n--
	}
	return s[:n]
}

// Message is an error's text as queues keep it; see [Text].
func Message(err error) string { return Text(err.Error()) }
