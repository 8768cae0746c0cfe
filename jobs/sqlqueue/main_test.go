package sqlqueue_test

import (
	"testing"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/internal/testenv"
	"wheelhouse/jobs"
	"wheelhouse/jobs/jobstest"
	"wheelhouse/jobs/sqlqueue"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// open opens a queue in an SQLite file of ours.
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

// openURL opens a queue that is closed when the test ends.
func openURL(t testing.TB, url string, opts sqlqueue.Options) *sqlqueue.Queue {
	t.Helper()
	q, err := sqlqueue.OpenURL(t.Context(), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

// kinds are all databases; each gives the address of an empty one.
var kinds = []struct {
	name  string
	fresh func(testing.TB) string
}{
	{"SQLite", func(t testing.TB) string { return "sqlite:" + t.TempDir() + "/jobs.db" }},
	{"MariaDB", testenv.MariaDB},
	{"PostgreSQL", testenv.PostgreSQL},
}

// each runs a test on all databases.
func each(t *testing.T, f func(t *testing.T, url string)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			f(t, k.fresh(t))
		})
	}
}

func TestQueue(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			jobstest.Queue(t, func(t *testing.T, now func() time.Time) (jobs.Backend, func() jobs.Backend) {
				url := k.fresh(t)
				opts := sqlqueue.Options{Now: now, Prefix: "p_", Conns: 4}
				return openURL(t, url, opts), func() jobs.Backend { return openURL(t, url, opts) }
			})
		})
	}
}
