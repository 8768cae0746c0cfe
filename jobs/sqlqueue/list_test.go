package sqlqueue_test

import (
	"slices"
	"testing"
	"time"

	"wheelhouse/jobs"
)

// A listing that is cut as its arguments are long is cut in all tables at the same place: going on behind it finds all jobs.
func TestListLongArguments(t *testing.T) {
	_, q := open(t, t.TempDir()+"/jobs.db", nil)
	long := make([]byte, jobs.MaxArg)
	list := slices.Repeat([]jobs.Job{{Func: "long", Arg: long}}, jobs.MaxListArgs/jobs.MaxArg+2)
	want, err := q.Insert(t.Context(), append(list, jobs.Job{Func: "short"}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := q.Grab(t.Context(), jobs.GrabRequest{Funcs: []string{"short"}, N: 1, Lease: time.Minute})
	if err != nil || len(got) != 1 {
		t.Fatalf("grabbed %d, %v", len(got), err)
	}
	finish(t, q, got, jobs.Result{Verdict: jobs.Dead, Cause: "to be in another table"})
	var ids []jobs.ID
	for after := jobs.ID(0); ; after = ids[len(ids)-1] {
		page, err := q.List(t.Context(), jobs.Filter{After: after, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		size := 0
		for _, r := range page {
			ids = append(ids, r.ID)
			size += len(r.Arg)
		}
		if most := jobs.MaxListArgs + jobs.MaxArg; size > most {
			t.Errorf("a page has %d bytes; want at most %d", size, most)
		}
	}
	if !slices.Equal(ids, want) {
		t.Errorf("listed %v; want %v", ids, want)
	}
}
