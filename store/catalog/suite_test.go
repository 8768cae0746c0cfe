package catalog_test

import (
	"testing"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store/catalog"
	"wheelhouse/store/storetest"
)

const testGrace = 10 * time.Minute

func openSuite(t *testing.T, now func() time.Time, db sqldb.Options) (*catalog.SQLite, *storetest.TaskRecorder) {
	t.Helper()
	r := new(storetest.TaskRecorder)
	c, err := catalog.OpenSQLite(t.Context(), t.TempDir()+"/catalog.db", catalog.Options{Enqueue: r.Enqueue, Grace: testGrace, Now: now, DB: db})
	if err != nil {
		t.Fatal(err)
	}
	return c, r
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Catalog(t, func(t *testing.T, now func() time.Time) storetest.CatalogSetup {
		c, r := openSuite(t, now, sqldb.Options{})
		return storetest.CatalogSetup{Catalog: c, Tasks: r.Take, Grace: testGrace}
	})
}

func TestCached(t *testing.T) {
	t.Parallel()
	storetest.Catalog(t, func(t *testing.T, now func() time.Time) storetest.CatalogSetup {
		c, r := openSuite(t, now, sqldb.Options{})
		return storetest.CatalogSetup{Catalog: catalog.Cached(c, 0), Tasks: r.Take, Grace: testGrace}
	})
}

// TestCachedSmall is a cache that evicts all the time.
func TestCachedSmall(t *testing.T) {
	t.Parallel()
	storetest.Catalog(t, func(t *testing.T, now func() time.Time) storetest.CatalogSetup {
		c, r := openSuite(t, now, sqldb.Options{})
		return storetest.CatalogSetup{Catalog: catalog.Cached(c, 64*1000), Tasks: r.Take, Grace: testGrace}
	})
}
