package sqldb

import (
	"context"
	"fmt"
)

// Schema is the tables of one user of the file. Several users share a file, each with a name and a version of its own.
type Schema struct {
	Name string
	// Steps are SQL scripts: Steps[i] leads from version i to version i+1. One that has been released is never changed.
	Steps []string
}

// Migrate brings the tables of s to the version that the program knows, in one transaction. It only goes forward: a file
// with a higher version gives ErrNewer and is left alone.
func (db *DB) Migrate(ctx context.Context, s Schema) error {
	return db.Write(ctx, func(tx *Tx) error {
		have, err := schemaVersion(tx, s.Name)
		if err != nil {
			return err
		}
		if have > len(s.Steps) {
			return &Error{
				Kind: ErrNewer, Path: db.path, Advice: "use the program that wrote it, or a newer one",
				Err: fmt.Errorf("its %s schema is version %d, this program knows %d", s.Name, have, len(s.Steps)),
			}
		}
		if have == len(s.Steps) {
			return nil
		}
		tx.changed = true // what scripts change is not counted
		for i, step := range s.Steps[have:] {
			if err := execScript(tx.conn, step); err != nil {
				return fmt.Errorf("sqldb: migrate %s to version %d: %w", s.Name, have+i+1, err)
			}
		}
		_, err = tx.Exec("INSERT OR REPLACE INTO schema_component(name,version) VALUES(?,?)", func(st *Stmt) {
			st.BindText(1, s.Name)
			st.BindInt64(2, int64(len(s.Steps)))
		})
		return err
	})
}

func schemaVersion(tx *Tx, name string) (int, error) {
	st, err := tx.Select("SELECT version FROM schema_component WHERE name=?")
	if err != nil {
		return 0, err
	}
	st.BindText(1, name)
	row, err := st.Step()
	if err != nil || !row {
		return 0, err
	}
	return st.ColumnInt(0), nil
}
