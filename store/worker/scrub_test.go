package worker_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wheelhouse/store"
	"wheelhouse/store/worker"
)

// rot flips a bit of an entity on the disk below a storage, wherever its bytes lie.
func (wd *world) rot(on store.StorageID, data []byte) {
	wd.t.Helper()
	found := false
	err := filepath.WalkDir(wd.disks[on].Dir(), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == ".idx" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if i := bytes.Index(b, data); i >= 0 {
			found = true
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte{b[i] ^ 1}, int64(i))
			return err
		}
		return nil
	})
	if err != nil || !found {
		wd.t.Fatal(found, err)
	}
}

func TestScrub(t *testing.T) {
	wd := newWorld(t)
	objects := wd.fill(40)
	wd.round()
	data := bytes.Repeat([]byte("rotten "), 100)
	o := wd.put("rot", data, true, 1, 2, 3)
	large := bytes.Repeat([]byte("large and rotten "), 200_000)
	p := wd.put("large", large, true, 1, 2, 3)
	objects = append(objects, o, p)
	wd.operate(wd.w)
	if op := wd.end(wd.create(store.Operation{Kind: store.OpScrub})); op.Progress.Problems != 0 || op.Progress.Objects != int64(3*len(objects)) || op.State != store.OpDone {
		t.Errorf("%+v", op)
	}
	wd.rot(2, data)
	wd.rot(3, large[:1000])
	op := wd.end(wd.create(store.Operation{Kind: store.OpScrub}))
	report, err := op.Report()
	if err != nil || len(report.Problems) != 2 || report.Problems[0].Object != o.ID || report.Problems[0].Storage != 2 || report.Problems[1].Object != p.ID ||
		!report.Problems[0].Fixed || !report.Problems[1].Fixed {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, o := range []store.Object{o, p} {
		if got := wd.holders(o); len(got) != 3 {
			t.Errorf("object %d is held by %v", o.ID, got)
		}
	}
	if op := wd.end(wd.create(store.Operation{Kind: store.OpScrub, Storage: 2})); op.Progress.Problems != 0 || op.Progress.Objects != int64(len(objects)) {
		t.Errorf("after repair: %+v", op)
	}
	if op := wd.end(wd.create(store.Operation{Kind: store.OpScrub, Storage: 77})); op.State != store.OpFailed {
		t.Errorf("of no storage: %+v", op)
	}
}

// What nobody has good bytes of is not said to be repaired, by a scrub or by fsck, and is tried again.
func TestScrubWithoutGoodCopy(t *testing.T) {
	wd := newWorld(t)
	data := bytes.Repeat([]byte("rotten "), 100)
	o := wd.put("rot", data, true, 1, 2, 3)
	gone := wd.put("gone", bytes.Repeat([]byte("deleted "), 100), true, 1, 2, 3)
	for id := store.StorageID(1); id <= 3; id++ {
		wd.rot(id, data)
	}
	wd.rot(1, bytes.Repeat([]byte("deleted "), 100))
	if _, err := wd.cat.Delete(t.Context(), wd.bucket.ID, "gone", store.Condition{}); err != nil {
		t.Fatal(err)
	}
	wd.operate(wd.w)
	for range 2 {
		op := wd.end(wd.create(store.Operation{Kind: store.OpScrub}))
		report, err := op.Report()
		if err != nil || op.Progress.Problems != 4 || op.Progress.Fixed != 1 {
			t.Fatalf("%+v, %+v, %v", op, report, err)
		}
		for _, p := range report.Problems {
			if p.Fixed != (p.Object == gone.ID) || p.Object == o.ID && !strings.Contains(p.Reason, "no sibling of storage") {
				t.Errorf("%+v", p)
			}
		}
	}
	stats, err := wd.opened.Queue.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stats {
		if s.Func == store.TaskRepairObject && s.Ready != 3 {
			t.Errorf("%+v; want one for each bad entity", s)
		}
	}
}

// Storages are scrubbed all the time, at a low rate, without anybody's asking; once a day is enough for small ones.
func TestScrubByItself(t *testing.T) {
	wd := newWorld(t)
	wd.fill(10)
	w := wd.worker("scrubber")
	worker.SetScrubRate(w, 100<<20)
	wd.operate(w)
	wd.eventually("a scrub of each storage", func() bool {
		ops, err := wd.cat.Operations(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		done := 0
		for _, op := range ops {
			if op.Kind == store.OpScrub && op.State == store.OpDone && op.Progress.Objects > 0 {
				done++
			}
		}
		if len(ops) > 3 {
			t.Fatalf("%+v", ops)
		}
		return done == 3
	})
}
