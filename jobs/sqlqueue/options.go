package sqlqueue

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Options are the choices of a queue. The zero value is usable.
type Options struct {
	// Prefix begins the names of all tables, as TheSchwartz's option of that name does: letters, digits and _, at most 32.
	// Default "".
	Prefix string
	// KeepErrors is how long the texts of failures are kept at least, and with them the count of a job's failures. They are
	// kept as long as records are, if that is longer. Default 7 days.
	KeepErrors time.Duration
	// KeepFailed is how long there is a record of jobs that were given up or cancelled, if the function's Control does
	// not say. Default 7 days.
	KeepFailed time.Duration
	// Conns is how many connections to a database server are open at most, without the one that listens for
	// notifications of PostgreSQL. Default 8. A call that finds all of them busy waits. SQLite does not heed it.
	Conns int
	// Timeout bounds each call to a database server whose context has no deadline of its own. Default 1 minute.
	// SQLite does not heed it.
	Timeout time.Duration
	// Announce, if not nil, is called after a commit with the functions, each once, whose jobs became ready by it. It must be
	// quick, must not call the queue, and may be called by several goroutines at once. It does not learn of jobs that are
	// inserted in other people's transactions, except those of [Queue.InsertTx].
	Announce func(funcs []string)
	// Now is the clock; see the package comment for the default.
	Now func() time.Time
}

const week = 7 * 24 * time.Hour

func (o Options) withDefaults() Options {
	o.KeepErrors = cmp.Or(o.KeepErrors, week)
	o.KeepFailed = cmp.Or(o.KeepFailed, week)
	o.Conns = cmp.Or(o.Conns, 8)
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	return o
}

// Validate reports all fields that make no sense.
func (o Options) Validate() error {
	var errs []error
	if o.KeepErrors < 0 || o.KeepFailed < 0 {
		errs = append(errs, fmt.Errorf("sqlqueue: KeepErrors is %s, KeepFailed %s: want 0 (the default) or more", o.KeepErrors, o.KeepFailed))
	}
	if o.Conns < 0 || o.Timeout < 0 {
		errs = append(errs, fmt.Errorf("sqlqueue: Conns is %d, Timeout %s: want 0 (the default) or more", o.Conns, o.Timeout))
	}
	if len(o.Prefix) > 32 || strings.Trim(o.Prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		errs = append(errs, fmt.Errorf("sqlqueue: Prefix is %q: want letters, digits and _, at most 32", o.Prefix))
	}
	return errors.Join(errs...)
}
