package memqueue_test

import (
	"strconv"
	"testing"
	"time"

	"wheelhouse/jobs"
	"wheelhouse/jobs/memqueue"
)

// BenchmarkQueue inserts, grabs and finishes a hundred jobs while a hundred thousand others wait.
func BenchmarkQueue(b *testing.B) {
	const n, waiting = 100, 100_000
	for name, control := range map[string]func(*jobs.Control){
		"free": func(*jobs.Control) {}, "limited": func(c *jobs.Control) {
			c.MaxRunningPerKey, c.RatePerKey = 2*n, jobs.Rate{N: jobs.MaxRate, Per: time.Second}
		},
	} {
		b.Run("limits="+name, func(b *testing.B) {
			q := memqueue.New(nil)
			ctx := b.Context()
			if err := q.SetControl(ctx, "f", control); err != nil {
				b.Fatal(err)
			}
			list := make([]jobs.Job, n)
			for i := range list {
				list[i] = jobs.Job{Func: "f", Key: strconv.Itoa(i % 10), Arg: []byte("x")}
			}
			for range waiting / n {
				if _, err := q.Insert(ctx, list); err != nil {
					b.Fatal(err)
				}
			}
			results := make([]jobs.Result, n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := q.Insert(ctx, list); err != nil {
					b.Fatal(err)
				}
				got, err := q.Grab(ctx, jobs.GrabRequest{Funcs: []string{"f"}, N: n, Lease: time.Minute})
				if err != nil || len(got) != n {
					b.Fatal(len(got), err)
				}
				for i, j := range got {
					results[i] = jobs.Result{Job: j, Verdict: jobs.Done}
				}
				if err := q.Finish(ctx, results); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}
