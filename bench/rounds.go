package main

import (
	"context"
	"fmt"
)

// reading is what one side did in one round.
type reading struct {
	Rate float64 `json:"rate"`             // operations a second
	CPU  float64 `json:"cpu_us,omitempty"` // µs of its processes for one operation
	P50  float64 `json:"p50_us,omitempty"`
	P99  float64 `json:"p99_us,omitempty"`
}

// side is one of the two that are compared. The round is -1 where it only warms up.
type side func(ctx context.Context, round int) (reading, error)

// duel is the readings of both sides; those with the same index were taken one after the other.
type duel struct {
	Ours []reading `json:"ours"`
	Peer []reading `json:"peer"`
}

// alternate lets both sides warm up, and then takes turns: who begins changes from round to round, so that a machine that
// becomes slower or faster meanwhile favours neither.
func alternate(ctx context.Context, rounds int, ours, peer side) (*duel, error) {
	d := &duel{}
	for round := -1; round < rounds; round++ {
		a, b := reading{}, reading{}
		steps := []struct {
			name string
			do   side
			into *reading
		}{{"ours", ours, &a}, {"peer", peer, &b}}
		if round%2 == 1 {
			steps[0], steps[1] = steps[1], steps[0]
		}
		for _, s := range steps {
			var err error
			if *s.into, err = s.do(ctx, round); err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
		}
		if round >= 0 {
			d.Ours, d.Peer = append(d.Ours, a), append(d.Peer, b)
		}
	}
	return d, nil
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
