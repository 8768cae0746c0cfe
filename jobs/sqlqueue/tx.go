package sqlqueue

import (
	"context"
	"errors"
	"time"
)

// database is one of the kinds of database.
type database interface {
	// read runs f, which changes nothing. Each of its statements sees what was committed when it began.
	read(ctx context.Context, f func(ctx context.Context, tx tx) error) error
	// write runs f in a transaction and returns once that is durable. f may run more than once, and must set, not add to,
	// what it hands results out by.
	write(ctx context.Context, f func(ctx context.Context, tx tx) error) error
	// offset is how far the database's clock is ahead of ours.
	offset(ctx context.Context) (time.Duration, error)
	// listen calls wake when another process has told of jobs, until ctx ends. Databases that cannot tell return at once.
	listen(ctx context.Context, wake func())
	close() error
}

// tx runs statements. Their texts are written for all databases alike; see [dialect].
type tx interface {
	dialect() *dialect
	// exec returns how many rows were changed.
	exec(ctx context.Context, query string, args ...any) (int64, error)
	// query gives each row to scan, until that returns an error. errEnough ends it without one.
	query(ctx context.Context, scan func(row) error, query string, args ...any) error
}

// row is one row of a result. It is scanned into *int, *int64, *string and *[]byte, of which only the last may be NULL.
type row interface{ Scan(dest ...any) error }

var errEnough = errors.New("enough rows")

// queryInt returns the first column of the only row, and whether there is one.
func queryInt(ctx context.Context, t tx, query string, args ...any) (n int64, ok bool, err error) {
	err = t.query(ctx, func(r row) error {
		ok = true
		return r.Scan(&n)
	}, query, args...)
	return n, ok, err
}

// queryInts returns the first column of all rows.
func queryInts(ctx context.Context, t tx, query string, args ...any) (list idList, err error) {
	err = t.query(ctx, func(r row) error {
		var n int64
		if err := r.Scan(&n); err != nil {
			return err
		}
		list = append(list, n)
		return nil
	}, query, args...)
	return list, err
}
