package sqldb_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"wheelhouse/internal/sqldb"
)

// raw opens the file behind sqldb's back.
func raw(t *testing.T, path string, script string) *sqlite.Conn {
	t.Helper()
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	for q := range strings.SplitSeq(script, ";") {
		if err := sqlitex.ExecuteTransient(c, q, nil); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// TestOpenAtOnce: all who open a new file at the same moment get it.
func TestOpenAtOnce(t *testing.T) {
	for range 30 {
		path := filepath.Join(t.TempDir(), "test.db")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				db, err := sqldb.Open(t.Context(), path, sqldb.Options{})
				if err != nil {
					t.Error(err)
					return
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string)
		want error
		text string
	}{
		{"garbage", func(t *testing.T, path string) { write(t, path, strings.Repeat("garbage!", 1000)) }, sqldb.ErrDamaged, "not an SQLite file"},
		{"short", func(t *testing.T, path string) { write(t, path, "SQLite format 3\x00") }, sqldb.ErrDamaged, "backup"},
		{"header only", func(t *testing.T, path string) { healthy(t, path); cut(t, path, 1000) }, sqldb.ErrDamaged, "backup"},
		{"schema page", func(t *testing.T, path string) { healthy(t, path); overwrite(t, path, 100, 4000, 0xA5) }, sqldb.ErrDamaged, "backup"},
		{"other program", func(t *testing.T, path string) { _ = raw(t, path, "PRAGMA application_id=7;CREATE TABLE x(y)").Close() }, sqldb.ErrForeign, "application id is 0x7"},
		{"no program", func(t *testing.T, path string) { _ = raw(t, path, "CREATE TABLE x(y)").Close() }, sqldb.ErrForeign, "another program"},
		{"newer format", func(t *testing.T, path string) { healthy(t, path); _ = raw(t, path, "PRAGMA user_version=2").Close() }, sqldb.ErrNewer, "format is 2"},
		{"newer format in the log", func(t *testing.T, path string) {
			healthy(t, path)
			c := raw(t, path, "PRAGMA user_version=2")
			t.Cleanup(func() { _ = c.Close() })
		}, sqldb.ErrNewer, "format is 2"},
		{"directory", func(t *testing.T, path string) { _ = os.Mkdir(path, 0o700) }, nil, "directory"},
		{"no directory", func(t *testing.T, path string) { _ = os.Remove(filepath.Dir(path)) }, nil, "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sub", "test.db")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			c.make(t, path)
			db, err := sqldb.Open(t.Context(), path, sqldb.Options{})
			if err == nil {
				_ = db.Close()
				t.Fatal("Open succeeded")
			}
			if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("Open = %v; want %v with the file's name and %q", err, c.want, c.text)
			}
		})
	}
}

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func cut(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path string, off int64, n int, with byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	junk := make([]byte, n)
	for i := range junk {
		junk[i] = with
	}
	_, err = f.WriteAt(junk, off)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// healthy makes a file with some rows.
func healthy(t *testing.T, path string) {
	t.Helper()
	db, err := sqldb.Open(t.Context(), path, sqldb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Migrate(t.Context(), schema)
	for k := range 2000 {
		if err == nil && k%500 == 0 {
			err = db.Write(t.Context(), func(tx *sqldb.Tx) error {
				for i := range 500 {
					if err := insert(tx, k+i, k); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedPage: damage behind the schema is found when it is read, and by Check.
func TestDamagedPage(t *testing.T) {
	path := dbPath(t)
	healthy(t, path)
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, path, fi.Size()-4096, 4096, 0x5A)
	db := open(t, path, sqldb.Options{})
	err = db.Check(t.Context())
	if !errors.Is(err, sqldb.ErrDamaged) || !strings.Contains(err.Error(), path) {
		t.Errorf("Check = %v; want %v", err, sqldb.ErrDamaged)
	}
	err = db.Read(t.Context(), func(c *sqldb.Conn) error {
		st, err := c.Select("SELECT sum(v) FROM t")
		if err != nil {
			return err
		}
		_, err = st.Step()
		return err
	})
	if !errors.Is(err, sqldb.ErrDamaged) || !strings.Contains(err.Error(), "backup") {
		t.Errorf("Read = %v; want %v with advice", err, sqldb.ErrDamaged)
	}
}
