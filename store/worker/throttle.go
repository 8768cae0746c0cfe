package worker

import (
	"context"
	"io"
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
	mu    sync.Mutex // guards what follows
	level float64
	at    time.Time
}

// burst is how many seconds of tokens gather while nothing is taken.
const burst = 0.05

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

// leastWait is the shortest sleep: what is owed in less adds up until it is worth one.
const leastWait = time.Millisecond

// pace counts work and waits until it may be done. It also yields to the foreground: it rests in proportion to the time that
// the work before took.
func (r *Running) pace(ctx context.Context, objects, bytes int64) error {
	o, n := float64(objects), float64(bytes)
	for {
		l := r.limits()
		now := time.Now()
		wait := max(r.byBytes.take(n, l.bytes, now), r.byObjects.take(o, l.objects, now), r.w.background.take(n, l.all, now))
		if wait <= leastWait {
			break
		}
		r.slowed("limit")
		if err := sleep(ctx, min(wait, pieceWait)); err != nil {
			return err
		}
		o, n = 0, 0
	}
	now := time.Now()
	r.mu.Lock()
	busy := now.Sub(r.lastPace)
	r.lastPace = now
	r.mu.Unlock()
	rest := r.w.yield.rest(busy, r.w.speed(), now)
	if rest <= leastWait {
		return ctx.Err()
	}
	r.slowed("foreground latency")
	err := sleep(ctx, rest)
	r.mu.Lock()
	r.lastPace = time.Now()
	r.mu.Unlock()
	return err
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

// readPiece is how much is read between two looks at the limits, carefulPiece how much while room is made for others: what they may have to
// wait for.
const (
	readPiece    = 128 << 10
	carefulPiece = 32 << 10
)

// pacedReader gives bytes no faster than they may flow.
type pacedReader struct {
	ctx context.Context
	r   io.Reader
	run *Running
}

func (p *pacedReader) Read(b []byte) (int, error) {
	piece := readPiece
	if p.run.w.speed() < 1 {
		piece = carefulPiece
	}
	b = b[:min(len(b), piece)]
	n, err := p.r.Read(b)
	if n > 0 {
		p.run.Done(0, int64(n))
		if e := p.run.pace(p.ctx, 0, int64(n)); e != nil {
			return n, e
		}
	}
	return n, err
}
