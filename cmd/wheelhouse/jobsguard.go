package main

import (
	"context"
	"fmt"
	"slices"

	"wheelhouse/store"
	"wheelhouse/store/control"
)

// guardedJobs keeps operators from taking the store's own jobs out of the queue: nothing would enqueue them again, and
// deleted objects would keep their space, or deleted buckets their objects.
type guardedJobs struct{ control.Jobs }

// Change is as in [control.Jobs].
func (g guardedJobs) Change(ctx context.Context, what string, f control.JobFilter) (int, error) {
	if what == "retry" {
		return g.Jobs.Change(ctx, what, f)
	}
	switch {
	case f.Func != "":
		if err := notStores(f.Func); err != nil {
			return 0, err
		}
	case len(f.IDs) == 0:
		return 0, mistake(fmt.Errorf("to %s jobs, name their function or their ids", what))
	}
	for _, id := range f.IDs {
		j, err := g.Show(ctx, id)
		if err != nil {
			return 0, err
		}
		if err := notStores(j.Func); err != nil {
			return 0, err
		}
	}
	return g.Jobs.Change(ctx, what, f)
}

func notStores(fn string) error {
	if slices.Contains(store.TaskKinds[:], fn) {
		return mistake(fmt.Errorf("jobs of %s are the store's own, and stay until they are done: pause the function instead", fn))
	}
	return nil
}
