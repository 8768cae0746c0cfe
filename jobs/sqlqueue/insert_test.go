package sqlqueue_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"wheelhouse/internal/sqldb"
	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
)

// txJobs are what the tests of transactions insert: with and without a key, and of a function that nobody has seen.
func txJobs() []jobs.Job {
	return []jobs.Job{{Func: "new", Arg: []byte("x")}, {Func: "new", Unique: "u"}, {Func: "new", Unique: "u"}}
}

// checkTx runs insert, which commits or not, and looks whether the jobs are there.
func checkTx(t *testing.T, q *sqlqueue.Queue, insert func(commit bool) ([]jobs.ID, error)) {
	t.Helper()
	for _, commit := range []bool{false, true} {
		ids, err := insert(commit)
		if err != nil {
			t.Fatalf("commit %t: %v", commit, err)
		}
		if len(ids) != 3 || ids[0] == 0 || ids[1] == 0 || ids[2] != 0 {
			t.Errorf("commit %t: ids %v; want the third folded", commit, ids)
		}
		want := map[bool]int{true: 2}[commit]
		if got := grabAll(t, q, "new"); len(got) != want {
			t.Errorf("commit %t: %d jobs; want %d", commit, len(got), want)
		}
	}
}

func TestInsertTx(t *testing.T) {
	db, q := open(t, t.TempDir()+"/jobs.db", nil)
	ready, stop := q.Notify()
	defer stop()
	undo := errors.New("changed my mind")
	checkTx(t, q, func(commit bool) (ids []jobs.ID, err error) {
		err = db.Write(t.Context(), func(tx *sqldb.Tx) error {
			if ids, err = q.InsertTx(tx, txJobs()); err == nil && !commit {
				err = undo
			}
			return err
		})
		if !commit && errors.Is(err, undo) {
			err = nil
		}
		if told := len(ready) > 0; told != commit {
			t.Errorf("commit %t: told %t", commit, told)
		}
		return ids, err
	})
}

// TestInsertSQLTx is about transactions of database/sql, with a driver of their own each.
func TestInsertSQLTx(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		q := openURL(t, url, sqlqueue.Options{})
		db := openSQL(t, url)
		checkTx(t, q, func(commit bool) ([]jobs.ID, error) {
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				return nil, err
			}
			ids, err := q.InsertSQLTx(t.Context(), tx, txJobs())
			if !commit || err != nil {
				return ids, errors.Join(err, tx.Rollback())
			}
			return ids, tx.Commit()
		})
	})
}

// openSQL opens the same database as an application has it.
func openSQL(t *testing.T, url string) *sql.DB {
	t.Helper()
	p := newPerl(t, url)
	driver, name := "pgx", url
	switch p.kind {
	case "sqlite":
		driver, name = "sqlite", url[len("sqlite:"):]
	case "mysql":
		_, socket, _ := strings.Cut(url, "socket=")
		_, rest, _ := strings.Cut(url, "@/")
		database, _, _ := strings.Cut(rest, "?")
		driver, name = "mysql", (&mysql.Config{User: "root", Net: "unix", Addr: socket, DBName: database, AllowNativePasswords: true}).FormatDSN()
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestInsertPgxTx(t *testing.T) {
	url := kinds[2].fresh(t)
	q := openURL(t, url, sqlqueue.Options{})
	other := openURL(t, url, sqlqueue.Options{})
	ready, stop := other.Notify()
	defer stop()
	<-ready // it listens now
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) // only a test's
	checkTx(t, q, func(commit bool) ([]jobs.ID, error) {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			return nil, err
		}
		ids, err := q.InsertPgxTx(t.Context(), tx, txJobs())
		if !commit || err != nil {
			return ids, errors.Join(err, tx.Rollback(t.Context()))
		}
		if len(ready) > 0 {
			t.Error("told before the commit")
		}
		if err := tx.Commit(t.Context()); err != nil {
			return nil, err
		}
		select {
		case <-ready:
		case <-time.After(10 * time.Second):
			t.Error("the other process was not told")
		}
		return ids, nil
	})
	if _, err := q.InsertTx(nil, txJobs()); err == nil {
		t.Error("InsertTx on PostgreSQL: no error")
	}
}

// TestNotify: on PostgreSQL other processes are told at once, also when the connection was lost meanwhile.
func TestNotify(t *testing.T) {
	url := kinds[2].fresh(t)
	q, other := openURL(t, url, sqlqueue.Options{}), openURL(t, url, sqlqueue.Options{})
	ready, stop := other.Notify()
	hear := func(what string) {
		t.Helper()
		select {
		case <-ready:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: not told", what)
		}
	}
	hear("listening")
	insert := func() {
		t.Helper()
		if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f"}}); err != nil {
			t.Fatal(err)
		}
	}
	insert()
	hear("inserted")
	db := openSQL(t, url)
	var n int
	err := db.QueryRow("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname=current_database() AND query LIKE 'LISTEN%'").Scan(&n)
	if err != nil || n != 1 {
		t.Fatalf("%d listeners were ended: %v", n, err)
	}
	hear("listening again")
	insert()
	hear("inserted again")
	stop()
	stop()
	if err := db.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname=current_database() AND query LIKE 'LISTEN%'").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n != 0 && !within(10*time.Second, func() bool { // the server needs a moment to notice
		_ = db.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname=current_database() AND query LIKE 'LISTEN%'").Scan(&n)
		return n == 0
	}) {
		t.Errorf("%d listeners are left", n)
	}
}

func TestAnnounce(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var told []string
		q := openURL(t, url, sqlqueue.Options{Announce: func(funcs []string) { told = append(told, funcs...) }})
		later := time.Now().Add(time.Hour)
		if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "a"}, {Func: "b", RunAfter: later}, {Func: "a"}, {Func: "c"}}); err != nil {
			t.Fatal(err)
		}
		finish(t, q, grabAll(t, q, "c"), jobs.Result{Verdict: jobs.Returned})
		q.Wake()
		q.Wake("d")
		if want := []string{"a", "c", "c", "d"}; !slices.Equal(told, want) {
			t.Errorf("told %q; want %q", told, want)
		}
	})
}
