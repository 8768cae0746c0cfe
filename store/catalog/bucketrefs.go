package catalog

import (
	"sync"
	"sync/atomic"

	"wheelhouse/store"
)

// bucketRef is a visible bucket in a Cache. Bucket is never changed.
type bucketRef struct {
	store.Bucket
	stale atomic.Bool // it is changed or about to be
}

// bucketRefs are the buckets that a Cache knows, by name. Buckets are changed seldom, so a change of one forgets all.
type bucketRefs struct {
	mu      sync.RWMutex // guards what follows
	byName  map[string]*bucketRef
	gen     uint64 // grows when a change begins and when it ends
	pending int    // changes under way
}

func (r *bucketRefs) init() { r.byName = make(map[string]*bucketRef) }

func (r *bucketRefs) get(name string) *bucketRef {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byName[name]
}

// generation is to be asked for before the catalog is asked for a bucket, and shown to fill.
func (r *bucketRefs) generation() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.gen
}

// fill puts in what the catalog has said.
func (r *bucketRefs) fill(b store.Bucket, gen uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gen != gen || r.pending > 0 {
		return
	}
	if len(r.byName) >= maxBuckets {
		r.forget()
	}
	r.byName[b.Name] = &bucketRef{Bucket: b}
}

func (r *bucketRefs) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gen++
	r.pending++
	r.forget()
}

func (r *bucketRefs) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gen++
	r.pending--
}

// forget drops all. The caller holds mu.
func (r *bucketRefs) forget() {
	for _, ref := range r.byName {
		ref.stale.Store(true)
	}
	clear(r.byName)
}
