package sqldb

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"
)

// checkpointer copies the pages of the write-ahead log into the database while the writer goes on writing.
//
// SQLite would do that at the end of some unlucky commit (wal_autocheckpoint); here it has a connection and a goroutine of
// its own. A passive checkpoint cannot finish while commits keep coming, and only a finished one lets the log start again
// from its beginning; so when the log has grown to its limit the rest, which is small then, is done by the writer.
// The log's file is not made shorter: writing over its blocks is cheaper to sync than making it longer.
type checkpointer struct {
	conn  *sqlite.Conn
	total atomic.Int64 // closures committed
	since atomic.Int64 // closures committed since the log was looked at
	// blocked is until when (Unix nanoseconds) nothing is tried because somebody reads an old state.
	blocked atomic.Int64
	wake    chan struct{}
	quit    chan struct{}
	wg      sync.WaitGroup
}

const (
	lookEvery   = 256                   // closures
	idleAfter   = 3 * time.Second       // without a commit: copy what is left
	smallRest   = 512                   // pages that the writer may be burdened with
	maxPasses   = 3                     // passive attempts to make the rest small
	restartWait = 50 * time.Millisecond // for readers of old states to end
	blockedFor  = time.Second           // how long nothing is tried after they did not
	limitFactor = 2                     // × Options.WALPages
)

func newCheckpointer(c *sqlite.Conn) *checkpointer {
	return &checkpointer{conn: c, wake: make(chan struct{}, 1), quit: make(chan struct{})}
}

// committed is called by the writer after each transaction.
func (k *checkpointer) committed(n int) {
	k.total.Add(int64(n))
	if k.since.Add(int64(n)) >= lookEvery {
		k.since.Store(0)
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
}

func (k *checkpointer) start(db *DB) {
	k.wg.Go(func() {
		t := time.NewTicker(idleAfter)
		defer t.Stop()
		var seen, copied int64 // values of total: at the last tick, and when all was copied in a calm moment
		for {
			select {
			case <-k.quit:
				return
			case <-k.wake:
				k.note(db, k.look(db))
			case <-t.C:
				n := k.total.Load()
				if n == seen && n != copied {
					copied = n
					k.note(db, db.checkpoint(k.conn, "PASSIVE", 0))
				}
				seen = n
			}
		}
	})
}

func (k *checkpointer) stop() {
	close(k.quit)
	k.wg.Wait()
}

func (k *checkpointer) note(db *DB, err error) {
	if err != nil && !errors.Is(err, ErrBusy) {
		db.opts.Logger.Error("sqlite checkpoint failed", "path", db.path, "err", err)
	}
}

// isBlocked reports whether trying now would be in vain.
func (k *checkpointer) isBlocked() bool { return time.Now().UnixNano() < k.blocked.Load() }

// block is called when somebody who reads an old state, as a backup does for minutes, keeps the log from being copied or
// started again. The log grows meanwhile; trying all the time would only slow the commits down.
func (k *checkpointer) block() { k.blocked.Store(time.Now().Add(blockedFor).UnixNano()) }

// look copies if there is enough to copy, and asks the writer for the rest if the log is too long.
func (k *checkpointer) look(db *DB) error {
	if k.isBlocked() {
		return nil
	}
	log, copied, err := walState(k.conn, "NOOP")
	if err != nil {
		return db.translate(err)
	}
	limit := limitFactor * db.opts.WALPages
	if log-copied < db.opts.WALPages && log < limit {
		return nil
	}
	for range maxPasses {
		before := copied
		if log, copied, err = walState(k.conn, "PASSIVE"); err != nil {
			return db.translate(err)
		}
		if log-copied <= smallRest || log < limit && copied > before {
			break
		}
		if copied <= before {
			k.block()
			return nil
		}
	}
	if log < limit {
		return nil
	}
	db.writer.restart.Store(true)
	db.writer.poke()
	return nil
}

// restartLog is run by the writer between two transactions.
func (db *DB) restartLog() {
	err := db.checkpoint(db.writer.conn, "RESTART", restartWait)
	if errors.Is(err, ErrBusy) {
		db.checks.block()
	}
	db.checks.note(db, err)
}

// checkpoint runs one; waiting is how long it may wait for others.
func (db *DB) checkpoint(c *sqlite.Conn, mode string, waiting time.Duration) error {
	if waiting > 0 {
		c.SetBusyTimeout(waiting)
		defer c.SetBusyTimeout(0)
	}
	_, _, err := walState(c, mode)
	return db.translate(err)
}

// walState runs a checkpoint and returns how many pages are in the log and how many of them are in the database too.
// "NOOP" only asks.
func walState(c *sqlite.Conn, mode string) (log, copied int, err error) {
	st, err := c.Prepare("PRAGMA wal_checkpoint(" + mode + ")")
	if err != nil {
		return 0, 0, err
	}
	if _, err := st.Step(); err != nil {
		return 0, 0, err
	}
	busy := st.ColumnInt(0)
	log, copied = st.ColumnInt(1), st.ColumnInt(2)
	if err := st.Reset(); err != nil {
		return 0, 0, err
	}
	if busy != 0 && mode != "NOOP" && mode != "PASSIVE" {
		return log, copied, sqlite.ResultBusy.ToError()
	}
	return log, copied, nil
}
