package sqlqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"wheelhouse/internal/sqldb"
)

// sqliteDB is an SQLite file.
type sqliteDB struct {
	db  *sqldb.DB
	d   *dialect
	own bool // to be closed
}

func (s *sqliteDB) read(ctx context.Context, f func(ctx context.Context, tx tx) error) error {
	return s.db.Read(ctx, func(c *sqldb.Conn) error { return f(ctx, sqliteConn{s.d, c}) })
}

func (s *sqliteDB) write(ctx context.Context, f func(ctx context.Context, tx tx) error) error {
	// The closure runs on the writer's goroutine, whatever becomes of ctx.
	return s.db.Write(ctx, func(tx *sqldb.Tx) error { return f(ctx, sqliteTx{s.d, tx}) })
}

func (s *sqliteDB) offset(context.Context) (time.Duration, error) { return 0, nil }

func (s *sqliteDB) listen(context.Context, func()) {}

func (s *sqliteDB) close() error {
	if !s.own {
		return nil
	}
	return s.db.Close()
}

// sqliteTx is a tx that changes something.
type sqliteTx struct {
	d  *dialect
	tx *sqldb.Tx
}

func (t sqliteTx) dialect() *dialect { return t.d }

func (t sqliteTx) exec(_ context.Context, query string, args ...any) (int64, error) {
	text, args := t.d.bind(query, args)
	n, err := t.tx.Exec(text, func(st *sqldb.Stmt) { bindStmt(st, args) })
	return int64(n), err
}

func (t sqliteTx) query(_ context.Context, scan func(row) error, query string, args ...any) error {
	text, args := t.d.bind(query, args)
	if strings.HasPrefix(text, "SELECT") {
		st, err := t.tx.Select(text)
		if err != nil {
			return err
		}
		return each(st, args, scan)
	}
	var scanErr error
	_, err := t.tx.Returning(text, func(st *sqldb.Stmt) { bindStmt(st, args) }, func(st *sqldb.Stmt) {
		if scanErr == nil {
			scanErr = scan(stmtRow{st})
		}
	})
	if err == nil && !errors.Is(scanErr, errEnough) {
		err = scanErr
	}
	return err
}

// sqliteConn is a tx that reads.
type sqliteConn struct {
	d *dialect
	c *sqldb.Conn
}

func (t sqliteConn) dialect() *dialect { return t.d }

func (t sqliteConn) exec(_ context.Context, query string, _ ...any) (int64, error) {
	return 0, fmt.Errorf("sqlqueue: %.40q outside of a transaction", query)
}

func (t sqliteConn) query(_ context.Context, scan func(row) error, query string, args ...any) error {
	text, args := t.d.bind(query, args)
	st, err := t.c.Select(text)
	if err != nil {
		return err
	}
	return each(st, args, scan)
}

// each gives all rows of a query to scan.
func each(st *sqldb.Stmt, args []any, scan func(row) error) error {
	bindStmt(st, args)
	for {
		more, err := st.Step()
		if err != nil || !more {
			return err
		}
		if err := scan(stmtRow{st}); err != nil {
			if errors.Is(err, errEnough) {
				return st.Reset()
			}
			return err
		}
	}
}

func bindStmt(st *sqldb.Stmt, args []any) {
	for i, arg := range args {
		switch a := arg.(type) {
		case int64:
			st.BindInt64(i+1, a)
		case int:
			st.BindInt64(i+1, int64(a))
		case string:
			st.BindText(i+1, a)
		case []byte:
			if a == nil {
				st.BindNull(i + 1)
			} else {
				st.BindBytes(i+1, a)
			}
		case nil:
			st.BindNull(i + 1)
		default:
			panic(fmt.Sprintf("sqlqueue: argument of type %T", arg))
		}
	}
}

// stmtRow is a row of an SQLite statement.
type stmtRow struct{ st *sqldb.Stmt }

func (r stmtRow) Scan(dest ...any) error {
	for i, d := range dest {
		switch d := d.(type) {
		case *int64:
			*d = r.st.ColumnInt64(i)
		case *int:
			*d = r.st.ColumnInt(i)
		case *string:
			*d = r.st.ColumnText(i)
		case *[]byte:
			*d = nil
			if n := r.st.ColumnLen(i); n > 0 {
				*d = make([]byte, n)
				r.st.ColumnBytes(i, *d)
			}
		default:
			return fmt.Errorf("sqlqueue: column %d into %T", i, d)
		}
	}
	return nil
}
