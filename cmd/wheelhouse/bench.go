package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/store"
)

// maxBenchObject bounds the memory that a load of many connections takes.
const maxBenchObject = 64 << 20

// runBench measures a running store: it uploads objects, reads them back in random order, and deletes them.
func runBench(ctx context.Context, env *environment, args []string) error {
	f := newClientFlags("bench", env).withJSON()
	n := f.Int("n", 2000, "`number` of objects")
	conns := f.Int("c", 16, "`connections` at once")
	size := f.Int("size", 10<<10, "`bytes` of an object")
	bucket := f.String("bucket", "wheelhouse-bench", "`bucket` for the objects; it is made, and removed afterwards")
	c, _, err := f.parse(args, 0, 0)
	if err != nil {
		return err
	}
	if *n < 1 || *conns < 1 || *conns > 10_000 || *size < 0 || *size > maxBenchObject {
		return usagef("want at least one object and connection, and at most %d bytes an object", maxBenchObject)
	}
	if err := c.CreateBucket(ctx, *bucket, store.BucketAttributes{}); err != nil {
		return err
	}
	b := &bencher{client: c, bucket: *bucket, n: *n, conns: *conns, body: randomBytes(*size)}
	var results []benchResult
	for _, phase := range []struct {
		name string
		do   func(context.Context, int) error
	}{{"put", b.put}, {"get", b.get}, {"delete", b.remove}} {
		r, err := b.run(ctx, phase.name, phase.do)
		if err != nil {
			return fmt.Errorf("%s: %w", phase.name, err)
		}
		results = append(results, r)
		if !f.json {
			fmt.Fprintln(env.stdout, r)
		}
	}
	if err := c.DeleteBucket(ctx, *bucket, true); err != nil {
		return err
	}
	if f.json {
		return printJSON(env.stdout, results)
	}
	return nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b) // never fails
	return b
}

type bencher struct {
	client   *store.Client
	bucket   string
	n, conns int
	body     []byte
}

// benchResult is one phase. Times are in microseconds.
type benchResult struct {
	Phase     string  `json:"phase"`
	Objects   int     `json:"objects"`
	PerSecond float64 `json:"per_second"`
	MBPerSec  float64 `json:"mb_per_second"`
	P50       int64   `json:"p50_us"`
	P99       int64   `json:"p99_us"`
	Max       int64   `json:"max_us"`
}

func (r benchResult) String() string {
	return fmt.Sprintf("%-7s %8d objects  %9.0f/s  %8.1f MB/s   p50 %7.2f ms   p99 %7.2f ms   max %7.2f ms",
		r.Phase, r.Objects, r.PerSecond, r.MBPerSec, float64(r.P50)/1e3, float64(r.P99)/1e3, float64(r.Max)/1e3)
}

// run does a phase's n steps over the connections and stops at the first failure.
func (b *bencher) run(ctx context.Context, name string, do func(context.Context, int) error) (benchResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	times := make([]int64, b.n)
	var next atomic.Int64
	var all sync.WaitGroup
	begun := time.Now()
	for range b.conns {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.n) && ctx.Err() == nil; i = next.Add(1) - 1 {
				t := time.Now()
				if err := do(ctx, int(i)); err != nil {
					cancel(err)
					return
				}
				times[i] = time.Since(t).Microseconds()
			}
		})
	}
	all.Wait()
	elapsed := time.Since(begun).Seconds()
	if err := context.Cause(ctx); err != nil {
		return benchResult{}, err
	}
	slices.Sort(times)
	r := benchResult{Phase: name, Objects: b.n, PerSecond: float64(b.n) / elapsed, P50: times[b.n/2], P99: times[b.n*99/100], Max: times[b.n-1]}
	if name != "delete" {
		r.MBPerSec = r.PerSecond * float64(len(b.body)) / 1e6
	}
	return r, nil
}

func (b *bencher) name(i int) string { return fmt.Sprintf("%04x/%08d.bin", i%256, i) }

func (b *bencher) put(ctx context.Context, i int) error {
	_, err := b.client.Put(ctx, b.bucket, b.name(i), bytes.NewReader(b.body), int64(len(b.body)), store.PutOptions{})
	return err
}

func (b *bencher) get(ctx context.Context, _ int) error {
	i := rand.IntN(b.n)
	r, _, err := b.client.Get(ctx, b.bucket, b.name(i), 0)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(got, b.body) {
		err = fmt.Errorf("%s: the bytes read are not those written", b.name(i))
	}
	return err
}

func (b *bencher) remove(ctx context.Context, i int) error {
	return b.client.Delete(ctx, b.bucket, b.name(i))
}
