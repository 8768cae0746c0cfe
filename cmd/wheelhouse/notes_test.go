package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wheelhouse/store/catalog"
)

// The catalog does not know yet that a storage has been in use, as when it is new, or was rebuilt while the disk was away: the empty
// mount point is not taken for a new disk all the same.
func TestMountPointOfAStorageTheCatalogDoesNotKnow(t *testing.T) {
	dir := t.TempDir()
	p := start(t, surviveArgs(dir)...)
	url := p.ready["http"]
	createBucket(t, url)
	bodies := putSome(t, url, 5, 10_000)
	p.stop()
	cat, err := catalog.OpenSQLite(t.Context(), filepath.Join(dir, "catalog.db"), catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.SetStorageUsage(t.Context(), 2, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := cat.Close(); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "storage", "2")
	if err := os.Rename(disk, disk+".pulled"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	p = start(t, append(surviveArgs(dir), "--listen", strings.TrimPrefix(url, "http://"))...)
	eventually(t, "it is down", func() bool {
		wantBodies(t, url, bodies)
		return storageMode(t, url, 2) == "down"
	})
	more := putSome(t, url, 5, 10_000)
	wantBodies(t, url, more)
	if left, err := os.ReadDir(disk); err != nil || len(left) != 0 {
		t.Errorf("below the mount point: %v, %v", left, err)
	}
	p.stop()
}
