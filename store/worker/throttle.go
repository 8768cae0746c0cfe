package worker

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"wheelhouse/store"
)

// Limits are what operators have set for a kind of operation; 0 is no limit.
type limits struct {
	bytes, objects float64 // a second, for each operation of the kind
	all            float64 // bytes a second, for all operations of a worker together
}

// limitsOf picks what concerns a kind. What cannot be read is no limit: it was refused when it was set.
func limitsOf(kind store.OperationKind, settings map[string]string) limits {
	rate := func(key string) float64 {
		v, err := store.ParseRate(settings[key])
		if err != nil {
			return 0
		}
		return v
	}
	return limits{rate(store.LimitSetting(kind, "bytes")), rate(store.LimitSetting(kind, "objects")), rate(store.LimitBackground)}
}

// bucket is a token bucket that may be overdrawn: whoever took too much waits.
type bucket struct {
	mu    sync.Mutex
	level float64
	at    time.Time
}

// burst is how many seconds of tokens gather while nothing is taken.
const burst = 0.25

// take takes n tokens at a rate and returns how long to wait until the next may be taken. Rate 0: none.
func (b *bucket) take(n, rate float64, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if rate <= 0 {
		b.level, b.at = 0, now
		return 0
	}
	if !b.at.IsZero() {
		b.level += rate * max(0, now.Sub(b.at).Seconds())
	}
	b.at = now
	b.level = min(b.level, rate*burst) - n
	if b.level >= 0 {
		return 0
	}
	return time.Duration(-b.level / rate * float64(time.Second))
}

// pieceWait is the longest sleep before limits are looked at again, so that a change takes effect at once.
const pieceWait = 200 * time.Millisecond

// pace counts work and waits until it may be done. It also yields to the foreground: it rests in proportion to the time that
// the work before took.
func (r *Running) pace(ctx context.Context, objects, bytes int64) error {
	o, n := float64(objects), float64(bytes)
	for {
		l := r.limits()
		now := time.Now()
		wait := max(r.byBytes.take(n, l.bytes, now), r.byObjects.take(o, l.objects, now), r.w.background.take(n, l.all, now))
		if wait <= time.Millisecond {
			break
		}
		r.slowed("limit")
		if err := sleep(ctx, min(wait, pieceWait)); err != nil {
			return err
		}
		o, n = 0, 0
	}
	speed := r.w.yield.speed()
	now := time.Now()
	r.mu.Lock()
	busy := now.Sub(r.lastPace)
	r.mu.Unlock()
	if speed < 1 && busy > 0 {
		r.slowed("foreground latency")
		rest := min(time.Duration(float64(busy)*(1/speed-1)), 2*time.Second)
		if err := sleep(ctx, rest); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.lastPace = time.Now()
	r.mu.Unlock()
	return ctx.Err()
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// pacedReader gives bytes no faster than they may flow.
type pacedReader struct {
	ctx context.Context
	r   io.Reader
	run *Running
}

func (p *pacedReader) Read(b []byte) (int, error) {
	if len(b) > 256<<10 {
		b = b[:256<<10]
	}
	n, err := p.r.Read(b)
	if n > 0 {
		p.run.Done(0, int64(n))
		if e := p.run.pace(p.ctx, 0, int64(n)); e != nil {
			return n, e
		}
	}
	return n, err
}

// yielding is how fast background work goes, in relation to what it could: additive increase, multiplicative decrease, by the
// time that a small read takes on the storages that it works with, compared with what it took when nothing was in its way.
type yielding struct {
	mu      sync.Mutex
	factor  float64 // 0: not begun, as good as 1
	best    time.Duration
	recent  []time.Duration
	learned time.Time
}

const (
	slowest  = 1.0 / 16
	probeGap = 250 * time.Millisecond
	// latencyFloor is a latency that nobody minds: below it nothing is yielded.
	latencyFloor = 2 * time.Millisecond
	forgetBest   = 10 * time.Minute // the quiet of long ago is no measure for a storage that has filled up since
)

func (y *yielding) speed() float64 {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.factor == 0 {
		return 1
	}
	return y.factor
}

// note takes one measurement and adjusts the speed.
func (y *yielding) note(d time.Duration, now time.Time) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.factor == 0 {
		y.factor = 1
	}
	if y.recent = append(y.recent, d); len(y.recent) > 5 {
		y.recent = y.recent[1:]
	}
	sorted := slices.Clone(y.recent)
	slices.Sort(sorted)
	level := sorted[len(sorted)/2]
	if y.best == 0 || level < y.best || now.Sub(y.learned) > forgetBest {
		y.best, y.learned = level, now
	}
	if level > max(2*y.best, latencyFloor) {
		y.factor = max(slowest, y.factor/2)
		y.recent = y.recent[:0] // what follows is measured at the new speed
		return
	}
	y.factor = min(1, y.factor+0.1)
}
