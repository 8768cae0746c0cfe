package storetest

import (
	"time"

	"wheelhouse/store"
)

// leasable demands that ids are handed out from an id on, and that a commit with one of them succeeds.
func (t *catalogTest) leasable(what string, from store.ObjectID, b store.Bucket, name string) store.ObjectID {
	first, err := t.Catalog.LeaseIDs(t.ctx, "after", 1)
	t.ok(err)
	if first < from {
		t.Errorf("%s: id %d was handed out; want %d or more", what, first, from)
	}
	_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: store.Object{ID: first, Bucket: b.ID, Name: name, Created: t.clock.now()}})
	t.ok(err)
	return first
}

func (t *catalogTest) gaps() []store.Gap {
	list, err := t.Catalog.Gaps(t.ctx)
	t.ok(err)
	return list
}

// Storages that hold what was never leased have seen a later catalog.
func catalogWitness(t *catalogTest) {
	b := t.bucket("b")
	old, err := t.Catalog.LeaseIDs(t.ctx, "before", 100)
	t.ok(err)
	next, err := t.Catalog.NextID(t.ctx)
	t.ok(err)
	t.equal("next", next, old+100)
	witness := func(held store.ObjectID, want bool) {
		fenced, err := t.Catalog.Witness(t.ctx, held, nil)
		t.ok(err)
		t.equal("fenced", fenced, want)
	}
	witness(0, false)
	witness(next-1, false)
	witness(next+5000, true)
	t.leasable("beyond what was seen", next+5001, b, "new")

	fenced, err := t.Catalog.Fenced(t.ctx)
	t.ok(err)
	spared := func(id store.ObjectID) bool {
		for _, l := range fenced {
			if l.First <= id && id < l.First+store.ObjectID(l.N) && l.Owner == store.FencedBehind {
				return true
			}
		}
		return false
	}
	for _, id := range []store.ObjectID{old, next - 1, next, next + 5000} {
		if !spared(id) {
			t.Errorf("id %d is not fenced: %+v", id, fenced)
		}
	}
	_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: store.Object{ID: old, Bucket: b.ID, Name: "late", Created: t.clock.now()}})
	t.want(err, store.ErrLease)
	t.clock.add(time.Hour)
	silent, err := t.Catalog.Leases(t.ctx, t.clock.now(), 10)
	t.ok(err)
	for _, l := range silent {
		if spared(l.First) {
			t.Errorf("what is fenced is up for the sweep: %+v", l)
		}
	}
}

// Ids are passed over for storages that cannot be asked, once, until they have been.
func catalogGaps(t *catalogTest) {
	b := t.bucket("b")
	first := t.leasable("at first", 1, b, "first")
	unasked := func(ids ...store.StorageID) {
		fenced, err := t.Catalog.Witness(t.ctx, 0, ids)
		t.ok(err)
		t.equal("fenced", fenced, false)
	}
	unasked(3, 2)
	list := t.gaps()
	t.equal("a gap", list, []store.Gap{{First: first + 1, N: list[0].N, Unasked: []store.StorageID{2, 3}}})
	end := list[0].First + store.ObjectID(list[0].N)
	second := t.leasable("beyond the gap", end, b, "second")
	unasked(3)
	t.equal("there is one for 3", t.gaps(), list)
	_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: store.Object{ID: end - 1, Bucket: b.ID, Name: "in the gap", Created: t.clock.now()}})
	t.want(err, store.ErrLease)
	all, err := t.Catalog.Leases(t.ctx, t.clock.now().Add(time.Hour), 10)
	t.ok(err)
	if n := len(all); n != 3 {
		t.Errorf("%d blocks of ids are on record; want two leases and a gap", n)
	}

	t.ok(t.Catalog.CloseGap(t.ctx, list[0].First, 2))
	t.ok(t.Catalog.CloseGap(t.ctx, list[0].First+1, 3)) // there is none
	unasked(3)
	list[0].Unasked = []store.StorageID{3}
	t.equal("3 is left", t.gaps(), list)
	unasked(2)
	t.equal("2 has had ids since", len(t.gaps()), 2)
	t.ok(t.Catalog.CloseGap(t.ctx, t.gaps()[1].First, 2))
	t.ok(t.Catalog.CloseGap(t.ctx, list[0].First, 3))
	t.equal("none is left", len(t.gaps()), 0)

	unasked(1)
	held := t.gaps()[0].First + 7
	fenced, err := t.Catalog.Witness(t.ctx, held, nil)
	t.ok(err)
	t.equal("fenced for what is in the gap", fenced, true)
	list = t.gaps()
	t.equal("1 is still to be asked for more", list, []store.Gap{{First: list[0].First, N: list[0].N, Unasked: []store.StorageID{1}}})
	if list[0].First <= held {
		t.Errorf("the gap begins at %d", list[0].First)
	}
	t.leasable("beyond all", second, b, "third")
}
