package jobs_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/jobs"
	"wheelhouse/jobs/memqueue"
)

// unwilling is a queue that takes no results for a time, or never those of one job.
type unwilling struct {
	*memqueue.Queue
	until time.Time
	bad   jobs.ID
	calls int
}

func (q *unwilling) Finish(ctx context.Context, results []jobs.Result) error {
	q.calls++
	if time.Now().Before(q.until) {
		return errors.New("connection refused")
	}
	for _, r := range results {
		if r.Job.ID == q.bad {
			return errors.New("cannot take this one")
		}
	}
	return q.Queue.Finish(ctx, results)
}

// TestResultsAreTriedAgain: jobs whose results could not be recorded are not done twice because of that.
func TestResultsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &unwilling{Queue: memqueue.New(nil), until: time.Now().Add(20 * time.Second)}
		var runs atomic.Int32
		stop := running(t, q, jobs.Options{}, map[string]jobs.Handler{"f": {Lease: 3 * time.Second, Concurrency: 4, Work: func(context.Context, *jobs.Job) error {
			runs.Add(1)
			return nil
		}}})
		for range 100 {
			insert(t, q, jobs.Job{Func: "f"})
		}
		time.Sleep(19 * time.Second)
		if n := runs.Load(); n > 12 {
			t.Errorf("%d jobs were begun although no result was taken", n)
		}
		time.Sleep(time.Minute)
		if n := runs.Load(); n != 100 || len(list(t, q, jobs.Filter{})) != 0 {
			t.Errorf("%d runs, %d left; want each of 100 once", n, len(list(t, q, jobs.Filter{})))
		}
		stop()
	})
}

// TestStopsWithoutAnswer: a queue that is gone does not keep a worker from stopping, in bounded time.
func TestStopsWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &unwilling{Queue: memqueue.New(nil), until: time.Now().Add(24 * time.Hour)}
		stop := running(t, q, jobs.Options{}, map[string]jobs.Handler{"f": {Concurrency: 2, Work: func(context.Context, *jobs.Job) error { return nil }}})
		for range 20 {
			insert(t, q, jobs.Job{Func: "f"})
		}
		time.Sleep(5 * time.Second)
		start := time.Now()
		stop()
		if d := time.Since(start); d > 40*time.Second {
			t.Errorf("stopped after %v; want some 30s at most", d)
		}
	})
}

// TestBadResult: one result that the queue does not take does not hold up the others.
func TestBadResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &unwilling{Queue: memqueue.New(nil), bad: 3}
		for range 10 {
			insert(t, q, jobs.Job{Func: "f"})
		}
		w := jobs.New(q, jobs.Options{})
		if err := w.Handle("f", jobs.Handler{Concurrency: 10, Work: func(context.Context, *jobs.Job) error { return nil }}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(10 * time.Second)
		if left := list(t, q, jobs.Filter{}); len(left) != 1 || left[0].ID != 3 {
			t.Errorf("left after ten seconds: %v", left)
		}
		time.Sleep(30 * time.Second)
		if s := w.Stats()[0]; s.Unrecorded != 1 || q.calls > 100 {
			t.Errorf("Stats = %+v, %d calls", s, q.calls)
		}
		cancel()
		<-done
	})
}

// TestBackoffMayAsk: what the handler brings along is not called with a lock held.
func TestBackoffMayAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		w := jobs.New(q, jobs.Options{})
		failed := int64(-1)
		err := w.Handle("f", jobs.Handler{
			Work:    func(context.Context, *jobs.Job) error { return errors.New("x") },
			Backoff: func(int) time.Duration { failed = w.Stats()[0].Failed; return time.Hour },
		})
		if err != nil {
			t.Fatal(err)
		}
		insert(t, q, jobs.Job{Func: "f"})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		cancel()
		<-done
		if failed != 1 {
			t.Errorf("Stats in Backoff: %d failed; want 1", failed)
		}
	})
}

func TestBadOwner(t *testing.T) {
	w := jobs.New(memqueue.New(nil), jobs.Options{Owner: strings.Repeat("o", jobs.MaxUnique+1)})
	if err := w.Run(t.Context()); err == nil {
		t.Error("an owner that is too long was taken")
	}
}

// unsure renews leases and says that it has failed, every other time, as a database does that is lost while it commits.
type unsure struct {
	*memqueue.Queue
	calls int
	most  int // jobs in a call
}

func (q *unsure) Renew(ctx context.Context, list []jobs.Job, lease time.Duration) ([]jobs.Job, error) {
	kept, err := q.Queue.Renew(ctx, list, lease)
	q.most = max(q.most, len(list))
	if q.calls++; q.calls%4 != 0 && err == nil {
		return kept, errors.New("connection lost")
	}
	return kept, err
}

// TestUnsureRenewal: leases that were renewed although the queue failed are still this worker's.
func TestUnsureRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &unsure{Queue: memqueue.New(nil)}
		var runs, lost atomic.Int32
		stop := running(t, q, jobs.Options{}, map[string]jobs.Handler{"f": {Lease: time.Minute, Concurrency: 4, Work: func(ctx context.Context, j *jobs.Job) error {
			runs.Add(1)
			select {
			case <-time.After(time.Duration(len(j.Arg)) * time.Second):
			case <-ctx.Done():
				lost.Add(1)
			}
			return nil
		}}})
		for _, d := range []int{8, 13, 27, 300} { // they end in doubt, and not
			insert(t, q, jobs.Job{Func: "f", Arg: make([]byte, d)})
		}
		time.Sleep(10 * time.Minute)
		if n, l, left := runs.Load(), lost.Load(), len(list(t, q, jobs.Filter{})); n != 4 || l != 0 || left != 0 {
			t.Errorf("%d runs, %d lost, %d left; want each of 4 once", n, l, left)
		}
		if q.most > 4*9 {
			t.Errorf("a call renewed %d leases of 4 jobs", q.most)
		}
		stop()
	})
}
