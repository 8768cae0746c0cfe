package storejobs_test

import (
	"context"
	"errors"
	"os"
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

// TestLife is an object's, from a commit that leaves something owed to the deletion of what replaced it.
func TestLife(t *testing.T) {
	o := open(t, t.TempDir()+"/catalog.db", catalog.Options{Grace: -1})
	ctx, c := t.Context(), o.Catalog

	var mu sync.Mutex
	var did []string
	note := make(chan struct{}, 100)
	handler := func(kind string, f func(ctx context.Context, arg []byte) error) func(context.Context, []byte) error {
		return func(ctx context.Context, arg []byte) error {
			err := f(ctx, arg)
			mu.Lock()
			did = append(did, kind+string(arg))
			mu.Unlock()
			note <- struct{}{}
			return err
		}
	}
	w := jobs.New(o.Queue, jobs.Options{})
	err := storejobs.Handle(w, map[string]func(context.Context, []byte) error{
		store.TaskReplicate: handler("replicate", func(ctx context.Context, arg []byte) error {
			var a store.ReplicateArg
			if err := store.DecodeArg(store.TaskReplicate, arg, &a); err != nil {
				return err
			}
			obj, err := c.ObjectByID(ctx, a.Object)
			if err != nil {
				return err
			}
			return c.ClearMissing(ctx, obj.ID, obj.Missing)
		}),
		store.TaskDeleteObject: handler("delete", func(ctx context.Context, arg []byte) error {
			var a store.DeleteObjectArg
			if err := store.DecodeArg(store.TaskDeleteObject, arg, &a); err != nil {
				return err
			}
			return c.ForgetDeleted(ctx, []store.ObjectID{a.Object})
		}),
	}, map[string]int{store.TaskReplicate: 2})
	if err != nil {
		t.Fatal(err)
	}
	runCtx, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- w.Run(runCtx) }()

	first, err := c.LeaseIDs(ctx, "test", 10)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.CreateBucket(ctx, store.Bucket{Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	obj := store.Object{ID: first, Bucket: b.ID, Name: "x", Cluster: 1, Created: time.Now(), Missing: []store.StorageID{3}}
	if _, err := c.Commit(ctx, store.Commit{Object: obj}); err != nil {
		t.Fatal(err)
	}
	<-note
	if _, got, err := c.Find(ctx, "b", "x"); err != nil || got.Missing != nil {
		t.Errorf("Find = %+v, %v; want nothing missing", got, err)
	}
	if _, err := c.Delete(ctx, b.ID, "x", store.Condition{}); err != nil {
		t.Fatal(err)
	}
	<-note
	if err := c.EnqueueRepair(ctx, first, 3); err != nil {
		t.Fatal(err)
	}
	if err := c.EnqueueRepair(ctx, first, 3); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	totals, err := c.Totals(ctx)
	if err != nil || totals != (store.Totals{Buckets: 1}) {
		t.Errorf("Totals = %+v, %v; want one bucket", totals, err)
	}
	if len(did) != 2 || did[0] != `replicate{"object":1}` || did[1] != `delete{"object":1}` {
		t.Errorf("done: %q", did)
	}
	stats, err := o.Queue.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stats {
		if want := int64(0); s.Func == store.TaskRepairObject && s.Ready != 1 || s.Func != store.TaskRepairObject && s.Ready != want {
			t.Errorf("left: %+v", s)
		}
	}
}

func TestHandleUnknown(t *testing.T) {
	o := open(t, t.TempDir()+"/catalog.db", catalog.Options{})
	w := jobs.New(o.Queue, jobs.Options{})
	err := storejobs.Handle(w, map[string]func(context.Context, []byte) error{"replicat": func(context.Context, []byte) error { return nil }}, nil)
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
