package control

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"wheelhouse/store"
)

// mostBackups bounds the list of backups.
const mostBackups = 100_000

// backups lists the catalog's backups, the newest first.
func (a *api) backups(r *http.Request) (any, error) {
	list := []store.BackupStatus{}
	b, err := a.cat.Bucket(r.Context(), store.CatalogBucket)
	if errors.Is(err, store.ErrNoBucket) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	err = a.cat.Scan(r.Context(), b.ID, "", mostBackups, func(o *store.Object) bool {
		if at, ok := store.ParseBackupName(o.Name); ok {
			list = append(list, store.BackupStatus{Name: o.Name, Object: o.ID, Size: o.Size, ETag: fmt.Sprintf("%x", o.ETag), Created: at})
		}
		return true
	})
	slices.Reverse(list) // names are in order of time
	return list, err
}

// backUp asks the workers for a backup. It does not wait for it.
func (a *api) backUp(r *http.Request) (any, error) {
	return nil, a.cat.ScheduleBackup(r.Context(), time.Unix(0, 0))
}
