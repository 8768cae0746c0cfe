package sqlqueue

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// sqlRunner is an *sql.DB or an *sql.Tx.
type sqlRunner interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// sqlTx is a tx of database/sql.
type sqlTx struct {
	d *dialect
	r sqlRunner
}

func (t sqlTx) dialect() *dialect { return t.d }

func (t sqlTx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	text, args := t.d.bind(query, args)
	res, err := t.r.ExecContext(ctx, text, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (t sqlTx) query(ctx context.Context, scan func(row) error, query string, args ...any) (err error) {
	text, args := t.d.bind(query, args)
	rows, err := t.r.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := rows.Close(); err == nil {
			err = cerr
		}
	}()
	for rows.Next() {
		if err := scan(rows); err != nil {
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		}
	}
	return rows.Err()
}

// pgxRunner is a *pgxpool.Pool or a pgx.Tx.
type pgxRunner interface {
	Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
}

// pgxTx is a tx of pgx.
type pgxTx struct {
	d *dialect
	r pgxRunner
}

func (t pgxTx) dialect() *dialect { return t.d }

func (t pgxTx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	text, args := t.d.bind(query, args)
	tag, err := t.r.Exec(ctx, text, args...)
	return tag.RowsAffected(), err
}

func (t pgxTx) query(ctx context.Context, scan func(row) error, query string, args ...any) error {
	text, args := t.d.bind(query, args)
	rows, err := t.r.Query(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		}
	}
	return rows.Err()
}
