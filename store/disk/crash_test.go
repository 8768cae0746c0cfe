package disk

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

// model is what a storage must hold: for each id, the states that are allowed. nil stands for "not there".
type model struct {
	allowed map[store.ObjectID][][]byte
	// failed are the contents of puts that were not acknowledged. They may turn up after a crash, as long as nothing
	// newer was.
	failed map[store.ObjectID][][]byte
}

func newModel() *model {
	return &model{allowed: map[store.ObjectID][][]byte{}, failed: map[store.ObjectID][][]byte{}}
}

func (m *model) states(id store.ObjectID) [][]byte {
	if s, ok := m.allowed[id]; ok {
		return s
	}
	return [][]byte{nil}
}

// put notes that data was stored, or that it was tried to.
func (m *model) put(id store.ObjectID, data []byte, err error) {
	if err != nil {
		m.allowed[id] = append(m.states(id), data)
		m.failed[id] = append(m.failed[id], data)
		return
	}
	m.allowed[id] = [][]byte{data}
	delete(m.failed, id)
}

func (m *model) delete(id store.ObjectID, err error) {
	if err != nil {
		m.allowed[id] = append(m.states(id), nil)
		return
	}
	m.allowed[id] = append([][]byte{nil}, m.failed[id]...)
}

// check compares a storage with the model.
func (m *model) check(d *Disk) error {
	var errs []error
	entries, err := d.Manifest(background, 0, maxID, 1<<20)
	if err != nil {
		return err
	}
	listed := map[store.ObjectID]int64{}
	for i, e := range entries {
		listed[e.ID] = e.Size
		if i > 0 && entries[i-1].ID >= e.ID {
			errs = append(errs, fmt.Errorf("manifest is not in order: %d before %d", entries[i-1].ID, e.ID))
		}
	}
	for id, states := range m.allowed {
		got, err := d.Get(background, id, -1, nil)
		if got == nil && err == nil {
			got = []byte{}
		}
		size, ok := listed[id]
		switch {
		case errors.Is(err, store.ErrNoEntity):
			if ok {
				errs = append(errs, fmt.Errorf("%d is listed, and not there", id))
			}
			got = nil
		case err != nil:
			errs = append(errs, fmt.Errorf("%d: %w", id, err))
			continue
		case !ok || size != int64(len(got)):
			errs = append(errs, fmt.Errorf("%d has %d bytes; the manifest says %d, %v", id, len(got), size, ok))
		}
		if !allowed(states, got) {
			errs = append(errs, fmt.Errorf("%d: there: %v (%d bytes); allowed: %s", id, got != nil, len(got), describe(states)))
		}
		delete(listed, id)
	}
	for id := range listed {
		errs = append(errs, fmt.Errorf("%d was never stored", id))
	}
	return errors.Join(errs...)
}

func allowed(states [][]byte, got []byte) bool {
	for _, s := range states {
		if (s == nil) == (got == nil) && bytes.Equal(s, got) {
			return true
		}
	}
	return false
}

func describe(states [][]byte) string {
	s := ""
	for _, b := range states {
		if b == nil {
			s += "gone "
		} else {
			s += fmt.Sprintf("%d bytes ", len(b))
		}
	}
	return s
}

// crashOptions makes small packs and small large files, so that a short run goes through everything.
func crashOptions(fsys faultfs.FS) Options {
	return Options{StorageID: 7, MinFree: -1, PackSize: 64 << 10, SmallLimit: 6000, GarbageRatio: 0.3, FS: fsys, Log: slog.New(slog.DiscardHandler)}
}

// workload does n random operations on the storage in dir, opening it first, and again now and then. Whatever fails, it
// goes on, as long as the storage can be opened.
func workload(dir string, o Options, r *rand.Rand, n int, m *model) {
	d, err := Open(dir, o)
	if err != nil {
		return
	}
	defer func() { d.kill() }()
	randomID := func() store.ObjectID { return store.ObjectID(1 + r.IntN(40)) }
	for range n {
		switch k := r.IntN(20); {
		case k < 10:
			putBatch(d, r, m, randomID)
		case k < 14:
			ids := []store.ObjectID{randomID(), randomID(), randomID()}
			err := d.Delete(background, ids)
			for _, id := range ids {
				m.delete(id, err)
			}
		case k < 15:
			d.Compact(background, 0.01)
		case k < 16:
			sealNow(d)
		case k < 17:
			d.bg.Wait()
			d.maintain(background)
		case k < 18:
			d.Close()
			if d, err = Open(dir, o); err != nil {
				d = &Disk{o: o, fs: o.FS, log: o.Log}
				d.commits.idle.L, d.dels.idle.L = &d.commits.mu, &d.dels.mu
				return
			}
		default:
			d.Get(background, randomID(), -1, nil)
		}
	}
}

// putBatch stores some entities together.
func putBatch(d *Disk, r *rand.Rand, m *model, randomID func() store.ObjectID) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[store.ObjectID]bool{}
	for range 1 + r.IntN(4) {
		id := randomID()
		if seen[id] {
			continue
		}
		seen[id] = true
		data := content(store.ObjectID(r.IntN(1000)), r.IntN(8000)*r.IntN(2))
		wg.Add(1)
		d.PutAsync(entity(id, data), data, func(err error) {
			mu.Lock()
			m.put(id, data, err)
			mu.Unlock()
			wg.Done()
		})
	}
	wg.Wait()
}

func sealNow(d *Disk) {
	d.commits.mu.Lock()
	for d.commits.running {
		d.commits.idle.Wait()
	}
	if d.commits.w != nil {
		d.commits.roll()
	}
	d.commits.mu.Unlock()
}

// TestPowerCut cuts the power after each number of operations, and looks at what is left.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	runs := 200
	if testing.Short() {
		runs = 60
	}
	for i := range runs {
		seed := uint64(i)
		after := 3 + i*6
		if err := powerCutRun(t.TempDir(), seed, after); err != nil {
			t.Fatalf("seed %d, power cut after %d operations: %v", seed, after, err)
		}
	}
}

func powerCutRun(dir string, seed uint64, after int) error {
	data, stash := filepath.Join(dir, "data"), filepath.Join(dir, "stash")
	if err := errors.Join(os.Mkdir(data, 0o755), os.Mkdir(stash, 0o755)); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 1))
	p := faultfs.NewPowerCut(stash, after)
	m := newModel()
	workload(data, crashOptions(p), r, 60, m)
	p.Cut()
	if seed%4 == 0 {
		r = nil // nothing but what was synced has reached the disk
	}
	if err := p.Restore(r); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return checkAfter(data, m)
}

// checkAfter opens what a crash has left, twice, and compares it with the model.
func checkAfter(dir string, m *model) error {
	for range 2 {
		d, err := Open(dir, crashOptions(faultfs.NoSync{}))
		if err != nil {
			return err
		}
		err = m.check(d)
		if err == nil {
			_, err = d.Compact(background, 0.01)
		}
		if err == nil {
			err = m.check(d)
		}
		d.kill()
		if err != nil {
			return err
		}
	}
	return nil
}

// TestFaults lets each operation of each kind fail once, and cuts the power at the end.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, op := range faultfs.Ops() {
		if op == faultfs.OpRead {
			continue
		}
		t.Run(op.String(), func(t *testing.T) {
			step := 1
			switch op {
			case faultfs.OpWrite, faultfs.OpSync, faultfs.OpSyncDir, faultfs.OpOpen:
				step = 3 // there are hundreds
			}
			if testing.Short() {
				step *= 5
			}
			for n := 1; ; n += step {
				for _, short := range []bool{false, true} {
					if short && op != faultfs.OpWrite {
						continue
					}
					fired, err := faultRun(t.TempDir(), op, n, short)
					if err != nil {
						t.Fatalf("with the %d. %s failing (short: %v): %v", n, op, short, err)
					}
					if !fired {
						t.Logf("%d operations", n)
						return
					}
				}
			}
		})
	}
}

func faultRun(dir string, op faultfs.Op, n int, short bool) (fired bool, err error) {
	data, stash := filepath.Join(dir, "data"), filepath.Join(dir, "stash")
	if err := errors.Join(os.Mkdir(data, 0o755), os.Mkdir(stash, 0o755)); err != nil {
		return false, err
	}
	p := faultfs.NewPowerCut(stash, -1)
	f := &faultfs.Faulty{FS: p}
	switch {
	case short:
		f.FailShort(n, unix.EIO)
	case n%5 == 4:
		f.FailFrom(op, n, unix.EIO)
	case n%3 == 2:
		f.Fail(op, n, unix.ENOSPC)
	default:
		f.Fail(op, n, unix.EIO)
	}
	m := newModel()
	r := rand.New(rand.NewPCG(uint64(op), 2))
	workload(data, crashOptions(f), r, 40, m)
	if n%2 == 0 {
		p.Cut()
		if err := p.Restore(r); err != nil {
			return false, err
		}
	}
	return f.Fired() > 0, checkAfter(data, m)
}
