package catalog_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// benchRows is how many objects the catalogs hold that lookups are measured on; WHEELHOUSE_BENCH_ROWS overrides it.
func benchRows(b *testing.B) int {
	n := 100_000
	if s := os.Getenv("WHEELHOUSE_BENCH_ROWS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	return n
}

func openBench(b *testing.B, opts catalog.Options) (*catalog.SQLite, []store.Bucket) {
	b.Helper()
	c, err := catalog.OpenSQLite(b.Context(), b.TempDir()+"/catalog.db", opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Close(); err != nil {
			b.Error(err)
		}
	})
	buckets := make([]store.Bucket, 4)
	for i := range buckets {
		if buckets[i], err = c.CreateBucket(b.Context(), store.Bucket{Name: fmt.Sprint("bucket", i)}); err != nil {
			b.Fatal(err)
		}
	}
	return c, buckets
}

// benchName is like those of photos: a few directories, then random digits.
func benchName(r *rand.Rand) string {
	return fmt.Sprintf("photos/2026/11/%02d/%016x.jpg", 1+r.IntN(28), r.Uint64())
}

func benchCommit(id store.ObjectID, b store.Bucket, name string, now time.Time) store.Commit {
	o := store.Object{ID: id, Bucket: b.ID, Name: name, Cluster: 1, Size: 10240, ContentType: "image/jpeg", Created: now}
	for i := range o.ETag {
		o.ETag[i] = byte(uint64(id)*0x9e3779b97f4a7c15>>(i%8*8)) ^ byte(i)
	}
	return store.Commit{Object: o}
}

// fill commits n objects from 64 goroutines and returns their names in order of id.
func fill(b *testing.B, c *catalog.SQLite, buckets []store.Bucket, n int) []string {
	b.Helper()
	first, err := c.LeaseIDs(b.Context(), "bench", n)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(uint64(first), 1))
	names := make([]string, n)
	for i := range names {
		names[i] = benchName(r)
	}
	commitAll(b, c, buckets, names, first)
	return names
}

func commitAll(b *testing.B, c store.Catalog, buckets []store.Bucket, names []string, first store.ObjectID) {
	now := time.Now()
	var next atomic.Int64
	done := make(chan error)
	const writers = 64
	for range writers {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(names) {
					done <- nil
					return
				}
				if _, err := c.Commit(context.Background(), benchCommit(first+store.ObjectID(i), buckets[i%4], names[i], now)); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommit compares commits that share transactions with one transaction for each.
func BenchmarkCommit(b *testing.B) {
	for _, v := range []struct {
		name string
		opts catalog.Options
	}{
		{"writers=64/grouped", catalog.Options{}},
		{"writers=64/tx-each", catalog.Options{DB: sqldb.Options{MaxBatch: 1}}},
	} {
		b.Run(v.name, func(b *testing.B) {
			c, buckets := openBench(b, v.opts)
			first, err := c.LeaseIDs(b.Context(), "bench", b.N)
			if err != nil {
				b.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 1))
			names := make([]string, b.N)
			for i := range names {
				names[i] = benchName(r)
			}
			b.ReportAllocs()
			b.ResetTimer()
			commitAll(b, c, buckets, names, first)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "objects/s")
		})
	}
}

// BenchmarkFind measures lookups in a big catalog, and what a row takes there.
func BenchmarkFind(b *testing.B) {
	rows := benchRows(b)
	c, buckets := openBench(b, catalog.Options{})
	start := time.Now()
	names := fill(b, c, buckets, rows)
	took := time.Since(start)
	var pages int64
	err := c.DB().Read(b.Context(), func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT page_count FROM pragma_page_count")
		if err != nil {
			return err
		}
		_, err = st.Step()
		pages = st.ColumnInt64(0)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
		b.ReportAllocs()
		ctx := context.Background()
		r := rand.New(rand.NewPCG(2, 2))
		for b.Loop() {
			i := r.IntN(len(names))
			if _, _, err := c.Find(ctx, buckets[i%4].Name, names[i]); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(rows)/took.Seconds(), "filled/s")
		b.ReportMetric(float64(pages*4096)/float64(rows), "bytes/row")
	})
	b.Run(fmt.Sprintf("rows=%d/commit", rows), func(b *testing.B) {
		fill(b, c, buckets, b.N)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "objects/s")
	})
}
