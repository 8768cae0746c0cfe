package dispatcher

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/health"
)

// suspicion is what this process remembers of a storage that has failed of late: it is asked last, at once, whatever the catalog
// says, until it has proved well again. It outlives views.
type suspicion struct {
	until    atomic.Int64 // unix nanoseconds
	refusing atomic.Int64 // until then it takes no writes: it is full, or read-only
	failures atomic.Int32 // in a row
	strikes  atomic.Int32 // times that it was slow
	struck   atomic.Int64 // when last; unix nanoseconds
	unwell   atomic.Bool  // the last probe failed
	good     atomic.Bool  // something has gone well since seen was last asked
	bad      atomic.Bool  // something has failed since then
	alarm    func()       // called when it has failed
	reading  atomic.Int64 // reads begun on a disk of this process
	finished atomic.Int64 // and ended
	reads    [2]latency   // of small entities, and until the first byte of large ones
	pace     pace         // of large ones
}

const (
	firstSuspicion = time.Second
	maxSuspicion   = 16 * time.Second
	// refusal is how long a storage that is full is left out of writes.
	refusal = 5 * time.Second
	// strikesHold is how long a storage's having been slow is held against it.
	strikesHold = time.Minute
	// hopeless is how many failures in a row, without anything going well, say that a storage fails although probes go well.
	hopeless = 8
)

func (s *suspicion) active(now time.Time) bool {
	return during(s.until.Load(), now, maxSuspicion) || s.unwell.Load()
}

func (s *suspicion) refuses(now time.Time) bool {
	return during(s.refusing.Load(), now, refusal)
}

// during reports whether now is before the end of something that lasts so long at most. An end that is further off was noted
// before the clock was set back.
func during(until int64, now time.Time, longest time.Duration) bool {
	left := until - now.UnixNano()
	return until != 0 && left > 0 && left <= int64(longest)
}

// cleared notes that something has gone well. A storage that was slow is not forgiven for being fast once.
func (s *suspicion) cleared() {
	if !s.good.Load() {
		s.good.Store(true)
	}
	if s.failures.Load() != 0 {
		s.failures.Store(0)
		if s.strikes.Load() == 0 {
			s.until.Store(0)
		}
	}
}

// note takes in how an operation on a storage ended. What says something of an entity or of the client, rather than of
// the storage, leaves no suspicion.
func (s *suspicion) note(err error, now time.Time) {
	switch {
	case err == nil:
		s.cleared()
	case errors.Is(err, store.ErrNoEntity), errors.Is(err, store.ErrCorrupt), errors.Is(err, context.Canceled):
	case errors.Is(err, store.ErrFull), errors.Is(err, store.ErrReadOnly):
		s.refusing.Store(now.Add(refusal).UnixNano()) // what it holds can be read
	case errors.Is(err, errSlow):
		s.strike(now)
	default:
		s.suspect(s.failures.Add(1), now)
	}
}

// strike notes that a storage was so slow that it was not waited for.
func (s *suspicion) strike(now time.Time) {
	if since := now.UnixNano() - s.struck.Swap(now.UnixNano()); since > int64(strikesHold) || since < 0 {
		s.strikes.Store(0)
	}
	s.suspect(s.strikes.Add(1), now)
}

// suspect begins or prolongs a suspicion, by the number of times that there was reason for it.
func (s *suspicion) suspect(n int32, now time.Time) {
	until := now.Add(min(firstSuspicion<<min(n-1, 4), maxSuspicion)).UnixNano()
	for {
		was := s.until.Load()
		if was >= until && during(was, now, maxSuspicion) || s.until.CompareAndSwap(was, until) {
			break
		}
	}
	s.bad.Store(true)
	if s.alarm != nil {
		s.alarm()
	}
}

// seen tells the watcher what requests have seen of a storage since it last asked.
func (d *Dispatcher) seen(id store.StorageID) health.Seen {
	s := d.views.suspicionOf(id)
	if s == nil {
		return health.Nothing
	}
	good, bad := s.good.Swap(false), s.bad.Swap(false)
	switch {
	case bad && !good && s.failures.Load() >= hopeless:
		return health.Failing
	case bad, s.active(d.opt.Now()):
		return health.Suspect
	case good:
		return health.Good
	}
	return health.Nothing
}

// probed is told by the watcher how a probe has ended.
func (d *Dispatcher) probed(id store.StorageID, err error) {
	if s := d.views.suspicionOf(id); s != nil {
		s.unwell.Store(err != nil)
	}
}
