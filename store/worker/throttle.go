package worker

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"wheelhouse/store"
)

// Limits are what operators have set for a kind of operation; 0 is no limit.
type limits struct {
	bytes, objects float64 // a second, for each operation of the kind
	all            float64 // bytes a second, for all operations of a worker together
}

// Keys of the settings by which operators limit background work while it runs.
const (
	settingBackground = "limit.background.bytes"
	settingPrefix     = "limit."
)

// ParseRate reads a number with an optional decimal unit (k, M, G; B and /s may follow): 50MB, 1.5G, 200.
func ParseRate(s string) (float64, error) {
	text := strings.TrimSuffix(strings.TrimSpace(s), "/s")
	text = strings.TrimSuffix(strings.TrimSuffix(text, "B"), "b")
	scale := 1.0
	if n := len(text); n > 0 {
		if i := strings.IndexByte("kMGT", text[n-1]); i >= 0 || text[n-1] == 'K' {
			scale = []float64{1e3, 1e6, 1e9, 1e12}[max(0, i)]
			text = text[:n-1]
		}
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v >= 0) || v*scale > 1e18 {
		return 0, fmt.Errorf("%q: want a number a second, such as 50MB or 200; 0 is no limit", s)
	}
	return v * scale, nil
}

// CheckLimit reports what is wrong with a setting; nil for one that is no limit.
func CheckLimit(key, value string) error {
	name, ok := strings.CutPrefix(key, settingPrefix)
	if !ok || value == "" {
		return nil
	}
	kind, what, _ := strings.Cut(name, ".")
	_, err := store.ParseOperationKind(kind)
	if key != settingBackground && (err != nil || what != "bytes" && what != "objects") {
		return fmt.Errorf("setting %q: want limit.<kind>.bytes, limit.<kind>.objects or %s; kinds are %q", key, settingBackground, store.OperationKinds)
	}
	if _, err := ParseRate(value); err != nil {
		return fmt.Errorf("setting %s: %w", key, err)
	}
	return nil
}

// limitsOf picks what concerns a kind. What cannot be read is no limit: it was refused when it was set.
func limitsOf(kind store.OperationKind, settings map[string]string) limits {
	rate := func(key string) float64 {
		v, err := ParseRate(settings[key])
		if err != nil {
			return 0
		}
		return v
	}
	return limits{rate(settingPrefix + string(kind) + ".bytes"), rate(settingPrefix + string(kind) + ".objects"), rate(settingBackground)}
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
