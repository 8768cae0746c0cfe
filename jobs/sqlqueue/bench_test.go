package sqlqueue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/sqldb"
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

// BenchmarkInsertTx inserts a job with a key, as the store does in the transaction of each change; a hundred of those
// share a commit.
func BenchmarkInsertTx(b *testing.B) {
	db, q := open(b, b.TempDir()+"/jobs.db", nil)
	b.ReportAllocs()
	const n = 100
	i := 0
	for b.Loop() {
		err := db.Write(b.Context(), func(tx *sqldb.Tx) error {
			for range n {
				i++
				job := jobs.Job{Func: "f", Arg: []byte(`{"object":12345}`), Unique: fmt.Sprint(i)}
				if _, err := q.InsertTx(tx, []jobs.Job{job}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "jobs/s")
}

// BenchmarkInsertAlone inserts jobs one by one from many goroutines, as the requests of a web site do.
func BenchmarkInsertAlone(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			q := openURL(b, k.fresh(b), sqlqueue.Options{})
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := q.Insert(b.Context(), []jobs.Job{{Func: "f", Arg: []byte(`{"object":12345}`)}}); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}
