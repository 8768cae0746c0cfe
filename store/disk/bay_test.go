package disk

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

// bay is a bay that is looked after, in a directory of its own.
type bayTest struct {
	*Bay
	t   *testing.T
	dir string
}

func newBay(t *testing.T) *bayTest {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := OpenBay(dir, Options{StorageID: 7, MinFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bayTest{b, t, dir}
}

// until waits for what a bay does by itself.
func (b *bayTest) until(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatalf("not after 30 s: %s", what)
		}
	}
}

func (b *bayTest) absent() bool { return errors.Is(b.Probe(b.t.Context()), store.ErrAbsent) }

func (b *bayTest) put(id store.ObjectID, size int) error {
	return b.Put(b.t.Context(), store.EntityInfo{ID: id, Size: int64(size), Bucket: "b", Name: "n"}, make([]byte, size))
}

// move renames a directory away or back.
func (b *bayTest) move(from, to string) {
	b.t.Helper()
	if err := os.Rename(from, to); err != nil {
		b.t.Fatal(err)
	}
}

// A disk that disappears is not written to, nor is what lies below its mount point; when it is back, it is served again.
func TestBayDiskDisappears(t *testing.T) {
	for _, tt := range []struct {
		name  string
		below func(dir string) error // what the path leads to meanwhile
	}{
		{"directory gone", func(string) error { return nil }},
		{"mount point empty", func(dir string) error { return os.Mkdir(dir, 0o755) }},
		{"another disk", func(dir string) error {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			d, err := Open(dir, Options{StorageID: 8, MinFree: -1})
			if err != nil {
				return err
			}
			return d.Close()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBay(t)
			if err := errors.Join(b.put(1, 1000), b.put(2, 3<<20)); err != nil {
				t.Fatal(err)
			}
			away := b.dir + ".away"
			b.move(b.dir, away)
			if err := tt.below(b.dir); err != nil {
				t.Fatal(err)
			}
			before := tree(t, b.dir)
			for id := store.ObjectID(10); !b.absent(); id += 2 { // until it is noticed, the open files are still the disk's
				_ = errors.Join(b.put(id<<20, 1000), b.put((id+1)<<20, 2<<20))
			}
			b.until("the bay has given the disk up", func() bool { _, err := b.Disk(); return err != nil })
			if err := b.put(3, 1000); !errors.Is(err, store.ErrAbsent) {
				t.Errorf("a small entity: %v", err)
			}
			if err := b.put(4, 3<<20); !errors.Is(err, store.ErrAbsent) {
				t.Errorf("a large entity: %v", err)
			}
			if after := tree(t, b.dir); after != before {
				t.Errorf("something was written below the mount point:\n%s\nbefore:\n%s", after, before)
			}
			if _, err := b.Get(t.Context(), 1, 1000, nil); !errors.Is(err, store.ErrAbsent) {
				t.Errorf("Get = %v", err)
			}
			if err := os.RemoveAll(b.dir); err != nil {
				t.Fatal(err)
			}
			b.move(away, b.dir)
			b.until("the disk is back", func() bool { return b.Probe(t.Context()) == nil })
			for id, size := range map[store.ObjectID]int{1: 1000, 2: 3 << 20} {
				if got, err := b.Get(t.Context(), id, int64(size), nil); err != nil || !bytes.Equal(got, make([]byte, size)) {
					t.Errorf("entity %d: %d bytes, %v", id, len(got), err)
				}
			}
			if err := b.put(5, 1000); err != nil {
				t.Error(err)
			}
		})
	}
}

// tree lists all that is below a directory.
func tree(t *testing.T, dir string) (list string) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			list += path + " " + info.ModTime().String() + "\n"
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// What is written into a pack that has been removed is not acknowledged.
func TestRemovedPackAcknowledgesNothing(t *testing.T) {
	b := newBay(t)
	if err := b.put(1, 1000); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(b.dir); err != nil {
		t.Fatal(err)
	}
	if err := b.put(2, 1000); err == nil {
		t.Error("it was acknowledged")
	}
}

// A directory that was a storage and is empty now is refused until somebody says that the disk is a new one.
func TestBayTakesABlankDiskWhenTold(t *testing.T) {
	b := newBay(t)
	if err := b.put(1, 1000); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(b.dir); err != nil {
		t.Fatal(err)
	}
	b.until("the bay has given the disk up", func() bool { _, err := b.Disk(); return err != nil })
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBay(b.dir, Options{StorageID: 7, MustExist: true}); !errors.Is(err, store.ErrAbsent) || !Gone(err) {
		t.Errorf("OpenBay = %v", err)
	}
	if err := b.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Probe(t.Context()), b.put(2, 1000), b.Accept(t.Context())); err != nil {
		t.Error(err)
	}
	if _, err := b.Get(t.Context(), 1, 1000, nil); !errors.Is(err, store.ErrNoEntity) {
		t.Errorf("Get = %v", err)
	}
	// What belongs to others is not taken.
	if err := os.RemoveAll(b.dir); err != nil {
		t.Fatal(err)
	}
	b.until("the bay has given the disk up", func() bool { _, err := b.Disk(); return err != nil })
	if err := os.MkdirAll(filepath.Join(b.dir, "photos"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.Accept(t.Context()); err == nil {
		t.Error("a directory with somebody's files was taken for a new disk")
	}
}

func TestProbe(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var mu sync.Mutex
	dir := t.TempDir()
	d, err := Open(dir, Options{StorageID: 7, MinFree: -1, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(2 * time.Second)
		return now
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, probeName)); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(filepath.Join(dir, probeName), 0o755); err != nil {
		t.Error(err)
	}
	if err := d.Probe(t.Context()); err == nil {
		t.Error("a probe that cannot write is well")
	}
	if err := os.Remove(filepath.Join(dir, markerName)); err != nil {
		t.Error(err)
	}
	if err := d.Probe(t.Context()); !errors.Is(err, store.ErrAbsent) {
		t.Errorf("without its marker: %v", err)
	}
}

// A disk whose syncs fail again and again takes no more writes and is read on. It is opened again once it can be written, and not before some
// time has passed; what was acknowledged is there, and it takes writes again.
func TestBayDiskRecoversFromErrors(t *testing.T) {
	dir := t.TempDir()
	fsys := &faultfs.Faulty{FS: faultfs.OS{}}
	now := time.Unix(1_000_000, 0)
	bay, err := OpenBay(dir, Options{StorageID: 7, MinFree: -1, FS: fsys, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	b := &bayTest{bay, t, dir}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	stopped := 0
	look := func() { b.look(func() { stopped++ }) }
	if err := errors.Join(b.put(1, 1000), b.put(2, 3<<20)); err != nil {
		t.Fatal(err)
	}
	first, _ := b.Disk()
	failing := errors.New("input/output error")
	fsys.FailFrom(faultfs.OpSync, 1, failing)
	for i := range store.ObjectID(maxFailures) {
		if err := b.put(10+i, 1000); !errors.Is(err, failing) {
			t.Fatalf("a write whose sync fails: %v", err)
		}
	}
	fsys.Clear()
	if err := b.put(4, 1000); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("after %d failures in a row: %v", maxFailures, err)
	}
	fsys.FailFrom(faultfs.OpSync, 1, failing)
	readable := func() {
		t.Helper()
		for id, size := range map[store.ObjectID]int{1: 1000, 2: 3 << 20} {
			if got, err := b.Get(t.Context(), id, int64(size), nil); err != nil || !bytes.Equal(got, make([]byte, size)) {
				t.Errorf("entity %d: %d bytes, %v", id, len(got), err)
			}
		}
	}
	same := func(when string, want bool) {
		t.Helper()
		if d, err := b.Disk(); err != nil || (d == first) != want {
			t.Errorf("%s: the same disk: %v, %v", when, d == first, err)
		}
	}
	look()
	same("at once", true)
	now = now.Add(bayReopen)
	look()
	same("while it fails", true)
	readable()
	fsys.Clear()
	look()
	same("when it can be written", false)
	if stopped != 1 {
		t.Errorf("what was done with the disk was stopped %d times", stopped)
	}
	readable()
	if err := errors.Join(b.put(5, 1000), b.put(6, 2<<20), b.Probe(t.Context())); err != nil {
		t.Error(err)
	}
}
