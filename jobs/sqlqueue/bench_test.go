package sqlqueue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
)

// BenchmarkBatches inserts jobs by the hundred, and grabs and finishes them so, from two goroutines each.
func BenchmarkBatches(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			q := openURL(b, k.fresh(b), sqlqueue.Options{})
			ctx := b.Context()
			const n, hands = 100, 2
			for b.Loop() {
				var wg sync.WaitGroup
				for range hands {
					wg.Go(func() { batch(ctx, b, q, n) })
				}
				wg.Wait()
			}
			b.ReportMetric(float64(b.N)*n*hands/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

func batch(ctx context.Context, b *testing.B, q *sqlqueue.Queue, n int) {
	list := make([]jobs.Job, n)
	for i := range list {
		list[i] = jobs.Job{Func: "f", Arg: []byte(`{"object":12345}`)}
	}
	if _, err := q.Insert(ctx, list); err != nil {
		b.Error(err)
	}
	got, err := q.Grab(ctx, jobs.GrabRequest{Funcs: []string{"f"}, N: n, Lease: time.Minute})
	if err != nil || len(got) == 0 {
		b.Error(len(got), err)
	}
	results := make([]jobs.Result, len(got))
	for i := range got {
		results[i] = jobs.Result{Job: got[i], Verdict: jobs.Done}
	}
	if err := q.Finish(ctx, results); err != nil {
		b.Error(err)
	}
}

// BenchmarkUnique inserts one job with a key, as the store does in the transaction of each change, and takes it away.
func BenchmarkUnique(b *testing.B) {
	_, q := open(b, b.TempDir()+"/jobs.db", nil)
	ctx := b.Context()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, err := q.Insert(ctx, []jobs.Job{{Func: "f", Arg: []byte(`{"object":12345}`), Unique: fmt.Sprint(i)}}); err != nil {
			b.Fatal(err)
		}
	}
}
