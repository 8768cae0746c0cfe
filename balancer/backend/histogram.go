package backend

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram counts durations in classes that are a quarter of a doubling wide, from 1 µs up to over an hour. The zero value is
// ready for use, and safe for concurrent use.
type Histogram struct {
	class [classes]atomic.Int64
	sum   atomic.Int64 // µs
}

const classes = 128

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) {
	us := max(0, d.Microseconds())
	h.class[classOf(uint64(us))].Add(1)
	h.sum.Add(us)
}

// classOf is the class of a number of µs: those below 4 have one each, beyond that a doubling has four.
func classOf(us uint64) int {
	if us < 4 {
		return int(us)
	}
	e := bits.Len64(us) - 1 // at least 2
	return min(classes-1, 4*(e-1)+int(us>>(e-2)&3))
}

// upper is the end of a class.
func upper(c int) time.Duration {
	if c < 4 {
		return time.Duration(c+1) * time.Microsecond
	}
	e := c/4 + 1
	return time.Duration(uint64(c%4+5)<<(e-2)) * time.Microsecond
}

// Counts are what a histogram has counted.
type Counts struct {
	class [classes]int64
	Count int64
	Sum   time.Duration
}

// Counts are the counts now.
func (h *Histogram) Counts() Counts {
	var c Counts
	for i := range h.class {
		c.class[i] = h.class[i].Load()
		c.Count += c.class[i]
	}
	c.Sum = time.Duration(h.sum.Load()) * time.Microsecond
	return c
}

// Sub is what was counted since before.
func (c Counts) Sub(before Counts) Counts {
	for i := range c.class {
		c.class[i] -= before.class[i]
	}
	c.Count -= before.Count
	c.Sum -= before.Sum
	return c
}

// Quantile is an upper bound of the q-th quantile, 0 when nothing was counted.
func (c Counts) Quantile(q float64) time.Duration {
	rank := int64(q * float64(c.Count))
	for i, n := range c.class {
		if rank -= n; rank < 0 {
			return upper(i)
		}
	}
	return 0
}

// Cumulative calls f with the end of each class that is not empty, and how many durations lie below it.
func (c Counts) Cumulative(f func(below time.Duration, n int64)) {
	sum := int64(0)
	for i, n := range c.class {
		if sum += n; n > 0 {
			f(upper(i), sum)
		}
	}
}
