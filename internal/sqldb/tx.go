package sqldb

import (
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
)

// Tx is the transaction that a closure given to [DB.Write] takes part in. It is valid until the closure returns.
type Tx struct {
	conn    *sqlite.Conn
	used    []*Stmt
	changed bool // this closure has changed rows
	batch   *batch
	after   []func() // of this closure
}

// Select returns the statement for a query that changes nothing, prepared once. It is reset when the closure returns.
func (tx *Tx) Select(query string) (*Stmt, error) {
	if !strings.HasPrefix(query, "SELECT") {
		return nil, fmt.Errorf("sqldb: Select of %.40q: changes go through Exec", query)
	}
	return tx.prepare(query)
}

func (tx *Tx) prepare(query string) (*Stmt, error) {
	st, err := tx.conn.Prepare(query)
	if err == nil {
		tx.used = append(tx.used, st)
	}
	return st, err
}

// Exec runs an INSERT, UPDATE or DELETE to its end and returns how many rows it changed. bind, which may be nil, sets the
// parameters. The statement must not have an ON CONFLICT (or OR) clause of FAIL or ROLLBACK: those leave a part done.
func (tx *Tx) Exec(query string, bind func(*Stmt)) (changed int, err error) {
	st, err := tx.conn.Prepare(query)
	if err != nil {
		return 0, err
	}
	if bind != nil {
		bind(st)
	}
	for row := true; row; {
		if row, err = st.Step(); err != nil {
			return 0, err
		}
	}
	return tx.count(), st.Reset()
}

// Returning runs a statement with a RETURNING clause to its end and gives each row to scan.
func (tx *Tx) Returning(query string, bind func(*Stmt), scan func(*Stmt)) (changed int, err error) {
	st, err := tx.prepare(query)
	if err != nil {
		return 0, err
	}
	bind(st)
	for {
		row, err := st.Step()
		if err != nil {
			return 0, err
		}
		if !row {
			return tx.count(), st.Reset()
		}
		scan(st)
	}
}

func (tx *Tx) count() int {
	n := tx.conn.Changes()
	if n > 0 {
		tx.changed = true
	}
	return n
}

// LastInsertID is the rowid of the last row that this closure inserted into a table that has rowids.
func (tx *Tx) LastInsertID() int64 { return tx.conn.LastInsertRowID() }

// AfterCommit has f called by the writer once the transaction is durable, before the callers of Write return. f must
// be quick and must not call the DB. It is not called when this closure fails or the commit does.
func (tx *Tx) AfterCommit(f func()) { tx.after = append(tx.after, f) }

// Value returns what SetValue stored under key in this transaction, or nil: state shared by the closures of a group.
func (tx *Tx) Value(key any) any { return tx.batch.values[key] }

// SetValue stores a value for the rest of the transaction. When it is the first under its key, flush, if not nil, is
// called once before the commit, to write the value down: so that what all closures add up costs one row change. An error
// of flush fails the whole group.
//
// The value must hold only what is true when this closure succeeds, or true in any case: when a closure fails, what it put
// here stays. So change it as the last step.
func (tx *Tx) SetValue(key, value any, flush func(tx *Tx) error) {
	b := tx.batch
	if b.values == nil {
		b.values = make(map[any]any)
	}
	if _, ok := b.values[key]; !ok && flush != nil {
		b.flush = append(b.flush, flush)
	}
	b.values[key] = value
}

// reset makes tx ready for the next closure of its batch.
func (tx *Tx) reset() {
	for _, st := range tx.used {
		_ = st.Reset() // repeats the error that Step gave
	}
	tx.used = tx.used[:0]
	tx.changed = false
	clear(tx.after)
	tx.after = tx.after[:0]
}

// BindString binds the bytes of s as a BLOB.
func BindString(st *Stmt, param int, s string) { st.BindBytes(param, bytesOf(s)) }

// ColumnString reads a BLOB or TEXT column as a string.
func ColumnString(st *Stmt, col int) string {
	n := st.ColumnLen(col)
	if n == 0 {
		return ""
	}
	b := make([]byte, n)
	st.ColumnBytes(col, b)
	return stringOf(b)
}
