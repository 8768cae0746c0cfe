package worker

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"wheelhouse/store"
)

// probing is how fast background work goes by what the worker itself sees: the time that a small read takes on the storages that
// it works with, compared with the least that it took of late. Proxies read from storages without a dispatcher knowing how long
// that takes; this is for them. Where the storages say that nobody reads from them, nothing is made room for.
type probing struct {
	mu      sync.Mutex
	factor  float64 // 0: not begun, as good as 1
	best    time.Duration
	recent  []time.Duration
	learned time.Time
}

const (
	probeGap = 250 * time.Millisecond
	// latencyFloor is a latency that nobody minds: below it nothing is yielded.
	latencyFloor = 2 * time.Millisecond
	forgetBest   = 10 * time.Minute // the quiet of long ago is no measure for a storage that has filled up since
	// fewReads is how many reads a second, of all storages that are worked with, may be the worker's own.
	fewReads   = 50
	countEvery = 4 // probes
	countLasts = 10 * time.Second
)

func (y *probing) speed() float64 {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.factor == 0 {
		return 1
	}
	return y.factor
}

// note takes one measurement and adjusts the speed.
func (y *probing) note(d time.Duration, now time.Time) {
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

// alone notes that nobody reads from the storages: work goes at its full speed.
func (y *probing) alone() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.factor, y.recent = 1, y.recent[:0]
}

// watchStorages probes what operations work with.
func (w *Worker) watchStorages(ctx context.Context) {
	tick := time.NewTicker(probeGap)
	defer tick.Stop()
	var probes probeSet
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		busy := map[store.StorageID]bool{}
		w.mu.Lock()
		for r := range w.running {
			r.mu.Lock()
			for id := range r.storages {
				busy[id] = true
			}
			r.mu.Unlock()
		}
		w.mu.Unlock()
		if len(busy) == 0 {
			continue
		}
		switch d, ok := probes.measure(ctx, w, busy); {
		case probes.alone:
			w.probes.alone()
		case ok:
			w.probes.note(d, time.Now())
		}
	}
}

// probeSet remembers which entity is read of each storage.
type probeSet struct {
	entity map[store.StorageID]store.ManifestEntry
	turn   int
	reads  map[store.StorageID]int64 // as the storages said when they were last asked
	asked  time.Time
	alone  bool // hardly anybody reads from them
}

const (
	probeBytes   = 4096
	probeTimeout = time.Second
)

// measure times a small read of one of the storages that clients read from, each in its turn.
func (p *probeSet) measure(ctx context.Context, w *Worker, busy map[store.StorageID]bool) (time.Duration, bool) {
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return 0, false
	}
	var list []*store.Storage
	for i := range top.Storages {
		if s := &top.Storages[i]; busy[s.ID] && s.Mode.Readable() {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return 0, false
	}
	p.turn++
	s := list[p.turn%len(list)]
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if p.turn%countEvery == 0 {
		p.count(ctx, w.devices, list)
	}
	dev := w.devices.Device(s)
	e, ok := p.entity[s.ID]
	if !ok || p.turn%256 == 0 {
		page, err := dev.Manifest(ctx, 0, 1<<64-1, 1)
		if err != nil || len(page) == 0 {
			return 0, false
		}
		if e = page[0]; p.entity == nil {
			p.entity = map[store.StorageID]store.ManifestEntry{}
		}
		p.entity[s.ID] = e
	}
	begun := time.Now()
	r, err := dev.Open(ctx, e.ID, 0, min(e.Size, probeBytes))
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		_ = r.Close()
	}
	if err != nil && ctx.Err() == nil {
		delete(p.entity, s.ID) // deleted, perhaps: another one next time
		return 0, false
	}
	return time.Since(begun), true
}

// count finds out whether anybody reads from the storages. One that does not say is taken for one that is read from.
func (p *probeSet) count(ctx context.Context, devices Devices, list []*store.Storage) {
	now := time.Now()
	reads := make(map[store.StorageID]int64, len(list))
	sum, known := int64(0), now.Sub(p.asked) < countLasts
	for _, s := range list {
		u, err := devices.Device(s).Usage(ctx)
		was, before := p.reads[s.ID]
		known = known && err == nil && before && u.Reads >= was
		sum += u.Reads - was
		reads[s.ID] = u.Reads
	}
	p.alone = known && float64(sum) < fewReads*now.Sub(p.asked).Seconds()
	p.reads, p.asked = reads, now
}
