package sqldb

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// batch is one transaction and the requests that share it.
//
// Isolation. Each closure must seem to run alone: if it fails, nothing of it stays. A SAVEPOINT around each would do, but
// costs two statements a closure and a copy of every page that the closure is the first to change. So a batch is first
// tried without: a closure that fails before it has changed a row (the usual failure: a condition that does not hold)
// leaves nothing to undo. If one fails later than that, the whole transaction is rolled back and done again with
// savepoints. That is why closures may run twice, and why Exec counts changed rows.
type batch struct {
	reqs   []*request
	values map[any]any
	flush  []func(*Tx) error
	after  []func()
}

// errRedo asks for the batch to be done again with savepoints.
var errRedo = errors.New("redo with savepoints")

// run does the whole transaction and leaves each request its error.
func (db *DB) runBatch(b *batch) {
	err := db.tryBatch(b, false)
	if errors.Is(err, errRedo) {
		b.values, b.flush, b.after = nil, nil, nil
		err = db.tryBatch(b, true)
	}
	if err != nil {
		for _, r := range b.reqs {
			if r.err == nil {
				r.err = err
			}
		}
		return
	}
	for _, f := range b.after {
		f()
	}
}

// tryBatch returns an error that concerns all, after having rolled back.
func (db *DB) tryBatch(b *batch, savepoints bool) (err error) {
	w := db.writer
	if err := db.begin(nil); err != nil {
		return err
	}
	defer func() {
		if err == nil || w.conn.AutocommitEnabled() {
			return // SQLite has rolled back by itself, as after a full disk
		}
		if rerr := w.step("ROLLBACK"); rerr != nil {
			err = errors.Join(err, rerr)
		}
	}()
	w.tx.batch = b
	for _, r := range b.reqs {
		if err := db.runRequest(r, savepoints, len(b.reqs) == 1); err != nil {
			return err
		}
	}
	for _, flush := range b.flush {
		err := callClosure(flush, &w.tx)
		w.tx.reset()
		if err != nil {
			return db.translate(err)
		}
	}
	if err := w.step("COMMIT"); err != nil {
		return db.translate(err)
	}
	return nil
}

// runRequest runs one closure. It returns an error only if that concerns the whole batch; the closure's own is left in r.
func (db *DB) runRequest(r *request, savepoint, alone bool) error {
	w := db.writer
	r.err = nil
	if savepoint {
		if err := w.step("SAVEPOINT closure"); err != nil {
			return db.translate(err)
		}
	}
	err := callClosure(r.f, &w.tx)
	changed := w.tx.changed
	if err == nil {
		w.tx.batch.after = append(w.tx.batch.after, w.tx.after...)
	}
	w.tx.reset()
	if w.conn.AutocommitEnabled() {
		return db.translate(errors.Join(errors.New("sqldb: transaction was aborted"), err))
	}
	r.err = db.translate(err)
	switch {
	case savepoint:
		return db.endSavepoint(err != nil)
	case err == nil || !changed:
		return nil
	case alone:
		return r.err
	}
	return errRedo
}

func (db *DB) endSavepoint(failed bool) error {
	if failed {
		if err := db.writer.step("ROLLBACK TO closure"); err != nil {
			return db.translate(err)
		}
	}
	return db.translate(db.writer.step("RELEASE closure"))
}

// panicked is a closure's panic on its way from the writer to the caller of Write.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string {
	return fmt.Sprintf("panic in sqldb.Write: %v\n%s", p.value, p.stack)
}

func callClosure(f func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{value: v, stack: debug.Stack()}
		}
	}()
	return f(tx)
}
