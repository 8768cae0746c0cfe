package sqlqueue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/jobs"
	"wheelhouse/jobs/jobstest"
	"wheelhouse/jobs/sqlqueue"
)

func open(t testing.TB, path string, now func() time.Time) (*sqldb.DB, *sqlqueue.Queue) {
	t.Helper()
	db, err := sqldb.Open(t.Context(), path, sqldb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	q, err := sqlqueue.New(t.Context(), db, sqlqueue.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return db, q
}

func TestQueue(t *testing.T) {
	jobstest.Queue(t, func(t *testing.T, now func() time.Time) jobs.Queue {
		_, q := open(t, t.TempDir()+"/jobs.db", now)
		return q
	})
}

// TestShared: two processes' worth of queues on one file share the work.
func TestShared(t *testing.T) {
	path := t.TempDir() + "/jobs.db"
	_, a := open(t, path, nil)
	_, b := open(t, path, nil)
	ctx := t.Context()
	if _, err := a.Insert(ctx, []jobs.Job{{Func: "f", Arg: []byte("1")}, {Func: "f", Arg: []byte("2")}}); err != nil {
		t.Fatal(err)
	}
	one, err := b.Grab(ctx, []string{"f"}, 1, time.Minute)
	if err != nil || len(one) != 1 {
		t.Fatalf("Grab = %v, %v; want one job", one, err)
	}
	two, err := a.Grab(ctx, []string{"f"}, 2, time.Minute)
	if err != nil || len(two) != 1 || two[0].ID == one[0].ID {
		t.Fatalf("Grab = %v, %v; want the other job than %v", two, err, one)
	}
}

// TestInsertTx: jobs are there if and only if the transaction is.
func TestInsertTx(t *testing.T) {
	db, q := open(t, t.TempDir()+"/jobs.db", nil)
	ctx := t.Context()
	ready, stop := q.Notify()
	defer stop()
	sentinel := errors.New("changed my mind")
	insert := func(result error) error {
		return db.Write(ctx, func(tx *sqldb.Tx) error {
			if _, err := q.InsertTx(tx, []jobs.Job{{Func: "new function", Arg: []byte("x")}}); err != nil {
				return err
			}
			return result
		})
	}
	if err := insert(sentinel); !errors.Is(err, sentinel) {
		t.Fatalf("Write = %v; want %v", err, sentinel)
	}
	got, err := q.Grab(ctx, []string{"new function"}, 10, time.Minute)
	if err != nil || len(got) != 0 || len(ready) != 0 {
		t.Fatalf("after a rollback: Grab = %v, %v; %d notices", got, err, len(ready))
	}
	if err := insert(nil); err != nil {
		t.Fatal(err)
	}
	got, err = q.Grab(ctx, []string{"new function"}, 10, time.Minute)
	if err != nil || len(got) != 1 || len(ready) != 1 {
		t.Fatalf("after a commit: Grab = %v, %v; %d notices", got, err, len(ready))
	}
}

// TestPlans: grabbing must not look at jobs that are not due, of which there may be millions.
func TestPlans(t *testing.T) {
	db, q := open(t, t.TempDir()+"/jobs.db", nil)
	if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f"}}); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		`SELECT jobid FROM job WHERE funcid=?1 AND ifnull(priority,0)=?2 AND run_after<=?3 AND grabbed_until<=?3
			ORDER BY run_after, jobid LIMIT ?4`: "SEARCH job USING INDEX job_ready (funcid=? AND <expr>=? AND run_after<?)",
		"SELECT ifnull(priority,0) FROM job WHERE funcid=? AND ifnull(priority,0)<? ORDER BY ifnull(priority,0) DESC LIMIT 1": "SEARCH job USING COVERING INDEX job_ready (funcid=? AND <expr><?)",
	} {
		err := db.Read(t.Context(), func(c *sqldb.Conn) error {
			st, err := c.Select("EXPLAIN QUERY PLAN " + query)
			if err != nil {
				return err
			}
			var plan []string
			for {
				row, err := st.Step()
				if err != nil {
					return err
				}
				if !row {
					break
				}
				plan = append(plan, st.ColumnText(3))
			}
			if got := strings.Join(plan, "; "); got != want { // above all no "USE TEMP B-TREE FOR ORDER BY"
				return fmt.Errorf("plan is %q; want %q", got, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestPrune(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	db, q := open(t, t.TempDir()+"/jobs.db", func() time.Time { return now })
	ctx := t.Context()
	failOne := func() {
		t.Helper()
		if _, err := q.Insert(ctx, []jobs.Job{{Func: "f"}}); err != nil {
			t.Fatal(err)
		}
		got, err := q.Grab(ctx, []string{"f"}, 1, time.Minute)
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		if err := q.Fail(ctx, got[0], errors.New("no use")); err != nil {
			t.Fatal(err)
		}
	}
	failOne()
	failOne()
	now = now.Add(8 * 24 * time.Hour)
	failOne()
	for _, table := range []string{"error", "exitstatus"} {
		if n := count(t, db, table); n != 1 {
			t.Errorf("%s has %d rows; want 1", table, n)
		}
	}
}

func count(t *testing.T, db *sqldb.DB, table string) (n int) {
	t.Helper()
	err := db.Read(context.Background(), func(c *sqldb.Conn) error {
		st, err := c.Select("SELECT count(*) FROM " + table)
		if err != nil {
			return err
		}
		_, err = st.Step()
		n = st.ColumnInt(0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func BenchmarkInsertGrabComplete(b *testing.B) {
	_, q := open(b, b.TempDir()+"/jobs.db", nil)
	ctx := b.Context()
	const n = 100
	list := make([]jobs.Job, n)
	for i := range list {
		list[i] = jobs.Job{Func: "f", Arg: []byte(`{"object":12345}`), Unique: fmt.Sprint(i)}
	}
	for b.Loop() {
		if _, err := q.Insert(ctx, list); err != nil {
			b.Fatal(err)
		}
		got, err := q.Grab(ctx, []string{"f"}, n, time.Minute)
		if err != nil || len(got) != n {
			b.Fatal(len(got), err)
		}
		if err := q.Complete(ctx, got); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "jobs/s")
}
