package worker_test

import (
	"crypto/md5"
	"os"
	"path/filepath"
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
