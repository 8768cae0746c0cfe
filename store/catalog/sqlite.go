package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// SQLite is a catalog in one SQLite file. Safe for concurrent use, and for several processes of one machine that have the
// same file open: what one has committed the others see in their next call.
type SQLite struct {
	db   *sqldb.DB
	own  bool // Close closes db
	opts Options

	buckets  bucketCache
	types    typeCache
	topology atomic.Pointer[topologyAt]
	// topologyLeast is the version of the last change through this handle: an older topology is not handed out.
	topologyLeast atomic.Uint64
	expecting     atomic.Pointer[expecting]
	unchanged     atomic.Pointer[error] // why the last change was not made; nil: it was
}

var _ store.Catalog = (*SQLite)(nil)

// OpenSQLite opens the catalog in the file at path, and creates it when there is none.
//
// Errors: store.ErrSchemaNewer, store.ErrCatalogDamage, and those of [sqldb.Open].
func OpenSQLite(ctx context.Context, path string, opts Options) (*SQLite, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	db, err := sqldb.Open(ctx, path, opts.DB)
	if err != nil {
		return nil, translate(err)
	}
	c, err := NewSQLite(ctx, db, opts)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	c.own = true
	return c, nil
}

// NewSQLite puts a catalog into a database that is open already and that others (the job queue) use too. Close leaves
// db open.
func NewSQLite(ctx context.Context, db *sqldb.DB, opts Options) (*SQLite, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	c := &SQLite{db: db, opts: opts.withDefaults()}
	c.buckets.init()
	c.types.init()
	if err := db.Migrate(ctx, schema); err != nil {
		return nil, translate(err)
	}
	return c, c.fillDigests(ctx)
}

// DB is the database, for others that keep their tables in the same file.
func (c *SQLite) DB() *sqldb.DB { return c.db }

// Close closes the file, if OpenSQLite opened it. Nobody may be calling the catalog.
func (c *SQLite) Close() error {
	if !c.own {
		return nil
	}
	return translate(c.db.Close())
}

// Check reads the whole file for damage: store.ErrCatalogDamage. It may take minutes, and ends with ctx.
func (c *SQLite) Check(ctx context.Context) error { return translate(c.db.Check(ctx)) }

// translate puts the database's errors into the house's terms.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sqldb.ErrDamaged):
		return fmt.Errorf("%w: %w", store.ErrCatalogDamage, err)
	case errors.Is(err, sqldb.ErrNewer):
		return fmt.Errorf("%w: %w", store.ErrSchemaNewer, err)
	case errors.Is(err, sqldb.ErrBusy), errors.Is(err, sqldb.ErrDiskFull), errors.Is(err, sqldb.ErrReadOnly), errors.Is(err, sqldb.ErrMoved):
		return fmt.Errorf("%w: %w", store.ErrNoChanges, err)
	}
	return err
}

func (c *SQLite) read(ctx context.Context, f func(*sqldb.Conn) error) error {
	return translate(c.db.Read(ctx, f))
}

func (c *SQLite) view(ctx context.Context, f func(*sqldb.Conn) error) error {
	return translate(c.db.View(ctx, f))
}

func (c *SQLite) now() int64 { return c.opts.Now().Unix() }

func unixTime(sec int64) time.Time { return time.Unix(sec, 0).UTC() }
