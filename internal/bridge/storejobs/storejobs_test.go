package storejobs_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/bridge/storejobs"
	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

func open(t *testing.T, path string, opts catalog.Options) *storejobs.Opened {
	t.Helper()
	o, err := storejobs.Open(t.Context(), path, opts, sqlqueue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// life is what happened to the tasks of a catalog.
type life struct {
	c    *catalog.SQLite
	mu   sync.Mutex // guards did
	did  []string
	note chan struct{} // one for each
}

func (l *life) done(kind string, arg []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.did = append(l.did, kind+string(arg))
	l.note <- struct{}{}
}

func (l *life) replicate(ctx context.Context, arg []byte) error {
	defer l.done("replicate", arg)
	var a store.ReplicateArg
	if err := store.DecodeArg(store.TaskReplicate, arg, &a); err != nil {
		return err
	}
	o, err := l.c.ObjectByID(ctx, a.Object)
	if err != nil {
		return err
	}
	return l.c.ClearMissing(ctx, o.ID, o.Missing)
}

func (l *life) delete(ctx context.Context, arg []byte) error {
	defer l.done("delete", arg)
	var a store.DeleteObjectArg
	if err := store.DecodeArg(store.TaskDeleteObject, arg, &a); err != nil {
		return err
	}
	return l.c.ForgetDeleted(ctx, []store.ObjectID{a.Object})
}

// TestLife is an object's, from a commit that leaves something owed to the deletion of its entities.
func TestLife(t *testing.T) {
	o := open(t, t.TempDir()+"/catalog.db", catalog.Options{Grace: -1})
	ctx, c := t.Context(), o.Catalog
	l := &life{c: c, note: make(chan struct{}, 10)}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w := jobs.New(o.Queue, jobs.Options{})
	ok(storejobs.Handle(w, storejobs.Handlers{
		One: map[string]func(context.Context, []byte) error{store.TaskReplicate: l.replicate},
		Many: map[string]func(context.Context, [][]byte) []error{store.TaskDeleteObject: func(ctx context.Context, args [][]byte) (list []error) {
			for _, arg := range args {
				list = append(list, l.delete(ctx, arg))
			}
			return list
		}},
		Concurrency: map[string]int{store.TaskReplicate: 2},
	}))
	runCtx, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- w.Run(runCtx) }()

	first, err := c.LeaseIDs(ctx, "test", 10)
	ok(err)
	b, err := c.CreateBucket(ctx, store.Bucket{Name: "b"})
	ok(err)
	obj := store.Object{ID: first, Bucket: b.ID, Name: "x", Cluster: 1, Created: time.Now(), Missing: []store.StorageID{3}}
	_, err = c.Commit(ctx, store.Commit{Object: obj})
	ok(err)
	<-l.note
	_, got, err := c.Find(ctx, "b", "x")
	ok(err)
	if got.Missing != nil {
		t.Errorf("after replication %v is missing", got.Missing)
	}
	_, err = c.Delete(ctx, b.ID, "x", store.Condition{})
	ok(err)
	<-l.note
	ok(c.EnqueueRepair(ctx, first, 3)) // nobody does this here
	ok(c.EnqueueRepair(ctx, first, 3)) // folded
	stop()
	ok(<-done)

	totals, err := c.Totals(ctx)
	ok(err)
	if totals != (store.Totals{Buckets: 1}) {
		t.Errorf("Totals = %+v; want one bucket", totals)
	}
	if len(l.did) != 2 || l.did[0] != `replicate{"object":1}` || l.did[1] != `delete{"object":1}` {
		t.Errorf("done: %q", l.did)
	}
	stats, err := o.Queue.Stats(ctx)
	ok(err)
	want := []jobs.FuncStats{{Func: store.TaskDeleteObject}, {Func: store.TaskRepairObject, Ready: 1}, {Func: store.TaskReplicate}}
	for i := range stats {
		stats[i].OldestDue = time.Time{} // of now
	}
	if !slices.Equal(stats, want) {
		t.Errorf("Stats = %+v; want %+v", stats, want)
	}
}

func TestHandleUnknown(t *testing.T) {
	o := open(t, t.TempDir()+"/catalog.db", catalog.Options{})
	w := jobs.New(o.Queue, jobs.Options{})
	err := storejobs.Handle(w, storejobs.Handlers{One: map[string]func(context.Context, []byte) error{"replicat": func(context.Context, []byte) error { return nil }}})
	if err == nil {
		t.Error("a misspelt kind was taken")
	}
}

func TestOpenDamaged(t *testing.T) {
	path := t.TempDir() + "/catalog.db"
	if err := os.WriteFile(path, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := storejobs.Open(t.Context(), path, catalog.Options{}, sqlqueue.Options{}); !errors.Is(err, store.ErrCatalogDamage) {
		t.Errorf("Open = %v; want %v", err, store.ErrCatalogDamage)
	}
}
