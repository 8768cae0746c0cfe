package jobs

import "time"

// WorkerStats counts what a [Worker] has done with the jobs of one function since it was made.
type WorkerStats struct {
	Func     string
	Begun    int64 // handed to the handler
	Done     int64
	Failed   int64 // failed, to be tried again
	Dead     int64 // failed for good
	Returned int64 // given back, declined or put off
	Lost     int64 // lease lost, or cancelled
	// Unrecorded are jobs of the above whose results the queue did not take: they will be done again.
	Unrecorded int64
	Running    int64 // now
	Prefetched int64 // now: leased, not begun
	Wait       Times // from when a job was due until it was begun
	Run        Times // from when a job, or batch, was begun until its handler returned
}

// bounds are the upper bounds of the buckets of [Times].
var bounds = [...]time.Duration{
	time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour,
}

// Times is a histogram of durations.
type Times struct {
	Count   int64
	Sum     time.Duration
	Buckets [len(bounds) + 1]int64 // how many were at most the Bound of the same index, and more than that before; the last: more than all
}

// Bound is the upper bound of bucket i, which must not be the last one.
func (Times) Bound(i int) time.Duration { return bounds[i] }

func (t *Times) add(d time.Duration) {
	d = max(0, d)
	t.Count++
	t.Sum += d
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	t.Buckets[i]++
}

func (f *function) snapshot() WorkerStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.stats
	s.Prefetched = int64(len(f.todo) - f.first)
	return s
}
