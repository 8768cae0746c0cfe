package sqlqueue_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
)

// TestLimitsTogether: several processes together keep to the limits to the job, while they grab as fast as they can.
func TestLimitsTogether(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		now := time.Now()
		opts := sqlqueue.Options{Now: func() time.Time { return now }} // stands still: no token comes back
		a, b := openURL(t, url, opts), openURL(t, url, opts)
		list := make([]jobs.Job, 200)
		for i := range list {
			list[i] = jobs.Job{Func: []string{"some", "rate"}[i%2], Key: []string{"x", "y", "z"}[i%3]}
		}
		if _, err := a.Insert(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		if err := a.SetControl(t.Context(), "some", func(c *jobs.Control) { c.MaxRunning, c.MaxRunningPerKey = 5, 2 }); err != nil {
			t.Fatal(err)
		}
		if err := b.SetControl(t.Context(), "rate", func(c *jobs.Control) { c.Rate = jobs.Rate{N: 30, Per: time.Hour} }); err != nil {
			t.Fatal(err)
		}
		var running, most, begun, done atomic.Int64
		var mu sync.Mutex // guards keys
		keys := make(map[string]int)
		var wg sync.WaitGroup
		for i := range 6 {
			q := []*sqlqueue.Queue{a, b}[i%2]
			wg.Go(func() {
				for done.Load() < 100 && !t.Failed() {
					got, err := q.Grab(t.Context(), jobs.GrabRequest{Funcs: []string{"some", "rate"}, N: 4, Lease: time.Minute})
					if err != nil {
						t.Error(err)
						return
					}
					results := make([]jobs.Result, len(got))
					some := int64(0)
					mu.Lock()
					for i, j := range got {
						results[i] = jobs.Result{Job: j, Verdict: jobs.Done}
						if j.Func == "rate" {
							begun.Add(1)
							continue
						}
						some++
						if keys[j.Key]++; keys[j.Key] > 2 {
							t.Errorf("%d jobs of key %s run", keys[j.Key], j.Key)
						}
					}
					most.Store(max(most.Load(), running.Add(some)))
					mu.Unlock()
					if _, err := q.Renew(t.Context(), got, time.Minute); err != nil { // takes its time, while others grab
						t.Error(err)
					}
					mu.Lock() // counted down before the queue does, so that the count is never too high
					for _, j := range got {
						if j.Func == "some" {
							keys[j.Key]--
						}
					}
					running.Add(-some)
					mu.Unlock()
					if err := q.Finish(t.Context(), results); err != nil {
						t.Error(err)
						return
					}
					done.Add(some)
				}
			})
		}
		wg.Wait()
		if most.Load() > 5 || begun.Load() != 30 {
			t.Errorf("%d ran at a time, %d were begun; want at most 5, and 30", most.Load(), begun.Load())
		}
	})
}

// TestBeginTogether: processes that begin at the same time set the same things at the same time.
func TestBeginTogether(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		queues := make([]*sqlqueue.Queue, 4)
		for i := range queues {
			queues[i] = openURL(t, url, sqlqueue.Options{})
		}
		var wg sync.WaitGroup
		for _, q := range queues {
			wg.Go(func() {
				for i := range 5 {
					name := string(rune('a' + i))
					err := q.Schedule(t.Context(), []jobs.Periodic{{Name: name, Spec: "@every 1s", Func: "f" + name, Arg: []byte("x")}})
					if err != nil {
						t.Error(err)
					}
					if err := q.SetControl(t.Context(), "g"+name, func(c *jobs.Control) { c.MaxRunning++ }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		list, err := queues[0].Periodics(t.Context())
		if err != nil || len(list) != 5 || list[4].Func != "fe" || string(list[4].Arg) != "x" {
			t.Errorf("Periodics = %+v, %v", list, err)
		}
		controls, err := queues[1].Controls(t.Context())
		if err != nil || len(controls) != 5 || controls[0].MaxRunning != 4 {
			t.Errorf("Controls = %+v, %v; want 5 with 4 each", controls, err)
		}
	})
}
