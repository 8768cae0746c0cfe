package jobs_test

import (
	"context"
	"sync/atomic"
	"testing"

	"wheelhouse/jobs"
	"wheelhouse/jobs/memqueue"
)

// BenchmarkWorker is the overhead of a job: inserted in batches, done by a handler that does nothing.
func BenchmarkWorker(b *testing.B) {
	q := memqueue.New(nil)
	w := jobs.New(q, jobs.Options{})
	var done, want atomic.Int64
	all := make(chan struct{}, 1)
	err := w.Handle("f", jobs.Handler{Concurrency: 4, Prefetch: 1000, Work: func(context.Context, *jobs.Job) error {
		if done.Add(1) == want.Load() {
			all <- struct{}{}
		}
		return nil
	}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	const n = 1000
	list := make([]jobs.Job, n)
	for i := range list {
		list[i] = jobs.Job{Func: "f", Arg: []byte(`{"object":12345}`)}
	}
	b.ReportAllocs()
	for b.Loop() {
		want.Store(done.Load() + n)
		if _, err := q.Insert(ctx, list); err != nil {
			b.Fatal(err)
		}
		<-all
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "jobs/s")
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
