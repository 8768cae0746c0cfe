// Package storejobs lets the store leave its work to the job queue: it enqueues the catalog's tasks in the catalog's own
// transactions, and runs the store's task handlers on a job worker.
package storejobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// Enqueue returns what catalog.Options.Enqueue wants: a function that puts tasks into q, which must live in the catalog's
// database.
func Enqueue(q *sqlqueue.Queue) func(tx *sqldb.Tx, tasks []store.Task) error {
	return func(tx *sqldb.Tx, tasks []store.Task) error {
		list := make([]jobs.Job, len(tasks))
		for i, t := range tasks {
			list[i] = jobs.Job{Func: t.Kind, Arg: t.Arg, Unique: t.Unique, RunAfter: t.RunAfter, Priority: t.Priority, Coalesce: t.Kind}
		}
		_, err := q.InsertTx(tx, list)
		return err
	}
}

// Opened is a catalog with the queue that its tasks go to, in one database.
type Opened struct {
	Catalog *catalog.SQLite
	Queue   *sqlqueue.Queue
}

// Open opens the catalog and the queue in the file at path. opts.Enqueue is set by it. Errors as of [catalog.OpenSQLite].
func Open(ctx context.Context, path string, opts catalog.Options, qopts sqlqueue.Options) (*Opened, error) {
	// The catalog opens the file and the queue joins it, so nothing is enqueued before Queue is set.
	o := new(Opened)
	opts.Enqueue = func(tx *sqldb.Tx, tasks []store.Task) error { return Enqueue(o.Queue)(tx, tasks) }
	var err error
	if o.Catalog, err = catalog.OpenSQLite(ctx, path, opts); err != nil {
		return nil, err
	}
	if o.Queue, err = sqlqueue.New(ctx, o.Catalog.DB(), qopts); err != nil {
		return nil, errors.Join(err, o.Catalog.Close())
	}
	return o, nil
}

// Close closes the database. Nobody may be using catalog or queue.
func (o *Opened) Close() error { return o.Catalog.Close() }

// lease is how long the tasks of a worker that was killed wait for another. It is renewed while a task runs.
const lease = 10 * time.Second

// maxBatch is how many tasks are done at once where that can be done.
const maxBatch = 200

// Handlers are the functions that do the store's tasks, by kind. Those that are in Many are done many at a time.
type Handlers struct {
	One         map[string]func(ctx context.Context, arg []byte) error
	Many        map[string]func(ctx context.Context, args [][]byte) []error // an error or nil for each
	Concurrency map[string]int                                              // of tasks, or of batches, by kind; default 1
}

// Handle registers the store's task handlers with a worker. All are tried for ever: what they do must be
// done in the end. Handlers of kinds that are not the store's are an error, so that a misspelt one is noticed.
func Handle(w *jobs.Worker, h Handlers) error {
	for _, kind := range slices.Sorted(maps.Keys(h.One)) {
		if h.Many[kind] != nil {
			continue
		}
		if err := handle(w, kind, h, jobs.Handler{
			Work: func(ctx context.Context, job *jobs.Job) error { return h.One[kind](ctx, job.Arg) },
		}); err != nil {
			return err
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(h.Many)) {
		if err := handle(w, kind, h, jobs.Handler{
			MaxBatch: maxBatch, Prefetch: 2 * maxBatch,
			WorkBatch: func(ctx context.Context, list []*jobs.Job) error {
				args := make([][]byte, len(list))
				for i, job := range list {
					args[i] = job.Arg
				}
				return jobs.Verdicts(h.Many[kind](ctx, args))
			},
		}); err != nil {
			return err
		}
	}
	return nil
}

func handle(w *jobs.Worker, kind string, h Handlers, jh jobs.Handler) error {
	if !slices.Contains(store.TaskKinds[:], kind) {
		return fmt.Errorf("storejobs: no such kind of task: %q", kind)
	}
	jh.Concurrency, jh.MaxFailures, jh.Lease = h.Concurrency[kind], -1, lease
	return w.Handle(kind, jh)
}
