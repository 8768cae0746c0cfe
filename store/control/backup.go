package control

import (
	"context"
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
func (a *api) backups(r *http.Request) (any, error) { return a.backupList(r.Context()) }

func (a *api) backupList(ctx context.Context) ([]store.BackupStatus, error) {
	list := []store.BackupStatus{}
	b, err := a.cat.Bucket(ctx, store.CatalogBucket)
	if errors.Is(err, store.ErrNoBucket) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	err = a.cat.Scan(ctx, b.ID, "", mostBackups, func(o *store.Object) bool {
		if at, ok := store.ParseBackupName(o.Name); ok {
			list = append(list, store.BackupStatus{Name: o.Name, Object: o.ID, Size: o.Size, ETag: fmt.Sprintf("%x", o.ETag), Created: at})
		}
		return true
	})
	slices.Reverse(list) // names are in order of time
	return list, err
}

// catalogProblems finds what is wrong with how the catalog is kept safe.
func (a *api) catalogProblems(ctx context.Context, now time.Time) (list []store.Problem, err error) {
	fenced, err := a.cat.Fenced(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case slices.ContainsFunc(fenced, func(l store.Lease) bool { return l.Owner == store.FencedBehind }):
		list = append(list, store.Problem{
			Severity: store.VerdictDegraded, What: "the catalog is older than what the storages hold: what came after it is not visible",
			Do: "nothing of that is deleted; to have it back stop the servers, and: wheelhouse catalog readopt; docs/ops/recovery.md",
		})
	case len(fenced) > 0:
		list = append(list, store.Problem{
			Severity: store.VerdictHealthy, What: "the catalog was restored from a backup: what came after that is on the storages, and not visible",
			Do: "stop the servers, and: wheelhouse catalog readopt; or leave it so, if that is what was wanted",
		})
	}
	if a.opt.BackupEvery <= 0 {
		return list, nil
	}
	backups, err := a.backupList(ctx)
	if err != nil {
		return nil, err
	}
	newest, what := a.begun, "there is no backup of the catalog"
	if len(backups) > 0 {
		newest = backups[0].Created
		what = fmt.Sprintf("the newest backup of the catalog is %s old; there should be one every %s", shortDuration(now.Sub(newest)), shortDuration(a.opt.BackupEvery))
	}
	if now.Sub(newest) > 2*a.opt.BackupEvery {
		list = append(list, store.Problem{
			Severity: store.VerdictDegraded, What: what,
			Do: "the workers' logs say why: does one run where the catalog is? At once: wheelhouse catalog backup",
		})
	}
	return list, nil
}

// backUp asks the workers for a backup. It does not wait for it.
func (a *api) backUp(r *http.Request) (any, error) {
	return nil, a.cat.ScheduleBackup(r.Context(), time.Unix(0, 0))
}
