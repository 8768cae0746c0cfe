package sqlqueue_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/jobs"
)

// A renewal that fails may have happened: who shows both leases has the job.
func TestRenewThatFails(t *testing.T) {
	db, q := open(t, t.TempDir()+"/jobs.db", nil)
	if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f"}}); err != nil {
		t.Fatal(err)
	}
	held, err := q.Grab(t.Context(), jobs.GrabRequest{Funcs: []string{"f"}, N: 1, Lease: time.Minute})
	if err != nil || len(held) != 1 {
		t.Fatalf("grabbed %d, %v", len(held), err)
	}
	// It waits for its turn until its time is over, and happens then.
	ctx, giveUp := context.WithCancel(t.Context())
	begun, end := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(end) })
	defer release()
	written := make(chan error, 1)
	go func() {
		written <- db.Write(t.Context(), func(*sqldb.Tx) error {
			close(begun)
			<-end
			return nil
		})
	}()
	<-begun
	time.AfterFunc(50*time.Millisecond, giveUp)
	maybe, err := q.Renew(ctx, append(held, held[0]), time.Hour)
	if !errors.Is(err, context.Canceled) || len(maybe) != 1 || !maybe[0].GrabbedUntil.After(held[0].GrabbedUntil) {
		t.Fatalf("renewed %v, %v; want one in doubt", maybe, err)
	}
	release()
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	kept, err := q.Renew(t.Context(), append(held, maybe...), 2*time.Hour)
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept %v, %v; want the job", kept, err)
	}
	// So it is with results.
	r := func(j jobs.Job) jobs.Result { return jobs.Result{Job: j, Verdict: jobs.Done} }
	if err := q.Finish(t.Context(), []jobs.Result{r(held[0]), r(maybe[0]), r(kept[0])}); err != nil {
		t.Fatal(err)
	}
	if left, err := q.List(t.Context(), jobs.Filter{}); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
