package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"wheelhouse/store"
)

// deleteObject removes the entities of a deleted object from all storages of its cluster, and its row only when all of
// them are gone: a storage that is away for a while must not be left with bytes that nobody knows of.
func (w *Worker) deleteObject(ctx context.Context, id store.ObjectID) error {
	o, err := w.cat.BeginDelete(ctx, id)
	if errors.Is(err, store.ErrNoObject) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := w.deleteDerived(ctx, id); err != nil {
		return err
	}
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for i := range top.Storages {
		s := &top.Storages[i]
		if s.Cluster != o.Cluster || s.Mode == store.ModeDead {
			continue
		}
		if s.Mode == store.ModeDown {
			problems = append(problems, fmt.Errorf("storage %d is down", s.ID))
			continue
		}
		if err := w.devices.Device(s).Delete(ctx, []store.ObjectID{id}); err != nil {
			problems = append(problems, fmt.Errorf("storage %d: %w", s.ID, err))
			continue
		}
		w.metrics.Deleted.Add(1)
	}
	if len(problems) > 0 {
		w.metrics.Failures.Add(1)
		return fmt.Errorf("delete object %d: %w", id, errors.Join(problems...))
	}
	return w.cat.ForgetDeleted(ctx, []store.ObjectID{id})
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
