package disk

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"wheelhouse/store"
)

// packSet is all packs of a storage. Readers take a view, which is never changed.
type packSet struct {
	cur atomic.Pointer[packView]

	mu  sync.Mutex // held while a view is replaced; guards all
	all []*pack    // in order of number: an entity in a later one is newer
}

type packView struct {
	open   []*pack // being written or about to be sealed, the newest first: one or two
	sealed []packRange
	newest uint64 // the greatest number of a sealed pack
}

// packRange is a sealed pack and the ids that it may hold. Ranges are in order of lo.
type packRange struct {
	lo, hi store.ObjectID
	reach  store.ObjectID // the greatest hi up to here
	p      *pack
}

func (s *packSet) view() *packView { return s.cur.Load() }

// change lets f edit the list of packs, and publishes the result.
func (s *packSet) change(f func(all []*pack) []*pack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = f(s.all)
	v := &packView{}
	for _, p := range s.all {
		p.mu.RLock()
		x, sealed := p.idx.(*mapIndex)
		p.mu.RUnlock()
		if !sealed {
			v.open = append(v.open, p)
		} else if x.count() > 0 {
			v.sealed = append(v.sealed, packRange{lo: x.min, hi: x.max, p: p})
			v.newest = max(v.newest, p.number)
		}
	}
	slices.Reverse(v.open)
	slices.SortFunc(v.sealed, func(a, b packRange) int {
		if a.lo < b.lo {
			return -1
		} else if a.lo > b.lo {
			return 1
		}
		return 0
	})
	var reach store.ObjectID
	for i := range v.sealed {
		reach = max(reach, v.sealed[i].hi)
		v.sealed[i].reach = reach
	}
	s.cur.Store(v)
}

// list is all packs, in order of number.
func (s *packSet) list() []*pack {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// after is how many sealed packs may hold ids ≤ id: those of v.sealed before that position.
func (v *packView) after(id store.ObjectID) int {
	return sort.Search(len(v.sealed), func(i int) bool { return v.sealed[i].lo > id })
}

// find gives the newest live entity of id. The caller releases the handle; pack is nil when there is none.
func (v *packView) find(id store.ObjectID) (p *pack, e entry, h *handle, err error) {
	for _, q := range v.open {
		e2, h2, ok, err2 := q.lookup(id)
		if err2 != nil {
			err = err2
			continue
		}
		if !ok {
			continue
		}
		if q.number > v.newest {
			return q, e2, h2, nil
		}
		p, e, h = q, e2, h2
		break
	}
	for i := v.after(id) - 1; i >= 0 && v.sealed[i].reach >= id; i-- {
		q := v.sealed[i].p
		if v.sealed[i].hi < id || p != nil && q.number < p.number {
			continue
		}
		e2, h2, ok, err2 := q.lookup(id)
		if err2 != nil {
			err = err2
			continue
		}
		if ok {
			if h != nil {
				h.release()
			}
			p, e, h = q, e2, h2
		}
	}
	if p != nil {
		err = nil
	}
	return p, e, h, err
}

// holders calls f for each pack that holds a live entity of id, for as long as f returns true.
func (v *packView) holders(id store.ObjectID, f func(*pack) bool) {
	for _, p := range v.open {
		if p.has(id) && !f(p) {
			return
		}
	}
	for i := v.after(id) - 1; i >= 0 && v.sealed[i].reach >= id; i-- {
		if r := v.sealed[i]; r.hi >= id && r.p.has(id) && !f(r.p) {
			return
		}
	}
}
