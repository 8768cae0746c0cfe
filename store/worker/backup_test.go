package worker_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/worker"
)

// backupWorld is a world whose worker makes backups once an hour and keeps three.
func backupWorld(t *testing.T) *world {
	wd := newWorld(t)
	wd.backupDir = t.TempDir()
	wd.w = worker.New(wd.cat, wd, worker.Options{
		Grace: grace, Now: func() time.Time { return wd.now }, Interval: time.Millisecond,
		Snapshots: wd.cat, BackupEvery: time.Hour, BackupKeep: 3, BackupDir: wd.backupDir,
	})
	return wd
}

// backups are the catalog's, the oldest first.
func (wd *world) backups() (list []store.Object) {
	wd.t.Helper()
	b, err := wd.cat.Bucket(wd.t.Context(), store.CatalogBucket)
	if err == nil {
		err = wd.cat.Scan(wd.t.Context(), b.ID, "", 100, func(o *store.Object) bool {
			list = append(list, *o)
			return true
		})
	}
	if err != nil {
		wd.t.Fatal(err)
	}
	return list
}

func (wd *world) backup() {
	wd.t.Helper()
	if err := worker.Backup(wd.w, wd.t.Context()); err != nil {
		wd.t.Fatal(err)
	}
}

func TestBackup(t *testing.T) {
	wd := backupWorld(t)
	wd.put("a", []byte("hello"), true, 1, 2, 3)
	wd.backup() // none is due; from now on it is known when one will be
	wd.now = wd.now.Add(5 * time.Minute)
	wd.backup()
	wd.put("b", []byte("later"), true, 1, 2, 3)
	wd.backup() // not yet again
	list := wd.backups()
	if len(list) != 1 || list[0].Name != store.BackupName(wd.now) || list[0].ContentType != store.BackupType || len(list[0].Missing) != 0 {
		t.Fatalf("backups %+v; want one of %v", list, wd.now)
	}
	o := list[0]
	if got := wd.holders(o); !slices.Equal(got, []store.StorageID{1, 2, 3}) {
		t.Errorf("the backup is on storages %v", got)
	}
	info, err := wd.disks[2].Stat(t.Context(), o.ID)
	if err != nil || info.Bucket != store.CatalogBucket || info.Name != o.Name || info.ETag != o.ETag {
		t.Errorf("the entity says %+v, %v", info, err)
	}
	data, err := wd.disks[1].Get(t.Context(), o.ID, o.Size, nil)
	if err != nil {
		t.Fatal(err)
	}
	copied := openCopy(t, data)
	if _, _, err := copied.Find(t.Context(), "b", "a"); err != nil {
		t.Errorf("what was there before is not in the backup: %v", err)
	}
	if _, _, err := copied.Find(t.Context(), "b", "b"); err == nil {
		t.Error("what came later is in the backup")
	}
}

func openCopy(t *testing.T, zipped []byte) *catalog.SQLite {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := catalog.OpenSQLite(t.Context(), path, catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	return c
}

func TestBackupsAreThinned(t *testing.T) {
	wd := backupWorld(t)
	wd.backup()
	var made []string
	for range 5 {
		wd.now = wd.now.Add(time.Hour)
		wd.backup()
		made = append(made, store.BackupName(wd.now))
	}
	var names []string
	for _, o := range wd.backups() {
		names = append(names, o.Name)
	}
	if !slices.Equal(names, made[2:]) {
		t.Errorf("kept %q; want %q", names, made[2:])
	}
	left, err := os.ReadDir(wd.backupDir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("%v were left behind", left)
	}
}

// A storage that is away is owed the backup; with too few there is none, and it is tried again a minute later.
func TestBackupWithStoragesAway(t *testing.T) {
	wd := backupWorld(t)
	wd.backup()
	wd.now = wd.now.Add(time.Hour)
	wd.away[3] = true
	wd.backup()
	if list := wd.backups(); len(list) != 1 || !slices.Equal(list[0].Missing, []store.StorageID{3}) {
		t.Fatalf("backups %+v; want one that storage 3 is owed", list)
	}
	wd.now = wd.now.Add(time.Hour)
	wd.away[2] = true
	if err := worker.Backup(wd.w, t.Context()); err == nil || len(wd.backups()) != 1 {
		t.Fatalf("a backup on one storage of three: %v", err)
	}
	wd.away[2] = false
	wd.backup() // it is too early for another try
	wd.now = wd.now.Add(time.Minute)
	wd.backup()
	if list := wd.backups(); len(list) != 2 {
		t.Errorf("%d backups; want 2", len(list))
	}
}
