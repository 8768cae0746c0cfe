package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"wheelhouse/store"
)

const (
	catalogWriters = 16
	catalogRounds  = 40
)

// together runs f in many goroutines and waits.
func (t *catalogTest) together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// block leases ids for goroutines, which must not share t.id.
func (t *catalogTest) block(n int) store.ObjectID {
	first, err := t.Catalog.LeaseIDs(t.ctx, "suite", n)
	t.ok(err)
	return first
}

// catalogConcurrentAbsent: of those who create a name only one does.
func catalogConcurrentAbsent(t *catalogTest) {
	b := t.bucket("b")
	ids := t.block(catalogWriters * catalogRounds)
	for round := range catalogRounds {
		name := fmt.Sprint(round)
		var won atomic.Uint64
		t.together(catalogWriters, func(i int) {
			id := ids + store.ObjectID(round*catalogWriters+i)
			o := store.Object{ID: id, Bucket: b.ID, Name: name, ETag: etagOf(id), Created: t.clock.now()}
			_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o, Condition: store.Condition{Absent: true}})
			if err == nil && !won.CompareAndSwap(0, uint64(id)) {
				t.Errorf("%s was created twice", name)
			}
			if err != nil && !errors.Is(err, store.ErrPrecondition) {
				t.Error(err)
			}
		})
		if got := t.find(b, name); uint64(got.ID) != won.Load() {
			t.Fatalf("object is %d; want the winner's, %d", got.ID, won.Load())
		}
	}
	t.wantTasks()
}

// catalogConcurrentOverwrite: each version is replaced exactly once, and only the last stays.
func catalogConcurrentOverwrite(t *catalogTest) {
	b := t.bucket("b")
	ids := t.block(catalogWriters * catalogRounds)
	replacedBy := make([]store.ObjectID, catalogWriters*catalogRounds)
	var mu sync.Mutex
	none := 0
	t.together(catalogWriters, func(i int) {
		for round := range catalogRounds {
			id := ids + store.ObjectID(i*catalogRounds+round)
			old, err := t.Catalog.Commit(t.ctx, store.Commit{Object: store.Object{ID: id, Bucket: b.ID, Name: "x", Cluster: 1, Size: 1, Created: t.clock.now()}})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			switch {
			case old.ID == 0:
				none++
			case replacedBy[old.ID-ids] != 0:
				t.Errorf("%d was replaced by %d and by %d", old.ID, replacedBy[old.ID-ids], id)
			default:
				replacedBy[old.ID-ids] = id
			}
			mu.Unlock()
		}
	})
	last := t.find(b, "x")
	if none != 1 || replacedBy[last.ID-ids] != 0 {
		t.Errorf("%d commits found nothing; the last version was replaced by %d", none, replacedBy[last.ID-ids])
	}
	const n = catalogWriters * catalogRounds
	totals, err := t.Catalog.Totals(t.ctx)
	t.ok(err)
	t.equal("totals", totals, store.Totals{Buckets: 1, Objects: 1, Bytes: 1, DeletedObjects: n - 1})
	t.equal("tasks", len(t.Tasks()), n-1)
}

// catalogConcurrentSwap: compare-and-swap by ETag loses no update. Each counts one further in Size.
func catalogConcurrentSwap(t *catalogTest) {
	b := t.bucket("b")
	start := store.Object{ID: t.id(), Bucket: b.ID, Name: "counter", Created: t.clock.now()}
	start.ETag = etagOf(start.ID)
	_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: start})
	t.ok(err)
	const each = 15
	const most = 4 * catalogWriters * each * catalogWriters
	ids := t.block(most)
	var next atomic.Uint64
	t.together(catalogWriters, func(int) {
		for done := 0; done < each; {
			_, old, err := t.Catalog.Find(t.ctx, "b", "counter")
			if err != nil {
				t.Error(err)
				return
			}
			o := old
			n := next.Add(1) - 1
			if n >= most {
				t.Error("no progress")
				return
			}
			o.ID = ids + store.ObjectID(n)
			o.ETag = etagOf(o.ID)
			o.Size++
			_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: o, Condition: store.Condition{Match: [][16]byte{old.ETag}}})
			switch {
			case err == nil:
				done++
			case !errors.Is(err, store.ErrPrecondition):
				t.Error(err)
				return
			}
		}
	})
	t.equal("counted", t.find(b, "counter").Size, int64(catalogWriters*each))
}

// catalogConcurrentReaders: who reads after a write was acknowledged sees it or a later one, and nobody sees time go back.
func catalogConcurrentReaders(t *catalogTest) {
	b := t.bucket("b")
	const names, writes = 4, 60
	var acked [names]atomic.Int64
	var done atomic.Bool
	ids := t.block(names * (writes + 1))
	commit := func(k int, n int64) error {
		id := ids + store.ObjectID(int64(k)*(writes+1)+n)
		_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: store.Object{ID: id, Bucket: b.ID, Name: fmt.Sprint(k), Size: n, ETag: etagOf(id), Created: t.clock.now()}})
		return err
	}
	for k := range names {
		t.ok(commit(k, 0))
	}
	var writers sync.WaitGroup
	for k := range names {
		writers.Go(func() {
			for n := int64(1); n <= writes; n++ {
				if n%10 == 5 { // changes that must not bring the old row back either
					if err := t.Catalog.EnqueueRepair(t.ctx, ids, 1); err != nil {
						t.Error(err)
					}
				}
				if err := commit(k, n); err != nil {
					t.Error(err)
				}
				acked[k].Store(n)
			}
		})
	}
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			var seen [names]int64
			for i := r; !done.Load(); i++ {
				k := i % names
				least := max(acked[k].Load(), seen[k])
				_, o, err := t.Catalog.Find(t.ctx, "b", fmt.Sprint(k))
				if err != nil {
					t.Error(err)
					return
				}
				if o.Size < least {
					t.Errorf("read version %d of %d after %d was acknowledged or seen", o.Size, k, least)
					return
				}
				seen[k] = o.Size
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
}

// catalogConcurrentLeases: nobody gets an id that somebody else got.
func catalogConcurrentLeases(t *catalogTest) {
	var mu sync.Mutex
	owner := make(map[store.ObjectID]int)
	t.together(catalogWriters, func(i int) {
		for range catalogRounds {
			first, err := t.Catalog.LeaseIDs(t.ctx, fmt.Sprint(i), 3)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			for id := first; id < first+3; id++ {
				if other, ok := owner[id]; ok {
					t.Errorf("id %d was leased to %d and to %d", id, other, i)
				}
				owner[id] = i
			}
			mu.Unlock()
		}
	})
}

// catalogConcurrentBuckets: a commit goes into a bucket that exists, or fails; none is lost in one that is deleted.
func catalogConcurrentBuckets(t *catalogTest) {
	ids := t.block(catalogWriters * catalogRounds)
	for round := range catalogRounds / 4 {
		b := t.bucket("b")
		var committed atomic.Int64
		t.together(catalogWriters, func(i int) {
			if i == 0 {
				if err := t.Catalog.DeleteBucket(t.ctx, "b", true); err != nil {
					t.Error(err)
				}
				if _, _, err := t.Catalog.Find(t.ctx, "b", "1"); !errors.Is(err, store.ErrNoBucket) {
					t.Errorf("Find in a deleted bucket: %v", err)
				}
				return
			}
			id := ids + store.ObjectID(round*catalogWriters+i)
			_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: store.Object{ID: id, Bucket: b.ID, Name: fmt.Sprint(i), Created: t.clock.now()}})
			switch {
			case err == nil:
				committed.Add(1)
				if _, _, err := t.Catalog.Find(t.ctx, "b", fmt.Sprint(i)); err != nil && !errors.Is(err, store.ErrNoBucket) {
					t.Error(err)
				}
			case !errors.Is(err, store.ErrNoBucket):
				t.Error(err)
			}
		})
		emptied := 0
		for {
			n, err := t.Catalog.EmptyBucket(t.ctx, b.ID, 5)
			t.ok(err)
			if n == 0 {
				break
			}
			emptied += n
		}
		t.equal("emptied", int64(emptied), committed.Load())
	}
}
