// Package health asks storages whether they are well and tells the catalog, where what all parts report is weighed (see
// [store.Health]).
//
// A [Watcher] belongs to one process. A worker's probes every storage all the time; a dispatcher's probes those that have failed
// its requests, or have had none for some seconds, and speaks for the others by how those went.
package health

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/store"
)

// Catalog is what a Watcher asks of the catalog.
type Catalog interface {
	Topology(ctx context.Context) (*store.Topology, error)
	ReportHealth(ctx context.Context, reporter string, list []store.StorageHealth) ([]store.HealthChange, error)
}

// Devices are the storages as this process reaches them.
type Devices interface {
	Device(s *store.Storage) store.Device
}

// Seen is what a process has seen of a storage by its requests.
type Seen uint8

// What may have been seen.
const (
	Nothing Seen = iota // no requests of late
	Good                // they were answered
	Suspect             // some failed: it should be probed
	Failing             // all failed, whatever probes say
)

// Options tune a Watcher.
type Options struct {
	// Reporter names the process in reports; it must be unique among those that run.
	Reporter string
	// Every is the time between two probes of a storage that is well. 0: it is not probed.
	Every time.Duration
	// Retry is the time between two probes of one that is not. Default 1 s.
	Retry time.Duration
	// Timeout is how long a probe may take. Default 2 s.
	Timeout time.Duration
	// Seen tells what requests have seen of a storage since it was last asked. nil: there are no requests.
	Seen func(store.StorageID) Seen
	// Probed is told of each probe. nil: nobody is.
	Probed func(store.StorageID, error)
	Log    *slog.Logger
	Now    func() time.Time
}

func (o Options) withDefaults() Options {
	o.Retry = cmp.Or(o.Retry, time.Second)
	o.Timeout = cmp.Or(o.Timeout, 2*time.Second)
	if o.Seen == nil {
		o.Seen = func(store.StorageID) Seen { return Nothing }
	}
	if o.Probed == nil {
		o.Probed = func(store.StorageID, error) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Metrics counts what a Watcher has done.
type Metrics struct {
	Probes, Failed, Changes atomic.Int64 // probes; those that failed; changes of a storage's state that it brought about
}

// Watcher probes storages and reports. Safe for concurrent use.
type Watcher struct {
	cat     Catalog
	devices Devices
	opt     Options
	metrics Metrics
	wake    chan struct{}

	mu    sync.Mutex // guards what follows
	known map[store.StorageID]*patient
	sent  map[store.StorageID]store.StorageHealth
	next  time.Time // when the last report is repeated
}

// patient is what is known of one storage.
type patient struct {
	probing  bool
	pending  chan error // the answer of a probe that has not come in time
	last     time.Time  // when the last probe ended
	err      error
	row      int // probes with the same outcome in a row
	failing  bool
	passive  Seen
	passedAt time.Time // when requests were last seen to go well, or all to fail
}

const (
	// confirm is how many probes in a row must agree before a storage is reported to fail, or to be well again.
	confirm = 2
	// passiveHold is how long a storage whose requests all fail is reported although probes go well.
	passiveHold = 30 * time.Second
	// passiveFresh is how long requests that went well say all there is to know. What was seen before that is asked after by probes for as
	// long as it is still reported: a disk may be pulled out when nobody wants anything of it.
	passiveFresh = 3 * time.Second
)

// New makes a Watcher.
func New(cat Catalog, devices Devices, o Options) *Watcher {
	return &Watcher{
		cat: cat, devices: devices, opt: o.withDefaults(), wake: make(chan struct{}, 1),
		known: map[store.StorageID]*patient{}, sent: map[store.StorageID]store.StorageHealth{},
	}
}

// Metrics returns the counters, which go on counting.
func (w *Watcher) Metrics() *Metrics { return &w.metrics }

// Wake has the Watcher look at once, as when a request has failed. It does not wait.
func (w *Watcher) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run probes and reports until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	tick := time.NewTicker(w.opt.Retry)
	defer tick.Stop()
	var probes sync.WaitGroup
	defer w.takeBack(ctx)
	defer probes.Wait()
	for {
		w.round(ctx, &probes)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-w.wake:
		}
	}
}

// takeBack withdraws what was reported, so that it does not weigh against what the next process finds.
func (w *Watcher) takeBack(ctx context.Context) {
	w.mu.Lock()
	said := len(w.sent) > 0
	w.mu.Unlock()
	if !said {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	changes, err := w.cat.ReportHealth(ctx, w.opt.Reporter, nil)
	if err == nil { // otherwise it is forgotten soon
		w.tell(changes)
	}
}

// round begins the probes that are due and reports what is known. What cannot be done now is done in the next one.
func (w *Watcher) round(ctx context.Context, probes *sync.WaitGroup) {
	top, err := w.cat.Topology(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.opt.Log.Warn("storages cannot be watched: the catalog does not answer", "err", err)
		}
		return
	}
	for i := range top.Storages {
		s := &top.Storages[i]
		if s.Set == store.ModeDead || s.Set == store.ModeDown {
			continue // an operator's matter
		}
		if w.due(s) {
			probes.Go(func() { w.probe(ctx, s) })
		}
	}
	w.report(ctx, top)
}

// due takes in what requests have seen of a storage, and reports whether it must be probed now; then it counts as being
// probed.
func (w *Watcher) due(s *store.Storage) bool {
	seen, now := w.opt.Seen(s.ID), w.opt.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.known[s.ID]
	if p == nil {
		p = &patient{}
		w.known[s.ID] = p
	}
	if seen == Good || seen == Failing {
		p.passive, p.passedAt = seen, now
	}
	every := w.opt.Every
	past := now.Sub(p.passedAt)
	fading := p.passive == Good && past >= passiveFresh && past < store.HealthWindow
	if fading || seen == Suspect || seen == Failing || p.err != nil || p.failing || s.Down.Active() {
		every = w.opt.Retry
		if seen >= Suspect && p.err == nil {
			every = w.opt.Retry / 4
		}
	}
	if p.probing || every == 0 || now.Sub(p.last) < every*9/10 {
		return false
	}
	p.probing = true
	return true
}

func (w *Watcher) probe(ctx context.Context, s *store.Storage) {
	probeCtx, cancel := context.WithTimeout(ctx, w.opt.Timeout)
	err := w.ask(probeCtx, s, w.pendingOf(s.ID))
	cancel()
	if ctx.Err() != nil {
		return // it says nothing of the storage
	}
	w.metrics.Probes.Add(1)
	if err != nil {
		w.metrics.Failed.Add(1)
	}
	w.opt.Probed(s.ID, err)
	w.mu.Lock()
	p := w.known[s.ID]
	if (err == nil) != (p.err == nil) || p.last.IsZero() {
		p.row = 0
	}
	p.row++
	p.probing, p.last, p.err = false, w.opt.Now(), err
	changed := p.row >= confirm && p.failing != (err != nil)
	if changed {
		p.failing = err != nil
	}
	w.mu.Unlock()
	if changed {
		w.Wake() // so that it is reported at once
	}
}

// ask probes a device, and does not wait longer than ctx: a disk of this process may hang in the kernel. Then its answer is
// waited for the next time instead of asking again.
func (w *Watcher) ask(ctx context.Context, s *store.Storage, answer chan error) error {
	if answer == nil {
		answer = make(chan error, 1)
		go func() { answer <- store.Probe(ctx, w.devices.Device(s)) }()
	}
	var err error
	select {
	case err = <-answer:
		answer = nil
	case <-ctx.Done():
		err = errSilent{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known[s.ID].pending = answer
	return err
}

func (w *Watcher) pendingOf(id store.StorageID) chan error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[id].pending
}

// errSilent is the failure of a storage that does not answer in time.
type errSilent struct{}

func (errSilent) Error() string { return "it did not answer a probe in time" }
func (errSilent) Timeout() bool { return true }

// silent reports whether err says no more than that no answer came in time.
func silent(err error) bool {
	var ne interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// opinion is what can be said of all storages now. A process for which more than half of them are silent is more likely cut off
// or overloaded itself: of those it says nothing.
func (w *Watcher) opinion(top *store.Topology) []store.StorageHealth {
	now := w.opt.Now()
	speaks := 3*max(w.opt.Every, w.opt.Retry) + w.opt.Timeout // for how long a probe that went well does: two more would have come by then
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []store.StorageHealth
	quiet := 0
	for i := range top.Storages {
		if p := w.known[top.Storages[i].ID]; p != nil && p.failing && silent(p.err) {
			quiet++
		}
	}
	for i := range top.Storages {
		id := top.Storages[i].ID
		p := w.known[id]
		switch {
		case p == nil:
		case p.failing && p.err != nil:
			if !silent(p.err) || 2*quiet <= len(top.Storages) {
				list = append(list, store.StorageHealth{Storage: id, Reason: p.err.Error()})
			}
		case p.passive == Failing && now.Sub(p.passedAt) < passiveHold:
			list = append(list, store.StorageHealth{Storage: id, Reason: "its probes go well, and all requests fail"})
		case p.failing, p.err != nil: // not certain yet: what was said stands
			if was, ok := w.sent[id]; ok {
				list = append(list, was)
			}
		case now.Sub(p.last) < speaks && p.row >= confirm, p.passive == Good && now.Sub(p.passedAt) < store.HealthWindow:
			list = append(list, store.StorageHealth{Storage: id, OK: true})
		}
	}
	return list
}

// report tells the catalog when something has changed, and otherwise every [store.HealthEvery].
func (w *Watcher) report(ctx context.Context, top *store.Topology) {
	list := w.opinion(top)
	if !w.news(list) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	changes, err := w.cat.ReportHealth(ctx, w.opt.Reporter, list)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			w.opt.Log.Warn("the storages' health was not reported", "err", err)
		}
		return
	}
	w.remember(list)
	w.tell(changes)
}

func (w *Watcher) news(list []store.StorageHealth) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(list) != len(w.sent) || len(list) > 0 && !w.opt.Now().Before(w.next) {
		return true
	}
	for _, h := range list {
		if was, ok := w.sent[h.Storage]; !ok || was.OK != h.OK {
			return true
		}
	}
	return false
}

func (w *Watcher) remember(list []store.StorageHealth) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.sent)
	for _, h := range list {
		w.sent[h.Storage] = h
	}
	w.next = w.opt.Now().Add(store.HealthEvery)
}

// tell logs changes, for whoever is called in the night.
func (w *Watcher) tell(changes []store.HealthChange) {
	for _, c := range changes {
		w.metrics.Changes.Add(1)
		log := w.opt.Log.With("storage", uint32(c.Storage))
		switch {
		case c.Mode == store.ModeDead && c.Outage.Active():
			log.Error("a storage was declared dead: its disk is to be replaced and rebuilt", "down_since", c.Outage.Since.UTC(), "reason", c.Outage.Reason)
		case c.Outage.Active():
			log.Warn("a storage is down: nothing is sent to it, and what is written meanwhile is owed to it", "reason", c.Outage.Reason)
		default:
			log.Warn("a storage is back", "mode", c.Mode.String(), "down_for", w.opt.Now().Sub(c.Was.Since).Round(time.Second))
		}
	}
}
