package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/store"
)

// clients is what a process whose clients wait so long says of itself.
func clients(name string, p99 time.Duration) []store.Process {
	return []store.Process{{Name: name, Foreground: store.Foreground{P99: p99, Reads: 1000}}}
}

func speedOf(y *yielding) float64 {
	s, _ := y.speed()
	return s
}

func TestYieldToClients(t *testing.T) {
	var y yielding
	now := time.Unix(1, 0)
	step := func(list []store.Process, busy bool) float64 {
		now = now.Add(time.Second)
		y.adjust(now, list, busy, store.DefaultYield)
		return speedOf(&y)
	}
	if s := step(nil, true); s != 1 {
		t.Errorf("without clients: %v", s)
	}
	few := []store.Process{{Name: "d", Foreground: store.Foreground{P99: time.Minute, Reads: enoughReads - 1}}}
	if s := step(few, true); s != 1 {
		t.Errorf("with too few to tell: %v", s)
	}
	for range quietEnough {
		step(clients("d", 2*time.Millisecond), false)
	}
	if s := speedOf(&y); s != first {
		t.Errorf("what begins while there are clients begins at %v", s)
	}
	was := first
	for was < 1 {
		s := step(clients("d", 2300*time.Microsecond), true)
		if s <= was {
			t.Fatalf("a little longer than usual: %v after %v", s, was)
		}
		was = s
	}
	if s := step(clients("d", 3*time.Millisecond), true); s != 1 {
		t.Errorf("half as long again as usual: %v", s)
	}
	if s := step(clients("d", 3300*time.Microsecond), true); s != 0.5 {
		t.Errorf("close to what is tolerated: %v", s)
	}
	if s := step(clients("d", 7*time.Millisecond), true); s != 0.125 {
		t.Errorf("much more than twice the usual: %v", s)
	}
	for range 3 {
		step(clients("d", time.Second), true)
	}
	if s := speedOf(&y); s != slowest {
		t.Errorf("it stops: %v", s)
	}
	if s := step(nil, true); s != 1 {
		t.Errorf("the clients are gone: %v", s)
	}
}

// Whoever is not known yet is listened to at the slowest speed first.
func TestYieldToUnknownClients(t *testing.T) {
	var y yielding
	now := time.Unix(1, 0)
	step := func() float64 {
		now = now.Add(time.Second)
		y.adjust(now, clients("new", 5*time.Millisecond), true, store.DefaultYield)
		return speedOf(&y)
	}
	for i := range quietEnough + 1 { // the first figure is of a time when it went faster
		if s := step(); s != slowest {
			t.Errorf("at step %d it goes at %v", i, s)
		}
	}
	if s := step(); s <= slowest || s >= 1 {
		t.Errorf("then it goes at %v", s)
	}
	if got := y.quiet["new"].usual(); got != 5*time.Millisecond {
		t.Errorf("usual: %v", got)
	}
	y.adjust(now.Add(forgetQuiet+time.Second), nil, true, store.DefaultYield)
	if len(y.quiet) != 0 {
		t.Error("processes are remembered for ever")
	}
}

// The measure follows clients that are many more than before, and cannot be driven up by the work itself: it is taken at the
// slowest speed.
func TestYieldMeasure(t *testing.T) {
	var y yielding
	now := time.Unix(1, 0)
	step := func(p99 time.Duration, busy bool) {
		now = now.Add(time.Second)
		y.adjust(now, clients("d", p99), busy, store.DefaultYield)
	}
	for range quietSamples {
		step(time.Millisecond, false)
	}
	for range 3 * quietSamples {
		step(10*time.Millisecond, true)
	}
	if got := y.quiet["d"].usual(); got != 10*time.Millisecond {
		t.Errorf("usual after three minutes at ten times as much: %v", got)
	}
	if s := speedOf(&y); s <= slowest {
		t.Errorf("it never goes faster again: %v", s)
	}
}

func TestYieldOff(t *testing.T) {
	var y yielding
	y.adjust(time.Unix(1, 0), clients("d", time.Second), true, store.DefaultYield)
	if s := speedOf(&y); s != slowest {
		t.Fatalf("speed %v", s)
	}
	w := &Worker{}
	w.yield.slower, w.probes.factor = y.slower, slowest
	if s := w.speed(); s != slowest {
		t.Errorf("speed %v", s)
	}
	w.yield.adjust(time.Unix(2, 0), clients("d", time.Second), true, 0)
	if s := w.speed(); s != 1 {
		t.Errorf("switched off, it goes at %v", s)
	}
}

// The work of several streams at once takes no more of the time than it may, and never stops.
func TestPaceRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &Worker{}
		w.yield.slower = 0.75
		r := newRunning(w, store.Operation{})
		const pieces, piece = 200, 4 * time.Millisecond
		begun := time.Now()
		err := together(t.Context(), 2, func(ctx context.Context, _ int) error {
			for range pieces {
				time.Sleep(piece) // the work
				if err := r.Pace(ctx, 1, 100); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// Two at once: their work is between half of and all of the sum, by how much of it happens at the same time.
		took, least, most := time.Since(begun), 4*pieces*piece*9/10, 8*pieces*piece*11/10
		if took < least || took > most {
			t.Errorf("it took %v; want %v to %v", took, least, most)
		}
		if r.snapshot().Progress.Throttled != "foreground latency" {
			t.Errorf("slowed by %q", r.snapshot().Progress.Throttled)
		}
		w.yield.slower = 0
		begun = time.Now()
		for range pieces {
			time.Sleep(piece)
			if err := r.Pace(t.Context(), 1, 100); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begun); took > pieces*piece+longestRest {
			t.Errorf("at full speed it took %v", took)
		}
	})
}

// A request that hung is not rested for without end, and whoever rests can be stopped.
func TestPaceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &Worker{}
		w.yield.slower = 1 - slowest
		r := newRunning(w, store.Operation{})
		time.Sleep(time.Hour)
		begun := time.Now()
		if err := r.Pace(t.Context(), 1, 1); err != nil || time.Since(begun) != longestRest {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		time.Sleep(time.Minute)
		if err := r.Pace(ctx, 1, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("stopped: %v", err)
		}
	})
}

// counted is a storage that says how often it was read.
type counted struct {
	store.Device
	reads *int64
	err   *error
}

func (c counted) Usage(context.Context) (store.Usage, error) {
	return store.Usage{Reads: *c.reads}, *c.err
}

type countedDevices struct{ counted }

func (d countedDevices) Device(*store.Storage) store.Device { return d.counted }

// Only where storages say that hardly anybody reads from them is nothing made room for.
func TestProbesKnowWhoReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads int64
		var failed error
		d := countedDevices{counted{reads: &reads, err: &failed}}
		list := []*store.Storage{{ID: 1}}
		var p probeSet
		for i, step := range []struct {
			reads int64
			err   error
			pause time.Duration
			alone bool
		}{
			{1000, nil, 0, false}, // nothing to compare with
			{1000 + fewReads - 1, nil, time.Second, true},
			{1000 + 3*fewReads, nil, time.Second, false},
			{1000 + 3*fewReads, nil, time.Second, true},
			{0, errors.New("does not answer"), time.Second, false},
			{1000 + 3*fewReads, nil, time.Second, false}, // it began anew, as far as one knows
			{1000 + 3*fewReads, nil, time.Second, true},
			{0, nil, time.Second, false}, // it was started again
			{0, nil, 2 * countLasts, false},
		} {
			time.Sleep(step.pause)
			reads, failed = step.reads, step.err
			if p.count(t.Context(), d, list); p.alone != step.alone {
				t.Errorf("step %d: alone is %v", i, p.alone)
			}
		}
		var y probing
		for range 20 {
			y.note(50*time.Millisecond, time.Now())
			y.note(time.Second, time.Now())
		}
		if y.speed() == 1 {
			t.Fatal("slow probes change nothing")
		}
		if y.alone(); y.speed() != 1 {
			t.Errorf("where nobody reads it goes at %v", y.speed())
		}
	})
}
