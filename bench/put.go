package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// put10k writes objects of 10 KB over conns connections, and compares that with as many threads that write and sync two
// files for each object.
func put10k(ctx context.Context, l *lab, conns int) ([]Result, error) {
	const size = 10 << 10
	s, err := l.freshUp(ctx)
	if err != nil {
		return nil, err
	}
	p := &loader{addr: s.addr, conns: conns, size: size, name: photoName}
	span := l.span(3 * time.Second)
	var first, inRound int64
	var generator []float64 // µs of this process for an object
	ours := func(ctx context.Context, _ int) (reading, error) {
		before, err := cpuTime(s.pids)
		if err != nil {
			return reading{}, err
		}
		own := ownCPU()
		times, elapsed, err := p.putFor(ctx, first, span)
		if err != nil {
			return reading{}, err
		}
		after, err := cpuTime(s.pids)
		n := len(times)
		if err != nil || n == 0 {
			return reading{}, errors.Join(err, fmt.Errorf("%d objects in %v", n, elapsed))
		}
		generator = append(generator, micros(ownCPU()-own)/float64(n))
		inRound, first = first, first+int64(n+conns) // each connection takes one number that it does not use
		return reading{
			Rate: float64(n) / elapsed.Seconds(), CPU: micros(after-before) / float64(n),
			P50: micros(percentile(times, 0.5)), P99: micros(percentile(times, 0.99)),
		}, nil
	}
	d, err := alternate(ctx, l.opt.rounds, ours, func(ctx context.Context, _ int) (reading, error) { return l.fsync2(ctx, conns, size, span) })
	if err != nil {
		return nil, err
	}
	// The content carries the number within its round.
	for _, i := range []int64{0, 7} {
		if err := checkGet(ctx, s.url+"/"+bucket+"/"+string(photoName(nil, inRound+i)), content(i, size)); err != nil {
			return nil, err
		}
	}
	r := Result{
		Name: fmt.Sprintf("put-10k-%d", conns), Target: atLeast(4), Ratio: d.ratio(rateOf), Rounds: d,
		Ours: Figure{median(over(d.Ours, rateOf)), "PUT/s"}, Peer: Figure{median(over(d.Peer, rateOf)), "obj/s"},
		Notes: []string{
			fmt.Sprintf("%d connections, three storages on one disk, two copies durable before 201; peer: %d threads, two synced files an object", conns, conns),
			d.cpuNote("object") + fmt.Sprintf("; the generator of our load takes %.0f µs besides", median(generator)), d.timeNote(),
		},
	}
	if cpu := median(over(d.Peer, cpuOf)); cpu > slowCreate {
		r.Notes = append(r.Notes, fmt.Sprintf("the peer took %.0f µs of CPU for two files: probably many files were deleted on this file system "+
			"in the last minutes (README.md, \"Traps\"); the ratio flatters us, measure again later", cpu))
	}
	return []Result{r}, nil
}

// slowCreate is how much CPU the peer may take for an object, in µs, before it is said to be hampered.
const slowCreate = 800
