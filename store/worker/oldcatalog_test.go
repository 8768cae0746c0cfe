package worker_test

import (
	"errors"
	"testing"

	"wheelhouse/store"
	"wheelhouse/store/worker"
)

// later does what a worker does by itself, after a time.
func (wd *world) later(w *worker.Worker) {
	wd.t.Helper()
	wd.now = wd.now.Add(2 * grace)
	if err := worker.Round(w, wd.t.Context()); err != nil {
		wd.t.Fatal(err)
	}
}

// stray stores an entity with an id that the catalog has never leased, as after an older catalog was put in place.
func (wd *world) stray(id store.ObjectID, on ...store.StorageID) store.Object {
	wd.t.Helper()
	o := store.Object{ID: id, Size: 1, ETag: [16]byte{0x9d, 0xd4, 0xe4, 0x61, 0x26, 0x8c, 0x80, 0x34, 0xf5, 0xc8, 0x56, 0x4e, 0x15, 0x5c, 0x67, 0xa6}}
	for _, s := range on {
		if err := wd.disks[s].Put(wd.t.Context(), store.EntityInfo{ID: id, Size: 1, Bucket: "b", Name: "stray", ETag: o.ETag, Created: wd.now}, []byte("x")); err != nil {
			wd.t.Fatal(err)
		}
	}
	return o
}

func (wd *world) nextID() store.ObjectID {
	wd.t.Helper()
	next, err := wd.cat.NextID(wd.t.Context())
	if err != nil {
		wd.t.Fatal(err)
	}
	return next
}

func (wd *world) fenced() int {
	wd.t.Helper()
	list, err := wd.cat.Fenced(wd.t.Context())
	if err != nil {
		wd.t.Fatal(err)
	}
	return len(list)
}

// Storages hold what the catalog has never leased: what it does not know is not swept, from no block that was open.
func TestSweepSparesWhatALaterCatalogKnew(t *testing.T) {
	wd := newWorld(t)
	inBlock := wd.put("committed in a later catalog", []byte("x"), false, 1, 2, 3)
	later := wd.stray(wd.nextID()+70, 3)
	wd.later(wd.w)
	wd.later(wd.w)
	if a, b := wd.holders(inBlock), wd.holders(later); len(a) != 3 || len(b) != 1 {
		t.Errorf("held by %v and %v", a, b)
	}
	if wd.fenced() == 0 {
		t.Error("nothing is fenced")
	}
	if next := wd.nextID(); next <= later.ID {
		t.Errorf("the next id is %d", next)
	}
	orphan := wd.put("never committed", []byte("x"), false, 1, 2, 3)
	wd.later(wd.w)
	if got := wd.holders(orphan); len(got) != 0 {
		t.Errorf("what was left since then is still on %v", got)
	}
}

// A storage that was away when the process began comes back and holds what a later catalog knew: its ids are neither used nor swept.
func TestSweepWaitsForWhoWasAway(t *testing.T) {
	wd := newWorld(t)
	inBlock := wd.put("committed in a later catalog", []byte("x"), false, 1, 2)
	later := wd.stray(wd.nextID()+70, 3)
	wd.away[3] = true
	wd.later(wd.w)
	if got := wd.holders(inBlock); len(got) != 2 {
		t.Errorf("swept before storage 3 could say what it knows: %v", got)
	}
	for range 3 {
		if o := wd.put("new", []byte("new"), true, 1, 2); o.ID <= later.ID {
			t.Errorf("id %d is handed out, and storage 3 may hold it", o.ID)
		}
	}
	other := wd.worker("two")
	next := wd.nextID()
	wd.later(other)
	if wd.nextID() != next {
		t.Error("a second process passes over ids for the same storage")
	}
	wd.away[3] = false
	wd.later(wd.w)
	wd.later(wd.w)
	if a, b := wd.holders(inBlock), wd.holders(later); len(a) != 2 || len(b) != 1 {
		t.Errorf("held by %v and %v", a, b)
	}
	if wd.fenced() == 0 {
		t.Error("nothing is fenced")
	}
}

// A storage that was away and knows nothing more: everything goes on as before.
func TestSweepGoesOnWhenAllAreBack(t *testing.T) {
	wd := newWorld(t)
	orphan := wd.put("never committed", []byte("x"), false, 1, 2, 3)
	wd.away[3] = true
	wd.later(wd.w)
	if got := wd.holders(orphan); len(got) != 3 {
		t.Errorf("swept while storage 3 could not be asked: %v are left", got)
	}
	wd.away[3] = false
	wd.later(wd.w)
	wd.later(wd.w)
	if got := wd.holders(orphan); len(got) != 0 {
		t.Errorf("still on %v", got)
	}
	if gaps, err := wd.cat.Gaps(t.Context()); err != nil || len(gaps) != 0 || wd.fenced() != 0 {
		t.Errorf("gaps %+v, %v; %d blocks fenced", gaps, err, wd.fenced())
	}
	wd.away[3] = true
	orphan = wd.put("never committed either", []byte("x"), false, 1, 2)
	wd.now = wd.now.Add(2 * grace)
	if err := worker.Round(wd.w, t.Context()); !errors.Is(err, errAway) {
		t.Error(err)
	}
	if got := wd.holders(orphan); len(got) != 0 {
		t.Errorf("storage 3 was asked before; still on %v", got)
	}
}

// A check that mends does not delete what the catalog has never leased.
func TestFsckSparesWhatWasNeverLeased(t *testing.T) {
	wd := newWorld(t)
	wd.fill(3)
	later := wd.stray(wd.nextID()+70, 1, 2, 3)
	stop := wd.operate(wd.w)
	for range 2 {
		found, _ := wd.problems(store.Operation{Kind: store.OpFsck, Options: []byte(`{"fix":true}`)})
		if len(found) != 0 {
			t.Errorf("problems: %v", found)
		}
	}
	stop()
	if got := wd.holders(later); len(got) != 3 {
		t.Errorf("held by %v", got)
	}
	if wd.fenced() == 0 {
		t.Error("nothing is fenced")
	}
}
