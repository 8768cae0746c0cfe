package dispatcher

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// latency is how long a storage has taken of late: a histogram whose past fades, and its 95th percentile. Safe for
// concurrent use; nothing is locked, and a count that is lost in a race does no harm.
type latency struct {
	counts [latencySlots]atomic.Uint32
	n      atomic.Uint32
	p95    atomic.Int64 // nanoseconds; 0: too little is known
}

const (
	// latencySlots are four to each doubling from 64 µs on, up to a minute.
	latencySlots = 80
	latencyUnit  = 64 * time.Microsecond
	// latencyEvery is how many samples there are between two computations.
	latencyEvery = 64
)

// slot is the index of the bucket that a duration falls into.
func slot(d time.Duration) int {
	v := uint64(max(d, latencyUnit) / (latencyUnit / 4)) // at least 4
	exp := bits.Len64(v) - 3
	return min(exp*4+int(v>>exp)-4, latencySlots-1)
}

// bound is the upper end of a bucket.
func bound(i int) time.Duration {
	return time.Duration(i%4+5) << (i / 4) * (latencyUnit / 4)
}

// add takes in one measurement.
func (l *latency) add(d time.Duration) {
	l.counts[slot(d)].Add(1)
	if l.n.Add(1)%latencyEvery == 0 {
		l.compute()
	}
}

// compute finds the percentile and halves all counts, so that the past fades.
func (l *latency) compute() {
	total := uint32(0)
	var counts [latencySlots]uint32
	for i := range l.counts {
		counts[i] = l.counts[i].Load()
		total += counts[i]
		l.counts[i].Store(counts[i] / 2)
	}
	above := total / 20
	for i := latencySlots - 1; i >= 0; i-- {
		if counts[i] > above {
			l.p95.Store(int64(bound(i)))
			return
		}
		above -= counts[i]
	}
}

// typical is the 95th percentile, or unknown where too little has been measured.
func (l *latency) typical(unknown time.Duration) time.Duration {
	if p := l.p95.Load(); p > 0 {
		return time.Duration(p)
	}
	return unknown
}
