package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// Place is where a catalog is being put: Temp, which is beside the place that it will have.
type Place struct{ Temp string }

// beside are what SQLite and its locking leave beside a file.
var beside = [...]string{"-wal", "-shm", "-turn"}

// file empties Temp, or makes it.
func (p Place) file() (*os.File, error) {
	for _, ext := range beside {
		if err := os.Remove(p.Temp + ext); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return os.OpenFile(p.Temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
}

// Discard removes what was put there.
func (p Place) Discard() {
	_ = os.Remove(p.Temp) // the next one empties it
	for _, ext := range beside {
		_ = os.Remove(p.Temp + ext)
	}
}

// FromStorages puts the newest intact backup that storages hold into p, one that shows no later moment than before unless that is
// zero. skipped are backups that were damaged, and storages that failed. ErrNoBackup.
func FromStorages(ctx context.Context, list []Storage, before time.Time, p Place) (b Backup, skipped []error, err error) {
	found := false
	failed, err := Backups(ctx, list, before, func(k Backup) (bool, error) {
		err := ReadBackup(ctx, k, func() (io.Writer, error) { return p.file() })
		if err == nil {
			err = check(ctx, p.Temp)
		}
		if errors.Is(err, ErrBackup) || errors.Is(err, store.ErrCatalogDamage) {
			skipped = append(skipped, err)
			return true, nil
		}
		b, found = k, err == nil
		return false, err
	})
	skipped = append(skipped, failed...)
	if err == nil && !found {
		err = ErrNoBackup
	}
	return b, skipped, err
}

// ErrNoBackup is that no storage holds an intact backup.
var ErrNoBackup = errors.New("recovery: the storages hold no intact backup of the catalog")

// FromFile puts the backup in a file into p. ErrBackup, store.ErrCatalogDamage.
func FromFile(ctx context.Context, path string, p Place) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := p.file()
	if err != nil {
		return err
	}
	defer w.Close()
	if err := Unzip(w, f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return check(ctx, p.Temp)
}

// check reads a whole catalog. It is brought to the current schema on the way.
func check(ctx context.Context, path string) error {
	c, err := catalog.OpenSQLite(ctx, path, catalog.Options{})
	if err != nil {
		return err
	}
	return errors.Join(c.Check(ctx), c.Close())
}

// Fence raises the ids of the catalog c beyond all that storages hold; see [catalog.SQLite.Fence].
func Fence(ctx context.Context, c *catalog.SQLite, list []Storage) (failed []error, err error) {
	var largest store.ObjectID
	for _, s := range list {
		id, err := Largest(ctx, s)
		if err != nil {
			failed = append(failed, err)
		}
		largest = max(largest, id)
	}
	return failed, c.Fence(ctx, largest)
}
