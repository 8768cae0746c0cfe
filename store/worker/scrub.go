package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"wheelhouse/store"
)

// ScrubOptions are the options of an operation of kind [store.OpScrub].
type ScrubOptions struct {
	// Rate is how many bytes a second are read at most of each storage; 0: as fast as the limits allow. A scrub that a worker
	// begins by itself has one.
	Rate int64 `json:"rate,omitempty"`
	// Auto says that a worker began it by itself; it gives way to one that an operator begins.
	Auto bool `json:"auto,omitempty"`
}

// scrubCursor is where the scrub of each storage stands.
type scrubCursor struct {
	At   map[store.StorageID]string `json:"at,omitempty"`
	Done map[store.StorageID]bool   `json:"done,omitempty"`
}

const (
	// scrubPart is how much one request reads, in bytes; at a limited rate it is what a second allows.
	scrubPart  = 256 << 20
	scrubLeast = 256 << 10
	// scrubYielding is how much one request reads while clients are to be made room for.
	scrubYielding = 1 << 20
	scrubEvery    = 24 * time.Hour // between the beginnings of two scrubs that begin by themselves
	scrubTimeout  = 2 * time.Minute
)

// scrub reads and verifies all that a storage, or each, holds. The storages do the reading; what they find is repaired from
// their siblings.
func (w *Worker) scrub(ctx context.Context, r *Running) error {
	op := r.Operation()
	var opt ScrubOptions
	cur := scrubCursor{At: map[store.StorageID]string{}, Done: map[store.StorageID]bool{}}
	if err := errors.Join(r.Options(&opt), r.Cursor(&cur)); err != nil {
		return err
	}
	if cur.At == nil {
		cur.At = map[store.StorageID]string{}
	}
	if cur.Done == nil {
		cur.Done = map[store.StorageID]bool{}
	}
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return err
	}
	var list []*store.Storage
	for i := range top.Storages {
		if s := &top.Storages[i]; (op.Storage == 0 || s.ID == op.Storage) && s.Mode != store.ModeDead && s.Mode != store.ModeDown {
			list = append(list, s)
			r.WorksWith(s.ID)
		}
	}
	if op.Storage != 0 && len(list) == 0 {
		s, err := locate(top, op.Storage)
		if err != nil {
			return err
		}
		return fmt.Errorf("storage %d is %s", op.Storage, s.Mode)
	}
	var problems []error
	for _, s := range list {
		w.scrubTotal(ctx, r, s)
	}
	for _, s := range list {
		if cur.Done[s.ID] {
			continue
		}
		// One that is away does not keep the others from being read.
		if err := w.scrubStorage(ctx, r, s, &cur, opt.Rate); err != nil {
			if ctx.Err() != nil {
				return err
			}
			problems = append(problems, fmt.Errorf("storage %d: %w", s.ID, err))
		}
	}
	return errors.Join(problems...)
}

// scrubTotal adds what a storage holds to what there is to do.
func (w *Worker) scrubTotal(ctx context.Context, r *Running, s *store.Storage) {
	u, err := w.usage(ctx, s)
	if err == nil {
		r.AddTotal(u.Entities, 0)
	}
}

func (w *Worker) scrubStorage(ctx context.Context, r *Running, s *store.Storage, cur *scrubCursor, rate int64) error {
	bulk, err := w.opt.Bulk(s)
	if err != nil {
		return err
	}
	most := int64(scrubPart)
	if l := r.limits(); l.bytes > 0 {
		most = min(most, int64(l.bytes))
	}
	if rate > 0 {
		most = min(most, rate)
	}
	most = max(most, scrubLeast)
	var own bucket
	for {
		answer, cancel := context.WithTimeout(ctx, scrubTimeout)
		piece := most
		if w.speed() < 1 {
			piece = min(most, scrubYielding)
		}
		part, err := bulk.Scrub(answer, cur.At[s.ID], piece)
		cancel()
		if err != nil {
			return err
		}
		for _, bad := range part.Bad {
			p := store.OperationProblem{Kind: store.ProblemCorrupt, Object: bad.ID, Storage: s.ID, Reason: bad.Reason}
			if err := w.cat.EnqueueRepair(ctx, bad.ID, s.ID); err != nil {
				return err
			}
			p.Fixed = true
			r.Problem(p)
		}
		r.Done(part.Objects, part.Bytes)
		cur.At[s.ID] = part.Cursor
		if part.Cursor == "" {
			cur.Done[s.ID] = true
			delete(cur.At, s.ID)
		}
		r.Checkpoint(*cur)
		if part.Cursor == "" {
			return nil
		}
		if err := r.pace(ctx, part.Objects, part.Bytes); err != nil {
			return err
		}
		if rate > 0 {
			if err := sleep(ctx, own.take(float64(part.Bytes), float64(rate), time.Now())); err != nil {
				return err
			}
		}
	}
}

// planScrubs begins a scrub of each storage whose last one was begun long ago.
func (w *Worker) planScrubs(ctx context.Context, top *store.Topology, ops []store.Operation) error {
	if w.opt.ScrubRate <= 0 {
		return nil
	}
	var problems []error
	for i := range top.Storages {
		s := &top.Storages[i]
		if !s.Mode.Readable() || w.scrubbedLately(ops, s.ID) {
			continue
		}
		options := fmt.Appendf(nil, `{"rate":%d,"auto":true}`, w.opt.ScrubRate)
		_, err := w.cat.CreateOperation(ctx, store.Operation{Kind: store.OpScrub, Storage: s.ID, Options: options})
		if err != nil && !errors.Is(err, store.ErrExists) {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// scrubbedLately reports whether a scrub of a storage is under way, or was begun not long ago. One of all storages counts too.
func (w *Worker) scrubbedLately(ops []store.Operation, id store.StorageID) bool {
	for i := range ops {
		op := &ops[i]
		if op.Kind == store.OpScrub && (op.Storage == id || op.Storage == 0) &&
			(!op.State.Final() || w.opt.Now().Sub(op.Created) < scrubEvery) {
			return true
		}
	}
	return false
}
