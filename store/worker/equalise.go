package worker

import (
	"cmp"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"wheelhouse/store"
)

// equalise gives a storage what a sibling holds, the first of from, and it does not; the others are asked for what that one cannot give.
// Only blocks of ids whose digests differ are looked at, and of those only what the catalog knows is copied. What the storage holds
// and the sibling does not is counted in extra.
func (w *Worker) equalise(ctx context.Context, r *Running, from []*store.Storage, to *store.Storage, extra map[store.ObjectID]int) error {
	blocks, err := w.differing(ctx, from[0], to)
	if err != nil {
		return err
	}
	for _, block := range blocks {
		if err := w.equaliseBlock(ctx, r, block, from, to, extra); err != nil {
			return err
		}
		if err := r.pace(ctx, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// differing lists the blocks in which two storages differ.
func (w *Worker) differing(ctx context.Context, a, b *store.Storage) ([]uint64, error) {
	var lists [2][]store.BlockDigest
	for i, s := range []*store.Storage{a, b} {
		bulk, err := w.opt.Bulk(s)
		if err == nil {
			lists[i], err = bulk.BlockDigests(ctx, 0, 1<<64-1)
		}
		if err != nil {
			return nil, fmt.Errorf("storage %d: %w", s.ID, err)
		}
	}
	var blocks []uint64
	pairBlocks(lists[0], lists[1], func(n uint64, x, y *store.BlockDigest) {
		if *x != *y {
			blocks = append(blocks, n)
		}
	})
	return blocks, nil
}

// pairBlocks walks through two lists of digests side by side. Where one has no block it is given an empty one.
func pairBlocks(a, b []store.BlockDigest, f func(n uint64, x, y *store.BlockDigest)) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Block < b[0].Block:
			f(a[0].Block, &a[0], &store.BlockDigest{Block: a[0].Block})
			a = a[1:]
		case len(a) == 0 || b[0].Block < a[0].Block:
			f(b[0].Block, &store.BlockDigest{Block: b[0].Block}, &b[0])
			b = b[1:]
		default:
			f(a[0].Block, &a[0], &b[0])
			a, b = a[1:], b[1:]
		}
	}
}

// manifest lists what a storage holds of a block.
func (w *Worker) manifest(ctx context.Context, s *store.Storage, block uint64) ([]store.ManifestEntry, error) {
	first := store.ObjectID(block * store.DigestBlock)
	list, err := w.devices.Device(s).Manifest(ctx, first, first+store.DigestBlock, store.DigestBlock)
	if err != nil {
		return nil, fmt.Errorf("storage %d: %w", s.ID, err)
	}
	return list, nil
}

func (w *Worker) equaliseBlock(ctx context.Context, r *Running, block uint64, from []*store.Storage, to *store.Storage, extra map[store.ObjectID]int) error {
	theirs, err := w.manifest(ctx, from[0], block)
	if err != nil {
		return err
	}
	ours, err := w.manifest(ctx, to, block)
	if err != nil {
		return err
	}
	var lacking []store.ManifestEntry
	var doubtful []store.ObjectID
	pairEntries(theirs, ours, func(x, y *store.ManifestEntry) {
		switch {
		case y == nil:
			lacking = append(lacking, *x)
		case x == nil:
			extra[y.ID]++
		case x.Size != y.Size || x.CRC != y.CRC && x.CRC != 0 && y.CRC != 0:
			doubtful = append(doubtful, x.ID)
		}
	})
	if lacking, err = w.known(ctx, lacking); err != nil {
		return err
	}
	if err := w.copyMany(ctx, r, lacking, from, to); err != nil {
		return err
	}
	for _, id := range doubtful { // each takes its own bytes for good: the catalog's MD5 decides
		if err := w.cat.EnqueueRepair(ctx, id, to.ID); err != nil {
			return err
		}
		r.ProblemOnce(store.OperationProblem{
			Kind: store.ProblemCorrupt, Object: id, Storage: to.ID, Fixed: true,
			Reason: fmt.Sprintf("it differs from what storage %d holds", from[0].ID),
		})
	}
	// What was deleted while it was copied must not stay.
	return w.dropUnknown(ctx, to, idsOf(lacking))
}

// pairEntries walks through two manifests side by side; one of x and y may be nil.
func pairEntries(a, b []store.ManifestEntry, f func(x, y *store.ManifestEntry)) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].ID < b[0].ID:
			f(&a[0], nil)
			a = a[1:]
		case len(a) == 0 || b[0].ID < a[0].ID:
			f(nil, &b[0])
			b = b[1:]
		default:
			f(&a[0], &b[0])
			a, b = a[1:], b[1:]
		}
	}
}

// known leaves those entries that the catalog has an object for, visible or deleted.
func (w *Worker) known(ctx context.Context, list []store.ManifestEntry) ([]store.ManifestEntry, error) {
	if len(list) == 0 {
		return nil, nil
	}
	unknown, err := w.cat.Unknown(ctx, idsOf(list))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(e store.ManifestEntry) bool { return slices.Contains(unknown, e.ID) }), nil
}

// dropUnknown deletes from a storage those of ids that the catalog does not know and that can never become known: no process
// holds a lease under which they could still be committed.
func (w *Worker) dropUnknown(ctx context.Context, s *store.Storage, ids []store.ObjectID) error {
	gone, err := w.orphans(ctx, ids)
	if err != nil || len(gone) == 0 {
		return err
	}
	if err := w.devices.Device(s).Delete(ctx, gone); err != nil {
		return fmt.Errorf("storage %d: %w", s.ID, err)
	}
	w.metrics.Orphans.Add(int64(len(gone)))
	return nil
}

// orphans are those of ids that belong to no object and to no upload under way.
func (w *Worker) orphans(ctx context.Context, ids []store.ObjectID) ([]store.ObjectID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	// What was never leased is of a later catalog, as this one is then found to be an older one. This first: what is fenced between the
	// questions is in one of the answers.
	next, err := w.cat.NextID(ctx)
	if err != nil {
		return nil, err
	}
	// Then the leases: what is committed between the two questions is known by the second.
	leases, err := w.cat.Leases(ctx, w.opt.Now().Add(24*time.Hour), 1<<20)
	if err != nil {
		return nil, err
	}
	unknown, err := w.cat.Unknown(ctx, ids)
	if err != nil {
		return nil, err
	}
	if len(unknown) > 0 {
		if err := w.guard.Saw(ctx, slices.Max(unknown)); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(unknown, func(id store.ObjectID) bool {
		return id >= next || slices.ContainsFunc(leases, func(l store.Lease) bool { return l.First <= id && id < l.First+store.ObjectID(l.N) })
	}), nil
}

// manyInARow is after how many entities that a storage could not give, one after the other, it is not they that are at fault.
const manyInARow = 16

// errSource marks what a storage failed to give, as opposed to what another failed to take.
var errSource = errors.New("worker: it cannot be read")

func sourceError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errSource, err)
}

// copyMany copies entities to a storage, several at a time, each from the first of the storages that gives good bytes. What none
// of them can give it is owed, and the others do not wait for that.
func (w *Worker) copyMany(ctx context.Context, r *Running, list []store.ManifestEntry, from []*store.Storage, to *store.Storage) error {
	next := make(chan store.ManifestEntry)
	var bad atomic.Int32 // in a row
	return together(ctx, min(copiers, len(list))+1, func(ctx context.Context, i int) error {
		if i == 0 {
			defer close(next)
			for _, e := range list {
				select {
				case next <- e:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		}
		for e := range next {
			err := w.copyFromAny(ctx, r, e, from, to)
			if errors.Is(err, store.ErrNoEntity) {
				continue // deleted meanwhile
			}
			if errors.Is(err, store.ErrCorrupt) { // not one good copy among them; the others are not to wait for that
				r.ProblemOnce(store.OperationProblem{Kind: store.ProblemCorrupt, Object: e.ID, Reason: "no good copy was found: " + err.Error()})
				continue
			}
			if errors.Is(err, errSource) && ctx.Err() == nil && bad.Add(1) < manyInARow {
				r.ProblemOnce(store.OperationProblem{Kind: store.ProblemCorrupt, Object: e.ID, Storage: from[0].ID, Reason: err.Error()})
				if err := w.cat.AddMissing(ctx, e.ID, []store.StorageID{to.ID}); err != nil && !errors.Is(err, store.ErrNoObject) {
					return err
				}
				continue
			}
			if err != nil {
				return err
			}
			bad.Store(0)
			if err := r.Pace(ctx, 1, 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyFromAny copies one entity, with what its source says of it. The first source differs from entity to entity. ErrNoEntity when none
// has it.
func (w *Worker) copyFromAny(ctx context.Context, r *Running, e store.ManifestEntry, from []*store.Storage, to *store.Storage) error {
	var problems []error
	var none error
	for i := range from {
		s := from[(uint64(e.ID)+uint64(i))%uint64(len(from))]
		err := w.copyAsIs(ctx, r, e.ID, s, to)
		if err == nil || ctx.Err() != nil {
			return err
		}
		err = fmt.Errorf("object %d from storage %d: %w", e.ID, s.ID, err)
		if errors.Is(err, store.ErrNoEntity) {
			none = err
			continue
		}
		problems = append(problems, err)
	}
	return cmp.Or(errors.Join(problems...), none)
}

func (w *Worker) copyAsIs(ctx context.Context, r *Running, id store.ObjectID, from, to *store.Storage) error {
	src := w.devices.Device(from)
	info, err := src.Stat(ctx, id)
	if err != nil {
		return sourceError(err)
	}
	in, err := src.Open(ctx, id, 0, -1)
	if err != nil {
		return sourceError(err)
	}
	defer in.Close()
	out, err := w.devices.Device(to).Create(ctx, info)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	defer out.Abort()
	sum := md5.New()
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(out, sum)}, onlyReader{r.Reader(ctx, in)}, make([]byte, min(256<<10, info.Size+1)))
	if store.IsReadError(err) {
		return sourceError(w.whyBroken(ctx, from, id, n, err))
	}
	if err != nil {
		return err
	}
	etag := [16]byte(sum.Sum(nil))
	if n != info.Size || info.ETag != ([16]byte{}) && etag != info.ETag {
		return fmt.Errorf("%w: %d bytes with MD5 %x instead of %d bytes with %x", store.ErrCorrupt, n, etag, info.Size, info.ETag)
	}
	if err := out.Commit(ctx, etag); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	w.metrics.BytesCopied.Add(n)
	w.metrics.Replicated.Add(1)
	return nil
}
