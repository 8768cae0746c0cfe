package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite/sqlitex"

	"wheelhouse/internal/sqldb"
)

var schema = sqldb.Schema{Name: "test", Steps: []string{"CREATE TABLE t(k INTEGER PRIMARY KEY, v INTEGER NOT NULL)"}}

func open(t testing.TB, path string, opts sqldb.Options) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if err := db.Migrate(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	return db
}

func insert(tx *sqldb.Tx, k, v int) error {
	_, err := tx.Exec("INSERT INTO t(k,v) VALUES(?,?)", func(st *sqldb.Stmt) {
		st.BindInt64(1, int64(k))
		st.BindInt64(2, int64(v))
	})
	return err
}

func put(db *sqldb.DB, k, v int) error {
	return db.Write(context.Background(), func(tx *sqldb.Tx) error { return insert(tx, k, v) })
}

// rows reads the whole table.
func rows(t testing.TB, db *sqldb.DB) map[int]int {
	t.Helper()
	all := make(map[int]int)
	err := db.Read(context.Background(), func(c *sqldb.Conn) error {
		st, err := c.Select("SELECT k,v FROM t")
		if err != nil {
			return err
		}
		for {
			row, err := st.Step()
			if err != nil || !row {
				return err
			}
			all[st.ColumnInt(0)] = st.ColumnInt(1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func dbPath(t testing.TB) string { return filepath.Join(t.TempDir(), "test.db") }

func TestOpenAgain(t *testing.T) {
	path := dbPath(t)
	db := open(t, path, sqldb.Options{})
	if err := put(db, 1, 2); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, db); got[1] != 2 {
		t.Errorf("read %v after the write", got)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm", path + "-turn"} {
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v; want 0600", name, fi.Mode())
		}
	}
	for range 2 {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close the log is still there: %v", err)
	}
	if got := rows(t, open(t, path, sqldb.Options{})); got[1] != 2 {
		t.Errorf("read %v after opening again", got)
	}
	if err := put(db, 2, 2); !errors.Is(err, sqldb.ErrClosed) {
		t.Errorf("Write after Close = %v; want %v", err, sqldb.ErrClosed)
	}
	if err := db.Read(t.Context(), nil); !errors.Is(err, sqldb.ErrClosed) {
		t.Errorf("Read after Close = %v; want %v", err, sqldb.ErrClosed)
	}
}

func TestOptionsValidate(t *testing.T) {
	_, err := sqldb.Open(t.Context(), dbPath(t), sqldb.Options{Readers: -1, MaxBatch: -2})
	if err == nil || !strings.Contains(err.Error(), "Readers is -1") || !strings.Contains(err.Error(), "MaxBatch is -2") {
		t.Errorf("Open = %v; want both fields named", err)
	}
}

func TestMigrate(t *testing.T) {
	path := dbPath(t)
	db := open(t, path, sqldb.Options{})
	if err := put(db, 1, 1); err != nil {
		t.Fatal(err)
	}
	newer := schema
	newer.Steps = append(newer.Steps[:1:1], "ALTER TABLE t ADD COLUMN w INTEGER NOT NULL DEFAULT 5", "UPDATE t SET v=v+w; UPDATE t SET v=v*2")
	for range 2 { // the second time there is nothing to do
		if err := db.Migrate(t.Context(), newer); err != nil {
			t.Fatal(err)
		}
		if got := rows(t, db)[1]; got != 12 {
			t.Errorf("value is %d; want 12", got)
		}
	}
	// The older program must leave it alone.
	err := db.Migrate(t.Context(), schema)
	if !errors.Is(err, sqldb.ErrNewer) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("Migrate = %v; want %v with file and version", err, sqldb.ErrNewer)
	}
	// One that fails leaves nothing behind, and others have versions of their own.
	broken := newer
	broken.Steps = append(broken.Steps[:3:3], "UPDATE t SET v=0", "NOT SQL")
	if err := db.Migrate(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "version 5") {
		t.Errorf("Migrate = %v; want an error about version 5", err)
	}
	if got := rows(t, db)[1]; got != 12 {
		t.Errorf("value is %d after a failed migration; want 12", got)
	}
	if err := db.Migrate(t.Context(), sqldb.Schema{Name: "other", Steps: []string{"CREATE TABLE o(x)"}}); err != nil {
		t.Fatal(err)
	}
}

func TestCheckAndBackup(t *testing.T) {
	path := dbPath(t)
	db := open(t, path, sqldb.Options{})
	for k := range 100 {
		if err := put(db, k, k); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check = %v", err)
	}
	backup := path + ".backup"
	if err := db.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(backup); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("backup: %v, %v; want mode 0600", fi.Mode(), err)
	}
	if got := rows(t, open(t, backup, sqldb.Options{})); len(got) != 100 {
		t.Errorf("the backup has %d rows; want 100", len(got))
	}
	if err := db.Backup(t.Context(), backup); err == nil {
		t.Error("Backup wrote over a file")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Check(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Check with an ended context = %v", err)
	}
}

// TestLocked: somebody else keeps a transaction open.
func TestLocked(t *testing.T) {
	path := dbPath(t)
	db := open(t, path, sqldb.Options{BusyTimeout: 100 * time.Millisecond})
	other := raw(t, path, "BEGIN IMMEDIATE")
	defer other.Close()
	err := put(db, 1, 1)
	if !errors.Is(err, sqldb.ErrBusy) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("Write = %v; want %v with the file and who it may be", err, sqldb.ErrBusy)
	}
	if got := rows(t, db); len(got) != 0 {
		t.Errorf("read %v while locked", got)
	}
	second, err := sqldb.Open(t.Context(), path, sqldb.Options{BusyTimeout: 100 * time.Millisecond})
	if !errors.Is(err, sqldb.ErrBusy) {
		t.Errorf("Open = %v; want %v", err, sqldb.ErrBusy)
		_ = second.Close()
	}
	if err := sqlitex.ExecuteTransient(other, "ROLLBACK", nil); err != nil {
		t.Fatal(err)
	}
	if err := put(db, 1, 1); err != nil {
		t.Errorf("Write after the lock was given up: %v", err)
	}
}

// TestFileGone: what is open and no longer at its place is not written to, as nobody would find that again.
func TestFileGone(t *testing.T) {
	path := dbPath(t)
	db := open(t, path, sqldb.Options{})
	if err := put(db, 1, 1); err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		err := put(db, 2, 2)
		if !errors.Is(err, sqldb.ErrMoved) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "put it back") {
			t.Errorf("%s: Write = %v; want %v with the file and what to do", what, err, sqldb.ErrMoved)
		}
		if got := rows(t, db); len(got) != 1 || got[1] != 1 {
			t.Errorf("%s: read %v", what, got)
		}
	}
	away := path + ".away"
	if err := os.Rename(path, away); err != nil {
		t.Fatal(err)
	}
	refused("moved away")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("replaced")
	if err := os.Rename(away, path); err != nil {
		t.Fatal(err)
	}
	if err := put(db, 2, 2); err != nil {
		t.Errorf("Write when it is back: %v", err)
	}
}

// TestTurns: of two that write all the time, as two processes would, none starves.
func TestTurns(t *testing.T) {
	path := dbPath(t)
	const most = 300
	var wg sync.WaitGroup
	stop := make(chan struct{})
	count := [2]int{}
	var once sync.Once
	for i := range 2 {
		db := open(t, path, sqldb.Options{})
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := put(db, i*1_000_000+count[i], i); err != nil {
					t.Error(err)
					return
				}
				if count[i]++; count[i] == most {
					once.Do(func() { close(stop) })
				}
			}
		})
	}
	wg.Wait()
	if least := min(count[0], count[1]); least < most/5 {
		t.Errorf("commits were %v; want no less than a fifth for the slower one", count)
	}
}

func TestReadOnlyFile(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everything")
	}
	path := dbPath(t)
	healthy(t, path)
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := sqldb.Open(t.Context(), path, sqldb.Options{}); !errors.Is(err, sqldb.ErrReadOnly) {
		t.Errorf("Open = %v; want %v", err, sqldb.ErrReadOnly)
	}
}

// TestView: all statements see one state; Read's each see the newest.
func TestView(t *testing.T) {
	db := open(t, dbPath(t), sqldb.Options{})
	n := func(c *sqldb.Conn) int {
		st, err := c.Select("SELECT count(*) FROM t")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Step(); err != nil {
			t.Fatal(err)
		}
		return st.ColumnInt(0)
	}
	look := func(read func(context.Context, func(*sqldb.Conn) error) error, want int) {
		t.Helper()
		before := n2(t, db, n)
		err := read(t.Context(), func(c *sqldb.Conn) error {
			first := n(c)
			done := make(chan error)
			go func() { done <- put(db, 1000+first, 0) }()
			if err := <-done; err != nil {
				return err
			}
			if second := n(c); first != before || second != before+want {
				t.Errorf("saw %d, then %d rows; there were %d", first, second, before)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	look(db.View, 0)
	look(db.Read, 1)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		_ = db.View(t.Context(), func(c *sqldb.Conn) error { n(c); panic("in View") })
	}()
	look(db.Read, 1) // the connection came back in good order
}

func n2(t *testing.T, db *sqldb.DB, n func(*sqldb.Conn) int) (count int) {
	t.Helper()
	if err := db.Read(t.Context(), func(c *sqldb.Conn) error { count = n(c); return nil }); err != nil {
		t.Fatal(err)
	}
	return count
}

// TestReadWaits: a call that finds all connections lent waits, until its context ends.
func TestReadWaits(t *testing.T) {
	db := open(t, dbPath(t), sqldb.Options{Readers: 1})
	err := db.Read(t.Context(), func(*sqldb.Conn) error {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := db.Read(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("Read = %v; want %v", err, context.Canceled)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWALBounded: the log does not grow for ever, though commits never pause and readers come and go.
func TestWALBounded(t *testing.T) {
	path := dbPath(t)
	const pages = 64
	db := open(t, path, sqldb.Options{WALPages: pages})
	var wg sync.WaitGroup
	const writers, each = 16, 400
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				// Scattered keys, so that each commit writes several pages.
				if err := put(db, (w*each+i)*7919%1_000_003, i); err != nil {
					t.Error(err)
					return
				}
				if i%50 == 0 {
					if err := db.Read(context.Background(), func(c *sqldb.Conn) error { _, err := c.Select("SELECT 1"); return err }); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	fi, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	// The limit, and what may come between two looks.
	if most := int64(4*pages+8000) * 4120; fi.Size() > most {
		t.Errorf("the log has %d bytes; want at most %d", fi.Size(), most)
	}
	if got := rows(t, db); len(got) != writers*each {
		t.Errorf("%d rows; want %d", len(got), writers*each)
	}
}

// TestLongReader: one who keeps an old state does not keep others from committing, and the log is copied when it is gone.
func TestLongReader(t *testing.T) {
	path := dbPath(t)
	db := open(t, path, sqldb.Options{WALPages: 16})
	const n = 3000
	err := db.View(t.Context(), func(c *sqldb.Conn) error {
		st, err := c.Select("SELECT count(*) FROM t")
		if err != nil {
			return err
		}
		if _, err := st.Step(); err != nil {
			return err
		}
		var wg sync.WaitGroup
		for w := range 16 {
			wg.Go(func() {
				for i := w; i < n; i += 16 {
					if err := put(db, i*7919%1_000_003, i); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, open(t, path, sqldb.Options{})); len(got) != n {
		t.Errorf("%d rows; want %d", len(got), n)
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			db := open(b, dbPath(b), sqldb.Options{})
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for w := range callers {
				wg.Go(func() {
					for i := w; i < b.N; i += callers {
						if err := put(db, i, i); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
