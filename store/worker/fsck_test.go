package worker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/store"
)

// problems runs a comparison and lists what it found as "kind object storage fixed".
func (wd *world) problems(op store.Operation) (found []string, end store.Operation) {
	wd.t.Helper()
	end = wd.end(wd.create(op))
	if end.State != store.OpDone {
		wd.t.Fatalf("%+v", end)
	}
	report, err := end.Report()
	if err != nil {
		wd.t.Fatal(err)
	}
	for _, p := range report.Problems {
		found = append(found, strings.TrimSpace(fmt.Sprint(p.Kind, " ", p.Object, " ", p.Storage, " ", p.Fixed)))
	}
	slices.Sort(found)
	if int64(len(found)) != end.Progress.Problems {
		wd.t.Errorf("%d problems counted, %d on record", end.Progress.Problems, len(found))
	}
	return found, end
}

func TestFsck(t *testing.T) {
	wd := newWorld(t)
	ctx := t.Context()
	objects := wd.fill(60)
	stop := wd.operate(wd.w)
	if found, end := wd.problems(store.Operation{Kind: store.OpFsck}); found != nil || end.Progress.Objects != int64(3*len(objects)) {
		t.Fatalf("nothing is wrong: %v, %+v", found, end.Progress) // what storage 3 is owed is no problem: the catalog knows
	}
	wd.round() // and it gets it
	wd.wantEverywhere(objects)

	missing, lost, wrong, other, deleted := objects[3], objects[4], objects[5], objects[9], objects[12]
	del := func(id store.ObjectID, on ...store.StorageID) {
		for _, s := range on {
			if err := wd.disks[s].Delete(ctx, []store.ObjectID{id}); err != nil {
				t.Fatal(err)
			}
		}
	}
	del(missing.ID, 2)
	del(lost.ID, 1, 2, 3)
	overwrite := func(o store.Object, on store.StorageID, data []byte) {
		info := store.EntityInfo{ID: o.ID, Size: int64(len(data)), Bucket: "b", Name: o.Name, Created: wd.now}
		if err := wd.disks[on].Put(ctx, info, data); err != nil {
			t.Fatal(err)
		}
	}
	overwrite(wrong, 1, []byte("short"))
	overwrite(other, 3, make([]byte, other.Size)) // of the right size, and its own checksum says that it is good
	extra := wd.put("extra", []byte("extra"), false, 2)
	upload := wd.put("upload under way", []byte("upload"), false, 1)
	if err := wd.cat.CloseLease(ctx, extra.ID); err != nil {
		t.Fatal(err)
	}
	if err := wd.cat.DropLease(ctx, extra.ID); err != nil {
		t.Fatal(err)
	}
	// Deleted, and its entities not yet: no problem either.
	if _, err := wd.cat.Delete(ctx, wd.bucket.ID, deleted.Name, store.Condition{}); err != nil {
		t.Fatal(err)
	}
	want := func(fixed bool) (list []string) {
		list = []string{
			fmt.Sprintf("missing %d 2 %v", missing.ID, fixed), fmt.Sprintf("lost %d 0 false", lost.ID), fmt.Sprintf("corrupt %d 1 %v", wrong.ID, fixed),
			fmt.Sprintf("corrupt %d 3 %v", other.ID, fixed), fmt.Sprintf("extra %d 2 %v", extra.ID, fixed),
		}
		slices.Sort(list)
		return list
	}
	found, _ := wd.problems(store.Operation{Kind: store.OpFsck})
	if d := cmp.Diff(want(false), found); d != "" {
		t.Errorf("first run (-want +got):\n%s", d)
	}
	bucketWide, _ := wd.problems(store.Operation{Kind: store.OpFsck, Bucket: "b"})
	if !slices.Contains(bucketWide, fmt.Sprintf("missing %d 2 false", missing.ID)) || len(bucketWide) != 3 {
		t.Errorf("of the bucket: %v", bucketWide)
	}
	if one, _ := wd.problems(store.Operation{Kind: store.OpFsck, Storage: 2}); len(one) != 3 {
		t.Errorf("of storage 2: %v", one)
	}
	fix := []byte(`{"fix":true}`)
	wd.problems(store.Operation{Kind: store.OpFsck, Options: fix})
	wd.runJobs(store.TaskReplicate, store.TaskRepairObject)
	found, _ = wd.problems(store.Operation{Kind: store.OpFsck})
	if d := cmp.Diff([]string{fmt.Sprintf("lost %d 0 false", lost.ID)}, found); d != "" {
		t.Errorf("after repair (-want +got):\n%s", d)
	}
	for _, o := range []store.Object{missing, wrong, other} {
		if got := wd.holders(o); len(got) != 3 {
			t.Errorf("object %d is held by %v", o.ID, got)
		}
	}
	if got := wd.holders(extra); got != nil {
		t.Errorf("what belongs to no object is held by %v", got)
	}
	if got := wd.holders(upload); len(got) != 1 {
		t.Errorf("an upload under way is held by %v", got)
	}
	// One that does not answer is named, and holds nobody up.
	wd.mu.Lock()
	wd.away[2] = true
	wd.mu.Unlock()
	begun := time.Now()
	found, _ = wd.problems(store.Operation{Kind: store.OpFsck})
	if !slices.Contains(found, "unreachable 0 2 false") || time.Since(begun) > 20*time.Second {
		t.Errorf("%v after %v", found, time.Since(begun))
	}
	if err := wd.cat.SetStorageMode(ctx, 2, store.ModeDown); err != nil {
		t.Fatal(err)
	}
	if found, _ = wd.problems(store.Operation{Kind: store.OpFsck}); !slices.Contains(found, "unreachable 0 2 false") {
		t.Errorf("down: %v", found)
	}
	stop()
}
