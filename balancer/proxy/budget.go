package proxy

import "sync/atomic"

// budget bounds how many requests are sent more than once, so that a backend in trouble does not get a multiple of its load. In
// hundredths of an attempt.
type budget struct{ saved atomic.Int64 }

const (
	attemptCost = 100
	savedMax    = 100 * attemptCost
	savedMin    = 10 * attemptCost // what even the first requests may use
)

// earn takes in a request, percent of which may be tried again.
func (b *budget) earn(percent int) {
	if v := b.saved.Load(); v < savedMax {
		b.saved.Add(int64(percent))
	}
}

// spend takes one attempt off the budget; false when it is used up, or when there is none.
func (b *budget) spend(percent int) bool {
	if percent <= 0 {
		return false
	}
	for {
		v := b.saved.Load()
		if v+savedMin < attemptCost {
			return false
		}
		if b.saved.CompareAndSwap(v, v-attemptCost) {
			return true
		}
	}
}
