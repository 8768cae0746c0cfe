package disk

import (
	"slices"
	"sort"

	"wheelhouse/store"
)

// index finds an entity in one pack. Positions count from 0 to count()-1; a position keeps its entry as long as the
// index lives.
type index interface {
	// find gives the newest entry of id.
	find(id store.ObjectID) (pos int, e entry, ok bool)
	// scan yields the newest entries of the ids ≥ from, in order of id, until yield returns false.
	scan(from store.ObjectID, yield func(pos int, e entry) bool)
	// each calls f for the newest entries of all ids, in any order.
	each(f func(pos int, e entry))
	count() int
}

// memIndex is that of a pack that is being written. Its owner guards it.
type memIndex struct {
	entries []entry // in the order in which they were added; only the newest of an id is in byID
	byID    map[store.ObjectID]int32
	sorted  []int32 // positions in order of id, one each; complete while !dirty
	dirty   bool
}

func newMemIndex() *memIndex { return &memIndex{byID: map[store.ObjectID]int32{}} }

// add puts e in, and gives the position of the entry that it replaces, or -1.
func (x *memIndex) add(e entry) (replaced int) {
	pos := int32(len(x.entries))
	replaced = -1
	if old, ok := x.byID[e.id]; ok {
		replaced = int(old)
		x.dirty = true
	} else if n := len(x.sorted); !x.dirty && (n == 0 || x.entries[x.sorted[n-1]].id < e.id) {
		x.sorted = append(x.sorted, pos)
	} else {
		x.dirty = true
	}
	x.entries = append(x.entries, e)
	x.byID[e.id] = pos
	return replaced
}

func (x *memIndex) count() int { return len(x.entries) }

func (x *memIndex) find(id store.ObjectID) (int, entry, bool) {
	pos, ok := x.byID[id]
	if !ok {
		return 0, entry{}, false
	}
	return int(pos), x.entries[pos], true
}

// sort makes the order complete: the caller must hold off writers as well as readers.
func (x *memIndex) sort() {
	if !x.dirty {
		return
	}
	x.sorted = x.sorted[:0]
	for _, pos := range x.byID {
		x.sorted = append(x.sorted, pos)
	}
	slices.SortFunc(x.sorted, func(a, b int32) int {
		if x.entries[a].id < x.entries[b].id {
			return -1
		}
		return 1
	})
	x.dirty = false
}

// scan needs sort to have been called.
func (x *memIndex) scan(from store.ObjectID, yield func(pos int, e entry) bool) {
	i := sort.Search(len(x.sorted), func(i int) bool { return x.entries[x.sorted[i]].id >= from })
	for ; i < len(x.sorted); i++ {
		if pos := x.sorted[i]; !yield(int(pos), x.entries[pos]) {
			return
		}
	}
}

func (x *memIndex) each(f func(pos int, e entry)) {
	for _, pos := range x.byID {
		f(int(pos), x.entries[pos])
	}
}
