package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

func catalogPath(t *testing.T) string { return filepath.Join(t.TempDir(), "catalog.db") }

// reopen opens a catalog that is closed again by the caller.
func reopen(t *testing.T, path string) *catalog.SQLite {
	t.Helper()
	c, err := catalog.OpenSQLite(t.Context(), path, catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func closeCatalog(t *testing.T, c *catalog.SQLite) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// runSQL changes the file behind the catalog's back.
func runSQL(t *testing.T, path, script string) {
	t.Helper()
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sqlitex.ExecuteScript(c, script, nil), c.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestOpenErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(path string)
		want error
	}{
		{"garbage", func(path string) { _ = os.WriteFile(path, bytes.Repeat([]byte("x"), 10000), 0o600) }, store.ErrCatalogDamage},
		{"newer schema", func(path string) {
			closeCatalog(t, reopen(t, path))
			runSQL(t, path, "UPDATE schema_component SET version=version+1 WHERE name='catalog'")
		}, store.ErrSchemaNewer},
		{"newer format", func(path string) {
			closeCatalog(t, reopen(t, path))
			runSQL(t, path, "PRAGMA user_version=1000")
		}, store.ErrSchemaNewer},
		{"other program", func(path string) {
			_ = os.WriteFile(path, nil, 0o600)
			runSQL(t, path, "CREATE TABLE moz_places(id)")
		}, sqldb.ErrForeign},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := catalogPath(t)
			tt.make(path)
			_, err := catalog.OpenSQLite(t.Context(), path, catalog.Options{})
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("OpenSQLite = %v; want %v with the file's name", err, tt.want)
			}
		})
	}
	if _, err := catalog.OpenSQLite(t.Context(), catalogPath(t), catalog.Options{TopologyAge: -1}); err == nil {
		t.Error("a negative TopologyAge was taken")
	}
}

// TestDamaged: rows that make no sense are damage, not nonsense handed on.
func TestDamaged(t *testing.T) {
	for _, change := range []string{
		"UPDATE object SET etag=x'00'",
		"UPDATE object SET meta=x'05'",
		"UPDATE object SET content_type=99",
	} {
		path := catalogPath(t)
		c := reopen(t, path)
		b, err := c.CreateBucket(t.Context(), store.Bucket{Name: "b"})
		if err != nil {
			t.Fatal(err)
		}
		first, err := c.LeaseIDs(t.Context(), "test", 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Commit(t.Context(), store.Commit{Object: store.Object{ID: first, Bucket: b.ID, Name: "x"}}); err != nil {
			t.Fatal(err)
		}
		closeCatalog(t, c)
		runSQL(t, path, change)
		c = reopen(t, path)
		if _, _, err := c.Find(t.Context(), "b", "x"); !errors.Is(err, store.ErrCatalogDamage) {
			t.Errorf("%s: Find = %v; want %v", change, err, store.ErrCatalogDamage)
		}
		closeCatalog(t, c)
	}
}

// twoHandles opens a catalog twice, as two processes would, with a clock that stands still.
func twoHandles(t *testing.T) (now *time.Time, handles [2]*catalog.SQLite) {
	path := catalogPath(t)
	clock := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for i := range handles {
		c, err := catalog.OpenSQLite(t.Context(), path, catalog.Options{Now: func() time.Time { return clock }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeCatalog(t, c) })
		handles[i] = c
	}
	return &clock, handles
}

// TestTwoProcesses: what one handle on a file commits the other sees in its next call, also where it caches.
func TestTwoProcesses(t *testing.T) {
	now, handles := twoHandles(t)
	a, b := handles[0], handles[1]
	ctx := context.Background()
	bucket, err := a.CreateBucket(ctx, store.Bucket{Name: "one"})
	if err != nil {
		t.Fatal(err)
	}
	first, err := a.LeaseIDs(ctx, "a", 100)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := b.LeaseIDs(ctx, "b", 100); err != nil || second != first+100 {
		t.Fatalf("LeaseIDs = %d, %v; want %d", second, err, first+100)
	}
	for n := range store.ObjectID(20) {
		writer, reader := handles[n%2], handles[1-n%2]
		o := store.Object{ID: first + n, Bucket: bucket.ID, Name: "x", ContentType: strings.Repeat("t", int(n)), Created: *now}
		if _, err := writer.Commit(ctx, store.Commit{Object: o}); err != nil {
			t.Fatal(err)
		}
		got, obj, err := reader.Find(ctx, bucket.Name, "x")
		if err != nil || obj.ID != o.ID || obj.ContentType != o.ContentType || got != bucket {
			t.Fatalf("Find = %+v, %+v, %v; want %+v in %+v", got, obj, err, o, bucket)
		}
		name := strings.Repeat("n", int(n)+1)
		if err := writer.RenameBucket(ctx, bucket.Name, name); err != nil {
			t.Fatal(err)
		}
		if _, _, err := reader.Find(ctx, bucket.Name, "x"); !errors.Is(err, store.ErrNoBucket) {
			t.Fatalf("Find under the old name = %v; want %v", err, store.ErrNoBucket)
		}
		bucket.Name = name
	}
	// A lease that the other closes is closed here.
	if err := b.CloseLease(ctx, first); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Commit(ctx, store.Commit{Object: store.Object{ID: first + 50, Bucket: bucket.ID, Name: "y"}}); !errors.Is(err, store.ErrLease) {
		t.Errorf("Commit = %v; want %v", err, store.ErrLease)
	}
}

// TestTwoTopologies: the topology may be a second old where another process changed it, and no older.
func TestTwoTopologies(t *testing.T) {
	ctx := context.Background()
	now, handles := twoHandles(t)
	a, b := handles[0], handles[1]
	if _, err := b.Topology(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := a.PutCluster(ctx, store.Cluster{Name: "c"}); err != nil {
		t.Fatal(err)
	}
	for handle, want := range map[*catalog.SQLite]int{a: 1, b: 0} {
		if top, err := handle.Topology(ctx); err != nil || len(top.Clusters) != want {
			t.Errorf("Topology = %+v, %v; want %d clusters", top, err, want)
		}
	}
	*now = now.Add(time.Second)
	if top, err := b.Topology(ctx); err != nil || len(top.Clusters) != 1 {
		t.Errorf("Topology after a second = %+v, %v; want a cluster", top, err)
	}
}

func TestBackup(t *testing.T) {
	c := reopen(t, catalogPath(t))
	defer closeCatalog(t, c)
	if _, err := c.CreateBucket(t.Context(), store.Bucket{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	path := catalogPath(t)
	if err := c.Backup(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	d := reopen(t, path)
	defer closeCatalog(t, d)
	if _, err := d.Bucket(t.Context(), "b"); err != nil {
		t.Error(err)
	}
}
