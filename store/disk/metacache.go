package disk

import (
	"sync"

	"wheelhouse/store"
)

// maxCachedSums bounds the checksums in a metaCache: 16 MiB of them, for 4 TiB of entities.
const maxCachedSums = 4 << 20

// maxCachedMetas bounds the records in a metaCache.
const maxCachedMetas = 4096

// metaCache keeps the records of files that were read lately; the oldest goes first.
type metaCache struct {
	mu    sync.Mutex
	byID  map[store.ObjectID]*fileMeta
	order []store.ObjectID // oldest first; may name what is gone
	sums  int
}

func (c *metaCache) get(id store.ObjectID) *fileMeta {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byID[id]
}

func (c *metaCache) put(id store.ObjectID, m *fileMeta) {
	if len(m.blocks) > maxCachedSums/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID == nil {
		c.byID = map[store.ObjectID]*fileMeta{}
	}
	c.dropLocked(id)
	c.byID[id] = m
	c.order = append(c.order, id)
	c.sums += len(m.blocks)
	for len(c.order) > maxCachedMetas || c.sums > maxCachedSums {
		c.dropLocked(c.order[0])
		c.order = c.order[1:]
	}
}

func (c *metaCache) drop(id store.ObjectID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(id)
}

func (c *metaCache) dropLocked(id store.ObjectID) {
	if m := c.byID[id]; m != nil {
		c.sums -= len(m.blocks)
		delete(c.byID, id)
	}
}
