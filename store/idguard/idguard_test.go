package idguard_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/idguard"
)

// shelf is a device of which only the ids matter.
type shelf struct {
	store.Device
	mu    sync.Mutex
	ids   []store.ObjectID // in order
	err   error            // why it does not answer
	asked int
}

func (s *shelf) Manifest(_ context.Context, from, to store.ObjectID, limit int) (list []store.ManifestEntry, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.err != nil {
		return nil, s.err
	}
	for _, id := range s.ids {
		if from <= id && id < to && len(list) < limit {
			list = append(list, store.ManifestEntry{ID: id})
		}
	}
	return list, nil
}

func (s *shelf) set(err error, ids ...store.ObjectID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.ids, s.asked = err, ids, 0
}

func (s *shelf) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// shelves are an installation of three storages, none of which holds anything at first.
type shelves struct {
	t   *testing.T
	cat *catalog.SQLite
	dev map[store.StorageID]*shelf
	ids []store.StorageID
}

func (s *shelves) Device(st *store.Storage) store.Device { return s.dev[st.ID] }

func (s *shelves) guard() *idguard.Guard {
	return idguard.New(s.cat, s, slog.New(slog.DiscardHandler))
}

func newShelves(t *testing.T) *shelves {
	t.Helper()
	cat, err := catalog.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), catalog.Options{TopologyAge: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cat.Close() })
	s := &shelves{t: t, cat: cat, dev: map[store.StorageID]*shelf{}}
	cluster, err := cat.PutCluster(t.Context(), store.Cluster{Name: "main"})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		id, err := cat.PutStorage(t.Context(), store.Storage{Cluster: cluster, URI: uri(n, "a")})
		if err != nil {
			t.Fatal(err)
		}
		s.dev[id] = &shelf{}
		s.ids = append(s.ids, id)
	}
	return s
}

func uri(n int, host string) string { return fmt.Sprintf("http://%s:7500/dev%d", host, n+1) }

func (s *shelves) lease(g *idguard.Guard) store.ObjectID {
	s.t.Helper()
	id, err := g.LeaseIDs(s.t.Context(), "test", 100)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *shelves) fenced() bool {
	s.t.Helper()
	list, err := s.cat.Fenced(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return len(list) > 0
}

func (s *shelves) settled(g *idguard.Guard) bool {
	s.t.Helper()
	ok, err := g.Settled(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return ok
}

var errAway = errors.New("away")

func TestStoragesAreAskedOnce(t *testing.T) {
	s := newShelves(t)
	g := s.guard()
	if first := s.lease(g); first != 1 {
		t.Errorf("the first id is %d; want 1", first)
	}
	for _, d := range s.dev {
		if d.times() == 0 {
			t.Error("a storage was not asked before the first lease")
		}
		d.set(nil)
	}
	if s.lease(g); !s.settled(g) || s.fenced() {
		t.Error("not settled, or fenced, where all storages hold nothing")
	}
	for _, d := range s.dev {
		if n := d.times(); n != 0 {
			t.Errorf("asked %d times again", n)
		}
	}
	// Somewhere else it may be another disk.
	if _, err := s.cat.PutStorage(t.Context(), store.Storage{ID: s.ids[1], Cluster: 1, URI: uri(1, "b")}); err != nil {
		t.Fatal(err)
	}
	s.lease(g)
	for i, id := range s.ids {
		if asked := s.dev[id].times() > 0; asked != (i == 1) {
			t.Errorf("storage %d asked: %v", id, asked)
		}
	}
}

func TestOlderCatalogIsFenced(t *testing.T) {
	for _, held := range []store.ObjectID{1, 4711, idguard.ShortIDs - 1, idguard.ShortIDs, idguard.ShortIDs + 12345} {
		s := newShelves(t)
		s.dev[s.ids[2]].set(nil, held)
		if first := s.lease(s.guard()); first <= held {
			t.Errorf("a storage holds %d, and %d was leased", held, first)
		}
		if !s.fenced() {
			t.Errorf("a storage holds %d, which was never leased, and nothing is fenced", held)
		}
	}
}

func TestCatalogAheadIsNotFenced(t *testing.T) {
	s := newShelves(t)
	first := s.lease(s.guard())
	s.dev[s.ids[0]].set(nil, first, first+99)
	if g := s.guard(); s.lease(g) <= first || s.fenced() || !s.settled(g) {
		t.Error("what was leased is taken for a later catalog's")
	}
}

func TestNobodyAnswers(t *testing.T) {
	s := newShelves(t)
	for _, d := range s.dev {
		d.set(errAway)
	}
	g := s.guard()
	if _, err := g.LeaseIDs(t.Context(), "test", 100); !errors.Is(err, store.ErrNoWritable) || !errors.Is(err, errAway) {
		t.Errorf("leased where no storage could be asked: %v", err)
	}
	s.dev[s.ids[0]].set(nil)
	s.lease(g)
}

// While a storage is away nothing is settled; when it is back it depends on what it holds.
func TestStorageThatIsAway(t *testing.T) {
	for _, later := range []bool{false, true} {
		s := newShelves(t)
		first := s.lease(s.guard())
		away := s.dev[s.ids[1]]
		away.set(errAway)
		g := s.guard()
		next := s.lease(g)
		if next < first+1<<20 {
			t.Errorf("later=%v: ids up to %d were passed over for the storage that is away; want more", later, next)
		}
		if s.settled(g) || s.fenced() {
			t.Errorf("later=%v: settled, or fenced, while one storage is away", later)
		}
		if held := first + 100; later {
			away.set(nil, first, held)
		} else {
			away.set(nil, first)
		}
		if s.settled(g) == later || s.fenced() != later {
			t.Errorf("later=%v: settled %v, fenced %v", later, !later, s.fenced())
		}
	}
}

func TestSaw(t *testing.T) {
	s := newShelves(t)
	g := s.guard()
	first := s.lease(g)
	if err := g.Saw(t.Context(), first+99); err != nil || s.fenced() {
		t.Errorf("an id that was leased: %v, fenced %v", err, s.fenced())
	}
	if err := g.Saw(t.Context(), first+100); err != nil || !s.fenced() {
		t.Errorf("an id that was not leased: %v, fenced %v", err, s.fenced())
	}
}

func TestLastBelow(t *testing.T) {
	var rnd [32]byte
	r := rand.New(rand.NewChaCha8(rnd))
	for n := range 300 {
		s := &shelf{}
		for range n % 7 {
			most := []store.ObjectID{20, idguard.ShortIDs, idguard.Beyond}[r.IntN(3)]
			s.ids = append(s.ids, 1+store.ObjectID(r.Int64N(int64(most)-1)))
		}
		slices.Sort(s.ids)
		hi := []store.ObjectID{1, 10, idguard.ShortIDs, idguard.ShortIDs + 1, idguard.Beyond}[r.IntN(5)]
		var want store.ObjectID
		for _, id := range s.ids {
			if id < hi {
				want = id
			}
		}
		got, found, err := idguard.LastBelow(t.Context(), s, hi)
		if err != nil || got != want || found != (want != 0) {
			t.Fatalf("LastBelow(%d) of %d = %d, %v, %v; want %d", hi, s.ids, got, found, err, want)
		}
		if holds, err := idguard.Holds(t.Context(), s); err != nil || holds != (len(s.ids) > 0) {
			t.Fatalf("Holds of %d: %v, %v", s.ids, holds, err)
		}
	}
	if _, _, err := idguard.LastBelow(t.Context(), &shelf{err: io.ErrUnexpectedEOF}, 10); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the device's error is lost: %v", err)
	}
}
