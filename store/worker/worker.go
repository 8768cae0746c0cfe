// Package worker does what the store leaves for later: it gives storages the entities that they are owed, deletes those of
// deleted objects, empties deleted buckets, repairs what a reader found missing or corrupt, and removes what uploads that
// never finished have left behind.
//
// Each kind of task is a handler for a job queue (see [Worker.Handlers]); what has no task of its own is done at intervals
// (see [Worker.Run]). Any number of workers may run side by side: tasks are shared by the queue's leases, and what two
// workers happen to do at once is harmless.
package worker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/idguard"
)

// Catalog is what a worker asks of the catalog.
type Catalog interface {
	store.Housekeeping
	store.Witnesses
	BucketByID(ctx context.Context, id store.BucketID) (store.Bucket, error)
	Bucket(ctx context.Context, name string) (store.Bucket, error)
	Scan(ctx context.Context, bucket store.BucketID, from string, limit int, f func(*store.Object) bool) error
	Delete(ctx context.Context, bucket store.BucketID, name string, cond store.Condition) (store.Object, error)
	Topology(ctx context.Context) (*store.Topology, error)
	SetStorageUsage(ctx context.Context, id store.StorageID, capacity, used int64) error
	SetStorageMode(ctx context.Context, id store.StorageID, mode store.StorageMode) error
	Settings(ctx context.Context) (map[string]string, error)
	LeaseIDs(ctx context.Context, owner string, n int) (store.ObjectID, error)
	RenewLeases(ctx context.Context, owner string, firsts []store.ObjectID) error
	store.Operations
	store.Inventory
	Processes(ctx context.Context) ([]store.Process, error)
	CreateBucket(ctx context.Context, b store.Bucket) (store.Bucket, error)
	Commit(ctx context.Context, c store.Commit) (replaced store.Object, err error)
}

// Devices are the storages as this process reaches them.
type Devices interface {
	Device(s *store.Storage) store.Device
}

// Options tune a Worker.
type Options struct {
	// Grace is how long the entities of an upload that was not committed are left alone, counted from the last sign of
	// life of the process that took it. Default 15 min.
	Grace time.Duration
	// LeaseWatch is how long a worker must itself have seen nothing of such a process, whatever the time of day is. Default half of
	// Grace, at most 30 s; negative: not at all.
	LeaseWatch time.Duration
	// Interval is the time between two rounds of what has no task: default 5 s.
	Interval time.Duration
	// Owner names this worker in leases; it must be unique among running workers. Default "worker".
	Owner string
	// Guard asks the storages which ids they hold before anything unknown is deleted; one serves all of a process. nil: one of its own.
	Guard *idguard.Guard
	// Bulk reaches storages for work on all of one. nil: operations of this package cannot be done.
	Bulk func(*store.Storage) (store.Bulk, error)
	// Operators do further kinds of operations, or these in another way.
	Operators map[store.OperationKind]Operator
	// ScrubRate is how many bytes a second each storage is read and verified with all the time. 0: not at all.
	ScrubRate int64

	ClaimEvery time.Duration // how often operations are looked for. Default 1 s
	SaveEvery  time.Duration // how often their progress is written, and a pause noticed. Default 2 s
	// TopologyLag is how long after a change of the topology there may be dispatchers that do not know of it. Default 3 s.
	TopologyLag time.Duration
	// Foreground tells how long clients of all processes wait. nil: the catalog is asked.
	Foreground func(context.Context) ([]store.Process, error)
	WatchEvery time.Duration // how often it is asked. Default 1 s

	RetryAfter time.Duration // how long after something was in the way it is tried again, the first time. Default 1 s
	Log        *slog.Logger
	Now        func() time.Time
	// Snapshots are what backups of the catalog are made from; nil: this worker makes none.
	Snapshots Snapshots
	// BackupEvery is the time between backups of the catalog. 0: they are made only when somebody asks for one.
	BackupEvery time.Duration
	// BackupKeep is how many backups are kept. Default 48.
	BackupKeep int
	// BackupDir is where a copy of the catalog lies while it is compressed. Default: the system's for temporary files.
	BackupDir string
}

func (o Options) withDefaults() Options {
	o.Grace = cmp.Or(o.Grace, 15*time.Minute)
	o.LeaseWatch = cmp.Or(o.LeaseWatch, min(o.Grace/2, 30*time.Second))
	o.Interval = cmp.Or(o.Interval, 5*time.Second)
	o.Owner = cmp.Or(o.Owner, "worker")
	o.ClaimEvery = cmp.Or(o.ClaimEvery, claimEvery)
	o.SaveEvery = cmp.Or(o.SaveEvery, saveEvery)
	o.TopologyLag = cmp.Or(o.TopologyLag, topologyLag)
	o.WatchEvery = cmp.Or(o.WatchEvery, time.Second)
	o.RetryAfter = cmp.Or(o.RetryAfter, time.Second)
	if o.Bulk == nil {
		o.Bulk = func(*store.Storage) (store.Bulk, error) {
			return nil, errors.New("this process has no means to work on storages in bulk")
		}
	}
	o.BackupKeep = cmp.Or(o.BackupKeep, 48)
	o.BackupDir = cmp.Or(o.BackupDir, os.TempDir())
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Worker does the store's background work. Safe for concurrent use.
type Worker struct {
	cat     Catalog
	devices Devices
	guard   *idguard.Guard
	opt     Options
	metrics Metrics

	background bucket // of all operations
	yield      yielding
	probes     probing
	mu         sync.Mutex // guards running
	running    map[*Running]bool
	planned    time.Time                  // when plan last looked; Operate's own
	quiet      map[store.ObjectID]watched // blocks of ids that seem to be abandoned; Run's own
}

// Metrics counts what a Worker has done.
type Metrics struct {
	Replicated, Repaired, Deleted, Orphans atomic.Int64 // entities
	Failures                               atomic.Int64 // attempts that will be repeated
	BytesCopied                            atomic.Int64
	Backups                                atomic.Int64 // of the catalog
}

// New makes a Worker.
func New(cat Catalog, devices Devices, o Options) *Worker {
	o = o.withDefaults()
	if o.Guard == nil {
		o.Guard = idguard.New(cat, devices, o.Log)
	}
	return &Worker{cat: cat, devices: devices, guard: o.Guard, opt: o, running: map[*Running]bool{}}
}

// Metrics returns the counters, which go on counting.
func (w *Worker) Metrics() *Metrics { return &w.metrics }

// Handlers are the functions that do the tasks, by kind. An error means: again later.
func (w *Worker) Handlers() map[string]func(ctx context.Context, arg []byte) error {
	return map[string]func(context.Context, []byte) error{
		store.TaskReplicate: handler(store.TaskReplicate, func(ctx context.Context, a store.ReplicateArg) error { return w.replicate(ctx, a.Object) }),
		store.TaskDeleteObject: handler(store.TaskDeleteObject, func(ctx context.Context, a store.DeleteObjectArg) error {
			return w.deleteObjects(ctx, []store.ObjectID{a.Object})[0]
		}),
		store.TaskDeleteBucket: handler(store.TaskDeleteBucket, func(ctx context.Context, a store.DeleteBucketArg) error { return w.deleteBucket(ctx, a.Bucket) }),
		store.TaskRepairObject: handler(store.TaskRepairObject, func(ctx context.Context, a store.RepairArg) error { return w.repair(ctx, a.Object) }),
	}
}

// BatchHandlers are functions that do many tasks of a kind at once, better than one after the other. Each returns an error, or
// nil, for each task.
func (w *Worker) BatchHandlers() map[string]func(ctx context.Context, args [][]byte) []error {
	return map[string]func(context.Context, [][]byte) []error{
		store.TaskDeleteObject: func(ctx context.Context, args [][]byte) []error {
			outcome := make([]error, len(args))
			var ids []store.ObjectID
			var index []int
			for i, arg := range args {
				var a store.DeleteObjectArg
				if outcome[i] = store.DecodeArg(store.TaskDeleteObject, arg, &a); outcome[i] == nil {
					ids, index = append(ids, a.Object), append(index, i)
				}
			}
			for k, err := range w.deleteObjects(ctx, ids) {
				outcome[index[k]] = err
			}
			return outcome
		},
	}
}

func handler[A any](kind string, f func(context.Context, A) error) func(context.Context, []byte) error {
	return func(ctx context.Context, arg []byte) error {
		var a A
		if err := store.DecodeArg(kind, arg, &a); err != nil {
			return err
		}
		return f(ctx, a)
	}
}

// visible finds an object and the topology. Without a topology there is nothing to do: the object has been deleted or
// overwritten since, which is no error, or err says what failed.
func (w *Worker) visible(ctx context.Context, id store.ObjectID) (o store.Object, top *store.Topology, err error) {
	o, err = w.cat.ObjectByID(ctx, id)
	if errors.Is(err, store.ErrNoObject) {
		return o, nil, nil
	}
	if err == nil {
		top, err = w.cat.Topology(ctx)
	}
	if err != nil {
		return o, nil, err
	}
	return o, top, nil
}

// Run does the rounds until ctx ends.
func (w *Worker) Run(ctx context.Context) error {
	var backups sync.WaitGroup
	defer backups.Wait()
	if w.opt.Snapshots != nil {
		backups.Go(func() { w.backups(ctx) })
	}
	tick := time.NewTicker(w.opt.Interval)
	defer tick.Stop()
	for {
		if err := w.round(ctx); err != nil && ctx.Err() == nil {
			w.metrics.Failures.Add(1)
			w.opt.Log.Warn("a round was not finished", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round does everything that has no task of its own once. One step that fails does not keep the others from being done.
func (w *Worker) round(ctx context.Context) error {
	return errors.Join(w.recordUsage(ctx), w.catchUp(ctx), w.sweep(ctx))
}

// recordUsage asks each storage for its space and notes it in the catalog, where placement sees it.
func (w *Worker) recordUsage(ctx context.Context) error {
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for i := range top.Storages {
		s := &top.Storages[i]
		if s.Mode == store.ModeDead || s.Mode == store.ModeDown {
			continue
		}
		u, err := w.usage(ctx, s)
		if err != nil {
			continue // an unreachable storage is reported where it matters, not every few seconds
		}
		used := u.Capacity - u.Free
		if u.ReadOnly {
			used = u.Capacity // no room
		}
		if changed(s.Capacity, u.Capacity) || changed(s.Used, used) {
			problems = append(problems, w.cat.SetStorageUsage(ctx, s.ID, u.Capacity, used))
		}
	}
	return errors.Join(problems...)
}

func (w *Worker) usage(ctx context.Context, s *store.Storage) (store.Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return w.devices.Device(s).Usage(ctx)
}

// changed reports whether a figure has moved enough to be worth a write: by 1/256, or 64 MiB.
func changed(was, is int64) bool {
	d := max(was-is, is-was)
	return d > 64<<20 || d > max(was, is)/256
}
