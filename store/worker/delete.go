package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"wheelhouse/store"
)

const (
	// deleteTime is how long one storage is given to delete what it is told in one request. It is an entry in a log for each.
	deleteTime = 5 * time.Second
	// deleters is how many objects are looked up at once before they are deleted.
	deleters = 16
)

// deleteObjects removes the entities of deleted objects from all storages of their clusters, and their rows only when all of
// them are gone: a storage that is away for a while must not be left with bytes that nobody knows of. Each storage is asked once for
// all of them, so that what is deleted keeps up with what is written. It returns what became of each.
func (w *Worker) deleteObjects(ctx context.Context, ids []store.ObjectID) []error {
	outcome := make([]error, len(ids))
	clusters := make([]store.ClusterID, len(ids)) // 0: there is nothing to be deleted
	var looking sync.WaitGroup
	free := make(chan struct{}, deleters)
	for i, id := range ids {
		free <- struct{}{}
		looking.Go(func() {
			clusters[i], outcome[i] = w.beginDelete(ctx, id)
			<-free
		})
	}
	looking.Wait()
	groups := map[store.ClusterID][]int{} // indexes into ids
	for i, c := range clusters {
		if c != 0 && outcome[i] == nil {
			groups[c] = append(groups[c], i)
		}
	}
	for c, group := range groups {
		list := make([]store.ObjectID, len(group))
		for k, i := range group {
			list[k] = ids[i]
		}
		if err := w.deleteFrom(ctx, c, list); err != nil {
			for _, i := range group {
				outcome[i] = err
			}
		}
	}
	return outcome
}

// beginDelete makes sure that an object may be deleted for good, and returns where it is: 0 when it is gone already.
func (w *Worker) beginDelete(ctx context.Context, id store.ObjectID) (store.ClusterID, error) {
	o, err := w.cat.BeginDelete(ctx, id)
	if errors.Is(err, store.ErrNoObject) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return o.Cluster, w.deleteDerived(ctx, id)
}

// deleteFrom deletes entities from all storages of a cluster at once, and forgets them when all have done it.
func (w *Worker) deleteFrom(ctx context.Context, cluster store.ClusterID, ids []store.ObjectID) error {
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return err
	}
	problems := make([]error, len(top.Storages))
	var asked sync.WaitGroup
	for i := range top.Storages {
		s := &top.Storages[i]
		switch {
		case s.Cluster != cluster || s.Mode == store.ModeDead:
		case s.Mode == store.ModeDown:
			problems[i] = fmt.Errorf("storage %d is down", s.ID)
		default:
			asked.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, deleteTime)
				defer cancel()
				if err := w.devices.Device(s).Delete(ctx, ids); err != nil {
					problems[i] = fmt.Errorf("storage %d: %w", s.ID, err)
					return
				}
				w.metrics.Deleted.Add(int64(len(ids)))
			})
		}
	}
	asked.Wait()
	if err := errors.Join(problems...); err != nil {
		w.metrics.Failures.Add(1)
		return fmt.Errorf("delete object %d and %d more: %w", ids[0], len(ids)-1, err)
	}
	return w.cat.ForgetDeleted(ctx, ids)
}

// deleteDerived takes out of view what was made of an object: that goes when its original goes.
func (w *Worker) deleteDerived(ctx context.Context, id store.ObjectID) error {
	b, err := w.cat.Bucket(ctx, store.DerivedBucket)
	if errors.Is(err, store.ErrNoBucket) {
		return nil
	}
	if err != nil {
		return err
	}
	const page = 100
	prefix := store.DerivedPrefix(id)
	for {
		var names []string
		err := w.cat.Scan(ctx, b.ID, prefix, page, func(o *store.Object) bool {
			if !strings.HasPrefix(o.Name, prefix) {
				return false
			}
			names = append(names, o.Name)
			return true
		})
		if err != nil {
			return err
		}
		for _, name := range names {
			if _, err := w.cat.Delete(ctx, b.ID, name, store.Condition{}); err != nil && !errors.Is(err, store.ErrNoObject) {
				return err
			}
		}
		if len(names) < page {
			return nil
		}
	}
}

// deleteBucket takes the objects of a deleted bucket out, page by page; each leaves a task of its own for its entities.
func (w *Worker) deleteBucket(ctx context.Context, id store.BucketID) error {
	const page = 500
	for {
		n, err := w.cat.EmptyBucket(ctx, id, page)
		if errors.Is(err, store.ErrNoBucket) || errors.Is(err, store.ErrInUse) || err == nil && n == 0 {
			return nil // it is empty, or has been brought back
		}
		if err != nil {
			return err
		}
	}
}
