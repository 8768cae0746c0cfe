package dispatcher

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"wheelhouse/store"
)

// Reads are hedged: when a storage of another process takes longer for its first byte than it usually does, the next one is
// asked too, the first good answer counts, and the other is cancelled. Disks of this process are asked one after the other,
// without a goroutine between: there a read is a look-up and a pread, and a race would cost a third of the throughput. They are
// watched instead (stuck.go): who is in a read on a disk that hangs waits with it, and everybody else goes round it.

const (
	// hedgeFloor is how long a storage is given at least.
	hedgeFloor = 5 * time.Millisecond
	// hedgeUnknown is how long one is given of which little is known.
	hedgeUnknown = 50 * time.Millisecond
	// stallAfter is how long a storage may take, or be silent in mid-body, before another one is asked whatever that costs.
	stallAfter = 400 * time.Millisecond
	// hedgeShare bounds the extra requests: one hedge to so many reads. When all storages are slow, hedging would make them slower.
	hedgeShare = 20
	// hedgeSavings bounds how many hedges a quiet time leaves for a busy one.
	hedgeSavings = 100
	// maxStalls bounds how many reads may have given up on a storage that does not answer and wait for another, at once.
	maxStalls = 128
)

// The two classes of reads whose latencies are kept apart.
const (
	wholeSmall = 0 // a small entity, to its last byte
	firstByte  = 1 // of a large one
)

var errSlow = errors.New("it did not answer while the others did")

// hedgeBudget says whether a hedge may be made. Safe for concurrent use.
type hedgeBudget struct {
	saved  atomic.Int64 // in reads
	stalls atomic.Int64
}

// earn counts a read.
func (b *hedgeBudget) earn() {
	if b.saved.Load() < hedgeShare*hedgeSavings {
		b.saved.Add(1)
	}
}

func (b *hedgeBudget) spend() bool {
	if b.saved.Add(-hedgeShare) >= 0 {
		return true
	}
	b.saved.Add(hedgeShare)
	return false
}

// stall asks for leave to give up on a storage; the caller calls stalled in the end if it was given.
func (b *hedgeBudget) stall() bool {
	if b.stalls.Add(1) <= maxStalls {
		return true
	}
	b.stalls.Add(-1)
	return false
}

func (b *hedgeBudget) stalled(n int64) { b.stalls.Add(-n) }

// patienceWith is how long a storage is given before the next one is asked too.
func patienceWith(m *member, class int) time.Duration {
	return min(max(m.sus.reads[class].typical(hedgeUnknown), hedgeFloor), stallAfter)
}

// reply is how one storage has answered.
type reply[T any] struct {
	i      int
	value  T
	err    error
	cancel context.CancelFunc
}

// race asks the storages in list for the same, the next one when the last asked takes long or has failed, and returns the first
// good answer and whose it is; the caller calls cancel when it is done with it. drop takes answers that came too late. When all
// have failed, or ctx has ended, ok is false.
func race[T any](ctx context.Context, d *Dispatcher, o *store.Object, list []*member, class int,
	ask func(context.Context, *member) (T, error), drop func(T),
) (value T, winner int, cancel context.CancelFunc, ok bool) {
	r := &contest[T]{d: d, ctx: ctx, list: list, class: class, ask: ask, answers: make(chan reply[T], len(list))}
	d.hedges.earn()
	defer func() { d.hedges.stalled(r.stalls) }()
	r.start()
	timer := time.NewTimer(patienceWith(list[0], class))
	defer timer.Stop()
	for r.open > 0 {
		select {
		case a := <-r.answers:
			r.open--
			m := list[a.i]
			took := time.Since(r.begun[a.i])
			if a.err == nil {
				m.sus.reads[class].add(took)
			}
			if !d.readFailed(ctx, o, m, 0, a.err) {
				r.settle(a.i, drop)
				return a.value, a.i, a.cancel, true
			}
			a.cancel()
			r.begun[a.i] = time.Time{}
			d.metrics.Failovers.Add(1)
			if r.open == 0 && r.start() {
				timer.Reset(patienceWith(list[r.next-1], class))
			}
		case <-timer.C:
			timer.Reset(r.late())
		case <-ctx.Done():
			r.settle(-1, drop)
			return value, 0, nil, false
		}
	}
	return value, 0, nil, false
}

// contest is a race under way.
type contest[T any] struct {
	d       *Dispatcher
	ctx     context.Context
	list    []*member
	class   int
	ask     func(context.Context, *member) (T, error)
	answers chan reply[T]
	begun   [maxMembers]time.Time // zero: not asked, or answered
	cancels [maxMembers]context.CancelFunc
	next    int // the first that has not been asked
	open    int // answers to come
	stalls  int64
}

// start asks the next storage; it reports false when there is none.
func (r *contest[T]) start() bool {
	if r.next == len(r.list) {
		return false
	}
	i, m := r.next, r.list[r.next] // the list may be put in another order once the race is over
	r.next++
	r.open++
	ctx, cancel := context.WithCancel(r.ctx)
	r.begun[i], r.cancels[i] = time.Now(), cancel
	go func() {
		v, err := r.ask(ctx, m)
		r.answers <- reply[T]{i, v, err, cancel}
	}()
	return true
}

// late is called when the storage that was asked last takes long. It returns when to look again.
func (r *contest[T]) late() time.Duration {
	last := r.next - 1
	left := stallAfter - time.Since(r.begun[last])
	switch {
	case r.next == len(r.list):
		return time.Hour // there is nobody else to ask
	case left > 0 && !r.d.hedges.spend():
		return left
	case left <= 0 && !r.d.hedges.stall():
		return stallAfter
	case left <= 0:
		r.stalls++
	}
	r.d.metrics.Hedges.Add(1)
	r.start()
	return patienceWith(r.list[r.next-1], r.class)
}

// settle ends the race: who has not answered yet is cancelled, and if that took too long, it is remembered. winner < 0: there
// is none.
func (r *contest[T]) settle(winner int, drop func(T)) {
	now := time.Now()
	if winner > 0 && r.open > 0 {
		r.d.metrics.HedgeWins.Add(1)
	}
	for i := range r.next {
		if i == winner || r.begun[i].IsZero() {
			continue
		}
		r.cancels[i]()
		took := now.Sub(r.begun[i])
		r.list[i].sus.reads[r.class].add(took) // it would have taken longer
		if winner >= 0 && took >= stallAfter {
			r.list[i].sus.note(errSlow, r.d.opt.Now())
		}
	}
	if r.open == 0 {
		return
	}
	r.d.late.add()
	go func(open int) {
		defer r.d.late.done()
		for range open {
			if a := <-r.answers; a.err == nil {
				drop(a.value)
			}
		}
	}(r.open)
}

// watchable is a reader whose storage is in another process, and can be slow.
type watchable interface {
	Watch(silence time.Duration, f func(n int64, waited time.Duration) error)
}

const (
	// slowShare is how many times slower than the fastest sibling a storage may send before another one goes on.
	slowShare = 16
	// fastEnough is never slow, in bytes a second; hopelesslySlow is where nothing is known of the siblings.
	fastEnough     = 64 << 20
	hopelesslySlow = 1 << 20
)

// pace is how fast a storage has sent large entities of late, in bytes a second of waiting for it; 0: not known. Safe for
// concurrent use.
type pace struct{ rate atomic.Int64 }

// note takes in how a body came.
func (p *pace) note(n int64, waited time.Duration) {
	const least = 256 << 10
	if n < least {
		return
	}
	rate := int64(float64(n) / max(waited, time.Millisecond).Seconds())
	if was := p.rate.Load(); was > 0 {
		rate = (3*was + rate) / 4
	}
	p.rate.Store(rate)
}

// slowest is the least rate at which a storage may send while others could take over.
func slowest(others []*member) int64 {
	best := int64(0)
	for _, m := range others {
		best = max(best, m.sus.pace.rate.Load())
	}
	if best == 0 {
		return hopelesslySlow
	}
	return min(best/slowShare, fastEnough)
}
