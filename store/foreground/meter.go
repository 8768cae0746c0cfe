// Package foreground measures how long clients wait, cheaply enough for every request, so that what can wait knows when to
// make room.
package foreground

import (
	"cmp"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/store"
)

const (
	// slots are eight to each doubling from 32 µs on, up to half a minute.
	slots = 160
	unit  = 32 * time.Microsecond
)

// Window is how much time a figure is of.
const Window = time.Second

// Meter takes the time that each of many requests took. The zero Meter is ready. Safe for concurrent use; nothing is locked
// where times are noted, and one that is lost at the border of two windows does no harm.
type Meter struct {
	counts [slots]atomic.Uint32

	mu    sync.Mutex // guards what follows
	begun time.Time  // of the window under way; zero: none yet
	last  store.Foreground
}

// Note takes one measurement.
func (m *Meter) Note(d time.Duration) { m.counts[slot(d)].Add(1) }

// slot is the index of the count that a duration belongs to.
func slot(d time.Duration) int {
	v := uint64(max(d, unit) / (unit / 8)) // at least 8
	exp := bits.Len64(v) - 4
	return min(exp*8+int(v>>exp)-8, slots-1)
}

// bound is the upper end of a slot.
func bound(i int) time.Duration { return time.Duration(i%8+9) << (i / 8) * (unit / 8) }

// Latest gives the figure of the last whole window, and begins a new one when the one under way is over.
func (m *Meter) Latest(now time.Time) store.Foreground {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch since := now.Sub(m.begun); {
	case m.begun.IsZero():
		m.begun = now
	case since >= 3*Window:
		// Nobody has asked for long: what has gathered is of another time.
		m.last, m.begun = store.Foreground{}, now
		for i := range m.counts {
			m.counts[i].Store(0)
		}
	case since >= Window:
		m.last, m.begun = m.take(), now
	}
	return m.last
}

// take gives the figure of what has been noted since it was called last.
func (m *Meter) take() store.Foreground {
	var counts [slots]uint32
	f := store.Foreground{}
	for i := range m.counts {
		counts[i] = m.counts[i].Swap(0)
		f.Reads += int64(counts[i])
	}
	if f.Reads == 0 {
		return f
	}
	above := f.Reads / 100
	for i := slots - 1; i >= 0; i-- {
		if int64(counts[i]) > above {
			f.P99 = bound(i)
			break
		}
		above -= int64(counts[i])
	}
	f.P99 = cmp.Or(f.P99, bound(0))
	return f
}
