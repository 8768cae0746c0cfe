package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/store"
)

// CatalogSetup is what an implementation gives the suite: an empty catalog, which the suite closes.
type CatalogSetup struct {
	Catalog store.Catalog
	// Tasks returns what has been enqueued since it was last called, in order; tasks of transactions that were rolled
	// back are not among them. The suite does not expect tasks with the same Unique key to be folded.
	Tasks func() []store.Task
	// Grace is how long after a delete its task is to run.
	Grace time.Duration
}

// Catalog is the suite that all catalogs pass. open must use the clock it is given.
func Catalog(t *testing.T, open func(t *testing.T, now func() time.Time) CatalogSetup) {
	for _, c := range []struct {
		name string
		run  func(*catalogTest)
	}{
		{"FindCommit", catalogFindCommit},
		{"FindNothing", catalogFindNothing},
		{"Overwrite", catalogOverwrite},
		{"CommitRepeated", catalogCommitRepeated},
		{"CommitRefused", catalogCommitRefused},
		{"Conditions", catalogConditions},
		{"DeleteConditions", catalogDeleteConditions},
		{"Names", catalogNames},
		{"Delete", catalogDelete},
		{"Update", catalogUpdate},
		{"Rename", catalogRename},
		{"Scan", catalogScan},
		{"ScanLong", catalogScanLong},
		{"Leases", catalogLeases},
		{"CloseLease", catalogCloseLease},
		{"Witness", catalogWitness},
		{"Gaps", catalogGaps},
		{"Backups", catalogBackups},
		{"Buckets", catalogBuckets},
		{"ListBuckets", catalogListBuckets},
		{"RenameBucket", catalogRenameBucket},
		{"DeleteBucket", catalogDeleteBucket},
		{"DeleteBucketRecursive", catalogDeleteBucketRecursive},
		{"Missing", catalogMissing},
		{"MissingOn", catalogMissingOn},
		{"MissingGone", catalogMissingGone},
		{"Repair", catalogRepair},
		{"DeletedObjects", catalogDeletedObjects},
		{"Undelete", catalogUndelete},
		{"UndeleteOverwritten", catalogUndeleteOverwritten},
		{"UndeleteTooLate", catalogUndeleteTooLate},
		{"UndeleteBucket", catalogUndeleteBucket},
		{"Unknown", catalogUnknown},
		{"Totals", catalogTotals},
		{"Topology", catalogTopology},
		{"NewStorage", catalogNewStorage},
		{"RemoveCluster", catalogRemoveCluster},
		{"RemoveStorage", catalogRemoveStorage},
		{"Health", catalogHealth},
		{"HealthMajority", catalogHealthMajority},
		{"Processes", catalogProcesses},
		{"HealthDead", catalogHealthDead},
		{"HealthUncounted", catalogHealthUncounted},
		{"Owed", catalogOwed},
		{"Accounts", catalogAccounts},
		{"Settings", catalogSettings},
		{"SwapSetting", catalogSwapSetting},
		{"Operations", catalogOperations},
		{"OperationLeases", catalogOperationLeases},
		{"OperationLeaseSetBack", catalogOperationLeaseSetBack},
		{"OperationRecords", catalogOperationRecords},
		{"Inventory", catalogInventory},
		{"MoveObject", catalogMoveObject},
		{"Written", catalogWritten},
		{"WrittenGone", catalogWrittenGone},
		{"WrittenTogether", catalogWrittenTogether},
		{"Context", catalogContext},
		{"ConcurrentAbsent", catalogConcurrentAbsent},
		{"ConcurrentOverwrite", catalogConcurrentOverwrite},
		{"ConcurrentSwap", catalogConcurrentSwap},
		{"ConcurrentReaders", catalogConcurrentReaders},
		{"ConcurrentLeases", catalogConcurrentLeases},
		{"ConcurrentBuckets", catalogConcurrentBuckets},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they wait for disks most of the time
			clock := &catalogClock{t: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
			s := open(t, clock.now)
			t.Cleanup(func() {
				if err := s.Catalog.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			c.run(&catalogTest{T: t, CatalogSetup: s, clock: clock, ctx: t.Context()})
		})
	}
}

// catalogClock stands still until it is moved.
type catalogClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *catalogClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *catalogClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// catalogTest is one test's surroundings.
type catalogTest struct {
	*testing.T
	CatalogSetup
	clock *catalogClock
	ctx   context.Context
	ids   []store.ObjectID
}

func (t *catalogTest) ok(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *catalogTest) want(err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error is %v; want %v", err, target)
	}
}

func (t *catalogTest) equal(what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

// id returns an id that may be committed.
func (t *catalogTest) id() store.ObjectID {
	t.Helper()
	if len(t.ids) == 0 {
		const n = 1000
		first, err := t.Catalog.LeaseIDs(t.ctx, "suite", n)
		t.ok(err)
		for i := range store.ObjectID(n) {
			t.ids = append(t.ids, first+i)
		}
	}
	id := t.ids[0]
	t.ids = t.ids[1:]
	return id
}

func (t *catalogTest) bucket(name string) store.Bucket {
	t.Helper()
	b, err := t.Catalog.CreateBucket(t.ctx, store.Bucket{Name: name})
	t.ok(err)
	return b
}

// object makes one that has everything.
func (t *catalogTest) object(b store.Bucket, name string) store.Object {
	t.Helper()
	id := t.id()
	o := store.Object{
		ID: id, Bucket: b.ID, Name: name, Cluster: 1, Size: int64(id) * 1000, ContentType: "image/png",
		CacheControl: "max-age=60", Created: t.clock.now(), Replicas: 2,
		Meta: []store.Field{{Name: "camera", Value: "Holga"}, {Name: "note", Value: ""}, {Name: "camera", Value: "ü\x00"}},
	}
	o.ETag = etagOf(id)
	return o
}

func etagOf(id store.ObjectID) (e [16]byte) {
	copy(e[:], fmt.Sprintf("etag-%011d", id))
	return e
}

// put commits a new object.
func (t *catalogTest) put(b store.Bucket, name string) store.Object {
	t.Helper()
	o := t.object(b, name)
	_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o})
	t.ok(err)
	return o
}

func (t *catalogTest) find(b store.Bucket, name string) store.Object {
	t.Helper()
	gotB, o, err := t.Catalog.Find(t.ctx, b.Name, name)
	t.ok(err)
	t.equal("bucket", gotB, b)
	return o
}

// wantObject finds it by name and by id.
func (t *catalogTest) wantObject(b store.Bucket, want store.Object) {
	t.Helper()
	t.equal("Find", t.find(b, want.Name), want)
	got, err := t.Catalog.ObjectByID(t.ctx, want.ID)
	t.ok(err)
	t.equal("ObjectByID", got, want)
}

func (t *catalogTest) wantGone(b store.Bucket, name string) {
	t.Helper()
	gotB, _, err := t.Catalog.Find(t.ctx, b.Name, name)
	t.want(err, store.ErrNoObject)
	t.equal("bucket", gotB, b)
}

// names lists a bucket.
func (t *catalogTest) names(b store.Bucket, from string, limit int) []string {
	t.Helper()
	var names []string
	t.ok(t.Catalog.Scan(t.ctx, b.ID, from, limit, func(o *store.Object) bool {
		names = append(names, o.Name)
		return true
	}))
	return names
}

func (t *catalogTest) wantTasks(want ...store.Task) {
	t.Helper()
	t.equal("tasks", t.Tasks(), want)
}

// deletion is the task that deleting an object now leaves.
func (t *catalogTest) deletion(id store.ObjectID) store.Task {
	return store.NewDeleteObject(id, t.clock.now().Add(t.Grace))
}
