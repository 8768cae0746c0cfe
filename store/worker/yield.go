package worker

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"wheelhouse/store"
)

// Work in the background makes room for clients: the processes that serve them say how long they wait, the worker remembers
// how long that is while nothing is done, and rests in proportion to its work as soon as they wait much longer.

const (
	// slowest is the share of the time that is always worked, so that there is an end of it however busy clients keep the place.
	slowest = 1.0 / 32
	// first is where it begins while there are clients.
	first = 1.0 / 16
	// fasterBy is the least that is added to the share each time that clients were seen not to wait.
	fasterBy = 1.0 / 64
	// enoughReads is how many reads a figure must be of to mean anything.
	enoughReads = 50
	// nobodyMinds is a latency that nothing is yielded for.
	nobodyMinds = 500 * time.Microsecond
	// quietSamples is how many figures of quiet times are remembered, quietEnough how many make a measure.
	quietSamples, quietEnough = 60, 3
	// margin is the share of what is tolerated at which the speed is no longer raised, and aim that above which it falls: a figure is
	// of one second, and all of them together are to stay below what is tolerated.
	margin, aim = 0.6, 0.8
)

// yielding is how fast background work goes, as a share of how fast it could: additive increase, multiplicative decrease. The zero
// value goes as fast as it can.
type yielding struct {
	mu     sync.Mutex // guards what follows, except work
	slower float64    // 1 - speed
	off    bool       // it is not to yield
	quiet  map[string]*quiet
	work   bucket // seconds of work; its rate is the speed
}

// quiet is how long clients of a process wait while nothing is done in the background.
type quiet struct {
	samples []time.Duration // the last ones, oldest first
	seen    time.Time
}

func (q *quiet) add(d time.Duration, now time.Time) {
	if q.samples = append(q.samples, d); len(q.samples) > quietSamples {
		q.samples = q.samples[1:]
	}
	q.seen = now
}

// usual is their median, or 0 while too little is known.
func (q *quiet) usual() time.Duration {
	if len(q.samples) < quietEnough {
		return 0
	}
	sorted := slices.Clone(q.samples)
	slices.Sort(sorted)
	return max(sorted[len(sorted)/2], nobodyMinds)
}

// speed is the share of its time that background work may take, and whether it may be less than all of it at all.
func (y *yielding) speed() (share float64, yields bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	return 1 - y.slower, !y.off
}

// adjust takes in one figure of each process. busy says whether work was done meanwhile; tolerance is how many times longer than
// usual clients may wait, 0: any.
func (y *yielding) adjust(now time.Time, list []store.Process, busy bool, tolerance float64) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.off = tolerance == 0; y.off {
		y.slower = 0
		return
	}
	speed := 1 - y.slower
	worst, anybody, unknown := 0.0, false, false
	for _, p := range list {
		if p.Reads < enoughReads {
			continue
		}
		anybody = true
		q := y.quiet[p.Name]
		if q == nil {
			if y.quiet == nil {
				y.quiet = map[string]*quiet{}
			}
			q = &quiet{}
			y.quiet[p.Name] = q
		}
		usual := q.usual()
		if !busy || speed <= slowest { // at its slowest it does not count; so the measure follows when there are more clients
			q.add(p.P99, now)
		}
		q.seen = now
		if usual == 0 {
			unknown = true
			continue
		}
		worst = max(worst, float64(p.P99)/float64(usual))
	}
	for name, q := range y.quiet {
		if now.Sub(q.seen) > forgetQuiet {
			delete(y.quiet, name)
		}
	}
	switch {
	case !anybody:
		speed = 1
	case !busy:
		speed = first // what comes next begins with care
	case unknown: // it must be found out first
		speed = slowest
	case worst < margin*tolerance:
		speed = min(1, speed+max(fasterBy, speed/8))
	case worst > 2*aim*tolerance:
		speed = max(slowest, speed/4)
	case worst > aim*tolerance:
		speed = max(slowest, speed/2)
	}
	y.slower = 1 - speed
}

// forgetQuiet is how long a process is remembered that serves nobody.
const forgetQuiet = time.Hour

// rest takes in that work took so long, and says how long to rest at a speed.
func (y *yielding) rest(busy time.Duration, speed float64, now time.Time) time.Duration {
	if speed >= 1 {
		return y.work.take(0, 0, now)
	}
	return min(y.work.take(busy.Seconds(), speed, now), longestRest)
}

// longestRest is the longest rest at once: a request that hung was no work.
const longestRest = 2 * time.Second

// speed is the share of its time that background work may take here: what clients leave, or readers of the storages.
func (w *Worker) speed() float64 {
	share, yields := w.yield.speed()
	if !yields {
		return 1
	}
	return min(share, w.probes.speed())
}

// foreground is how clients of all processes fare.
func (w *Worker) foreground(ctx context.Context) ([]store.Process, error) {
	if w.opt.Foreground != nil {
		return w.opt.Foreground(ctx)
	}
	return w.cat.Processes(ctx)
}

// watchForeground adjusts the speed of operations until ctx ends.
func (w *Worker) watchForeground(ctx context.Context) {
	tick := time.NewTicker(w.opt.WatchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		list, err := w.foreground(ctx)
		if err != nil {
			continue // it goes on as before
		}
		busy, err := w.working(ctx)
		if err != nil {
			continue
		}
		settings, err := w.cat.Settings(ctx)
		if err != nil {
			continue
		}
		tolerance, err := store.ParseYield(settings[store.SettingYield])
		if err != nil {
			tolerance = store.DefaultYield // it was refused when it was set
		}
		w.yield.adjust(time.Now(), list, busy, tolerance)
	}
}

// working reports whether an operation is under way at any worker. A scrub that began by itself is none: it is always there, and
// slow.
func (w *Worker) working(ctx context.Context) (bool, error) {
	const looked = 100
	ops, err := w.cat.Operations(ctx, looked)
	for _, op := range ops {
		var scrub ScrubOptions
		if op.Kind == store.OpScrub && json.Unmarshal(op.Options, &scrub) == nil && scrub.Auto {
			continue
		}
		if op.State == store.OpRunning && op.Owner != "" {
			return true, nil
		}
	}
	return false, err
}
