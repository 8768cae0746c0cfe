package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/store"
	"wheelhouse/store/disk"
	"wheelhouse/store/worker"
)

// operate runs a worker's operations until stop is called, which waits for it.
func (wd *world) operate(w *worker.Worker) (stop func()) {
	ctx, cancel := context.WithCancel(wd.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Operate(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			wd.t.Errorf("Operate: %v", err)
		}
	}
	wd.t.Cleanup(stop)
	return stop
}

// eventually polls until f is satisfied.
func (wd *world) eventually(what string, f func() bool) {
	wd.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(60 * time.Second); !f(); <-tick.C {
		if time.Now().After(deadline) {
			ops, _ := wd.cat.Operations(wd.t.Context(), 10)
			wd.t.Fatalf("waited in vain: %s; operations: %+v", what, ops)
		}
	}
}

func (wd *world) create(op store.Operation) store.OperationID {
	wd.t.Helper()
	id, err := wd.cat.CreateOperation(wd.t.Context(), op)
	if err != nil {
		wd.t.Fatal(err)
	}
	return id
}

func (wd *world) op(id store.OperationID) store.Operation {
	wd.t.Helper()
	op, err := wd.cat.Operation(wd.t.Context(), id)
	if err != nil {
		wd.t.Fatal(err)
	}
	return op
}

// end waits for an operation to be at its end.
func (wd *world) end(id store.OperationID) store.Operation {
	wd.t.Helper()
	wd.eventually("the operation's end", func() bool { return wd.op(id).State.Final() })
	return wd.op(id)
}

func (wd *world) mode(id store.StorageID) store.StorageMode {
	wd.t.Helper()
	top, err := wd.cat.Topology(wd.t.Context())
	if err != nil {
		wd.t.Fatal(err)
	}
	for _, s := range top.Storages {
		if s.ID == id {
			return s.Mode
		}
	}
	wd.t.Fatalf("no storage %d", id)
	return 0
}

func (wd *world) set(key, value string) {
	wd.t.Helper()
	if err := wd.cat.SetSetting(wd.t.Context(), key, value); err != nil {
		wd.t.Fatal(err)
	}
}

// replace gives a storage an empty disk, as an operator does who has pulled the dead one.
func (wd *world) replace(id store.StorageID, o disk.Options) {
	wd.t.Helper()
	o.StorageID, o.MinFree = id, -1
	d, err := disk.Open(wd.t.TempDir(), o)
	if err != nil {
		wd.t.Fatal(err)
	}
	wd.mu.Lock()
	old := wd.disks[id]
	wd.disks[id] = d
	wd.mu.Unlock()
	_ = old.Close()
	if err := wd.cat.SetStorageMode(wd.t.Context(), id, store.ModeFilling); err != nil {
		wd.t.Fatal(err)
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// fill stores objects of many sizes: some deleted, some replaced, some owed to storage 3, some files.
func (wd *world) fill(n int) (objects []store.Object) {
	for i := range n {
		data := append(noise(100+i%50*40), fmt.Sprint(i)...)
		if i%20 == 0 {
			data = append(noise(2<<20), fmt.Sprint(i)...)
		}
		on := []store.StorageID{1, 2, 3}
		if i%7 == 0 {
			on = on[:2]
		}
		objects = append(objects, wd.put(fmt.Sprint("o", i), data, true, on...))
	}
	var gone []store.ObjectID
	for i := 3; i < n; i += 11 {
		if _, err := wd.cat.Delete(wd.t.Context(), wd.bucket.ID, objects[i].Name, store.Condition{}); err != nil {
			wd.t.Fatal(err)
		}
		gone = append(gone, objects[i].ID)
	}
	for id, d := range wd.disks {
		if err := d.Delete(wd.t.Context(), gone); err != nil {
			wd.t.Fatal(id, err)
		}
	}
	if err := wd.cat.ForgetDeleted(wd.t.Context(), gone); err != nil {
		wd.t.Fatal(err)
	}
	for i := n - 1; i >= 0; i-- {
		if i%11 == 3 {
			objects = append(objects[:i], objects[i+1:]...)
		}
	}
	return objects
}

// wantEverywhere checks that every storage holds the objects byte for byte, and nothing else, and is owed nothing.
func (wd *world) wantEverywhere(objects []store.Object) {
	wd.t.Helper()
	for _, o := range objects {
		if got := wd.holders(o); len(got) != 3 {
			wd.t.Fatalf("object %d is held by %v", o.ID, got)
		}
	}
	for id, d := range wd.disks {
		all, err := d.Manifest(wd.t.Context(), 0, 1<<64-1, 1<<20)
		if err != nil || len(all) != len(objects) {
			wd.t.Errorf("storage %d holds %d entities, %v; want %d", id, len(all), err, len(objects))
		}
		if owed, err := wd.cat.MissingOn(wd.t.Context(), id, 0, 10); err != nil || len(owed) > 0 {
			wd.t.Errorf("storage %d is owed %v, %v", id, owed, err)
		}
	}
}

func TestRebuild(t *testing.T) {
	for _, layouts := range [][2]string{{disk.LayoutPacks, disk.LayoutPacks}, {disk.LayoutPacks, disk.LayoutFiles}, {disk.LayoutFiles, disk.LayoutPacks}} {
		t.Run(layouts[0]+" to "+layouts[1], func(t *testing.T) {
			wd := newWorld(t)
			for id := range wd.disks {
				wd.replace(id, disk.Options{Layout: layouts[0], PackSize: 256 << 10})
				if err := wd.cat.SetStorageMode(t.Context(), id, store.ModeRW); err != nil {
					t.Fatal(err)
				}
			}
			objects := wd.fill(150)
			wd.replace(3, disk.Options{Layout: layouts[1]})
			// Of what is left, one sibling has lost some, too.
			if err := wd.disks[1].Delete(t.Context(), []store.ObjectID{objects[5].ID, objects[60].ID}); err != nil {
				t.Fatal(err)
			}
			wd.operate(wd.w)
			// It begins by itself.
			wd.eventually("storage 3 to be read again", func() bool { return wd.mode(3) == store.ModeRW })
			ops, err := wd.cat.Operations(t.Context(), 10)
			if err != nil || len(ops) != 1 {
				t.Fatalf("%+v, %v", ops, err)
			}
			op := wd.end(ops[0].ID)
			if op.State != store.OpDone || op.Error != "" || op.Progress.Bytes == 0 || op.Progress.Objects < int64(len(objects)) || op.Priority != 800 {
				t.Errorf("%+v", op)
			}
			for _, o := range []store.Object{objects[5], objects[60]} {
				if got := wd.holders(o); cmp.Diff([]store.StorageID{2, 3}, got) != "" {
					t.Errorf("object %d is held by %v", o.ID, got)
				}
				if err := wd.task(store.TaskRepairObject, fmt.Sprintf(`{"object":%d}`, o.ID)); err != nil {
					t.Fatal(err)
				}
			}
			wd.wantEverywhere(objects)
		})
	}
}

// deleteNow does what the task does for a deleted object once its grace time is over.
func (wd *world) deleteNow(o store.Object) {
	wd.t.Helper()
	top, err := wd.cat.Topology(wd.t.Context())
	if err != nil {
		wd.t.Fatal(err)
	}
	for i := range top.Storages {
		if err := wd.Device(&top.Storages[i]).Delete(wd.t.Context(), []store.ObjectID{o.ID}); err != nil {
			wd.t.Fatal(err)
		}
	}
	if err := wd.cat.ForgetDeleted(wd.t.Context(), []store.ObjectID{o.ID}); err != nil {
		wd.t.Fatal(err)
	}
}

// What is written and deleted during a rebuild is there, and is gone, at its end.
func TestRebuildUnderLoad(t *testing.T) {
	wd := newWorld(t)
	objects := wd.fill(200)
	wd.replace(3, disk.Options{})
	wd.set("limit.rebuild.bytes", "5MB")
	stop := wd.operate(wd.w)
	for i := range 200 {
		objects = append(objects, wd.put(fmt.Sprint("new", i), append(noise(500), fmt.Sprint("new", i)...), true, 1, 2, 3))
		if i%4 == 0 {
			o := objects[i/2]
			objects = append(objects[:i/2], objects[i/2+1:]...)
			if _, err := wd.cat.Delete(t.Context(), wd.bucket.ID, o.Name, store.Condition{}); err != nil {
				t.Fatal(err)
			}
			wd.deleteNow(o)
		}
	}
	wd.set("limit.rebuild.bytes", "")
	wd.eventually("storage 3 to be read again", func() bool { return wd.mode(3) == store.ModeRW })
	stop()
	// An entity that was deleted while its pack was on the way, and whose block of ids is still leased, is the sweep's.
	wd.now = wd.now.Add(2 * grace)
	wd.round()
	wd.wantEverywhere(objects)
}

// A worker that is gone loses its lease, and another one goes on where it was.
func TestRebuildIsResumed(t *testing.T) {
	wd := newWorld(t)
	objects := wd.fill(100)
	wd.replace(3, disk.Options{})
	wd.set("limit.rebuild.bytes", "400k")
	stop := wd.operate(wd.w)
	id := store.OperationID(1)
	wd.eventually("some progress", func() bool {
		op, err := wd.cat.Operation(t.Context(), id)
		return err == nil && op.Progress.Bytes > 100_000
	})
	stop()
	before := wd.op(id)
	if before.Owner != "" || before.State != store.OpRunning {
		t.Fatalf("not given back: %+v", before)
	}
	// The first one has died in reality: it comes back with a lease that nobody gave back.
	if _, err := wd.cat.ClaimOperation(t.Context(), "one", wd.clock().Add(15*time.Second)); err != nil {
		t.Fatal(err)
	}
	other := wd.operate(wd.worker("two"))
	wd.set("limit.rebuild.bytes", "100MB")
	wd.eventually("a look at the lease", func() bool { return wd.op(id).Owner == "one" })
	wd.mu.Lock()
	wd.now = wd.now.Add(16 * time.Second)
	wd.mu.Unlock()
	op := wd.end(id)
	other()
	if op.State != store.OpDone {
		t.Fatalf("%+v", op)
	}
	wd.wantEverywhere(objects)
}

// Pause, resume and limits take effect while it runs.
func TestOperationIsControlled(t *testing.T) {
	wd := newWorld(t)
	objects := wd.fill(60)
	wd.replace(3, disk.Options{})
	wd.set("limit.rebuild.bytes", "300k")
	stop := wd.operate(wd.w)
	wd.eventually("progress, held back", func() bool {
		op, err := wd.cat.Operation(t.Context(), 1)
		return err == nil && op.Progress.Bytes > 0 && op.Progress.Throttled == "limit"
	})
	if err := wd.cat.SetOperationState(t.Context(), 1, store.OpPaused); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	wd.eventually("the worker to let go", func() bool { return wd.op(1).Owner == "" })
	if d := time.Since(begun); d > 15*time.Second { // 3 s, and what other tests that use the disk may add
		t.Errorf("a pause took effect after %v", d)
	}
	if got := wd.op(1); got.State != store.OpPaused || got.Progress.Bytes == 0 {
		t.Errorf("%+v", got)
	}
	wd.set("limit.rebuild.bytes", "")
	if err := wd.cat.SetOperationState(t.Context(), 1, store.OpRunning); err != nil {
		t.Fatal(err)
	}
	if op := wd.end(1); op.State != store.OpDone {
		t.Errorf("%+v", op)
	}
	stop()
	wd.wantEverywhere(objects)

	// One that is cancelled stays so: it is not begun again by itself.
	wd.replace(3, disk.Options{})
	wd.set("limit.rebuild.bytes", "1")
	id := wd.create(store.Operation{Kind: store.OpRebuild, Storage: 3})
	stop = wd.operate(wd.w)
	wd.eventually("a claim", func() bool { return wd.op(id).Owner != "" })
	if err := wd.cat.SetOperationState(t.Context(), id, store.OpCancelled); err != nil {
		t.Fatal(err)
	}
	wd.eventually("the worker to let go", func() bool { return wd.op(id).Owner == "" })
	stop()
	if wd.mode(3) != store.ModeFilling {
		t.Errorf("storage 3 is %v", wd.mode(3))
	}
}

// What is in the way holds an operation up, visibly, and does not fail it; what can never be fails it.
func TestOperationIsHeldUp(t *testing.T) {
	wd := newWorld(t)
	objects := wd.fill(30)
	wd.replace(3, disk.Options{})
	for _, id := range []store.StorageID{1, 2} {
		wd.away[id] = true
	}
	wd.operate(wd.w)
	wd.eventually("the reason", func() bool {
		op, err := wd.cat.Operation(t.Context(), 1)
		return err == nil && op.State == store.OpRunning && strings.Contains(op.Error, "no answer")
	})
	wd.mu.Lock()
	clear(wd.away)
	wd.mu.Unlock()
	if op := wd.end(1); op.State != store.OpDone || op.Error != "" {
		t.Errorf("%+v", op)
	}
	wd.wantEverywhere(objects)
	for _, op := range []store.Operation{{Kind: store.OpRebuild, Storage: 99}, {Kind: store.OpRebuild, Storage: 1}} {
		if got := wd.end(wd.create(op)); got.State != store.OpFailed || got.Error == "" {
			t.Errorf("%+v", got)
		}
	}
}

// unmounted is a world one of whose storages takes its new disk for one that is not mounted, until it is told.
type unmounted struct {
	*world
	id     store.StorageID
	accept func() // what being told does besides
}

func (u unmounted) Device(s *store.Storage) store.Device {
	d := u.world.Device(s)
	if s.ID == u.id {
		return blank{d, u}
	}
	return d
}

type blank struct {
	store.Device
	u unmounted
}

func (b blank) Accept(context.Context) error {
	b.u.mu.Lock()
	delete(b.u.away, b.u.id)
	b.u.mu.Unlock()
	b.u.accept()
	return nil
}

// A rebuild tells the storage of its new disk at once, whether others have noticed already that there is none or not, and needs no second
// attempt for it.
func TestRebuildOntoABlankDisk(t *testing.T) {
	for _, noticed := range []bool{false, true} {
		t.Run(fmt.Sprint("down ", noticed), func(t *testing.T) {
			wd := newWorld(t)
			objects := wd.fill(30)
			report := func(ok bool) {
				if _, err := wd.cat.ReportHealth(t.Context(), "test", []store.StorageHealth{{Storage: 3, OK: ok, Reason: "no disk"}}); err != nil {
					t.Error(err)
				}
			}
			wd.replace(3, disk.Options{})
			wd.away[3] = true
			if noticed {
				report(false)
				if wd.mode(3) != store.ModeDown {
					t.Fatalf("storage 3 is %v", wd.mode(3))
				}
			}
			w := worker.New(wd.cat, unmounted{wd, 3, func() { report(true) }}, worker.Options{
				Grace: grace, Now: wd.clock, Owner: "x", Bulk: wd.bulk, TopologyLag: -1, LeaseWatch: -1,
				ClaimEvery: time.Millisecond, SaveEvery: 5 * time.Millisecond, RetryAfter: time.Hour,
			})
			id := wd.create(store.Operation{Kind: store.OpRebuild, Storage: 3})
			wd.operate(w)
			if op := wd.end(id); op.State != store.OpDone {
				t.Errorf("%+v", op)
			}
			wd.wantEverywhere(objects)
		})
	}
}

// A custom kind, as other rooms bring it.
func TestOperators(t *testing.T) {
	wd := newWorld(t)
	tries := 0
	w := worker.New(wd.cat, wd, worker.Options{
		Now: wd.clock, Owner: "x", ClaimEvery: time.Millisecond, SaveEvery: 5 * time.Millisecond, RetryAfter: time.Millisecond,
		Operators: map[store.OperationKind]worker.Operator{store.OpBackup: func(ctx context.Context, r *worker.Running) error {
			var at struct{ N int }
			if err := r.Cursor(&at); err != nil {
				return err
			}
			if at.N != tries {
				return worker.Impossible(fmt.Errorf("cursor %d at try %d", at.N, tries))
			}
			tries++
			at.N++
			r.Total(2, 0)
			if err := r.Pace(ctx, 1, 10); err != nil {
				return err
			}
			r.Checkpoint(at)
			_ = r.Pace(ctx, 5, 500) // is not counted: the cursor is before it
			if tries < 3 {
				return errors.New("not yet")
			}
			return nil
		}},
	})
	stop := wd.operate(w)
	op := wd.end(wd.create(store.Operation{Kind: store.OpBackup}))
	stop()
	if op.State != store.OpDone || op.Progress.Objects != 8 || op.Progress.Bytes != 530 || op.Progress.TotalObjects != 2 {
		t.Errorf("%+v", op)
	}
}

// An upload that began while a storage was dead, and is committed when that has been filled again and all has been compared, is owed
// to it; so is one that was written to the disk that was there before.
func TestUploadOutlastsARebuild(t *testing.T) {
	wd := newWorld(t)
	objects := wd.fill(30)
	if err := wd.cat.SetStorageMode(t.Context(), 3, store.ModeDead); err != nil {
		t.Fatal(err)
	}
	top, err := wd.cat.Topology(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	without := wd.put("begun without it", noise(1000), false, 1, 2)
	before := wd.put("on its old disk", noise(1001), false, 1, 2, 3)
	wd.replace(3, disk.Options{})
	stop := wd.operate(wd.w)
	wd.eventually("storage 3 to be read again", func() bool { return wd.mode(3) == store.ModeRW })
	stop()
	for _, o := range []struct {
		store.Object
		on []store.StorageID
	}{{without, []store.StorageID{1, 2}}, {before, []store.StorageID{1, 2, 3}}} {
		o.Object.Missing = nil
		w := store.Written{On: o.on, Topology: top.Version}
		if _, err := wd.cat.Commit(t.Context(), store.Commit{Object: o.Object, Written: &w}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]store.StorageID{3}, wd.missing(o.Object)); d != "" {
			t.Errorf("%s: owed (-want +got):\n%s", o.Name, d)
		}
		objects = append(objects, o.Object)
	}
	wd.round()
	wd.wantEverywhere(objects)
}
