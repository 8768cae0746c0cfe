package gearmanjobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/internal/bridge/gearmanjobs"
	"wheelhouse/jobs"
	"wheelhouse/jobs/memqueue"
)

func open(t *testing.T, q gearmanjobs.Queue, name string) *gearmanjobs.Store {
	t.Helper()
	s, err := gearmanjobs.Open(t.Context(), q, name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func load(t *testing.T, s *gearmanjobs.Store) (list []gearmand.StoredJob) {
	t.Helper()
	err := s.Load(t.Context(), func(j gearmand.StoredJob) error {
		list = append(list, j)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestKeeps(t *testing.T) {
	q := memqueue.New(nil)
	if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "replicate", Arg: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
	s := open(t, q, "")
	at := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	want := []gearmand.StoredJob{
		{Key: "k1", Func: "resize", Unique: "u", Arg: []byte("a\nb\x00c"), Priority: gearmand.High, Handle: "H:x:1"},
		{Key: "k2", Func: "resize", Arg: []byte{}, Priority: gearmand.Low, Handle: "H:x:2", Reducer: "sum"},
		{Key: "k3", Func: "mail", Arg: []byte("later"), Priority: gearmand.Normal, Handle: "H:x:3", RunAt: at},
		{Key: "k4", Func: "no\xfftext", Unique: "\xff\x01\xfe", Reducer: "\x80", Arg: []byte("[]"), Priority: gearmand.Normal, Handle: "H:\xe4:4"},
		{Key: "k5", Func: strings.Repeat("long", 128), Unique: `["YQ=="]`, Arg: []byte{}, Priority: gearmand.Normal, Handle: "H:x:5"},
	}
	if err := s.Add(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = open(t, q, "default")
	if diff := cmp.Diff(want, load(t, s)); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	want[0].Retries = 2
	if err := s.Add(t.Context(), want[:1]); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), []string{"k2", "nobody"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]gearmand.StoredJob{want[2], want[3], want[4], want[0]}, load(t, open(t, q, ""))); diff != "" {
		t.Errorf("after changes (-want +got):\n%s", diff)
	}
}

func TestNamesAreApart(t *testing.T) {
	q := memqueue.New(nil)
	a, b := open(t, q, "a"), open(t, q, "b")
	if err := a.Add(t.Context(), []gearmand.StoredJob{{Key: "k", Func: "f", Handle: "H:1"}}); err != nil {
		t.Fatal(err)
	}
	if got := load(t, b); len(got) != 0 {
		t.Errorf("b has a's jobs: %v", got)
	}
	if _, err := gearmanjobs.Open(t.Context(), q, "no blanks"); err == nil {
		t.Error("a name with a blank was taken")
	}
}

// A second server of the same name is refused while the first one lives, and takes over when it has been killed.
func TestOneServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		first := open(t, q, "")
		ctx, kill := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- first.Run(ctx) }()
		if _, err := gearmanjobs.Open(t.Context(), q, ""); !errors.Is(err, gearmanjobs.ErrTaken) {
			t.Errorf("err = %v; want ErrTaken", err)
		}
		kill()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		open(t, q, "") // after the lease
	})
}

// A server that was cut off from its database for long finds that another one has its jobs, and stops.
func TestCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &flaky{Queue: memqueue.New(nil)}
		first := open(t, q, "")
		ended := make(chan error, 1)
		go func() { ended <- first.Run(t.Context()) }()
		time.Sleep(5 * time.Second)
		q.down.Store(true)
		time.Sleep(2900 * time.Millisecond) // it fails at once, then not at all
		q.hangs.Store(true)
		if err := <-ended; err == nil {
			t.Error("Run went on")
		}
		if d := time.Since(q.last); d < 3*time.Second || d >= 5*time.Second {
			t.Errorf("it ended %v after the last renewal; want to have tried, and to be before the lease's end", d)
		}
	})
}

type flaky struct {
	gearmanjobs.Queue
	down, hangs atomic.Bool
	last        time.Time // when it was renewed
}

func (f *flaky) Renew(ctx context.Context, list []jobs.Job, lease time.Duration) ([]jobs.Job, error) {
	switch {
	case f.hangs.Load():
		<-ctx.Done()
		return nil, ctx.Err()
	case f.down.Load():
		return nil, fmt.Errorf("the database does not answer")
	}
	f.last = time.Now()
	return f.Queue.Renew(ctx, list, lease)
}

// short gives short pages, as a queue does whose jobs have long arguments.
type short struct{ gearmanjobs.Queue }

func (s short) List(ctx context.Context, f jobs.Filter) ([]jobs.Record, error) {
	list, err := s.Queue.List(ctx, f)
	return list[:min(len(list), 2)], err
}

func TestLoadsShortPages(t *testing.T) {
	s := open(t, short{memqueue.New(nil)}, "")
	var want []gearmand.StoredJob
	for i := range 7 {
		want = append(want, gearmand.StoredJob{Key: fmt.Sprint(i), Func: "f", Arg: []byte("x"), Handle: fmt.Sprint("H:", i)})
	}
	if err := s.Add(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, load(t, s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// unsure takes jobs and says that it has failed.
type unsure struct {
	gearmanjobs.Queue
	fail atomic.Bool
}

func (u *unsure) Insert(ctx context.Context, list []jobs.Job) ([]jobs.ID, error) {
	ids, err := u.Queue.Insert(ctx, list)
	if err == nil && u.fail.Load() {
		return nil, fmt.Errorf("the connection broke")
	}
	return ids, err
}

// What a call has left in the queue that failed is removed: its clients were told that there is no such job.
func TestSweepsWhatHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &unsure{Queue: memqueue.New(nil)}
		s := open(t, q, "")
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		kept := []gearmand.StoredJob{{Key: "kept", Func: "f", Arg: []byte("x"), Handle: "H:1"}}
		if err := s.Add(t.Context(), kept); err != nil {
			t.Fatal(err)
		}
		q.fail.Store(true)
		if err := s.Add(t.Context(), []gearmand.StoredJob{{Key: "refused", Func: "f", Handle: "H:2"}}); err == nil {
			t.Fatal("no error")
		}
		q.fail.Store(false)
		if err := s.Remove(t.Context(), []string{"refused"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(kept, load(t, s)); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
	})
}

// slow takes its time to delete.
type slow struct{ gearmanjobs.Queue }

func (s slow) Delete(ctx context.Context, f jobs.Filter) (int, error) {
	time.Sleep(20 * time.Second)
	return s.Queue.Delete(ctx, f)
}

// The lease is renewed while the queue takes its time to forget.
func TestRenewsBesideRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, slow{memqueue.New(nil)}, "")
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		if err := s.Add(t.Context(), []gearmand.StoredJob{{Key: "k", Func: "f", Handle: "H:1"}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(t.Context(), []string{"k"}); err != nil {
			t.Fatal(err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the lease was lost: %v", err)
		}
	})
}

func TestCheck(t *testing.T) {
	s := open(t, memqueue.New(nil), "")
	most := jobs.MaxArg - 8<<10
	for _, c := range []struct {
		job gearmand.StoredJob
		ok  bool
	}{
		{gearmand.StoredJob{Arg: make([]byte, most)}, true},
		{gearmand.StoredJob{Arg: make([]byte, most+1)}, false},
		{gearmand.StoredJob{RunAt: time.Unix(jobs.MaxTime, 0)}, true},
		{gearmand.StoredJob{RunAt: time.Unix(jobs.MaxTime+1, 0)}, false},
	} {
		c.job.Key, c.job.Func, c.job.Handle = "k", strings.Repeat("<", 512), strings.Repeat("<", 63)
		c.job.Reducer, c.job.Unique = c.job.Func, strings.Repeat("<", 64)
		if err := s.Check(&c.job); (err == nil) != c.ok {
			t.Errorf("%d bytes, at %v: %v", len(c.job.Arg), c.job.RunAt, err)
		}
		if err := s.Add(t.Context(), []gearmand.StoredJob{c.job}); c.ok && err != nil {
			t.Errorf("passed by Check, but: %v", err)
		}
	}
}

// stalled renews leases, and says for a while that it has failed.
type stalled struct {
	gearmanjobs.Queue
	fails atomic.Bool
}

func (s *stalled) Renew(ctx context.Context, list []jobs.Job, lease time.Duration) ([]jobs.Job, error) {
	kept, err := s.Queue.Renew(ctx, list, lease)
	if err == nil && s.fails.Load() {
		return kept, fmt.Errorf("no answer")
	}
	return kept, err
}

// A server whose database has stalled at a commit for a moment is still the only one, and goes on.
func TestStalledDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &stalled{Queue: memqueue.New(nil)}
		s := open(t, q, "")
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		for range 3 {
			time.Sleep(5 * time.Second)
			q.fails.Store(true)
			time.Sleep(2 * time.Second)
			q.fails.Store(false)
		}
		time.Sleep(time.Second)
		q.fails.Store(true)
		time.Sleep(time.Second)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		began := time.Now()
		open(t, q, "")
		if d := time.Since(began); d > 0 {
			t.Errorf("the name was free after %v; want at once", d)
		}
	})
}
