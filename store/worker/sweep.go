package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"wheelhouse/store"
)

// sweep removes what uploads that were never committed have left on storages. It goes through the blocks of ids whose
// process has given no sign of life for the grace time, compares each storage's manifest of the block with the catalog
// once, and forgets the block: the cost is that of what was written since, however much there is. As long as the catalog may be older
// than what storages hold, all blocks are kept.
func (w *Worker) sweep(ctx context.Context) error {
	const blocks = 64
	switch settled, err := w.guard.Settled(ctx); {
	case errors.Is(err, store.ErrNoWritable):
		return nil // no storage is there
	case err != nil || !settled:
		return err
	}
	leases, err := w.cat.Leases(ctx, w.opt.Now().Add(-w.opt.Grace), blocks)
	if err != nil {
		return err
	}
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for _, l := range w.silentFor(leases, time.Now()) {
		// From here on nothing can be committed with an id of the block, so what is unknown now stays unknown.
		if err := w.cat.CloseLease(ctx, l.First); err != nil {
			return err
		}
		settled := true
		for i := range top.Storages {
			s := &top.Storages[i]
			if s.Mode == store.ModeDead {
				continue
			}
			if s.Mode == store.ModeDown {
				settled = false // it may hold some; the block is kept until it is back
				continue
			}
			if err := w.sweepStorage(ctx, s, l); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				problems = append(problems, fmt.Errorf("storage %d: %w", s.ID, err))
				settled = false
			}
		}
		if settled {
			problems = append(problems, w.cat.DropLease(ctx, l.First))
		}
	}
	return errors.Join(problems...)
}

// watched is a block of ids that seems to be abandoned.
type watched struct {
	seen  time.Time // what its process last said, by that process's clock
	since time.Time // since when that has not changed, by ours, which is monotonic
}

// silentFor leaves those blocks whose processes have said nothing for LeaseWatch while this worker was looking. What is written in the
// catalog is compared with the time of day, and that may jump: then all blocks seem to be abandoned at once, until they are renewed.
func (w *Worker) silentFor(leases []store.Lease, now time.Time) []store.Lease {
	still := map[store.ObjectID]watched{}
	var silent []store.Lease
	for _, l := range leases {
		was, ok := w.quiet[l.First]
		if !ok || !was.seen.Equal(l.Seen) {
			was = watched{l.Seen, now}
		}
		still[l.First] = was
		if now.Sub(was.since) >= w.opt.LeaseWatch {
			silent = append(silent, l)
		}
	}
	w.quiet = still
	return silent
}

func (w *Worker) sweepStorage(ctx context.Context, s *store.Storage, l store.Lease) error {
	const page = 1024
	dev := w.devices.Device(s)
	end := l.First + store.ObjectID(l.N)
	for from := l.First; from < end; {
		entries, err := dev.Manifest(ctx, from, end, page)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return nil
		}
		ids := make([]store.ObjectID, len(entries))
		for i, e := range entries {
			ids[i] = e.ID
		}
		from = ids[len(ids)-1] + 1
		unknown, err := w.cat.Unknown(ctx, ids)
		if err != nil {
			return err
		}
		if len(unknown) == 0 {
			continue
		}
		if err := dev.Delete(ctx, unknown); err != nil {
			return err
		}
		w.metrics.Orphans.Add(int64(len(unknown)))
		w.opt.Log.Info("entities of unfinished uploads were removed", "storage", uint32(s.ID), "entities", len(unknown), "owner", l.Owner)
	}
	return nil
}
