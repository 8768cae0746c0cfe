package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// paused is a catalog whose calls can be held up: after a Find has read, before and after a Commit or Delete is done.
type paused struct {
	*catalog.SQLite
	afterFind, beforeCommit, afterCommit func(name string)
}

func (p *paused) Find(ctx context.Context, bucket, name string) (store.Bucket, store.Object, error) {
	b, o, err := p.SQLite.Find(ctx, bucket, name)
	if p.afterFind != nil {
		p.afterFind(name)
	}
	return b, o, err
}

func (p *paused) Delete(ctx context.Context, b store.BucketID, name string, cond store.Condition) (store.Object, error) {
	if p.beforeCommit != nil {
		p.beforeCommit(name)
	}
	o, err := p.SQLite.Delete(ctx, b, name, cond)
	if p.afterCommit != nil {
		p.afterCommit(name)
	}
	return o, err
}

// cacheTest is a cache over such a catalog, with one bucket and one object, cached.
type cacheTest struct {
	*testing.T
	inner *paused
	cache *catalog.Cache
	b     store.Bucket
	first store.ObjectID
}

func newCacheTest(t *testing.T) *cacheTest {
	c, err := catalog.OpenSQLite(t.Context(), t.TempDir()+"/catalog.db", catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ct := &cacheTest{T: t, inner: &paused{SQLite: c}}
	ct.cache = catalog.Cached(ct.inner, 0)
	if ct.b, err = ct.cache.CreateBucket(t.Context(), store.Bucket{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	if ct.first, err = c.LeaseIDs(t.Context(), "test", 100); err != nil {
		t.Fatal(err)
	}
	ct.commit("x", 0)
	ct.find("x")
	ct.find("x")
	return ct
}

func (t *cacheTest) commit(name string, n int) {
	t.Helper()
	o := store.Object{ID: t.first + store.ObjectID(n), Bucket: t.b.ID, Name: name, Cluster: 1, Size: int64(n)}
	if _, err := t.cache.Commit(context.Background(), store.Commit{Object: o}); err != nil {
		t.Fatal(err)
	}
}

// find returns the version, or -1.
func (t *cacheTest) find(name string) int {
	t.Helper()
	_, o, err := t.cache.Find(context.Background(), "b", name)
	if errors.Is(err, store.ErrNoObject) {
		return -1
	}
	if err != nil {
		t.Fatal(err)
	}
	return int(o.Size)
}

func (t *cacheTest) hit(name string) bool {
	_, _, ok := t.cache.Lookup([]byte("b"), []byte(name))
	return ok
}

// TestCachedSlowReader: a reader read before a commit and comes back after it.
func TestCachedSlowReader(t *testing.T) {
	c := newCacheTest(t)
	// A change makes x uncached, so that the next lookup asks the catalog.
	if err := c.cache.ClearMissing(t.Context(), c.first, []store.StorageID{1}); err != nil {
		t.Fatal(err)
	}
	if c.hit("x") {
		t.Fatal("x is still cached after a change")
	}
	c.inner.afterFind = func(string) {
		c.inner.afterFind = nil
		c.commit("x", 1)
	}
	if got := c.find("x"); got != 0 {
		t.Errorf("the reader that began before the commit got version %d; want 0", got)
	}
	for range 3 {
		if got := c.find("x"); got != 1 {
			t.Fatalf("after the commit: version %d; want 1", got)
		}
	}
	// The same with a change that leaves nothing in the cache which would keep the old row out.
	if err := c.cache.ClearMissing(t.Context(), c.first+1, []store.StorageID{1}); err != nil {
		t.Fatal(err)
	}
	c.inner.afterFind = func(string) {
		c.inner.afterFind = nil
		err := c.cache.Update(t.Context(), store.Object{ID: c.first + 1, Bucket: c.b.ID, Name: "x", ContentType: "text/new"})
		if err != nil {
			t.Fatal(err)
		}
	}
	c.find("x")
	if _, o, err := c.cache.Find(t.Context(), "b", "x"); err != nil || o.ContentType != "text/new" {
		t.Errorf("after Update: %+v, %v; want the new content type", o, err)
	}
}

// TestCachedReaderDuringWrite: a reader that reads while a change is under way must not leave the old row behind.
func TestCachedReaderDuringWrite(t *testing.T) {
	c := newCacheTest(t)
	c.inner.beforeCommit = func(string) {
		if got := c.find("x"); got != 0 || c.hit("x") {
			t.Errorf("before the delete: version %d, cached %v; want 0, not cached", got, c.hit("x"))
		}
	}
	c.inner.afterCommit = func(string) {
		if got := c.find("x"); got != -1 || c.hit("x") {
			t.Errorf("after the delete: version %d, cached %v; want none, not cached", got, c.hit("x"))
		}
	}
	if _, err := c.cache.Delete(t.Context(), c.b.ID, "x", store.Condition{}); err != nil {
		t.Fatal(err)
	}
	b, o, ok := c.cache.Lookup([]byte("b"), []byte("x"))
	if !ok || o != nil || b == nil || b.Name != "b" {
		t.Errorf("Lookup after Delete = %v, %v, %v; want known to be gone", b, o, ok)
	}
	if got := c.find("x"); got != -1 {
		t.Errorf("after Delete: version %d", got)
	}
}

// TestCachedOverlap: two changes of one name overlap; the one that ends last is not the one that was done last.
func TestCachedOverlap(t *testing.T) {
	c := newCacheTest(t)
	c.inner.afterCommit = func(string) {
		c.inner.afterCommit = nil
		c.commit("x", 5) // done after the delete, ends before it
	}
	if _, err := c.cache.Delete(t.Context(), c.b.ID, "x", store.Condition{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := c.find("x"); got != 5 {
			t.Errorf("version %d; want 5", got)
		}
	}
}

// TestCachedBuckets: what is known of a bucket does not outlive its changes.
func TestCachedBuckets(t *testing.T) {
	c := newCacheTest(t)
	if !c.hit("x") {
		t.Fatal("x is not cached")
	}
	if err := c.cache.RenameBucket(t.Context(), "b", "c"); err != nil {
		t.Fatal(err)
	}
	if c.hit("x") {
		t.Error("x is still found in the bucket that was renamed")
	}
	if _, _, err := c.cache.Find(t.Context(), "b", "x"); !errors.Is(err, store.ErrNoBucket) {
		t.Errorf("Find = %v; want %v", err, store.ErrNoBucket)
	}
	for range 2 {
		if b, _, err := c.cache.Find(t.Context(), "c", "x"); err != nil || b.Name != "c" {
			t.Errorf("Find = %+v, %v", b, err)
		}
	}
	if _, _, ok := c.cache.Lookup([]byte("c"), []byte("x")); !ok {
		t.Error("x is not cached under the bucket's new name")
	}
}

// TestCachedBound: the cache stays within its bound and keeps what is used.
func TestCachedBound(t *testing.T) {
	c, _ := openSuite(t, nil, sqldb.Options{})
	defer c.Close()
	const bound = 1 << 20
	k := catalog.Cached(c, bound)
	b, err := k.CreateBucket(t.Context(), store.Bucket{Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	const n = 8000
	first, err := c.LeaseIDs(t.Context(), "test", n)
	if err != nil {
		t.Fatal(err)
	}
	hot := []byte("hot")
	for i := range n {
		name := fmt.Sprintf("name/%08d", i)
		if i == 0 {
			name = string(hot)
		}
		if _, err := k.Commit(t.Context(), store.Commit{Object: store.Object{ID: first + store.ObjectID(i), Bucket: b.ID, Name: name}}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, _, err := k.Find(t.Context(), "b", "hot"); err != nil {
				t.Fatal(err)
			}
		}
		if _, o, ok := k.Lookup([]byte("b"), hot); !ok || o.ID != first {
			t.Fatalf("the hot object was evicted after %d commits", i)
		}
	}
	if s := k.Stats(); s.Bytes > bound || s.Bytes < bound/2 || s.Entries < 1000 || s.Entries > 3000 {
		t.Errorf("stats: %+v; want the cache full and within %d bytes", s, bound)
	}
}

func BenchmarkCachedHit(b *testing.B) {
	c, buckets := openBench(b, catalog.Options{})
	k := catalog.Cached(c, 64<<20)
	const n = 50_000
	first, err := c.LeaseIDs(b.Context(), "bench", n)
	if err != nil {
		b.Fatal(err)
	}
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("photos/2026/11/21/%016x.jpg", uint64(i)*0x9e3779b97f4a7c15)
	}
	for i := range buckets {
		if _, err := k.Bucket(b.Context(), buckets[i].Name); err != nil {
			b.Fatal(err)
		}
	}
	commitAll(b, k, buckets, names, first)
	for _, set := range []int{1000, n} { // of them, what is asked for: in the processor's caches, and mostly not
		b.Run(fmt.Sprintf("Find/objects=%d", set), func(b *testing.B) {
			b.ReportAllocs()
			ctx := context.Background()
			i := 0
			for b.Loop() {
				if i += 7919; i >= set {
					i %= set
				}
				if _, _, err := k.Find(ctx, buckets[i%4].Name, names[i]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("Lookup", func(b *testing.B) {
		b.ReportAllocs()
		bucket, name := []byte(buckets[3].Name), []byte(names[3])
		for b.Loop() {
			if _, o, ok := k.Lookup(bucket, name); !ok || o == nil {
				b.Fatal("not cached")
			}
		}
	})
	b.Run("Lookup/parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			i := 0
			for pb.Next() {
				if i += 7919; i >= n {
					i -= n
				}
				if _, o, ok := k.Lookup([]byte(buckets[i%4].Name), []byte(names[i])); !ok || o == nil {
					b.Error("not cached")
					return
				}
			}
		})
	})
}
