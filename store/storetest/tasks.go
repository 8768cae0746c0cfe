package storetest

import (
	"slices"
	"sync"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// TaskRecorder is a queue for a catalog on trial: it keeps the tasks of transactions that were committed. The zero value is ready. Safe
// for concurrent use.
type TaskRecorder struct {
	mu    sync.Mutex // guards tasks
	tasks []store.Task
}

// Enqueue takes tasks in when tx is committed.
func (r *TaskRecorder) Enqueue(tx *sqldb.Tx, tasks []store.Task) error {
	kept := slices.Clone(tasks)
	tx.AfterCommit(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tasks = append(r.tasks, kept...)
	})
	return nil
}

// Take returns what has come since the last call.
func (r *TaskRecorder) Take() []store.Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	tasks := r.tasks
	r.tasks = nil
	return tasks
}
