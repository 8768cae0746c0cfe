package worker

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"slices"

	"wheelhouse/store"
)

// repair reads every entity of an object and replaces those that are gone or corrupt with the bytes of a good one.
func (w *Worker) repair(ctx context.Context, id store.ObjectID) error {
	o, top, err := w.visible(ctx, id)
	if top == nil {
		return err
	}
	var problems []error
	for i := range top.Storages {
		s := &top.Storages[i]
		if s.Cluster != o.Cluster || s.Mode == store.ModeDead || s.Mode == store.ModeDown || slices.Contains(o.Missing, s.ID) {
			continue
		}
		if err := w.repairOn(ctx, top, &o, s); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) > 0 {
		w.metrics.Failures.Add(1)
		return fmt.Errorf("repair object %d: %w", id, errors.Join(problems...))
	}
	return nil
}

func (w *Worker) repairOn(ctx context.Context, top *store.Topology, o *store.Object, s *store.Storage) error {
	err := w.verify(ctx, o, s)
	if err == nil {
		return nil
	}
	if !errors.Is(err, store.ErrNoEntity) && !errors.Is(err, store.ErrCorrupt) {
		return fmt.Errorf("storage %d: %w", s.ID, err) // not reachable: nothing is known of the entity
	}
	if !s.Mode.Writable() {
		// It will be owed the entity until it can be written again; readers then pass it over.
		return w.cat.AddMissing(ctx, o.ID, []store.StorageID{s.ID})
	}
	w.opt.Log.Warn("an entity is replaced", "object", uint64(o.ID), "storage", uint32(s.ID), "err", err)
	if err := w.copyEntity(ctx, top, o, s); err != nil {
		return err
	}
	w.metrics.Repaired.Add(1)
	return nil
}

// verify reads a whole entity and compares it with the catalog's row.
func (w *Worker) verify(ctx context.Context, o *store.Object, s *store.Storage) error {
	r, err := w.devices.Device(s).Open(ctx, o.ID, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	sum := md5.New()
	n, err := io.CopyBuffer(sum, onlyReader{r}, make([]byte, 256<<10))
	if err != nil {
		return w.whyBroken(ctx, s, o.ID, n, err)
	}
	if n != o.Size || [16]byte(sum.Sum(nil)) != o.ETag {
		return fmt.Errorf("%w: it has %d bytes, MD5 %x; the catalog says %d bytes, %x", store.ErrCorrupt, n, sum.Sum(nil), o.Size, o.ETag)
	}
	return nil
}

// whyBroken finds out why an entity broke off after n bytes. A node that meets damage under way can only end the connection, as it
// does when it is killed; asked for what comes next, it says. n may be behind where that was, but not before it.
func (w *Worker) whyBroken(ctx context.Context, s *store.Storage, id store.ObjectID, n int64, cause error) error {
	if !store.IsReadError(cause) || errors.Is(cause, store.ErrCorrupt) || ctx.Err() != nil {
		return cause
	}
	r, err := w.devices.Device(s).Open(ctx, id, n, -1)
	if err == nil {
		_, err = r.Read(make([]byte, 1))
		_ = r.Close()
	}
	if errors.Is(err, store.ErrCorrupt) {
		return fmt.Errorf("%w; it had broken off: %w", err, cause)
	}
	return cause
}
