package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"wheelhouse/store"
)

// scrub compares reading and verifying all bytes of a storage with cat.
func scrub(ctx context.Context, l *lab) (rows []Result, err error) {
	n := l.count(rebuildObjects)
	r, err := l.newRecovery(ctx, n, rebuildSize)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	bytes := r.packBytes()
	d, err := alternate(ctx, l.opt.rounds,
		func(ctx context.Context, _ int) (reading, error) {
			op, took, err := r.operate(ctx, store.Operation{Kind: store.OpScrub, Storage: 1})
			if err == nil && op.Progress.Objects != int64(n) {
				err = fmt.Errorf("%d objects were verified; want %d", op.Progress.Objects, n)
			}
			return reading{Rate: float64(bytes) / 1e6 / took.Seconds()}, err
		},
		func(ctx context.Context, _ int) (reading, error) {
			begun := time.Now()
			out, err := exec.CommandContext(ctx, "sh", "-c", `cat "$1"/packs/*.tar > /dev/null`, "sh", r.disks[1].Dir()).CombinedOutput()
			if err != nil {
				return reading{}, fmt.Errorf("cat: %w: %s", err, out)
			}
			return reading{Rate: float64(bytes) / 1e6 / time.Since(begun).Seconds()}, nil
		})
	if err != nil {
		return nil, err
	}
	return []Result{{
		Name: "scrub" + l.reduced(n, rebuildObjects), Target: atLeast(scrubTarget), Ratio: d.ratio(rateOf), Rounds: d,
		Ours: Figure{median(over(d.Ours, rateOf)), "MB/s"}, Peer: Figure{median(over(d.Peer, rateOf)), "MB/s"},
		Notes: []string{fmt.Sprintf("%d MB of packs with objects of 10 KB, in the page cache as far as there is room for it; peer: cat of them", bytes/1e6)},
	}}, nil
}

// fsck1M measures the comparison of a catalog with three storages that agree with it.
func fsck1M(ctx context.Context, l *lab) (rows []Result, err error) {
	n := l.count(fsckObjects)
	var notes []string
	var took time.Duration
	for _, objects := range []int{fsckMore * n, n} {
		l.logf("storing %d objects on three storages", objects)
		r, err := l.newRecovery(ctx, objects, tinyObject)
		if err != nil {
			return nil, err
		}
		times := make([]time.Duration, 2)
		for i := range times {
			var op store.Operation
			op, times[i], err = r.operate(ctx, store.Operation{Kind: store.OpFsck})
			if err == nil && op.Progress.Objects != int64(3*objects) {
				err = fmt.Errorf("%d entities were compared; want %d", op.Progress.Objects, 3*objects)
			}
			if err != nil {
				return nil, errors.Join(err, r.close())
			}
		}
		took = times[0]
		notes = append(notes, fmt.Sprintf("%d objects: first run %.0f ms, second %.0f ms", objects, times[0].Seconds()*1e3, times[1].Seconds()*1e3))
		if err := r.close(); err != nil {
			return nil, err
		}
	}
	return []Result{{
		Name: "fsck-1m" + l.reduced(n, fsckObjects), Target: atMost(fsckTarget, "s"), Ours: Figure{took.Seconds(), "s"}, Notes: notes,
	}}, nil
}
