package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// commitWriters is how many goroutines commit at once.
const commitWriters = 64

// lookupTarget is how long half of the lookups may take, in µs.
const lookupTarget = 20

// openFilled is a filled catalog that is open.
type openFilled struct {
	*filled
	c *catalog.SQLite
}

func (f *filled) open(ctx context.Context) (*openFilled, error) {
	c, err := catalog.OpenSQLite(ctx, f.file, catalog.Options{})
	return &openFilled{f, c}, err
}

// commit commits new objects from some goroutines for a time.
func (o *openFilled) commit(ctx context.Context, writers int, span time.Duration) (reading, error) {
	const block = 1 << 20 // ids: more than a span takes
	first, err := o.c.LeaseIDs(ctx, "bench", block)
	if err != nil {
		return reading{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var taken, done atomic.Int64
	var all sync.WaitGroup
	begun := time.Now()
	cpu := ownCPU()
	for range writers {
		all.Go(func() {
			for time.Since(begun) < span && ctx.Err() == nil {
				n := taken.Add(1) - 1
				if n >= block {
					cancel(fmt.Errorf("%d ids are too few for %v", block, span))
					return
				}
				var obj store.Object
				o.object(o.next+n, &obj)
				obj.ID = first + store.ObjectID(n)
				if _, err := o.c.Commit(ctx, store.Commit{Object: obj}); err != nil {
					cancel(err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	elapsed := time.Since(begun)
	cpu = ownCPU() - cpu
	o.next += taken.Load()
	if err := context.Cause(ctx); err != nil {
		return reading{}, err
	}
	return reading{Rate: float64(done.Load()) / elapsed.Seconds(), CPU: micros(cpu) / float64(done.Load())},
		o.c.DropLease(ctx, first)
}

// lookup finds objects in random order from one goroutine for a time.
func (o *openFilled) lookup(ctx context.Context, span time.Duration) (reading, error) {
	var times []time.Duration
	begun := time.Now()
	for time.Since(begun) < span {
		i := rand.Int64N(int64(o.rows))
		name := string(photoName(nil, i))
		bucket := o.buckets[i%catalogBuckets].Name
		start := time.Now()
		_, _, err := o.c.Find(ctx, bucket, name)
		times = append(times, time.Since(start))
		if err != nil {
			return reading{}, err
		}
	}
	elapsed := time.Since(begun)
	return reading{
		Rate: float64(len(times)) / elapsed.Seconds(), P50: micros(percentile(times, 0.5)), P99: micros(percentile(times, 0.99)),
	}, nil
}

// catalogCommit compares commits that share transactions with one transaction after the other.
func catalogCommit(ctx context.Context, l *lab) (rows []Result, err error) {
	dir, err := l.mkdir("commit")
	if err != nil {
		return nil, err
	}
	f := &filled{file: filepath.Join(dir, "catalog.db"), created: time.Now()}
	o, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.c.Close()) }()
	for i := range catalogBuckets {
		b, err := o.c.CreateBucket(ctx, store.Bucket{Name: fmt.Sprint("bucket", i)})
		if err != nil {
			return nil, err
		}
		f.buckets = append(f.buckets, b)
	}
	span := l.span(2 * time.Second)
	d, err := alternate(ctx, l.opt.rounds,
		func(ctx context.Context, _ int) (reading, error) { return o.commit(ctx, commitWriters, span) },
		func(ctx context.Context, _ int) (reading, error) { return o.commit(ctx, 1, span) })
	if err != nil {
		return nil, err
	}
	ours := median(over(d.Ours, rateOf))
	return []Result{{
		Name: "catalog-commit", Target: atLeast(8), Ratio: d.ratio(rateOf), Rounds: d,
		Ours: Figure{ours, "obj/s"}, Peer: Figure{median(over(d.Peer, rateOf)), "obj/s"},
		Notes: []string{
			fmt.Sprintf("%.1f k objects/s from %d goroutines, synchronous=FULL; peer: the same calls from one goroutine, a transaction each", ours/1e3, commitWriters),
			d.cpuNote("object"),
		},
	}}, nil
}

// The sizes of the filled catalogs.
const (
	rowsSmall = 1_000_000
	rowsLarge = 5_000_000
)

func catalogLookup(ctx context.Context, l *lab) (rows []Result, err error) {
	f, err := l.filledCatalog(ctx, l.count(rowsSmall))
	if err != nil {
		return nil, err
	}
	o, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.c.Close()) }()
	var p50, p99 []float64
	for round := -1; round < l.opt.rounds; round++ {
		r, err := o.lookup(ctx, l.span(2*time.Second))
		if err != nil {
			return nil, err
		}
		if round >= 0 {
			p50, p99 = append(p50, r.P50), append(p99, r.P99)
		}
	}
	return []Result{{
		Name: "catalog-lookup" + l.reduced(f.rows, rowsSmall), Target: atMost(lookupTarget, "µs"), Ours: Figure{median(p50), "µs"},
		Notes: []string{fmt.Sprintf("p50 of Find by one goroutine, %d rows, uniform, no cache but SQLite's pages; p50 of the rounds %s, p99 %s µs",
			f.rows, spreadOf(p50), spreadOf(p99))},
	}}, nil
}
