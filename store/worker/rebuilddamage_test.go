package worker_test

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wheelhouse/store"
	"wheelhouse/store/disk"
)

// A sibling cannot read the rest of one of its packs any more: what is before is taken in bulk, and of what is behind as much as
// anybody has. The rebuild comes to its end.
func TestRebuildFromAPackThatCannotBeRead(t *testing.T) {
	for _, tt := range []struct {
		name  string
		alone bool // it is the only sibling left
	}{{"another has it", false}, {"nobody else has it", true}} {
		t.Run(tt.name, func(t *testing.T) {
			wd := newWorld(t)
			for id := range wd.disks {
				wd.replace(id, disk.Options{PackSize: 64 << 10})
				if err := wd.cat.SetStorageMode(t.Context(), id, store.ModeRW); err != nil {
					t.Fatal(err)
				}
			}
			objects := wd.fill(150)
			packs, err := filepath.Glob(filepath.Join(wd.disks[1].Dir(), "packs", "*.tar"))
			if err != nil || len(packs) < 2 {
				t.Fatalf("%q, %v", packs, err)
			}
			if err := os.Truncate(packs[0], 20_000); err != nil {
				t.Fatal(err)
			}
			if tt.alone {
				if err := wd.cat.SetStorageMode(t.Context(), 2, store.ModeDown); err != nil {
					t.Fatal(err)
				}
			}
			wd.replace(3, disk.Options{})
			wd.operate(wd.w)
			wd.eventually("storage 3 to be read again", func() bool { return wd.mode(3) == store.ModeRW })
			ops, err := wd.cat.Operations(t.Context(), 10)
			if err != nil || len(ops) != 1 {
				t.Fatalf("%+v, %v", ops, err)
			}
			op := wd.end(ops[0].ID)
			if report, err := op.Report(); err != nil || len(report.Problems) == 0 || !strings.Contains(report.Problems[0].Reason, "cannot be read from byte") {
				t.Errorf("what could not be read is not told: %+v, %v", report, err)
			}
			held := 0
			for _, o := range objects {
				data, err := wd.disks[3].Get(t.Context(), o.ID, o.Size, nil)
				switch {
				case err == nil && md5.Sum(data) == o.ETag:
					held++
				case err == nil:
					t.Errorf("object %d has other bytes than were written", o.ID)
				}
			}
			gone := 0 // what the one sibling that is there cannot give
			if tt.alone {
				for _, o := range objects {
					if _, err := wd.disks[1].Get(t.Context(), o.ID, o.Size, nil); err != nil {
						gone++
					}
				}
				if gone == 0 {
					t.Error("nothing was damaged")
				}
			}
			if held != len(objects)-gone {
				t.Errorf("it holds %d of %d objects, of which %d cannot be read anywhere", held, len(objects), gone)
			}
		})
	}
}

// stubborn is a world some of whose entities cannot be opened on one storage, for no reason that says anything of them.
type stubborn struct {
	*world
	on  store.StorageID
	ids map[store.ObjectID]bool
}

func (s stubborn) Device(on *store.Storage) store.Device {
	d := s.world.Device(on)
	if on.ID == s.on {
		return stubbornDevice{d, s.ids}
	}
	return d
}

type stubbornDevice struct {
	store.Device
	ids map[store.ObjectID]bool
}

func (d stubbornDevice) Open(ctx context.Context, id store.ObjectID, off, n int64) (store.EntityReader, error) {
	if d.ids[id] {
		return nil, errors.New("input/output error")
	}
	return d.Device.Open(ctx, id, off, n)
}

// What the one sibling that is left cannot give does not keep the rest from being copied: it is owed. Where it gives nothing at all,
// the rebuild waits for it.
func TestRebuildFromASiblingWithBadEntities(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprint("all ", all), func(t *testing.T) {
			wd := newWorld(t)
			for id := range wd.disks {
				wd.replace(id, disk.Options{Layout: disk.LayoutFiles})
				if err := wd.cat.SetStorageMode(t.Context(), id, store.ModeRW); err != nil {
					t.Fatal(err)
				}
			}
			objects := wd.fill(60)
			if err := wd.cat.SetStorageMode(t.Context(), 2, store.ModeDown); err != nil {
				t.Fatal(err)
			}
			bad := stubborn{wd, 1, map[store.ObjectID]bool{objects[4].ID: true, objects[30].ID: true}}
			if all {
				for _, o := range objects {
					bad.ids[o.ID] = true
				}
			}
			wd.replace(3, disk.Options{Layout: disk.LayoutFiles})
			wd.operate(wd.workerWith("one", bad))
			if all {
				wd.eventually("it says what is in the way", func() bool {
					ops, err := wd.cat.Operations(t.Context(), 10)
					return err == nil && len(ops) == 1 && strings.Contains(ops[0].Error, "input/output error")
				})
				if mode := wd.mode(3); mode != store.ModeFilling {
					t.Errorf("storage 3 is %s", mode)
				}
				return
			}
			wd.eventually("storage 3 to be read again", func() bool { return wd.mode(3) == store.ModeRW })
			for _, o := range objects {
				owed := slices.Contains(wd.missing(o), 3)
				if _, err := wd.disks[3].Stat(t.Context(), o.ID); (err != nil) != bad.ids[o.ID] || owed != bad.ids[o.ID] {
					t.Errorf("object %d: %v; owed: %v; to be had: %v", o.ID, err, owed, !bad.ids[o.ID])
				}
			}
		})
	}
}

// Bits have flipped in packs that are taken over. What was repaired since, or is whole on another sibling, is no problem; what is
// whole nowhere is named, once.
func TestRebuildFromPacksWithRot(t *testing.T) {
	for _, tt := range []struct {
		name     string
		on       []store.StorageID // where it flips
		repaired bool
		problems int64
	}{
		{"repaired", []store.StorageID{1}, true, 0},
		{"repaired on both", []store.StorageID{1, 3}, true, 0},
		{"whole on another", []store.StorageID{1}, false, 0},
		{"whole nowhere", []store.StorageID{1, 3}, false, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wd := newWorld(t)
			objects := wd.fill(30)
			wd.runJobs(store.TaskReplicate)
			data := []byte("these bytes are nowhere else in the pack")
			o := wd.put("rotten", data, true, 1, 2, 3)
			for _, id := range tt.on {
				wd.rot(id, data)
			}
			if tt.repaired {
				if err := wd.cat.EnqueueRepair(t.Context(), o.ID, 1); err != nil {
					t.Fatal(err)
				}
				wd.runJobs(store.TaskRepairObject)
				if got := wd.holders(o); len(got) != 3 {
					t.Fatalf("repaired, and held by %v", got)
				}
			}
			wd.replace(2, disk.Options{})
			wd.operate(wd.w)
			wd.eventually("storage 2 to be read again", func() bool { return wd.mode(2) == store.ModeRW })
			ops, err := wd.cat.Operations(t.Context(), 10)
			if err != nil || len(ops) != 1 {
				t.Fatalf("%+v, %v", ops, err)
			}
			op := wd.end(ops[0].ID)
			report, err := op.Report()
			if err != nil || op.Progress.Problems != tt.problems || int64(len(report.Problems)) != tt.problems {
				t.Errorf("%d problems, %+v, %v; want %d", op.Progress.Problems, report.Problems, err, tt.problems)
			}
			for _, p := range report.Problems {
				if p.Object != o.ID {
					t.Errorf("%+v; want object %d", p, o.ID)
				}
			}
			if got := slices.Contains(wd.holders(o), 2); got != (tt.problems == 0) {
				t.Errorf("storage 2 holds it: %v", got)
			}
			if got := wd.holders(objects[5]); len(got) != 3 {
				t.Errorf("another object is held by %v", got)
			}
		})
	}
}
