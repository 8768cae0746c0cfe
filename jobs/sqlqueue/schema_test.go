package sqlqueue_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
)

// TestOpenTwice: what is there is left alone, also by processes that begin at the same time.
func TestOpenTwice(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				q, err := sqlqueue.OpenURL(t.Context(), url, sqlqueue.Options{})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f", Arg: fmt.Append(nil, i)}}); err != nil {
					t.Error(err)
				}
				if err := q.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := grabAll(t, openURL(t, url, sqlqueue.Options{}), "f"); len(got) != 4 {
			t.Errorf("%d jobs; want 4", len(got))
		}
	})
}

// TestPrefix: queues of several prefixes in one database know nothing of each other.
func TestPrefix(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		a, b := openURL(t, url, sqlqueue.Options{Prefix: "a_"}), openURL(t, url, sqlqueue.Options{})
		if _, err := a.Insert(t.Context(), []jobs.Job{{Func: "f"}}); err != nil {
			t.Fatal(err)
		}
		if got := grabAll(t, b, "f"); len(got) != 0 {
			t.Errorf("the other queue has %+v", got)
		}
		if got := grabAll(t, a, "f"); len(got) != 1 {
			t.Errorf("its own has %+v", got)
		}
	})
}

// TestMyISAM: without transactions jobs would be lost, and the way out is named.
func TestMyISAM(t *testing.T) {
	url := kinds[1].fresh(t)
	db := openSQL(t, url)
	schema, err := os.ReadFile("testdata/schwartz-mysql.sql")
	if err != nil {
		t.Fatal(err)
	}
	for statement := range strings.SplitSeq(string(schema), ";\n") {
		if strings.HasPrefix(statement, "CREATE TABLE job ") {
			statement += " ENGINE=MyISAM"
		}
		if _, err := db.Exec(statement); err != nil && strings.TrimSpace(statement) != "" {
			t.Fatal(err)
		}
	}
	for _, statement := range []string{
		"INSERT INTO funcmap(funcname) VALUES('f')",
		"INSERT INTO job(funcid,run_after,grabbed_until,priority,arg) VALUES(1,0,0,65535,'most'),(1,0,0,NULL,'none'),(1,0,0,3,'three')",
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	_, err = sqlqueue.OpenURL(t.Context(), url, sqlqueue.Options{})
	if err == nil || !strings.Contains(err.Error(), "ALTER TABLE job ENGINE=InnoDB") {
		t.Fatalf("OpenURL = %v; want the ALTER TABLE", err)
	}
	var n int
	if err := db.QueryRow("SELECT count(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA=DATABASE()").Scan(&n); err != nil || n != 5 {
		t.Errorf("there are %d tables, %v; want the 5 that there were", n, err)
	}
	if _, err := db.Exec("ALTER TABLE job ENGINE=InnoDB"); err != nil {
		t.Fatal(err)
	}
	q := openURL(t, url, sqlqueue.Options{})
	if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f", Priority: -1, Arg: []byte("below")}}); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, j := range grabAll(t, q, "f") {
		order = append(order, fmt.Sprint(string(j.Arg), j.Priority))
	}
	if want := []string{"most65535", "three3", "none0", "below-1"}; !slices.Equal(order, want) {
		t.Errorf("order is %q; want %q", order, want)
	}
}

// TestOldFile: a file that an earlier version of this program made is taken over.
func TestOldFile(t *testing.T) {
	path := t.TempDir() + "/jobs.db"
	old, err := os.ReadFile("testdata/version1.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqldb.Open(t.Context(), path, sqldb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Migrate(t.Context(), sqldb.Schema{Name: "jobs", Steps: []string{string(old)}})
	if err != nil {
		t.Fatal(err)
	}
	q, err := sqlqueue.New(t.Context(), db, sqlqueue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := grabAll(t, q, "f")
	if len(got) != 1 || string(got[0].Arg) != "old" || got[0].Failures != 1 {
		t.Errorf("Grab = %+v", got)
	}
	rec, err := q.Show(t.Context(), 99)
	if err != nil || rec.State != jobs.StateDead || rec.Func != "f" {
		t.Errorf("Show of a job that was given up = %+v, %v", rec, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// TestPrune: Tend removes what has been kept long enough, and nothing else.
func TestPrune(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
		q := openURL(t, url, sqlqueue.Options{Now: func() time.Time { return now }})
		failOne := func() {
			t.Helper()
			if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f"}}); err != nil {
				t.Fatal(err)
			}
			finish(t, q, grabAll(t, q, "f"), jobs.Result{Verdict: jobs.Dead, Cause: "no use"})
		}
		failOne()
		failOne()
		now = now.Add(8 * 24 * time.Hour)
		failOne()
		if _, err := q.Tend(t.Context()); err != nil {
			t.Fatal(err)
		}
		db := openSQL(t, url)
		for _, table := range []string{"error", "exitstatus", "job_record"} {
			var n int
			if err := db.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil || n != 1 {
				t.Errorf("%s has %d rows, %v; want 1", table, n, err)
			}
		}
	})
}

func TestOpenErrors(t *testing.T) {
	for url, want := range map[string]string{
		"jobs.db":                              "sqlite:PATH",
		"oracle://x/y":                         "no such kind",
		"sqlite:/does/not/exist/jobs.db":       "/does/not/exist",
		"mysql://u:secret@127.0.0.1:1/db":      "refused",
		"mysql://u:secret@127.0.0.1:1/":        "names no database",
		"mysql://u:secret@/db":                 "neither a host nor a socket",
		"mysql://u:secret@127.0.0.1:1/d?tls=x": "tls",
		"postgres://u:secret@127.0.0.1:1/db":   "refused",
		"mysql://u:sec%ret@127.0.0.1:1/db":     "%XX",
	} {
		begun := time.Now()
		q, err := sqlqueue.OpenURL(t.Context(), url, sqlqueue.Options{})
		if err == nil {
			t.Errorf("OpenURL(%s): no error; close: %v", url, q.Close())
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("OpenURL(%s) = %v; want %q in it, and no password", url, err, want)
		}
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("OpenURL(%s) took %s", url, took)
		}
	}
	if _, err := sqlqueue.OpenURL(t.Context(), "sqlite:x", sqlqueue.Options{Prefix: "a;b", Conns: -1}); err == nil || !strings.Contains(err.Error(), "Conns") {
		t.Errorf("of senseless options: %v", err)
	}
}
