package catalog_test

import (
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/storetest"
)

// recorder keeps the tasks of transactions that were committed.
type recorder struct {
	mu    sync.Mutex
	tasks []store.Task
}

func (r *recorder) enqueue(tx *sqldb.Tx, tasks []store.Task) error {
	kept := append([]store.Task(nil), tasks...)
	tx.AfterCommit(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tasks = append(r.tasks, kept...)
	})
	return nil
}

func (r *recorder) take() []store.Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	tasks := r.tasks
	r.tasks = nil
	return tasks
}

const testGrace = 10 * time.Minute

func openSuite(t *testing.T, now func() time.Time, db sqldb.Options) (*catalog.SQLite, *recorder) {
	t.Helper()
	r := new(recorder)
	c, err := catalog.OpenSQLite(t.Context(), t.TempDir()+"/catalog.db", catalog.Options{Enqueue: r.enqueue, Grace: testGrace, Now: now, DB: db})
	if err != nil {
		t.Fatal(err)
	}
	return c, r
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Catalog(t, func(t *testing.T, now func() time.Time) storetest.CatalogSetup {
		c, r := openSuite(t, now, sqldb.Options{})
		return storetest.CatalogSetup{Catalog: c, Tasks: r.take, Grace: testGrace}
	})
}

func TestCached(t *testing.T) {
	t.Parallel()
	storetest.Catalog(t, func(t *testing.T, now func() time.Time) storetest.CatalogSetup {
		c, r := openSuite(t, now, sqldb.Options{})
		return storetest.CatalogSetup{Catalog: catalog.Cached(c, 0), Tasks: r.take, Grace: testGrace}
	})
}

// TestCachedSmall is a cache that evicts all the time.
func TestCachedSmall(t *testing.T) {
	t.Parallel()
	storetest.Catalog(t, func(t *testing.T, now func() time.Time) storetest.CatalogSetup {
		c, r := openSuite(t, now, sqldb.Options{})
		return storetest.CatalogSetup{Catalog: catalog.Cached(c, 64*1000), Tasks: r.take, Grace: testGrace}
	})
}
