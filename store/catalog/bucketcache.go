package catalog

import (
	"sync"

	"wheelhouse/store"
)

// maxBuckets bounds the cache of buckets. When it is full it is emptied: an installation with more busy buckets than this
// pays one more statement for each.
const maxBuckets = 1 << 14

// bucketCache knows buckets by name. An entry may be out of date: gen is compared with the row's in the statement that
// uses it, so that it is believed only while it is true, whichever process changed it.
type bucketCache struct {
	mu     sync.RWMutex // guards byName
	byName map[string]*cachedBucket
}

// cachedBucket is a bucket as it was at one time; it is never changed.
type cachedBucket struct {
	store.Bucket
	gen int64
}

func (b *bucketCache) init() { b.byName = make(map[string]*cachedBucket) }

func (b *bucketCache) get(name string) *cachedBucket {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byName[name]
}

func (b *bucketCache) put(e *cachedBucket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.byName) >= maxBuckets {
		clear(b.byName)
	}
	b.byName[e.Name] = e
}

func (b *bucketCache) drop(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byName, name)
}
