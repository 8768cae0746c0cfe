package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"unsafe"

	"wheelhouse/store"
)

// defaultCacheBytes is the bound of a cache that is given none.
const defaultCacheBytes = 32 << 20

// Cache is a catalog with a cache of lookups before it. Every change of the catalog must go through it: use it only
// where all writers are in this process.
//
// A lookup from it is what the catalog would have answered at some moment during the call, so that whoever reads after a
// write has returned sees that write, and nobody sees an older state after a newer one. Three rules make it so. While a
// change of a name is under way nothing is cached under that name. A change removes what was cached before it begins,
// and puts the outcome in when it is done, unless another change of the same name overlapped with it. And a reader that
// asked the catalog puts the answer in only if no change of that part of the cache has begun or ended since it asked: an
// answer from before a commit can never come back after it. (The one exception is which entities are missing, of an
// object that is renamed at the same moment: a hint, which may then be old for as long as the entry lives.)
//
// What is missing (negative answers) is cached only where a Delete has left it.
type Cache struct {
	store.Catalog
	objects objectCache
	buckets bucketRefs
}

var _ store.Catalog = (*Cache)(nil)

// Cached puts a cache before c that holds about maxBytes at most; 0 is 32 MiB. An entry takes about 350 bytes and its
// name. Close closes c.
func Cached(c store.Catalog, maxBytes int64) *Cache {
	k := &Cache{Catalog: c}
	k.objects.init(cmp.Or(max(0, maxBytes), defaultCacheBytes))
	k.buckets.init()
	return k
}

// CacheStats counts lookups.
type CacheStats struct {
	Hits, Misses int64
	Entries      int64
	Bytes        int64 // estimated
}

// Stats counts what has been looked up and what is cached.
func (k *Cache) Stats() CacheStats { return k.objects.stats() }

// Lookup finds an object in the cache alone, without allocating. ok says whether the answer is known; then o is nil if
// the object does not exist. What b and o point to is shared and must not be changed. The arguments are not kept.
func (k *Cache) Lookup(bucket, name []byte) (b *store.Bucket, o *store.Object, ok bool) {
	e, ref, _ := k.lookup(unsafe.String(unsafe.SliceData(bucket), len(bucket)), unsafe.String(unsafe.SliceData(name), len(name)))
	if e == nil {
		return nil, nil, false
	}
	if e.gone {
		return &ref.Bucket, nil, true
	}
	return &ref.Bucket, &e.object, true
}

// lookup returns the entry and its bucket; without an entry, the bucket if that is known, and what fill wants.
func (k *Cache) lookup(bucket, name string) (*entry, *bucketRef, uint64) {
	ref := k.buckets.get(bucket)
	if ref == nil {
		k.objects.missed.Add(1)
		return nil, nil, 0
	}
	e, gen := k.objects.get(objectKey{ref.ID, name})
	if e != nil && ref.stale.Load() { // then the two may never have been true at the same time
		e = nil
	}
	return e, ref, gen
}

// Find is as in [store.Catalog]. What the answer refers to (strings, Meta, Missing) is shared and must not be changed.
func (k *Cache) Find(ctx context.Context, bucket, name string) (store.Bucket, store.Object, error) {
	e, ref, gen := k.lookup(bucket, name)
	if e != nil {
		if e.gone {
			return ref.Bucket, store.Object{}, fmt.Errorf("%w: /%s/%s", store.ErrNoObject, bucket, name)
		}
		return ref.Bucket, e.object, nil
	}
	bgen := k.buckets.generation()
	b, o, err := k.Catalog.Find(ctx, bucket, name)
	if err == nil && ref != nil && ref.ID == b.ID {
		k.objects.fill(objectKey{b.ID, name}, &o, gen)
	}
	if (err == nil || errors.Is(err, store.ErrNoObject)) && ref == nil {
		k.buckets.fill(b, bgen)
	}
	return b, o, err
}

// Bucket is as in [store.Catalog].
func (k *Cache) Bucket(ctx context.Context, name string) (store.Bucket, error) {
	if ref := k.buckets.get(name); ref != nil {
		return ref.Bucket, nil
	}
	gen := k.buckets.generation()
	b, err := k.Catalog.Bucket(ctx, name)
	if err == nil {
		k.buckets.fill(b, gen)
	}
	return b, err
}
