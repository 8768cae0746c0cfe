package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// reading is what one side did in one round.
type reading struct {
	Rate float64 `json:"rate"`             // operations a second
	CPU  float64 `json:"cpu_us,omitempty"` // µs of its processes for one operation
	P50  float64 `json:"p50_us,omitempty"`
	P99  float64 `json:"p99_us,omitempty"`

	// Stolen is the share of the machine's time that the host of a virtual one gave to others meanwhile: /proc/stat's "steal".
	Stolen float64 `json:"stolen,omitempty"`
}

// A round in which more than stolenMost of the machine was taken away is one more to be taken, after a rest of stolenRest: it tells of
// the machine's neighbours. At most so many more are taken as were asked for; those that lost least then count.
const (
	stolenMost = 0.02
	stolenRest = 5 * time.Second
)

// side is one of the two that are compared. The round is -1 where it only warms up.
type side func(ctx context.Context, round int) (reading, error)

// duel is the readings of both sides; those with the same index were taken one after the other.
type duel struct {
	Ours  []reading `json:"ours"`
	Peer  []reading `json:"peer"`
	Again int       `json:"again,omitempty"` // rounds that were taken and do not count
}

// alternate lets both sides warm up, and then takes turns: who begins changes from round to round, so that a machine that
// becomes slower or faster meanwhile favours neither. Each call of a side has a round of its own.
func alternate(ctx context.Context, rounds int, ours, peer side) (*duel, error) {
	if _, err := takeTurn(ctx, -1, ours, peer); err != nil {
		return nil, err
	}
	var taken []turn
	for clean := 0; clean < rounds && len(taken) < 2*rounds; {
		t, err := takeTurn(ctx, len(taken), ours, peer)
		if err != nil {
			return nil, err
		}
		taken = append(taken, t)
		if t.stolen() <= stolenMost {
			clean++
			continue
		}
		select {
		case <-time.After(stolenRest):
		case <-ctx.Done():
		}
	}
	d := &duel{Again: len(taken) - rounds}
	slices.SortStableFunc(taken, func(a, b turn) int { return cmp.Compare(max(stolenMost, a.stolen()), max(stolenMost, b.stolen())) })
	for _, t := range taken[:rounds] {
		d.Ours, d.Peer = append(d.Ours, t.ours), append(d.Peer, t.peer)
	}
	return d, nil
}

// turn is one round.
type turn struct{ ours, peer reading }

func (t turn) stolen() float64 { return max(t.ours.Stolen, t.peer.Stolen) }

func takeTurn(ctx context.Context, round int, ours, peer side) (t turn, err error) {
	steps := []struct {
		name string
		do   side
		into *reading
	}{{"ours", ours, &t.ours}, {"peer", peer, &t.peer}}
	if round%2 != 0 {
		slices.Reverse(steps)
	}
	for _, s := range steps {
		before := readMachineTime()
		if *s.into, err = s.do(ctx, round); err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return t, fmt.Errorf("%s: %w", s.name, err)
		}
		s.into.Stolen = readMachineTime().stolenSince(before)
	}
	return t, nil
}

// over applies f to readings.
func over(list []reading, f func(reading) float64) []float64 {
	out := make([]float64, len(list))
	for i, r := range list {
		out[i] = f(r)
	}
	return out
}

func rateOf(r reading) float64 { return r.Rate }
func cpuOf(r reading) float64  { return r.CPU }
func p50Of(r reading) float64  { return r.P50 }
func p99Of(r reading) float64  { return r.P99 }

// ratio is ours to the peer's, round by round.
func (d *duel) ratio(f func(reading) float64) *Spread {
	a, b := over(d.Ours, f), over(d.Peer, f)
	for i := range a {
		a[i] /= b[i]
	}
	return spreadOf(a)
}

// cpuNote compares CPU per operation.
func (d *duel) cpuNote(operation string) string {
	return fmt.Sprintf("CPU per %s: ours %.0f µs, peer %.0f µs, ratio %s", operation,
		median(over(d.Ours, cpuOf)), median(over(d.Peer, cpuOf)), d.ratio(cpuOf))
}

// timeNote gives both sides' latencies.
func (d *duel) timeNote() string {
	return fmt.Sprintf("latency p50/p99: ours %.2f/%.2f ms, peer %.2f/%.2f ms",
		median(over(d.Ours, p50Of))/1e3, median(over(d.Ours, p99Of))/1e3, median(over(d.Peer, p50Of))/1e3, median(over(d.Peer, p99Of))/1e3)
}

// stolenNote tells of rounds that the host disturbed; "" where there were none.
func (d *duel) stolenNote() string {
	worst := 0.0
	for i := range d.Ours {
		worst = max(worst, turn{d.Ours[i], d.Peer[i]}.stolen())
	}
	switch {
	case worst > stolenMost:
		return fmt.Sprintf("DISTURBED: the machine's host took up to %.0f %% of it in a round that counts; %d more disturbed rounds do not count", worst*100, d.Again)
	case d.Again > 0:
		return fmt.Sprintf("%d rounds in which the machine's host took more than %.0f %% of it do not count", d.Again, stolenMost*100)
	}
	return ""
}
