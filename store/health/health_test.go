package health_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/health"
)

// ward is a catalog and its storages, which can be made to fail.
type ward struct {
	mu      sync.Mutex // guards what follows
	top     store.Topology
	fault   map[store.StorageID]error // errHang: no answer
	probes  map[store.StorageID]int
	reports []store.StorageHealth // all that were made
	at      []time.Time           // when
}

var (
	errHang   = errors.New("hang")
	errBroken = errors.New("input/output error")
)

func newWard(storages int) *ward {
	w := &ward{fault: map[store.StorageID]error{}, probes: map[store.StorageID]int{}}
	for i := range storages {
		w.top.Storages = append(w.top.Storages, store.Storage{ID: store.StorageID(i + 1)})
	}
	return w
}

func (w *ward) Topology(context.Context) (*store.Topology, error) { return &w.top, nil }

func (w *ward) ReportHealth(_ context.Context, _ string, list []store.StorageHealth) ([]store.HealthChange, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports = append(w.reports, list...)
	for range list {
		w.at = append(w.at, time.Now())
	}
	return nil, nil
}

func (w *ward) Device(s *store.Storage) store.Device { return bed{w: w, id: s.ID} }

func (w *ward) set(id store.StorageID, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault[id] = err
}

func (w *ward) probed(id store.StorageID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.probes[id]
}

// last is the last report of a storage since a time, and how long after it the first with its outcome came.
func (w *ward) last(id store.StorageID, since time.Time) (h store.StorageHealth, after time.Duration, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, r := range w.reports {
		if r.Storage != id || w.at[i].Before(since) {
			continue
		}
		if n == 0 || r.OK != h.OK {
			after = w.at[i].Sub(since)
		}
		h = r
		n++
	}
	return h, after, n
}

type bed struct {
	store.Device
	w  *ward
	id store.StorageID
}

func (b bed) Probe(ctx context.Context) error {
	b.w.mu.Lock()
	b.w.probes[b.id]++
	err := b.w.fault[b.id]
	b.w.mu.Unlock()
	if err == errHang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// watched runs f beside a Watcher, in a bubble with a clock of its own.
func watched(t *testing.T, w *ward, o health.Options, f func(*health.Watcher)) {
	synctest.Test(t, func(t *testing.T) {
		o.Reporter = "test"
		h := health.New(w, w, o)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = h.Run(ctx) })
		f(h)
		cancel()
		running.Wait()
	})
}

// after lets time go by in the bubble.
func after(d time.Duration) { <-time.After(d) }

func TestWorkersWatchAllStorages(t *testing.T) {
	for _, fault := range []error{errBroken, errHang} {
		w := newWard(3)
		w.top.Storages[1].Set = store.ModeDead
		watched(t, w, health.Options{Every: 3 * time.Second}, func(*health.Watcher) {
			after(20 * time.Second)
			for id, want := range map[store.StorageID]bool{1: true, 2: false, 3: true} {
				if h, _, n := w.last(id, time.Time{}); n > 0 != want || want && !h.OK {
					t.Errorf("storage %d: %d reports, the last %+v", id, n, h)
				}
			}
			if _, _, n := w.last(1, time.Time{}); n > 5 {
				t.Errorf("%d reports in 20 s of which nothing was new", n)
			}
			begun := time.Now()
			w.set(3, fault)
			after(20 * time.Second)
			h, took, _ := w.last(3, begun)
			if h.OK || h.Reason == "" || took > 9*time.Second {
				t.Errorf("%v: last report %+v, %v after it began", fault, h, took)
			}
			if h, _, _ := w.last(1, begun); !h.OK {
				t.Errorf("the other one: %+v", h)
			}
			begun = time.Now()
			w.set(3, nil)
			after(20 * time.Second)
			if h, took, _ := w.last(3, begun); !h.OK || took > 5*time.Second {
				t.Errorf("%v: after it has come back: %+v, %v", fault, h, took)
			}
		})
	}
}

// One failed probe among good ones is not reported.
func TestOneFailedProbeIsNotReported(t *testing.T) {
	w := newWard(1)
	watched(t, w, health.Options{Every: 3 * time.Second, Probed: func(id store.StorageID, err error) { w.set(id, nil) }}, func(*health.Watcher) {
		for range 5 {
			after(10 * time.Second)
			w.set(1, errBroken)
		}
		after(10 * time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, r := range w.reports {
			if !r.OK {
				t.Fatalf("reported: %+v", r)
			}
		}
		if len(w.reports) == 0 {
			t.Error("nothing was reported")
		}
	})
}

// Who gets no answer from most storages says nothing of them: it is cut off.
func TestWhoIsCutOffSaysNothing(t *testing.T) {
	w := newWard(3)
	watched(t, w, health.Options{Every: 3 * time.Second}, func(*health.Watcher) {
		after(10 * time.Second)
		w.set(1, errHang)
		w.set(2, errHang)
		begun := time.Now()
		after(time.Minute)
		for _, id := range []store.StorageID{1, 2} {
			if h, _, n := w.last(id, begun.Add(10*time.Second)); n > 0 && !h.OK {
				t.Errorf("storage %d: %+v", id, h)
			}
		}
		// What refuses outright is certain.
		w.set(1, errBroken)
		w.set(2, errBroken)
		after(20 * time.Second)
		if h, _, _ := w.last(1, begun); h.OK {
			t.Errorf("storage 1: %+v", h)
		}
	})
}

// A dispatcher's probes those that have failed its requests, at once, and speaks for the others by its requests.
func TestDispatchersWatchWhatHasFailed(t *testing.T) {
	w := newWard(3)
	var mu sync.Mutex
	seen := map[store.StorageID]health.Seen{1: health.Good, 2: health.Nothing, 3: health.Good}
	o := health.Options{Seen: func(id store.StorageID) health.Seen {
		mu.Lock()
		defer mu.Unlock()
		return seen[id]
	}}
	watched(t, w, o, func(h *health.Watcher) {
		after(20 * time.Second)
		for id := range store.StorageID(4) {
			if n := w.probed(id); n != 0 {
				t.Errorf("storage %d was probed %d times without need", id, n)
			}
		}
		if r, _, n := w.last(1, time.Time{}); n == 0 || !r.OK {
			t.Errorf("storage 1: %d reports, %+v", n, r)
		}
		if _, _, n := w.last(2, time.Time{}); n != 0 {
			t.Errorf("%d reports of a storage of which nothing was seen", n)
		}
		w.set(3, errBroken)
		begun := time.Now()
		mu.Lock()
		seen[3] = health.Suspect
		mu.Unlock()
		h.Wake()
		synctest.Wait()
		if n := w.probed(3); n != 1 {
			t.Errorf("%d probes at once; want 1", n)
		}
		after(5 * time.Second)
		if r, took, _ := w.last(3, begun); r.OK || took > 3*time.Second {
			t.Errorf("storage 3: %+v after %v", r, took)
		}
		// Probes that go well do not help a storage that fails all requests.
		mu.Lock()
		seen[1] = health.Failing
		mu.Unlock()
		after(10 * time.Second)
		if r, _, _ := w.last(1, begun); r.OK {
			t.Errorf("storage 1: %+v", r)
		}
	})
}

// Where requests have gone well until a moment ago, probes find out that a disk has been pulled out since.
func TestDispatchersProbeWhenRequestsCease(t *testing.T) {
	w := newWard(2)
	var mu sync.Mutex
	asked := true
	o := health.Options{Seen: func(store.StorageID) health.Seen {
		mu.Lock()
		defer mu.Unlock()
		if asked {
			return health.Good
		}
		return health.Nothing
	}}
	watched(t, w, o, func(*health.Watcher) {
		after(10 * time.Second)
		if n := w.probed(1); n != 0 {
			t.Errorf("%d probes beside requests that go well", n)
		}
		begun := time.Now()
		mu.Lock()
		asked = false
		mu.Unlock()
		w.set(2, errBroken)
		after(7 * time.Second)
		if r, took, n := w.last(2, begun); n == 0 || r.OK || took > 6*time.Second {
			t.Errorf("of the storage that fails: %d reports, %+v after %v", n, r, took)
		}
		if r, _, _ := w.last(1, begun); !r.OK {
			t.Errorf("of the other one: %+v", r)
		}
		after(30 * time.Second)
		n := w.probed(1)
		after(30 * time.Second)
		if more := w.probed(1) - n; more != 0 {
			t.Errorf("%d more probes of a storage that nobody wants anything of", more)
		}
	})
}
