package pace

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		for i, v := range []struct {
			after time.Duration
			count int // 0: not told of
		}{{0, 1}, {0, 0}, {time.Minute - 1, 0}, {1, 3}, {time.Minute - 1, 0}, {2 * time.Minute, 2}, {time.Hour, 1}} {
			time.Sleep(v.after) // the bubble's clock
			if n, ok := g.Pass(time.Minute); n != v.count || ok != (v.count > 0) {
				t.Errorf("occurrence %d: %d, %v; want %d", i, n, ok, v.count)
			}
		}
	})
}

// None is lost and none counted twice, however many there are at once.
func TestGateConcurrent(t *testing.T) {
	var g Gate
	var told atomic.Int64
	var all sync.WaitGroup
	const workers, each = 8, 5000
	for range workers {
		all.Go(func() {
			for i := range each {
				n, _ := g.Pass(time.Duration(i%2) * time.Hour) // every other one may pass
				told.Add(int64(n))
			}
		})
	}
	all.Wait()
	n, ok := g.Pass(0)
	if told.Add(int64(n)); !ok || told.Load() != workers*each+1 {
		t.Errorf("%d of %d were told of", told.Load(), workers*each+1)
	}
}
