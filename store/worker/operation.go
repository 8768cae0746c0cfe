package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"wheelhouse/store"
)

// Operator does operations of one kind. It begins where r's cursor says. It returns nil when all is done, an error made by
// [Impossible] when that can never be, and any other error when something is in the way at the moment: then it is called
// again later.
type Operator func(ctx context.Context, r *Running) error

// Impossible marks an error that trying again does not help against: the operation has failed.
func Impossible(err error) error { return &impossible{err} }

type impossible struct{ error }

func (e *impossible) Unwrap() error { return e.error }

const (
	operationLease = 15 * time.Second
	// saveEvery is how often progress is written and the lease renewed. It bounds how long a pause takes effect.
	saveEvery = 2 * time.Second
	// claimEvery is how often a worker looks for operations.
	claimEvery = time.Second
	maxBackoff = time.Minute
)

// lane is kinds that share a number of places, so that a scrub that goes on for weeks keeps no rebuild waiting.
type lane struct {
	kinds  []store.OperationKind
	places int
}

var lanes = []lane{
	{[]store.OperationKind{store.OpRebuild, store.OpDrain, store.OpRebalance}, 2},
	{[]store.OperationKind{store.OpFsck, store.OpBackup}, 2},
	{[]store.OperationKind{store.OpScrub}, 64},
}

// operators are the kinds that this worker can do.
func (w *Worker) operators() map[store.OperationKind]Operator {
	all := map[store.OperationKind]Operator{
		store.OpRebuild:   w.rebuild,
		store.OpDrain:     w.drain,
		store.OpRebalance: w.rebalance,
		store.OpFsck:      w.fsck,
		store.OpScrub:     w.scrub,
	}
	for kind, f := range w.opt.Operators {
		all[kind] = f
	}
	return all
}

// Operate does operations until ctx ends; then it gives back what it holds, and returns when all of it has stopped.
func (w *Worker) Operate(ctx context.Context) error {
	operators := w.operators()
	var running sync.WaitGroup
	defer running.Wait()
	free := make([]chan struct{}, len(lanes)) // one token for each place that is free
	for i, l := range lanes {
		free[i] = make(chan struct{}, l.places)
		for range l.places {
			free[i] <- struct{}{}
		}
	}
	running.Go(func() { w.watchForeground(ctx) })
	running.Go(func() { w.watchStorages(ctx) })
	tick := time.NewTicker(w.opt.ClaimEvery)
	defer tick.Stop()
	for {
		if err := w.plan(ctx); err != nil && ctx.Err() == nil {
			w.opt.Log.Warn("operations that begin by themselves were not looked at", "err", err)
		}
		for i, l := range lanes {
			var kinds []store.OperationKind
			for _, k := range l.kinds {
				if operators[k] != nil {
					kinds = append(kinds, k)
				}
			}
			for w.claim(ctx, &running, free[i], kinds, operators) {
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// claim takes one operation, if there is one and a place for it, and begins it.
func (w *Worker) claim(ctx context.Context, running *sync.WaitGroup, free chan struct{}, kinds []store.OperationKind, operators map[store.OperationKind]Operator) bool {
	if ctx.Err() != nil || len(kinds) == 0 {
		return false
	}
	select {
	case <-free:
	default:
		return false
	}
	op, err := w.cat.ClaimOperation(ctx, w.opt.Owner, w.opt.Now().Add(operationLease), kinds...)
	if err != nil {
		free <- struct{}{}
		if !errors.Is(err, store.ErrNoOperation) && ctx.Err() == nil {
			w.opt.Log.Warn("no operation could be claimed", "err", err)
		}
		return false
	}
	running.Go(func() {
		defer func() { free <- struct{}{} }()
		w.run(ctx, op, operators[op.Kind])
	})
	return true
}

// Running is an operation that this worker holds. Safe for concurrent use.
type Running struct {
	w                  *Worker
	byBytes, byObjects bucket
	lastPace           time.Time // guarded by mu
	begun              time.Time // when this worker took it up: not by the time of day, which may jump

	mu       sync.Mutex // guards all below
	op       store.Operation
	now      store.OperationProgress
	cursor   saved
	report   []store.OperationProblem
	named    map[store.ObjectID]bool // by ProblemOnce
	storages map[store.StorageID]bool
	limit    limits
	at       time.Time // of the measurement before
	before   store.OperationProgress
	slow     time.Time // when it was last slowed down
}

// saved is the form of Operation.Cursor: the kind's own, and what had been counted when it was made.
type saved struct {
	At       json.RawMessage `json:"at,omitempty"`
	Objects  int64           `json:"objects"`
	Bytes    int64           `json:"bytes"`
	Problems int64           `json:"problems,omitempty"`
	Fixed    int64           `json:"fixed,omitempty"`
	store.OperationReport
}

func newRunning(w *Worker, op store.Operation) *Running {
	r := &Running{w: w, op: op, now: op.Progress, storages: map[store.StorageID]bool{}, lastPace: time.Now(), at: time.Now(), begun: time.Now()}
	if len(op.Cursor) > 0 && json.Unmarshal(op.Cursor, &r.cursor) != nil {
		r.cursor = saved{} // from a version that wrote it otherwise: from the beginning
	}
	r.rewind()
	return r
}

// rewind sets the counts back to what they were at the cursor.
func (r *Running) rewind() {
	r.now.TotalObjects, r.now.TotalBytes = 0, 0 // whoever begins again counts again
	r.now.Objects, r.now.Bytes, r.now.Problems, r.now.Fixed = r.cursor.Objects, r.cursor.Bytes, r.cursor.Problems, r.cursor.Fixed
	r.report = r.cursor.OperationReport.Problems
	r.named = map[store.ObjectID]bool{}
	for _, p := range r.report {
		r.named[p.Object] = true
	}
	r.before = r.now
}

// Operation is what is to be done.
func (r *Running) Operation() store.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.op
}

// Options reads the operation's options into v. None leave v as it is.
func (r *Running) Options(v any) error {
	if len(r.op.Options) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.op.Options, v); err != nil {
		return Impossible(fmt.Errorf("options of the operation: %w", err))
	}
	return nil
}

// Cursor reads what Checkpoint last kept into v, if there is anything.
func (r *Running) Cursor(v any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cursor.At) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.cursor.At, v); err != nil {
		return Impossible(fmt.Errorf("cursor of the operation: %w", err))
	}
	return nil
}

// Checkpoint says where to go on if the worker ends now: everything before is durable. It is written with the next progress.
func (r *Running) Checkpoint(cursor any) {
	b, err := json.Marshal(cursor)
	if err != nil {
		panic(err) // a type that cannot be written is a mistake of the program
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cursor = saved{
		At: b, Objects: r.now.Objects, Bytes: r.now.Bytes, Problems: r.now.Problems, Fixed: r.now.Fixed,
		OperationReport: store.OperationReport{Problems: r.report},
	}
}

// Total says how much there is to do, as far as is known.
func (r *Running) Total(objects, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.TotalObjects, r.now.TotalBytes = objects, bytes
}

// Done counts what was done.
func (r *Running) Done(objects, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Objects += objects
	r.now.Bytes += bytes
}

// AddTotal adds to how much there is to do.
func (r *Running) AddTotal(objects, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.TotalObjects += objects
	r.now.TotalBytes += bytes
}

// Problem counts one, logs it, and keeps it on record.
func (r *Running) Problem(p store.OperationProblem) {
	r.w.opt.Log.Warn("a problem was found", "operation", int64(r.op.ID), "problem", p.Kind, "object", uint64(p.Object),
		"storage", uint32(p.Storage), "bucket", p.Bucket, "name", p.Name, "reason", p.Reason, "fixed", p.Fixed)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Problems++
	if p.Fixed {
		r.now.Fixed++
	}
	if len(r.report) < store.MaxProblems {
		r.report = append(r.report[:len(r.report):len(r.report)], p)
	}
}

// ProblemOnce is Problem for one of an object that may come up again, on its way from one storage or another.
func (r *Running) ProblemOnce(p store.OperationProblem) {
	r.mu.Lock()
	known := r.named[p.Object]
	r.named[p.Object] = true
	r.mu.Unlock()
	if !known {
		r.Problem(p)
	}
}

// Pace counts work that was done, and waits until the next may be.
func (r *Running) Pace(ctx context.Context, objects, bytes int64) error {
	r.Done(objects, bytes)
	return r.pace(ctx, objects, bytes)
}

// Reader counts bytes that flow, and holds them to the limits.
func (r *Running) Reader(ctx context.Context, src io.Reader) io.Reader {
	return &pacedReader{ctx, src, r}
}

// WorksWith names storages whose latency tells whether to yield.
func (r *Running) WorksWith(ids ...store.StorageID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		r.storages[id] = true
	}
}

// Hindered says what is in the way although work goes on; nil: nothing.
func (r *Running) Hindered(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.op.Error = ""
	if err != nil {
		r.op.Error = err.Error()
	}
}

func (r *Running) limits() limits {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.limit
}

// slowed notes why it goes slower than it could.
func (r *Running) slowed(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Throttled, r.slow = why, time.Now()
}

// snapshot is the operation to be saved, with rates as of late.
func (r *Running) snapshot() store.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if s := now.Sub(r.at).Seconds(); s > 0.2 {
		smooth := func(old float64, n int64) float64 {
			rate := max(0, float64(n)/s)
			if old == 0 {
				return rate
			}
			return 0.6*old + 0.4*rate
		}
		r.now.Rate = smooth(r.now.Rate, r.now.Bytes-r.before.Bytes)
		r.now.ObjectRate = smooth(r.now.ObjectRate, r.now.Objects-r.before.Objects)
		r.at, r.before = now, r.now
	}
	if now.Sub(r.slow) > 5*time.Second {
		r.now.Throttled = ""
	}
	op := r.op
	op.Progress = r.now
	op.Cursor, _ = json.Marshal(r.cursor) // it was made of JSON
	return op
}

var (
	errStopped = errors.New("worker: operation paused or cancelled")
	errLost    = errors.New("worker: lease of the operation lost")
)

// run does an operation as long as it is this worker's.
func (w *Worker) run(parent context.Context, op store.Operation, f Operator) {
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	r := newRunning(w, op)
	log := w.opt.Log.With("operation", int64(op.ID), "kind", string(op.Kind), "target", op.Target())
	log.Info("operation taken up", "priority", op.Priority)
	w.readLimits(ctx, r)
	w.track(r, true)
	defer w.track(r, false)
	var saver sync.WaitGroup
	saver.Go(func() { w.keep(ctx, r, stop) })
	err := w.attempts(ctx, r, f)
	stop(err)
	saver.Wait()

	cause := context.Cause(ctx)
	if errors.Is(cause, errLost) {
		log.Warn("operation lost to another worker")
		return
	}
	r.mu.Lock()
	if err == nil {
		r.cursor.Problems, r.cursor.Fixed, r.cursor.OperationReport.Problems = r.now.Problems, r.now.Fixed, r.report
	}
	r.mu.Unlock()
	last := r.snapshot()
	bad, failed := errors.AsType[*impossible](err)
	switch {
	case err == nil:
		last.State, last.Error = store.OpDone, ""
		last.Progress.Throttled = ""
	case failed:
		last.State, last.Error = store.OpFailed, bad.Error()
	}
	// Also when the process stops: whoever goes on should not have to wait for the lease to end.
	final, cancel := context.WithTimeout(context.WithoutCancel(parent), 5*time.Second)
	defer cancel()
	state, saveErr := w.cat.SaveOperation(final, last, w.opt.Owner, time.Time{})
	if saveErr != nil {
		log.Warn("operation's end was not recorded; another worker will find it", "err", saveErr)
		return
	}
	if last.Error != "" {
		log = log.With("err", last.Error)
	}
	log.Info("operation let go of", "state", string(state), "objects", last.Progress.Objects, "bytes", last.Progress.Bytes)
}

// attempts calls f until it is done, or ctx ends.
func (w *Worker) attempts(ctx context.Context, r *Running, f Operator) error {
	for wait := w.opt.RetryAfter; ; wait = min(2*wait, maxBackoff) {
		begun := time.Now()
		err := f(ctx, r)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if _, failed := errors.AsType[*impossible](err); failed {
			return err
		}
		w.metrics.Failures.Add(1)
		w.opt.Log.Warn("operation is held up", "operation", int64(r.op.ID), "err", err)
		r.Hindered(err)
		r.mu.Lock()
		r.rewind()
		r.mu.Unlock()
		if time.Since(begun) > maxBackoff {
			wait = w.opt.RetryAfter // it had gone well for a while
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// keep writes progress and renews the lease.
func (w *Worker) keep(ctx context.Context, r *Running, stop context.CancelCauseFunc) {
	save, look := time.NewTicker(w.opt.SaveEvery), time.NewTicker(time.Second)
	defer save.Stop()
	defer look.Stop()
	good := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			w.readLimits(ctx, r)
			continue
		case <-save.C:
		}
		state, err := w.cat.SaveOperation(ctx, r.snapshot(), w.opt.Owner, w.opt.Now().Add(operationLease))
		switch {
		case err == nil && state != store.OpRunning:
			stop(errStopped)
		case err == nil:
			good = time.Now()
		case errors.Is(err, store.ErrLease), time.Since(good) > operationLease:
			stop(errLost)
		}
	}
}

func (w *Worker) readLimits(ctx context.Context, r *Running) {
	settings, err := w.cat.Settings(ctx)
	if err != nil {
		return // those from before hold
	}
	l := limitsOf(r.op.Kind, settings)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limit = l
}

// track notes which operations run here.
func (w *Worker) track(r *Running, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if on {
		w.running[r] = true
	} else {
		delete(w.running, r)
	}
}
