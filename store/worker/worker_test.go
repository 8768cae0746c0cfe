package worker_test

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/bridge/storejobs"
	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/disk"
	"wheelhouse/store/worker"
)

// world is a catalog with one cluster of three disks, and a clock that the test moves.
type world struct {
	t      *testing.T
	opened *storejobs.Opened
	cat    *catalog.SQLite
	disks  map[store.StorageID]*disk.Disk
	away   map[store.StorageID]bool // do not answer
	w      *worker.Worker
	bucket store.Bucket

	mu        sync.Mutex // guards now; and disks and away, where a worker runs beside the test
	now       time.Time
	backupDir string
}

const grace = time.Minute

// clock is the test's, which it moves.
func (wd *world) clock() time.Time {
	wd.mu.Lock()
	defer wd.mu.Unlock()
	return wd.now
}

func newWorld(t *testing.T) *world {
	t.Helper()
	wd := &world{t: t, disks: map[store.StorageID]*disk.Disk{}, away: map[store.StorageID]bool{}, now: time.Unix(2_000_000_000, 0)}
	clock := wd.clock
	var err error
	wd.opened, err = storejobs.Open(t.Context(), filepath.Join(t.TempDir(), "catalog.db"),
		catalog.Options{Now: clock, Grace: grace, TopologyAge: time.Nanosecond}, sqlqueue.Options{Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	wd.cat = wd.opened.Catalog
	cluster, err := wd.cat.PutCluster(t.Context(), store.Cluster{Name: "c"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		id, err := wd.cat.PutStorage(t.Context(), store.Storage{Cluster: cluster, URI: fmt.Sprintf("http://10.0.0.1/dev%d", i+1)})
		if err != nil {
			t.Fatal(err)
		}
		d, err := disk.Open(t.TempDir(), disk.Options{StorageID: id, MinFree: -1})
		if err != nil {
			t.Fatal(err)
		}
		wd.disks[id] = d
	}
	if wd.bucket, err = wd.cat.CreateBucket(t.Context(), store.Bucket{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	wd.w = wd.worker("one")
	t.Cleanup(func() {
		for _, d := range wd.disks {
			_ = d.Close()
		}
		_ = wd.opened.Close()
	})
	return wd
}

// worker makes one more worker.
func (wd *world) worker(owner string) *worker.Worker { return wd.workerWith(owner, wd) }

// workerWith makes one that reaches storages in another way.
func (wd *world) workerWith(owner string, devices worker.Devices) *worker.Worker {
	return worker.New(wd.cat, devices, worker.Options{
		Grace: grace, Now: wd.clock, Interval: time.Millisecond, Owner: owner, Bulk: wd.bulk,
		ClaimEvery: 5 * time.Millisecond, SaveEvery: 20 * time.Millisecond, RetryAfter: 5 * time.Millisecond, TopologyLag: -1, LeaseWatch: -1,
	})
}

func (wd *world) bulk(s *store.Storage) (store.Bulk, error) {
	wd.mu.Lock()
	defer wd.mu.Unlock()
	if wd.away[s.ID] {
		return nil, errAway
	}
	return wd.disks[s.ID].Bulk(), nil
}

// silent is a storage that does not answer.
type silent struct{ store.Device }

var errAway = errors.New("no answer")

func (silent) Stat(context.Context, store.ObjectID) (store.EntityInfo, error) {
	return store.EntityInfo{}, errAway
}

func (silent) Open(context.Context, store.ObjectID, int64, int64) (store.EntityReader, error) {
	return nil, errAway
}

func (silent) Create(context.Context, store.EntityInfo) (store.EntityWriter, error) {
	return nil, errAway
}
func (silent) Delete(context.Context, []store.ObjectID) error { return errAway }
func (silent) Manifest(context.Context, store.ObjectID, store.ObjectID, int) ([]store.ManifestEntry, error) {
	return nil, errAway
}
func (silent) Usage(context.Context) (store.Usage, error) { return store.Usage{}, errAway }

func (wd *world) Device(s *store.Storage) store.Device {
	wd.mu.Lock()
	defer wd.mu.Unlock()
	if wd.away[s.ID] {
		return silent{wd.disks[s.ID]}
	}
	return wd.disks[s.ID]
}

// put stores an object on some storages, and commits it as missing on the others, unless commit is false.
func (wd *world) put(name string, data []byte, commit bool, on ...store.StorageID) store.Object {
	wd.t.Helper()
	first, err := wd.cat.LeaseIDs(wd.t.Context(), "test", 1)
	if err != nil {
		wd.t.Fatal(err)
	}
	o := store.Object{
		ID: first, Bucket: wd.bucket.ID, Name: name, Cluster: 1, Size: int64(len(data)), ETag: md5.Sum(data),
		ContentType: "text/plain", Created: wd.now,
	}
	has := map[store.StorageID]bool{}
	for _, id := range on {
		has[id] = true
		info := store.EntityInfo{ID: o.ID, Size: o.Size, Bucket: "b", Name: name, ETag: o.ETag, Created: wd.now}
		if err := wd.disks[id].Put(wd.t.Context(), info, data); err != nil {
			wd.t.Fatal(err)
		}
	}
	for id := store.StorageID(1); id <= 3; id++ {
		if !has[id] {
			o.Missing = append(o.Missing, id)
		}
	}
	if commit {
		if _, err := wd.cat.Commit(wd.t.Context(), store.Commit{Object: o}); err != nil {
			wd.t.Fatal(err)
		}
	}
	return o
}

// holders are the storages that hold an object's bytes as they were written.
func (wd *world) holders(o store.Object) (ids []store.StorageID) {
	for id := store.StorageID(1); id <= 3; id++ {
		data, err := wd.disks[id].Get(wd.t.Context(), o.ID, o.Size, nil)
		if err == nil && md5.Sum(data) == o.ETag {
			ids = append(ids, id)
		}
	}
	return ids
}

func (wd *world) task(kind string, arg string) error {
	wd.t.Helper()
	return wd.w.Handlers()[kind](wd.t.Context(), []byte(arg))
}

func (wd *world) replicate(id store.ObjectID) error {
	return wd.task(store.TaskReplicate, fmt.Sprintf(`{"object":%d}`, id))
}

// round runs one round of what has no task of its own.
func (wd *world) round() {
	wd.t.Helper()
	if err := worker.Round(wd.w, wd.t.Context()); err != nil {
		wd.t.Logf("round: %v", err)
	}
}

func (wd *world) missing(o store.Object) []store.StorageID {
	wd.t.Helper()
	got, err := wd.cat.ObjectByID(wd.t.Context(), o.ID)
	if err != nil {
		wd.t.Fatal(err)
	}
	return got.Missing
}

func TestReplicate(t *testing.T) {
	for _, size := range []int{0, 100, 3 << 20} {
		wd := newWorld(t)
		o := wd.put("o", make([]byte, size), true, 1)
		if err := wd.replicate(o.ID); err != nil {
			t.Fatal(err)
		}
		if got := wd.holders(o); len(got) != 3 || wd.missing(o) != nil {
			t.Errorf("%d bytes: held by %v, missing on %v", size, got, wd.missing(o))
		}
		if err := wd.replicate(o.ID); err != nil {
			t.Errorf("again: %v", err)
		}
	}
}

// A storage that is away stays listed, and gets its entities when it is back, without the task being tried over and over.
func TestCatchUp(t *testing.T) {
	wd := newWorld(t)
	wd.away[3] = true
	o := wd.put("o", []byte("data"), true, 1, 2)
	if err := wd.replicate(o.ID); err != nil {
		t.Fatalf("replicate with a storage away: %v", err)
	}
	wd.round()
	if got := wd.missing(o); len(got) != 1 {
		t.Fatalf("missing %v; want storage 3", got)
	}
	wd.away[3] = false
	wd.round()
	if got := wd.holders(o); len(got) != 3 || wd.missing(o) != nil {
		t.Errorf("held by %v, missing on %v", got, wd.missing(o))
	}
	// One that is declared dead is owed nothing any more.
	p := wd.put("p", []byte("data"), true, 1, 2)
	if err := wd.cat.SetStorageMode(t.Context(), 3, store.ModeDead); err != nil {
		t.Fatal(err)
	}
	if err := wd.replicate(p.ID); err != nil || wd.missing(p) != nil {
		t.Errorf("%v, missing on %v", err, wd.missing(p))
	}
}

func TestRepair(t *testing.T) {
	wd := newWorld(t)
	o := wd.put("o", []byte("precious"), true, 1, 2, 3)
	ctx := t.Context()
	if err := wd.disks[1].Delete(ctx, []store.ObjectID{o.ID}); err != nil {
		t.Fatal(err)
	}
	// On storage 2, other bytes of the same length, which its own checksum takes for good.
	wrong := []byte("previous")
	if err := wd.disks[2].Put(ctx, store.EntityInfo{ID: o.ID, Size: o.Size, Bucket: "b", Name: "o", ETag: md5.Sum(wrong), Created: wd.now}, wrong); err != nil {
		t.Fatal(err)
	}
	repair := fmt.Sprintf(`{"object":%d,"storage":1}`, o.ID)
	if err := wd.task(store.TaskRepairObject, repair); err != nil {
		t.Fatal(err)
	}
	if got := wd.holders(o); len(got) != 3 {
		t.Errorf("held by %v", got)
	}
	// One that cannot be written is owed the entity instead.
	if err := errors.Join(wd.disks[1].Delete(ctx, []store.ObjectID{o.ID}), wd.cat.SetStorageMode(ctx, 1, store.ModeRO)); err != nil {
		t.Fatal(err)
	}
	if err := wd.task(store.TaskRepairObject, repair); err != nil {
		t.Fatal(err)
	}
	if got := wd.missing(o); len(got) != 1 || got[0] != 1 {
		t.Errorf("missing on %v; want storage 1", got)
	}
	// With no good copy left the task fails, and touches nothing.
	if err := errors.Join(wd.disks[2].Delete(ctx, []store.ObjectID{o.ID}), wd.disks[3].Delete(ctx, []store.ObjectID{o.ID})); err != nil {
		t.Fatal(err)
	}
	if err := wd.task(store.TaskRepairObject, repair); err == nil {
		t.Error("a repair without any source succeeded")
	}
}

// An entity that was found bad while nothing could be written is not taken for good for being there.
func TestReplicateReplacesWhatIsBad(t *testing.T) {
	wd := newWorld(t)
	data := []byte("precious, and bad on storage 1")
	o := wd.put("o", data, true, 1, 2, 3)
	wd.rot(1, data)
	ctx := t.Context()
	if err := wd.cat.SetStorageMode(ctx, 1, store.ModeRO); err != nil {
		t.Fatal(err)
	}
	if err := wd.task(store.TaskRepairObject, fmt.Sprintf(`{"object":%d,"storage":1}`, o.ID)); err != nil {
		t.Fatal(err)
	}
	if got := wd.missing(o); len(got) != 1 || got[0] != 1 {
		t.Fatalf("missing on %v; want storage 1", got)
	}
	if err := wd.cat.SetStorageMode(ctx, 1, store.ModeRW); err != nil {
		t.Fatal(err)
	}
	if err := wd.replicate(o.ID); err != nil {
		t.Fatal(err)
	}
	if got := wd.missing(o); len(got) > 0 {
		t.Errorf("missing on %v", got)
	}
	if got := wd.holders(o); len(got) != 3 {
		t.Errorf("held by %v", got)
	}
}

// before is devices of which one does something before it takes an entity.
type before struct {
	*world
	on store.StorageID
	do func()
}

func (b before) Device(s *store.Storage) store.Device {
	if s.ID != b.on {
		return b.world.Device(s)
	}
	return beforeCreate{b.world.Device(s), b.do}
}

type beforeCreate struct {
	store.Device
	do func()
}

func (d beforeCreate) Create(ctx context.Context, info store.EntityInfo) (store.EntityWriter, error) {
	d.do()
	return d.Device.Create(ctx, info)
}

// An entity that comes after those who delete it leaves nothing behind: the block of ids that it is of was swept long ago.
func TestReplicateWhatIsDeletedMeanwhile(t *testing.T) {
	wd := newWorld(t)
	o := wd.put("o", []byte("short-lived"), true, 1, 2)
	kept := wd.put("kept", []byte("kept"), true, 1, 2)
	ctx := t.Context()
	for _, id := range []store.ObjectID{o.ID, kept.ID} {
		if err := errors.Join(wd.cat.CloseLease(ctx, id), wd.cat.DropLease(ctx, id)); err != nil {
			t.Fatal(err)
		}
	}
	w := wd.workerWith("copier", before{wd, 3, func() {
		if _, err := wd.cat.Delete(ctx, wd.bucket.ID, "o", store.Condition{}); errors.Is(err, store.ErrNoObject) {
			return
		}
		wd.now = wd.now.Add(2 * grace)
		if err := wd.task(store.TaskDeleteObject, fmt.Sprintf(`{"object":%d}`, o.ID)); err != nil {
			t.Error(err)
		}
	}})
	for _, id := range []store.ObjectID{o.ID, kept.ID} {
		if err := w.Handlers()[store.TaskReplicate](ctx, fmt.Appendf(nil, `{"object":%d}`, id)); err != nil {
			t.Fatal(err)
		}
	}
	if unknown, err := wd.cat.Unknown(ctx, []store.ObjectID{o.ID}); err != nil || len(unknown) != 1 {
		t.Fatalf("Unknown = %v, %v; want it forgotten", unknown, err)
	}
	if got := wd.holders(o); len(got) > 0 {
		t.Errorf("held by %v", got)
	}
	if got := wd.holders(kept); len(got) != 3 {
		t.Errorf("what is still there is held by %v", got)
	}
}

// The file goes first and the row after: a storage that is away must not keep bytes that nobody knows of.
func TestDeleteWaitsForEveryStorage(t *testing.T) {
	wd := newWorld(t)
	ctx := t.Context()
	o := wd.put("o", []byte("data"), true, 1, 2, 3)
	if _, err := wd.cat.Delete(ctx, wd.bucket.ID, "o", store.Condition{}); err != nil {
		t.Fatal(err)
	}
	arg := fmt.Sprintf(`{"object":%d}`, o.ID)
	if err := wd.task(store.TaskDeleteObject, arg); !errors.Is(err, store.ErrInUse) || len(wd.holders(o)) != 3 {
		t.Fatalf("in the grace time: %v, held by %v", err, wd.holders(o))
	}
	wd.now = wd.now.Add(grace)
	wd.away[2] = true
	if err := wd.task(store.TaskDeleteObject, arg); err == nil {
		t.Fatal("the task succeeded with a storage away")
	}
	if _, err := wd.cat.DeletedObject(ctx, o.ID); err != nil {
		t.Fatalf("the row is gone before the file: %v", err)
	}
	wd.away[2] = false
	if err := wd.task(store.TaskDeleteObject, arg); err != nil {
		t.Fatal(err)
	}
	if got := wd.holders(o); len(got) != 0 {
		t.Errorf("still held by %v", got)
	}
	if _, err := wd.cat.DeletedObject(ctx, o.ID); !errors.Is(err, store.ErrNoObject) {
		t.Errorf("the row is still there: %v", err)
	}
	if err := wd.task(store.TaskDeleteObject, arg); err != nil {
		t.Errorf("again: %v", err)
	}
}

// Everything from a recursive delete to the last file, through the queue.
func TestDeleteBucketThroughTheQueue(t *testing.T) {
	wd := newWorld(t)
	var objects []store.Object
	for i := range 20 {
		objects = append(objects, wd.put(fmt.Sprint("o", i), []byte("data"), true, 1, 2, 3))
	}
	if err := wd.cat.DeleteBucket(t.Context(), "b", true); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the bucket first, then, after the grace time, the objects
		wd.now = wd.now.Add(2 * grace)
		wd.runJobs(store.TaskDeleteBucket, store.TaskDeleteObject)
	}
	for _, o := range objects {
		if got := wd.holders(o); len(got) != 0 {
			t.Errorf("object %d is still held by %v", o.ID, got)
		}
	}
	totals, err := wd.cat.Totals(t.Context())
	if err != nil || totals.DeletedObjects != 0 || totals.DeletedBuckets != 0 {
		t.Errorf("Totals = %+v, %v", totals, err)
	}
}

// runJobs does the jobs of some kinds that are due, until none is left.
func (wd *world) runJobs(kinds ...string) {
	wd.t.Helper()
	for {
		list, err := wd.opened.Queue.Grab(wd.t.Context(), jobs.GrabRequest{Funcs: kinds, N: 100, Lease: time.Minute})
		if err != nil {
			wd.t.Fatal(err)
		}
		if len(list) == 0 {
			return
		}
		for _, j := range list {
			if err := wd.task(j.Func, string(j.Arg)); err != nil {
				wd.t.Fatal(err)
			}
			if err := wd.opened.Queue.Finish(wd.t.Context(), []jobs.Result{{Job: j, Verdict: jobs.Done}}); err != nil {
				wd.t.Fatal(err)
			}
		}
	}
}

// Uploads that were never committed leave nothing after the grace time; what is committed or deleted is not touched.
func TestSweep(t *testing.T) {
	wd := newWorld(t)
	kept := wd.put("kept", []byte("kept"), true, 1, 2, 3)
	orphan := wd.put("orphan", []byte("orphan"), false, 1, 3)
	wd.round()
	if got := wd.holders(orphan); len(got) != 2 {
		t.Fatalf("an upload under way was removed: held by %v", got)
	}
	wd.now = wd.now.Add(2 * grace)
	wd.away[3] = true
	wd.round()
	if got := wd.holders(orphan); len(got) != 1 || got[0] != 3 {
		t.Errorf("orphan is held by %v; want storage 3, which is away", got)
	}
	// The block is fenced off: the upload cannot be committed any more.
	if _, err := wd.cat.Commit(t.Context(), store.Commit{Object: orphan}); !errors.Is(err, store.ErrLease) {
		t.Errorf("Commit after the sweep = %v; want ErrLease", err)
	}
	wd.away[3] = false
	wd.round()
	if got := wd.holders(orphan); len(got) != 0 {
		t.Errorf("orphan is held by %v", got)
	}
	if got := wd.holders(kept); len(got) != 3 {
		t.Errorf("kept is held by %v", got)
	}
	if leases, err := wd.cat.Leases(t.Context(), wd.now, 10); err != nil || len(leases) != 0 {
		t.Errorf("leases left: %v, %v", leases, err)
	}
}

func TestUsageReachesTheCatalog(t *testing.T) {
	wd := newWorld(t)
	wd.away[2] = true
	wd.round()
	top, err := wd.cat.Topology(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range top.Storages {
		if known := s.Capacity > 0 && s.Used > 0; known == wd.away[s.ID] {
			t.Errorf("storage %d: capacity %d, used %d", s.ID, s.Capacity, s.Used)
		}
	}
}

func TestBadArguments(t *testing.T) {
	wd := newWorld(t)
	for kind := range wd.w.Handlers() {
		if err := wd.task(kind, "nonsense"); err == nil {
			t.Errorf("%s took nonsense", kind)
		}
	}
	for kind, arg := range map[string]string{
		store.TaskReplicate: `{"object":99}`, store.TaskDeleteObject: `{"object":99}`, store.TaskRepairObject: `{"object":99}`, store.TaskDeleteBucket: `{"bucket":99}`,
	} {
		if err := wd.task(kind, arg); err != nil {
			t.Errorf("%s of what is gone: %v", kind, err)
		}
	}
}

// Many deletions are done at once, each with an outcome of its own; those on a storage that is away are not forgotten.
func TestDeleteInBatches(t *testing.T) {
	wd := newWorld(t)
	var args [][]byte
	var objects []store.Object
	for i := range 300 {
		o := wd.put(fmt.Sprint("o", i), fmt.Append(nil, "body", i), true, 1, 2, 3)
		objects = append(objects, o)
		args = append(args, fmt.Appendf(nil, `{"object":%d}`, o.ID))
	}
	remove := func(o store.Object) {
		t.Helper()
		if _, err := wd.cat.Delete(t.Context(), wd.bucket.ID, o.Name, store.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range objects[:200] {
		remove(o)
	}
	wd.now = wd.now.Add(2 * grace)
	for _, o := range objects[200:250] {
		remove(o) // their grace time is not over; the rest is not deleted at all
	}
	batch := wd.w.BatchHandlers()[store.TaskDeleteObject]
	wd.away[2] = true
	for i, err := range batch(t.Context(), args) {
		switch {
		case i < 200 && !errors.Is(err, errAway), i >= 200 && i < 250 && !errors.Is(err, store.ErrInUse), i >= 250 && err != nil:
			t.Errorf("object %d: %v", i, err)
		}
	}
	wd.away[2] = false
	if got := wd.holders(objects[0]); len(got) != 1 || got[0] != 2 {
		t.Errorf("the storages that were there hold on to it: %v", got)
	}
	args = append(args, []byte("nonsense"))
	for i, err := range batch(t.Context(), args) {
		if (err != nil) != (i >= 200 && i < 250 || i == 300) {
			t.Errorf("object %d, the second time: %v", i, err)
		}
	}
	for i, o := range objects {
		if got := wd.holders(o); (len(got) == 0) != (i < 200) {
			t.Errorf("object %d is held by %v", i, got)
		}
	}
	if totals, err := wd.cat.Totals(t.Context()); err != nil || totals.DeletedObjects != 50 || totals.Objects != 50 {
		t.Errorf("%+v, %v", totals, err)
	}
}

// The time of day jumps an hour ahead: a block of ids that is still renewed is not taken for abandoned, and one that is not is.
func TestSweepWhenTheClockJumps(t *testing.T) {
	wd := newWorld(t)
	w := worker.New(wd.cat, wd, worker.Options{Grace: grace, Now: wd.clock, Owner: "w", LeaseWatch: time.Nanosecond})
	first, err := wd.cat.LeaseIDs(t.Context(), "alive", 1)
	if err != nil {
		t.Fatal(err)
	}
	orphan := wd.put("abandoned", []byte("x"), false, 1, 2, 3)
	round := func(by time.Duration) {
		t.Helper()
		wd.now = wd.now.Add(by)
		if err := worker.Round(w, t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	round(time.Hour)
	if got := wd.holders(orphan); len(got) != 3 {
		t.Errorf("removed at first sight: %v are left", got)
	}
	wd.now = wd.now.Add(time.Second)
	if err := wd.cat.RenewLeases(t.Context(), "alive", []store.ObjectID{first}); err != nil {
		t.Fatal(err)
	}
	round(time.Hour) // and once more
	if got := wd.holders(orphan); len(got) != 0 {
		t.Errorf("abandoned, and still on %v", got)
	}
	o := store.Object{ID: first, Bucket: wd.bucket.ID, Name: "late", Cluster: 1, Created: wd.now}
	if _, err := wd.cat.Commit(t.Context(), store.Commit{Object: o}); err != nil {
		t.Errorf("an upload of a process that is alive: %v", err)
	}
}
