package storetest

import (
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/store"
)

func (t *catalogTest) operate(op store.Operation) store.OperationID {
	t.Helper()
	id, err := t.Catalog.CreateOperation(t.ctx, op)
	t.ok(err)
	return id
}

func (t *catalogTest) operation(id store.OperationID) store.Operation {
	t.Helper()
	op, err := t.Catalog.Operation(t.ctx, id)
	t.ok(err)
	return op
}

// claim takes what is most urgent, for 15 seconds.
func (t *catalogTest) claim(owner string, kinds ...store.OperationKind) store.Operation {
	t.Helper()
	op, err := t.Catalog.ClaimOperation(t.ctx, owner, t.clock.now().Add(15*time.Second), kinds...)
	t.ok(err)
	return op
}

func catalogOperations(t *catalogTest) {
	rebuild := store.Operation{Kind: store.OpRebuild, Storage: 3, Options: []byte(`{"from":1}`), Priority: 5}
	id := t.operate(rebuild)
	want := rebuild
	want.ID, want.State, want.Created = id, store.OpRunning, t.clock.now()
	t.equal("created", t.operation(id), want)

	// One of a kind and target at a time.
	again, err := t.Catalog.CreateOperation(t.ctx, rebuild)
	t.want(err, store.ErrExists)
	t.equal("the one there is", again, id)
	other := t.operate(store.Operation{Kind: store.OpRebuild, Storage: 4, Priority: 9})
	fsck := t.operate(store.Operation{Kind: store.OpFsck, Storage: 3})
	if _, err := t.Catalog.CreateOperation(t.ctx, store.Operation{Kind: "nonsense"}); err == nil {
		t.Error("an operation of no kind was created")
	}
	list := func(limit int) (ids []store.OperationID) {
		ops, err := t.Catalog.Operations(t.ctx, limit)
		t.ok(err)
		for _, op := range ops {
			ids = append(ids, op.ID)
		}
		return ids
	}
	t.equal("by urgency", list(10), []store.OperationID{other, id, fsck})
	t.equal("limit", list(2), []store.OperationID{other, id})

	_, err = t.Catalog.Operation(t.ctx, 9999)
	t.want(err, store.ErrNoOperation)
	t.want(t.Catalog.SetOperationState(t.ctx, 9999, store.OpPaused), store.ErrNoOperation)
	if t.Catalog.SetOperationState(t.ctx, id, store.OpDone) == nil {
		t.Error("an operation was declared done from outside")
	}
	t.ok(t.Catalog.SetOperationState(t.ctx, id, store.OpCancelled))
	want.State, want.Ended = store.OpCancelled, t.clock.now()
	t.equal("cancelled", t.operation(id), want)
	t.want(t.Catalog.SetOperationState(t.ctx, id, store.OpRunning), store.ErrInUse)
	t.equal("the ended ones last", list(10), []store.OperationID{other, fsck, id})
	if next := t.operate(rebuild); next == id {
		t.Error("an id was used again")
	}
}

// catalogOperationLeaseSetBack: a worker takes a lease while the clock is an hour ahead, and dies. Nobody waits for an hour.
func catalogOperationLeaseSetBack(t *catalogTest) {
	id := t.operate(store.Operation{Kind: store.OpFsck})
	t.clock.add(time.Hour)
	t.claim("a")
	_, err := t.Catalog.ClaimOperation(t.ctx, "b", t.clock.now().Add(15*time.Second))
	t.want(err, store.ErrNoOperation)
	t.clock.add(-time.Hour)
	t.equal("taken over", t.claim("b").ID, id)
}

func catalogOperationLeases(t *catalogTest) {
	low := t.operate(store.Operation{Kind: store.OpFsck})
	high := t.operate(store.Operation{Kind: store.OpRebuild, Storage: 1, Priority: 1})
	op := t.claim("a")
	if op.ID != high || op.Owner != "a" || !op.Started.Equal(t.clock.now()) || !op.Leased.Equal(t.clock.now().Add(15*time.Second)) {
		t.Fatalf("claimed %+v", op)
	}
	t.equal("kind", t.claim("b", store.OpFsck, store.OpScrub).ID, low)
	_, err := t.Catalog.ClaimOperation(t.ctx, "c", t.clock.now().Add(time.Minute))
	t.want(err, store.ErrNoOperation)

	t.clock.add(time.Second)
	op.Cursor, op.Error = []byte("at 7"), "storage 2 is away"
	op.Progress = store.OperationProgress{Objects: 7, TotalObjects: 10, Bytes: 70, TotalBytes: 100, Problems: 2, Fixed: 1, Rate: 3.5, ObjectRate: 1, Throttled: "limit"}
	until := t.clock.now().Add(15 * time.Second)
	state, err := t.Catalog.SaveOperation(t.ctx, op, "a", until)
	t.ok(err)
	t.equal("state", state, store.OpRunning)
	op.Leased, op.Updated = until, t.clock.now()
	t.equal("saved", t.operation(high), op)
	_, err = t.Catalog.SaveOperation(t.ctx, op, "b", until)
	t.want(err, store.ErrLease)
	_, err = t.Catalog.SaveOperation(t.ctx, store.Operation{ID: 9999}, "a", until)
	t.want(err, store.ErrLease)

	// A worker that is gone: after its lease another one goes on where it was, and the first has lost it.
	t.clock.add(20 * time.Second)
	took := t.claim("c", store.OpRebuild)
	if string(took.Cursor) != "at 7" || took.Owner != "c" || !took.Started.Equal(op.Started) {
		t.Fatalf("taken over: %+v", took)
	}
	_, err = t.Catalog.SaveOperation(t.ctx, op, "a", until)
	t.want(err, store.ErrLease)

	// Paused: the holder is told, gives it back, and nobody gets it until it is resumed.
	t.ok(t.Catalog.SetOperationState(t.ctx, high, store.OpPaused))
	took.Cursor = []byte("at 8")
	state, err = t.Catalog.SaveOperation(t.ctx, took, "c", time.Time{})
	t.ok(err)
	t.equal("state", state, store.OpPaused)
	if got := t.operation(high); got.Owner != "" || !got.Leased.IsZero() || string(got.Cursor) != "at 8" {
		t.Fatalf("given back: %+v", got)
	}
	_, err = t.Catalog.ClaimOperation(t.ctx, "d", t.clock.now().Add(time.Minute), store.OpRebuild)
	t.want(err, store.ErrNoOperation)
	t.ok(t.Catalog.SetOperationState(t.ctx, high, store.OpRunning))
	took = t.claim("d", store.OpRebuild)

	took.State = store.OpDone
	state, err = t.Catalog.SaveOperation(t.ctx, took, "d", t.clock.now().Add(time.Minute))
	t.ok(err)
	t.equal("state", state, store.OpDone)
	if got := t.operation(high); !got.Ended.Equal(t.clock.now()) || got.Owner != "" || got.State != store.OpDone {
		t.Fatalf("ended: %+v", got)
	}

	// Of many who ask at once, one gets it.
	contested := t.operate(store.Operation{Kind: store.OpScrub, Storage: 1})
	var got atomic.Int64
	var all sync.WaitGroup
	for _, owner := range []string{"p", "q", "r", "s"} {
		all.Go(func() {
			if op, err := t.Catalog.ClaimOperation(t.ctx, owner, t.clock.now().Add(time.Minute), store.OpScrub); err == nil && op.ID == contested {
				got.Add(1)
			}
		})
	}
	all.Wait()
	t.equal("claims that succeeded", got.Load(), int64(1))
}

// Records of what has ended are not kept for ever.
func catalogOperationRecords(t *catalogTest) {
	first := t.operate(store.Operation{Kind: store.OpDrain, Storage: 1})
	kept := t.operate(store.Operation{Kind: store.OpFsck})
	t.ok(t.Catalog.SetOperationState(t.ctx, first, store.OpCancelled))
	for range store.MaxOperations + 1 {
		t.ok(t.Catalog.SetOperationState(t.ctx, t.operate(store.Operation{Kind: store.OpScrub}), store.OpCancelled))
	}
	_, err := t.Catalog.Operation(t.ctx, first)
	t.want(err, store.ErrNoOperation)
	t.equal("one that runs stays", t.operation(kept).State, store.OpRunning)
	ops, err := t.Catalog.Operations(t.ctx, 2*store.MaxOperations)
	t.ok(err)
	if len(ops) > store.MaxOperations+2 {
		t.Errorf("%d operations on record", len(ops))
	}
}

// digest is what IDDigests says of all blocks together.
func (t *catalogTest) digest(cluster store.ClusterID) (sum store.BlockDigest) {
	t.Helper()
	list, err := t.Catalog.IDDigests(t.ctx, cluster)
	t.ok(err)
	for i, d := range list {
		if i > 0 && d.Block <= list[i-1].Block {
			t.Fatalf("blocks out of order: %+v", list)
		}
		sum.Count += d.Count
		sum.Bytes += d.Bytes
		sum.Size ^= d.Size
	}
	return sum
}

func sumOf(objects ...store.Object) (sum store.BlockDigest) {
	for _, o := range objects {
		sum.Add(o.ID, o.Size, 0, 1)
	}
	sum.CRC = 0
	return sum
}

func catalogInventory(t *catalogTest) {
	b := t.bucket("b")
	t.equal("empty", t.digest(1), store.BlockDigest{})
	_, err := t.Catalog.LeaseIDs(t.ctx, "suite", 3*store.DigestBlock) // so that there is more than one block
	t.ok(err)
	one, two, three := t.put(b, "one"), t.put(b, "two"), t.object(b, "three")
	t.ids = nil
	_, err = t.Catalog.LeaseIDs(t.ctx, "suite", 3*store.DigestBlock)
	t.ok(err)
	three.Missing = []store.StorageID{2, 3}
	_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: three})
	t.ok(err)
	far := t.object(b, "far")
	elsewhere := t.object(b, "elsewhere")
	elsewhere.Cluster = 2
	for _, o := range []store.Object{far, elsewhere} {
		_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: o})
		t.ok(err)
	}
	t.equal("digest", t.digest(1), sumOf(one, two, three, far))
	t.equal("of the other cluster", t.digest(2), sumOf(elsewhere))

	byID := func(from, to store.ObjectID, limit int) []store.Object {
		list, err := t.Catalog.ObjectsByID(t.ctx, 1, from, to, limit)
		t.ok(err)
		return list
	}
	t.equal("objects", byID(0, 1<<64-1, 10), []store.Object{one, two, three, far})
	t.equal("limit", byID(one.ID, far.ID, 2), []store.Object{one, two})
	t.equal("range", byID(two.ID, far.ID, 10), []store.Object{two, three})

	// What is deleted is held until it is forgotten; a rename changes nothing.
	_, err = t.Catalog.Delete(t.ctx, b.ID, "two", store.Condition{})
	t.ok(err)
	t.ok(t.Catalog.Rename(t.ctx, b.ID, "one", b.ID, "uno"))
	t.equal("deleted", t.digest(1), sumOf(one, two, three, far))
	gone, err := t.Catalog.DeletedByID(t.ctx, 1, 0, 1<<64-1, 10)
	t.ok(err)
	t.equal("deleted ones", gone, []store.Object{two})
	t.ok(t.Catalog.ForgetDeleted(t.ctx, []store.ObjectID{two.ID, two.ID}))
	t.equal("forgotten", t.digest(1), sumOf(one, three, far))

	t.ok(t.Catalog.ClearMissingOn(t.ctx, 2, []store.ObjectID{one.ID, three.ID, 12345}))
	three.Missing = []store.StorageID{3}
	t.wantObject(b, three)
	t.ok(t.Catalog.ClearMissingOn(t.ctx, 3, []store.ObjectID{three.ID}))
	three.Missing = nil
	t.wantObject(b, three)
	totals, err := t.Catalog.Totals(t.ctx)
	t.ok(err)
	t.equal("owed", totals.Missing, int64(0))
}

func catalogMoveObject(t *catalogTest) {
	b := t.bucket("b")
	o := t.put(b, "o")
	t.Tasks()
	to := o
	to.ID, to.Cluster, to.Missing = t.id(), 2, []store.StorageID{6}
	ignored := to
	ignored.ContentType, ignored.Name, ignored.Size = "x/y", "other", 1
	t.ok(t.Catalog.MoveObject(t.ctx, o.ID, ignored, nil))
	t.wantObject(b, to)
	t.wantTasks(t.deletion(o.ID), store.NewReplicate(to.ID))
	old, err := t.Catalog.DeletedObject(t.ctx, o.ID)
	t.ok(err)
	t.equal("old cluster", old.Cluster, o.Cluster)
	t.equal("old digest", t.digest(1), sumOf(o))
	t.equal("new digest", t.digest(2), sumOf(to))

	// Whoever was overtaken by an overwrite or a delete moves nothing.
	again := to
	again.ID = t.id()
	t.want(t.Catalog.MoveObject(t.ctx, o.ID, again, nil), store.ErrNoObject)
	again.ID = 1 << 40
	t.want(t.Catalog.MoveObject(t.ctx, to.ID, again, nil), store.ErrLease)
	t.wantObject(b, to)
}
