package worker

import (
	"context"
	"errors"
	"time"

	"wheelhouse/store"
)

// planEvery is how often it is looked for operations that begin by themselves.
const planEvery = 5 * time.Second

// plan creates the operations that begin by themselves: a rebuild for each storage that is being filled, and scrubs.
func (w *Worker) plan(ctx context.Context) error {
	if time.Since(w.planned) < planEvery {
		return nil
	}
	w.planned = time.Now()
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return err
	}
	ops, err := w.cat.Operations(ctx, store.MaxOperations)
	if err != nil {
		return err
	}
	var problems []error
	for i := range top.Storages {
		s := &top.Storages[i]
		if s.Mode != store.ModeFilling || gaveUp(ops, s.ID, w.opt.Now()) {
			continue
		}
		op := store.Operation{Kind: store.OpRebuild, Storage: s.ID}
		op.Priority = op.Urgency(top)
		if _, err := w.cat.CreateOperation(ctx, op); err != nil && !errors.Is(err, store.ErrExists) {
			problems = append(problems, err)
		}
	}
	problems = append(problems, w.planScrubs(ctx, top, ops))
	return errors.Join(problems...)
}

// gaveUp reports whether the last rebuild of a storage is under way, or was ended by an operator or by an error, or just now:
// then it is not begun again by itself.
func gaveUp(ops []store.Operation, id store.StorageID, now time.Time) bool {
	var last *store.Operation
	for i := range ops {
		if op := &ops[i]; op.Kind == store.OpRebuild && op.Storage == id && (last == nil || op.ID > last.ID) {
			last = op
		}
	}
	return last != nil && (last.State != store.OpDone || now.Sub(last.Ended) < 2*planEvery)
}
