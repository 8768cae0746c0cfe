package sqldb

import (
	"context"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"
)

// Check reads the whole file and returns ErrDamaged with what SQLite found wrong. It takes minutes on a big file, holds up
// nobody but the write-ahead log's restart, and ends with ctx.
func (db *DB) Check(ctx context.Context) error {
	return db.long(ctx, func(c *sqlite.Conn) error {
		st, err := c.Prepare("PRAGMA quick_check(20)")
		if err != nil {
			return err
		}
		var found []error
		for {
			row, err := st.Step()
			if err != nil {
				return err
			}
			if !row {
				break
			}
			if s := st.ColumnText(0); s != "ok" {
				found = append(found, errors.New(s))
			}
		}
		if found != nil {
			return &Error{Kind: ErrDamaged, Path: db.path, Advice: damageAdvice, Err: errors.Join(found...)}
		}
		return nil
	})
}

// Backup writes a compact copy of the database as it is now to a new file, while everybody goes on. It ends with ctx.
func (db *DB) Backup(ctx context.Context, path string) error {
	if err := createFile(path); err != nil { // VACUUM INTO takes an empty file, and keeps its mode
		return err
	}
	return db.long(ctx, func(c *sqlite.Conn) error {
		st, err := c.Prepare("VACUUM INTO ?")
		if err != nil {
			return err
		}
		st.BindText(1, path)
		if _, err := st.Step(); err != nil {
			return fmt.Errorf("sqldb: back up to %s: %w", path, err)
		}
		return st.Reset()
	})
}

// long runs f on a connection of its own, which ctx interrupts.
func (db *DB) long(ctx context.Context, f func(*sqlite.Conn) error) error {
	c, err := db.connect(db.opts.ReaderCache)
	if err != nil {
		return db.translate(err)
	}
	c.SetInterrupt(ctx.Done())
	err = f(c)
	c.SetInterrupt(nil)
	if ctx.Err() != nil && err != nil {
		err = ctx.Err()
	}
	return db.translate(errors.Join(err, c.Close()))
}
