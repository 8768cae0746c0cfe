package disk

import (
	"container/heap"
	"context"
	"errors"
	"math"
	"time"

	"wheelhouse/store"
)

// cursorBatch is how many entries are taken from an index at a time, so that its lock is held for microseconds.
const cursorBatch = 256

// cursor walks through the live entries of one pack, in order of id. It reads nothing before it is its turn.
type cursor struct {
	p      *pack
	at     store.ObjectID // ids below have been passed
	buf    []entry
	loaded bool
}

// key is the least id that the cursor may give next.
func (c *cursor) key() store.ObjectID {
	if c.loaded {
		return c.buf[0].id
	}
	return c.at
}

// advance brings the cursor to its next entry; false at the end.
func (c *cursor) advance(to store.ObjectID, room []entry) (bool, error) {
	if c.loaded {
		c.at = c.buf[0].id + 1
		if c.buf = c.buf[1:]; len(c.buf) > 0 {
			return true, nil
		}
	}
	var err error
	c.buf, err = c.p.collect(c.at, to, room)
	c.loaded = true
	return len(c.buf) > 0, err
}

// cursors is a heap: the least id first, of equal ones that of the newest pack.
type cursors []*cursor

func (h cursors) Len() int { return len(h) }
func (h cursors) Less(i, j int) bool {
	a, b := h[i].key(), h[j].key()
	return a < b || a == b && h[i].p.number > h[j].p.number
}
func (h cursors) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *cursors) Push(x any)   { *h = append(*h, x.(*cursor)) }
func (h *cursors) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// eachPacked calls yield for the live entries of all packs with ids in [from, to), each id once, in order.
func (d *Disk) eachPacked(from, to store.ObjectID, yield func(entry) bool) error {
	var h cursors
	v := d.packs.view()
	for _, p := range v.open {
		h = append(h, &cursor{p: p, at: from})
	}
	for _, r := range v.sealed {
		if r.hi >= from && r.lo < to {
			h = append(h, &cursor{p: r.p, at: max(from, r.lo)})
		}
	}
	heap.Init(&h)
	last := store.ObjectID(0)
	for len(h) > 0 {
		c := h[0]
		if c.loaded && c.buf[0].id != last {
			last = c.buf[0].id
			if !yield(c.buf[0]) {
				return nil
			}
		}
		var room []entry
		if !c.loaded || len(c.buf) == 1 {
			room = make([]entry, 0, cursorBatch)
		}
		more, err := c.advance(to, room)
		if err != nil {
			return err
		}
		if more {
			heap.Fix(&h, 0)
		} else {
			heap.Pop(&h)
		}
	}
	return nil
}

// each calls yield for all entities with ids in [from, to), in order of id.
func (d *Disk) each(ctx context.Context, from, to store.ObjectID, yield func(store.ManifestEntry) bool) error {
	var files fileCursor
	files.reset(d.files, from, to)
	defer files.stop()
	stopped, n := false, 0
	var failed error
	emit := func(m store.ManifestEntry) bool {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			failed, stopped = ctx.Err(), true
		} else if !yield(m) {
			stopped = true
		}
		return !stopped
	}
	err := d.eachPacked(from, to, func(e entry) bool {
		for files.ok && files.id <= e.id {
			if files.id < e.id && !emit(files.entry()) {
				return false
			}
			files.next()
		}
		return emit(store.ManifestEntry{ID: e.id, Size: int64(e.size), CRC: e.crc, Stored: time.Unix(int64(e.stored), 0)})
	})
	for !stopped && err == nil && files.ok {
		emit(files.entry())
		files.next()
	}
	return errors.Join(err, failed, files.err)
}

// Manifest implements [store.Device]. An entity that was adopted without a record has CRC 0.
func (d *Disk) Manifest(ctx context.Context, from, to store.ObjectID, limit int) ([]store.ManifestEntry, error) {
	if limit <= 0 || from >= to {
		return nil, nil
	}
	var all []store.ManifestEntry
	err := d.each(ctx, from, to, func(m store.ManifestEntry) bool {
		all = append(all, m)
		return len(all) < limit
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Digest implements [store.Device]. It is computed from the mapped indexes: some ten million entities a second.
func (d *Disk) Digest(ctx context.Context, from, to store.ObjectID) (store.RangeDigest, error) {
	var sum store.RangeDigest
	err := d.each(ctx, from, to, func(m store.ManifestEntry) bool {
		sum.Add(m.ID, m.Size, m.CRC)
		return true
	})
	if err != nil {
		return store.RangeDigest{}, err
	}
	return sum, nil
}

const maxID = store.ObjectID(math.MaxUint64)
