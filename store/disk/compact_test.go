package disk

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/store"
)

func TestCompact(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, testOptions(t))
	for id := store.ObjectID(1); id <= 100; id++ {
		put(t, d, id, content(id, 5000))
	}
	sealActive(t, d)
	before := d.Packs()[0]
	var ids []store.ObjectID
	for id := store.ObjectID(1); id <= 100; id++ {
		if id%4 != 0 {
			ids = append(ids, id)
		}
	}
	r, err := d.Open(t.Context(), 1, 0, -1) // of the old version
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	if u, _ := d.Usage(t.Context()); u.Garbage < 75*5000 || u.Entities != 25 || u.Live != 25*5000 {
		t.Errorf("Usage before = %+v", u)
	}
	if freed, err := d.Compact(t.Context(), 0.5); err != nil || freed < 75*5000 {
		t.Errorf("Compact = %d, %v", freed, err)
	}
	if got, err := io.ReadAll(r); err != nil || len(got) != 5000 {
		t.Errorf("a reader of the old version reads %d bytes, %v", len(got), err)
	}
	r.Close()
	for range 2 {
		if u, _ := d.Usage(t.Context()); u.Garbage != 0 || u.Entities != 25 {
			t.Errorf("Usage after = %+v", u)
		}
		after := d.Packs()[0]
		if after.Size >= before.Size/3 || after.Entities != 25 || !after.Sealed {
			t.Errorf("pack after = %+v; before %+v", after, before)
		}
		for id := store.ObjectID(1); id <= 100; id++ {
			if id%4 != 0 {
				wantGone(t, d, id)
			} else {
				wantContent(t, d, id, content(id, 5000))
			}
		}
		d = reopen(t, d)
	}
	for _, prog := range tarPrograms {
		runTar(t, prog.name, prog.pkg, "C", "-tf", packPath(dir, 1)+packExt)
	}
	ids = nil
	for id := store.ObjectID(4); id <= 100; id += 4 {
		ids = append(ids, id)
	}
	if err := d.Delete(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Compact(t.Context(), 0.5); err != nil {
		t.Fatal(err)
	}
	if n := len(d.Packs()); n != 0 {
		t.Errorf("%d packs are left of nothing", n)
	}
	if _, err := os.Stat(packPath(dir, 1) + packExt); err == nil {
		t.Error("a pack without entities is still there")
	}
	put(t, d, 200, content(200, 10))
	wantContent(t, reopen(t, d), 200, content(200, 10))
}

// TestCompactInUse rewrites packs again and again while entities are read, stored and deleted.
func TestCompactInUse(t *testing.T) {
	o := quiet(testOptions(t))
	o.PackSize = 128 << 10
	o.MaxOpenPacks = 2
	d := open(t, t.TempDir(), o)
	const ids = 200
	for id := store.ObjectID(1); id <= ids; id++ {
		put(t, d, id, content(id, 2000))
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 3))
			for !stop.Load() {
				// Ids divisible by 4 are never deleted, the others come and go.
				id := store.ObjectID(1 + r.IntN(ids))
				err := checkContent(d, id, content(id, 2000))
				if err != nil && (id%4 == 0 || !errors.Is(err, store.ErrNoEntity)) {
					t.Errorf("%d: %v", id, err)
				}
			}
		})
	}
	wg.Go(func() {
		r := rand.New(rand.NewPCG(9, 9))
		for !stop.Load() {
			id := store.ObjectID(1 + r.IntN(ids))
			if id%4 != 0 && r.IntN(2) == 0 {
				if err := d.Delete(context.Background(), []store.ObjectID{id}); err != nil {
					t.Error(err)
				}
			} else {
				data := content(id, 2000)
				if err := d.Put(context.Background(), entity(id, data), data); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for range 30 {
		if _, err := d.Compact(t.Context(), 0.1); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	before, err := d.Manifest(t.Context(), 0, maxID, 1000)
	if err != nil {
		t.Fatal(err)
	}
	d = reopen(t, d)
	after, err := d.Manifest(t.Context(), 0, maxID, 1000)
	if err != nil || len(after) != len(before) {
		t.Errorf("%d entities after reopening, %v; want %d", len(after), err, len(before))
	}
	if u, _ := d.Usage(t.Context()); u.Entities != int64(len(after)) {
		t.Errorf("Usage counts %d entities, the manifest %d", u.Entities, len(after))
	}
	wantContent(t, d, 4, content(4, 2000))
}

func TestRun(t *testing.T) {
	d := open(t, t.TempDir(), testOptions(t))
	put(t, d, 1, content(1, 5000))
	put(t, d, 2, content(2, 2<<20))
	sealActive(t, d)
	if err := d.Delete(t.Context(), []store.ObjectID{1}); err != nil {
		t.Fatal(err)
	}
	d = reopen(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	tick := time.NewTicker(time.Millisecond) // nothing to wait on but the rewriting itself
	defer tick.Stop()
	for end := time.After(time.Minute); len(d.Packs()) > 0; {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("the pack is not rewritten")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	if u, _ := d.Usage(t.Context()); u.Live != 2<<20 || u.Entities != 1 {
		t.Errorf("Usage = %+v; want one file of 2 MiB", u)
	}
}
