package jobstest

import (
	"fmt"
	"sync"
	"time"

	"wheelhouse/jobs"
)

var concurrentTests = []test{
	{"Many", many},
	{"Concurrent", concurrent},
	{"ConcurrentUnique", concurrentUnique},
	{"ConcurrentLimit", concurrentLimit},
}

func many(t *queueTest) {
	const n = 1000
	list := make([]jobs.Job, n)
	for i := range list {
		list[i] = jobs.Job{Func: "f", Arg: []byte(fmt.Sprintf("%04d", i))}
	}
	t.insert(list...)
	for i := 0; i < n; {
		got := t.grab(64, "f")
		if len(got) == 0 {
			t.Fatalf("no job left after %d", i)
		}
		for _, j := range got {
			t.equal("order", string(j.Arg), fmt.Sprintf("%04d", i))
			i++
		}
		t.done(got...)
	}
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f"})
}

// concurrent: no job is given to two at a time, and none is lost.
func concurrent(t *queueTest) {
	const n, workers = 400, 8
	var mu sync.Mutex
	done := make(map[string]int)
	queues := [2]jobs.Backend{t.q, t.other()}
	var wg sync.WaitGroup
	for w := range workers {
		q := queues[w%2]
		wg.Go(func() {
			for i := range n / workers {
				if _, err := q.Insert(t.ctx, []jobs.Job{{Func: "f", Arg: []byte(fmt.Sprintf("%d/%d", w, i))}}); err != nil {
					t.Error(err)
				}
			}
			for !t.Failed() {
				got, err := q.Grab(t.ctx, jobs.GrabRequest{Funcs: []string{"f"}, N: 5, Lease: time.Minute})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				var results []jobs.Result
				for _, j := range got {
					done[string(j.Arg)]++
					results = append(results, jobs.Result{Job: j, Verdict: jobs.Done})
				}
				all := len(done) == n
				mu.Unlock()
				if err := q.Finish(t.ctx, results); err != nil {
					t.Error(err)
				}
				if all {
					return
				}
			}
		})
	}
	wg.Wait()
	for arg, times := range done {
		if times != 1 {
			t.Errorf("%s was done %d times", arg, times)
		}
	}
	t.equal("done", len(done), n)
}

// concurrentUnique: of many who insert under one key, one does.
func concurrentUnique(t *queueTest) {
	const workers = 8
	queues := [2]jobs.Backend{t.q, t.other()}
	var mu sync.Mutex
	inserted := make(map[int]int)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range 20 {
				ids, err := queues[w%2].Insert(t.ctx, []jobs.Job{{Func: "f", Unique: fmt.Sprint(i)}, {Func: "f", Unique: fmt.Sprint(i + 1)}})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for n, id := range ids {
					if id != 0 {
						inserted[i+n]++
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for key := range 21 {
		if inserted[key] != 1 {
			t.Errorf("key %d was inserted %d times", key, inserted[key])
		}
	}
	t.equal("stats", t.stats("f"), jobs.FuncStats{Func: "f", Ready: 21})
}

// concurrentLimit: a limit holds for all who grab together.
func concurrentLimit(t *queueTest) {
	const n, workers, limit = 40, 6, 5
	t.control("f", func(c *jobs.Control) { c.MaxRunning = limit })
	t.control("g", func(c *jobs.Control) { c.Rate = jobs.Rate{N: limit, Per: time.Hour} })
	t.control("h", func(c *jobs.Control) { c.MaxRunningPerKey = 1 })
	for i := range n {
		t.insert(jobs.Job{Func: "f"}, jobs.Job{Func: "g"}, jobs.Job{Func: "h", Key: fmt.Sprint(i % limit)})
	}
	queues := [2]jobs.Backend{t.q, t.other()}
	for range 2 {
		var mu sync.Mutex
		got := make(map[string][]jobs.Job)
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := range 6 {
					list, err := queues[w%2].Grab(t.ctx, jobs.GrabRequest{Funcs: []string{string("fgh"[i%3])}, N: 2, Lease: time.Minute})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, j := range list {
						got[j.Func] = append(got[j.Func], j)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		keys := make(map[string]bool)
		for _, j := range got["h"] {
			keys[j.Key] = true
		}
		t.equal("running, begun, keys", []int{len(got["f"]), len(got["g"]), len(got["h"]), len(keys)}, []int{limit, limit, limit, limit})
		t.done(got["f"]...)
		t.done(got["h"]...)
		t.clock.add(time.Hour)
	}
}
