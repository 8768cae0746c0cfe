package sqldb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
)

// DB is an open database. Safe for concurrent use.
type DB struct {
	path    string
	file    os.FileInfo // that is open
	opts    Options
	readers *pool
	writer  *writer
	checks  *checkpointer
	turn    *turn

	closeOnce sync.Once
	closeErr  error
}

// Open opens the database at path, and creates it when there is none, with mode 0600. It does not read the whole file:
// only its header and its schema; [DB.Check] is the thorough test. ctx bounds the waiting for a lock. The caller must
// call Close, which also ends the goroutines begun here.
//
// Errors: ErrForeign, ErrDamaged, ErrNewer, ErrBusy, ErrReadOnly, ErrDiskFull.
func Open(ctx context.Context, path string, opts Options) (*DB, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if path == "" || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("sqldb: %q is not a file name", path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	db := &DB{path: path, opts: opts.withDefaults()}
	if err := createFile(path); err != nil {
		return nil, err
	}
	if err := checkHeader(path, db.opts.ApplicationID); err != nil {
		return nil, err
	}
	if err := db.open(ctx); err != nil {
		return nil, errors.Join(db.translate(err), db.closeConns())
	}
	db.writer.start(db)
	db.checks.start(db)
	return db, nil
}

// open makes the connections.
func (db *DB) open(ctx context.Context) error {
	var err error
	if db.turn, err = openTurn(db.path + turnSuffix); err != nil {
		return fileError(db.path, err)
	}
	w, err := db.connect(db.opts.WriterCache, "synchronous=FULL")
	if err != nil {
		return err
	}
	w.SetBusyTimeout(0) // from here on inTurn waits
	db.writer = newWriter(w)
	if db.file, err = os.Stat(db.path); err != nil {
		return fileError(db.path, err)
	}
	if err := db.inTurn(ctx.Done(), func() error { return useWAL(w) }); err != nil {
		return err
	}
	if err := db.prepareFile(ctx); err != nil {
		return err
	}
	c, err := db.connect(checkpointCache)
	if err != nil {
		return err
	}
	db.checks = newCheckpointer(c)
	db.readers = newPool(db.opts.Readers)
	for range db.opts.Readers {
		c, err := db.connect(db.opts.ReaderCache, "query_only=ON")
		if err != nil {
			return err
		}
		db.readers.add(c)
	}
	return nil
}

const checkpointCache = 2 << 20

// connect opens one connection; every one of them waits for locks up to BusyTimeout.
func (db *DB) connect(cache int64, pragmas ...string) (*sqlite.Conn, error) {
	c, err := sqlite.OpenConn(db.path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	c.SetBusyTimeout(db.opts.BusyTimeout)
	all := append([]string{
		fmt.Sprintf("cache_size=%d", -max(1, cache>>10)),
		fmt.Sprintf("mmap_size=%d", db.opts.MapBytes),
		"wal_autocheckpoint=0", // checkpoint.go
		"temp_store=MEMORY",
		"trusted_schema=OFF",
		"cell_size_check=ON",
	}, pragmas...)
	for _, p := range all {
		if err := execScript(c, "PRAGMA "+p); err != nil {
			return nil, errors.Join(fmt.Errorf("pragma %s: %w", p, err), c.Close())
		}
	}
	return c, nil
}

// useWAL switches the file to a write-ahead log, which it then keeps. Of two connections that do so at once, SQLite tells
// one that the file is busy, whatever its timeout.
func useWAL(c *sqlite.Conn) error {
	st, _, err := c.PrepareTransient("PRAGMA journal_mode=WAL")
	if err != nil {
		return err
	}
	_, err = st.Step()
	mode := st.ColumnText(0)
	if err = errors.Join(err, st.Finalize()); err == nil && mode != "wal" {
		err = fmt.Errorf("sqldb: no write-ahead log on this file system: journal mode is %q", mode)
	}
	return err
}

// Path is the absolute path of the file.
func (db *DB) Path() string { return db.path }

// Close waits for what is running, finishes what was handed to Write, copies the write-ahead log into the database and
// closes the file. Calls made after it get ErrClosed. Closing again does nothing.
func (db *DB) Close() error {
	db.closeOnce.Do(func() {
		db.writer.stop()
		db.checks.stop()
		db.readers.drain()
		err := db.checkpoint(db.writer.conn, "TRUNCATE", time.Second)
		if errors.Is(err, ErrBusy) {
			err = nil // another process is using it and will do it
		}
		db.closeErr = errors.Join(err, db.closeConns())
	})
	return db.closeErr
}

func (db *DB) closeConns() error {
	var errs []error
	if db.readers != nil {
		errs = append(errs, db.readers.close())
	}
	if db.checks != nil {
		errs = append(errs, db.checks.conn.Close())
	}
	if db.writer != nil {
		errs = append(errs, db.writer.conn.Close())
	}
	if db.turn != nil {
		errs = append(errs, db.turn.close())
	}
	return db.translate(errors.Join(errs...))
}

// createFile makes an empty file that only its owner can read, durably, unless there is one. SQLite gives its -wal and
// -shm files the same mode.
func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return fileError(path, err)
	}
	if err := f.Close(); err != nil {
		return fileError(path, err)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fileError(path, err)
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fileError(path, err)
	}
	return nil
}

// execScript runs statements that return no rows of interest.
func execScript(c *sqlite.Conn, script string) error {
	for strings.TrimSpace(script) != "" {
		st, rest, err := c.PrepareTransient(script)
		if err != nil {
			return err
		}
		for more := true; more && err == nil; {
			more, err = st.Step()
		}
		if ferr := st.Finalize(); err == nil {
			err = ferr
		}
		if err != nil {
			return err
		}
		script = script[len(script)-rest:]
	}
	return nil
}
