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
			p, err := w.scrubbed(ctx, s, bad.ID, bad.Reason)
			if err != nil {
				return err
			}
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

// scrubbed has an entity replaced that a storage says is bad. The error is the catalog's.
func (w *Worker) scrubbed(ctx context.Context, s *store.Storage, id store.ObjectID, reason string) (store.OperationProblem, error) {
	p := store.OperationProblem{Kind: store.ProblemCorrupt, Object: id, Storage: s.ID, Reason: reason}
	o, top, err := w.visible(ctx, id)
	if err != nil {
		return p, err
	}
	if top == nil || o.Cluster != s.Cluster {
		p.Reason, p.Fixed = reason+"; no object that can be seen needs it", true
		return p, nil
	}
	return p, w.mended(ctx, &p, func() error { return w.repairOn(ctx, top, &o, s) })
}

// mended says of a problem whether repair has put an end to it. Where it has not, a task tries again. The error is the catalog's.
func (w *Worker) mended(ctx context.Context, p *store.OperationProblem, repair func() error) error {
	err := repair()
	if p.Fixed = err == nil; p.Fixed || ctx.Err() != nil {
		return ctx.Err()
	}
	p.Reason += "; it could not be replaced: " + err.Error()
	return w.cat.EnqueueRepair(ctx, p.Object, p.Storage)
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
