package jobsgearman_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"wheelhouse/gearman/gearmantest"
	"wheelhouse/internal/bridge/jobsgearman"
	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
)

// A worker that polls once an hour does at once what another process (another queue value on the same file) inserts.
func TestWake(t *testing.T) {
	server := gearmantest.StartDebian(t)
	db := "sqlite:" + filepath.Join(t.TempDir(), "jobs.db")
	log := slog.New(slog.DiscardHandler)
	a := jobsgearman.NewAnnouncer(gearmantest.NewClient(t, server), "test", log)
	l, err := jobsgearman.NewListener([]string{server}, "test", log)
	if err != nil {
		t.Fatal(err)
	}
	open := func(opts sqlqueue.Options) *sqlqueue.Queue {
		q, err := sqlqueue.OpenURL(t.Context(), db, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = q.Close() })
		return q
	}
	inserts, works := open(sqlqueue.Options{Announce: a.Announce}), open(sqlqueue.Options{})

	did := make(chan string, 10)
	opts := jobs.Options{Poll: time.Hour}
	l.Wake(&opts)
	w := jobs.New(works, opts)
	err = w.Handle("f", jobs.Handler{Work: func(ctx context.Context, j *jobs.Job) error {
		did <- string(j.Arg)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for _, run := range []func(context.Context) error{a.Run, l.Run, w.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	for _, arg := range []string{"one", "two", "three"} {
		if _, err := inserts.Insert(t.Context(), []jobs.Job{{Func: "f", Arg: []byte(arg)}}); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-did:
			if got != arg {
				t.Errorf("got %s; want %s", got, arg)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s was not done", arg)
		}
	}
}
