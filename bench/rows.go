package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// catalogRows1M tells what an object takes in the catalog.
func catalogRows1M(ctx context.Context, l *lab) ([]Result, error) {
	f, err := l.filledCatalog(ctx, l.count(rowsSmall))
	if err != nil {
		return nil, err
	}
	return []Result{f.sizeRow("catalog-rows-1m" + l.reduced(f.rows, rowsSmall))}, nil
}

func (f *filled) sizeRow(name string) Result {
	return Result{
		Name: name, Ours: Figure{float64(f.size) / float64(f.rows), "B/row"},
		Notes: []string{fmt.Sprintf("%d rows with names of 41 bytes, file of %d MB after a checkpoint, filled in %.0f s", f.rows, f.size/1e6, f.took.Seconds())},
	}
}

// grownLoss is the least part of its speed that a catalog must keep when it has five times as many rows.
const grownLoss = 0.8

// catalogRows5M compares a catalog with one that has five times as many rows.
func catalogRows5M(ctx context.Context, l *lab) (rows []Result, err error) {
	small, err := l.filledCatalog(ctx, l.count(rowsSmall))
	if err != nil {
		return nil, err
	}
	large, err := l.filledCatalog(ctx, l.count(rowsLarge))
	if err != nil {
		return nil, err
	}
	a, err := large.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.c.Close()) }()
	b, err := small.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.c.Close()) }()
	commits, err := alternate(ctx, l.opt.rounds,
		func(ctx context.Context, _ int) (reading, error) {
			return a.commit(ctx, commitWriters, l.span(2*time.Second))
		},
		func(ctx context.Context, _ int) (reading, error) {
			return b.commit(ctx, commitWriters, l.span(2*time.Second))
		})
	if err != nil {
		return nil, err
	}
	lookups, err := alternate(ctx, l.opt.rounds,
		func(ctx context.Context, _ int) (reading, error) { return a.lookup(ctx, l.span(time.Second)) },
		func(ctx context.Context, _ int) (reading, error) { return b.lookup(ctx, l.span(time.Second)) })
	if err != nil {
		return nil, err
	}
	speed := func(r reading) float64 { return 1 / r.P50 }
	label := l.reduced(large.rows, rowsLarge)
	return []Result{
		large.sizeRow("catalog-rows-5m" + label),
		{
			Name: "catalog-rows-5m commit" + label, Target: atLeast(grownLoss), Ratio: commits.ratio(rateOf), Rounds: commits,
			Ours: Figure{median(over(commits.Ours, rateOf)), "obj/s"}, Peer: Figure{median(over(commits.Peer, rateOf)), "obj/s"},
			Notes: []string{fmt.Sprintf("%d rows; peer: %d rows", large.rows, small.rows), commits.cpuNote("object")},
		},
		{
			Name: "catalog-rows-5m lookup" + label, Target: atLeast(grownLoss), Ratio: lookups.ratio(speed), Rounds: lookups,
			Ours: Figure{median(over(lookups.Ours, p50Of)), "µs"}, Peer: Figure{median(over(lookups.Peer, p50Of)), "µs"},
			Notes: []string{fmt.Sprintf("p50, %d rows; peer: %d rows; the ratio is that of speeds, the peer's time to ours", large.rows, small.rows)},
		},
	}, nil
}
