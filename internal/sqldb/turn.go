package sqldb

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"zombiezen.com/go/sqlite"
)

// turnSuffix names the file beside the database by which processes take turns.
const turnSuffix = "-turn"

// turn is a lock that says who writes next. SQLite's own write lock is taken by whoever asks at the right moment, and a
// process that commits group after group asks again microseconds after it let go, so another that polls would starve.
// Here a process first becomes next, waits as such for SQLite's lock, and lets the next one be next once it has it: the
// one that just wrote finds another already waiting, and comes after it.
type turn struct{ f *os.File }

func openTurn(path string) (*turn, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return &turn{f: f}, nil
}

func (t *turn) close() error { return t.f.Close() }

var errTaken = errors.New("taken")

// begin opens a write transaction on the writer's connection, waiting for other processes up to BusyTimeout, or until done
// is closed (nil: never).
func (db *DB) begin(done <-chan struct{}) error {
	if err := db.moved(); err != nil {
		return err
	}
	return db.inTurn(done, func() error { return db.writer.step("BEGIN IMMEDIATE") })
}

// moved is ErrMoved when what lies at the path is not the file that is open. SQLite would go on writing to that one, which nobody finds
// again when the process has ended, and which other processes do not share.
func (db *DB) moved() error {
	now, err := os.Stat(db.path)
	if err == nil && os.SameFile(now, db.file) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &Error{Kind: ErrMoved, Path: db.path, Advice: movedAdvice}
}

// inTurn runs f, which takes a lock of SQLite's, as soon as that lock is free, waiting as begin does.
func (db *DB) inTurn(done <-chan struct{}, f func() error) error {
	b := backoff{until: time.Now().Add(db.opts.BusyTimeout)}
	for {
		err := db.turn.tryLock()
		if err == nil {
			break
		}
		if !errors.Is(err, errTaken) {
			return fileError(db.path, err)
		}
		if err := b.wait(done); err != nil {
			return db.busy(err)
		}
	}
	defer db.turn.unlock()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if code := sqlite.ErrCode(err).ToPrimary(); code != sqlite.ResultBusy && code != sqlite.ResultProtocol {
			return db.translate(err)
		}
		if werr := b.wait(done); werr != nil {
			return db.busy(werr)
		}
	}
}

var errTimeout = errors.New("waited too long")

// busy is what a caller gets that waited in vain.
func (db *DB) busy(cause error) error {
	if !errors.Is(cause, errTimeout) {
		return cause
	}
	return db.translate(sqlite.ResultBusy.ToError())
}

// backoff waits longer and longer between two attempts.
type backoff struct {
	until time.Time
	delay time.Duration
}

const (
	firstDelay = 100 * time.Microsecond
	lastDelay  = 5 * time.Millisecond
)

func (b *backoff) wait(done <-chan struct{}) error {
	if time.Now().After(b.until) {
		return errTimeout
	}
	b.delay = min(max(firstDelay, b.delay*2), lastDelay)
	t := time.NewTimer(b.delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-done:
		return context.Canceled
	}
}
