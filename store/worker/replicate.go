package worker

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"slices"

	"wheelhouse/store"
	"wheelhouse/store/placement"
)

// replicate gives an object's storages the entities that they are owed. A storage that cannot take one now stays listed,
// and is caught up with when it can: that is no reason to try this task again.
func (w *Worker) replicate(ctx context.Context, id store.ObjectID) error {
	o, top, err := w.visible(ctx, id)
	if top == nil {
		return err
	}
	var has []store.StorageID
	for _, owed := range o.Missing {
		s := find(top, owed)
		switch {
		case s == nil || s.Mode == store.ModeDead || s.Cluster != o.Cluster:
			has = append(has, owed) // nothing can be owed to it any more; a rebuild copies everything
		case !s.Mode.Writable():
		default:
			if err := w.give(ctx, top, &o, s); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				w.metrics.Failures.Add(1)
				w.opt.Log.Warn("an entity could not be copied", "object", uint64(o.ID), "storage", uint32(s.ID), "err", err)
				continue
			}
			has = append(has, owed)
		}
	}
	if len(has) == 0 {
		return nil
	}
	return w.cat.ClearMissing(ctx, id, has)
}

func find(top *store.Topology, id store.StorageID) *store.Storage {
	for i := range top.Storages {
		if top.Storages[i].ID == id {
			return &top.Storages[i]
		}
	}
	return nil
}

// locate is find for an operation, which is impossible without the storage.
func locate(top *store.Topology, id store.StorageID) (*store.Storage, error) {
	if s := find(top, id); s != nil {
		return s, nil
	}
	return nil, Impossible(fmt.Errorf("%w: id %d", store.ErrNoStorage, id))
}

// give copies an object's entity to a storage, unless it is there and good: what is owed may be there and bad, where that was found
// out while nothing could be written.
func (w *Worker) give(ctx context.Context, top *store.Topology, o *store.Object, to *store.Storage) error {
	err := w.verify(ctx, o, to)
	if err == nil || !errors.Is(err, store.ErrNoEntity) && !errors.Is(err, store.ErrCorrupt) {
		return err
	}
	if err := w.copyEntity(ctx, top, o, to); err != nil {
		return err
	}
	w.metrics.Replicated.Add(1)
	return nil
}

// copyEntity stores an object on a storage with bytes from the first sibling that has them right: their MD5 must be the
// object's.
func (w *Worker) copyEntity(ctx context.Context, top *store.Topology, o *store.Object, to *store.Storage) error {
	b, err := w.cat.BucketByID(ctx, o.Bucket)
	if err != nil {
		return err
	}
	info := store.EntityInfo{
		ID: o.ID, Size: o.Size, Bucket: b.Name, Name: o.Name, ContentType: o.ContentType, ETag: o.ETag, Created: o.Created,
	}
	problems := []error{fmt.Errorf("object %d: no sibling of storage %d gave good bytes", o.ID, to.ID)}
	for _, from := range siblings(top, o, to.ID) {
		err := w.copyFrom(ctx, from, to, info)
		if err == nil {
			return w.stillNeeded(ctx, to, o.ID)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		problems = append(problems, fmt.Errorf("from storage %d: %w", from.ID, err))
	}
	return errors.Join(problems...)
}

// stillNeeded takes an entity away again whose object was deleted while it was copied: those who delete may have been there before it
// came, and would not come again.
func (w *Worker) stillNeeded(ctx context.Context, on *store.Storage, id store.ObjectID) error {
	if _, err := w.cat.ObjectByID(ctx, id); !errors.Is(err, store.ErrNoObject) {
		return err
	}
	return w.dropUnknown(ctx, on, []store.ObjectID{id})
}

// siblings are the storages that should have an object's entity, except one, in placement order.
func siblings(top *store.Topology, o *store.Object, except store.StorageID) []*store.Storage {
	var ids []store.StorageID
	for i := range top.Storages {
		s := &top.Storages[i]
		if s.Cluster == o.Cluster && s.ID != except && s.Mode != store.ModeDead && s.Mode != store.ModeDown &&
			!slices.Contains(o.Missing, s.ID) {
			ids = append(ids, s.ID)
		}
	}
	placement.Storages(o.ID, ids)
	list := make([]*store.Storage, len(ids))
	for i, id := range ids {
		list[i] = find(top, id)
	}
	return list
}

func (w *Worker) copyFrom(ctx context.Context, from, to *store.Storage, info store.EntityInfo) error {
	return w.copyUnder(ctx, from, to, info.ID, info)
}

// copyUnder stores the bytes of id as another entity.
func (w *Worker) copyUnder(ctx context.Context, from, to *store.Storage, id store.ObjectID, info store.EntityInfo) error {
	r, err := w.devices.Device(from).Open(ctx, id, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := w.devices.Device(to).Create(ctx, info)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	defer out.Abort()
	sum := md5.New()
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(out, sum)}, onlyReader{r}, make([]byte, 256<<10))
	if err != nil {
		return err
	}
	if n != info.Size || [16]byte(sum.Sum(nil)) != info.ETag {
		return fmt.Errorf("%w: %d bytes with MD5 %x instead of %d bytes with %x", store.ErrCorrupt, n, sum.Sum(nil), info.Size, info.ETag)
	}
	if err := out.Commit(ctx, info.ETag); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	w.metrics.BytesCopied.Add(n)
	return nil
}

// The two keep io.CopyBuffer from bypassing the digest.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// catchUp goes through what storages are owed that can take it now: they were down, or full, or slow when it was written.
func (w *Worker) catchUp(ctx context.Context) error {
	const page = 256
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return err
	}
	for i := range top.Storages {
		s := &top.Storages[i]
		if !s.Mode.Writable() || s.Mode == store.ModeFilling { // its rebuild brings what it is owed, and not one by one
			continue
		}
		for after := store.ObjectID(0); ; {
			ids, err := w.cat.MissingOn(ctx, s.ID, after, page)
			if err != nil {
				return err
			}
			if len(ids) == 0 {
				break
			}
			if u, err := w.usage(ctx, s); err != nil || u.ReadOnly {
				break // it does not answer, or is full: not one attempt for each of its objects
			}
			for _, id := range ids {
				if err := w.replicate(ctx, id); err != nil {
					return err
				}
			}
			after = ids[len(ids)-1]
		}
	}
	return nil
}
