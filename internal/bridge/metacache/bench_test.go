package metacache

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"wheelhouse/memcache"
	"wheelhouse/memcache/memcached"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// BenchmarkFind compares look-ups: in the SQLite file, in this process's memory, and at a cache server on a socket of this machine.
func BenchmarkFind(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	serveOurs(b, ln, memcached.Options{})
	s := newSite(b, path)
	s.setIn(leaseTime)
	cat := s.open()
	const n = 1000
	for i := range n {
		o := store.Object{ID: s.id(), Bucket: s.bucket.ID, Name: fmt.Sprintf("photos/%08d.jpg", i), Cluster: 1, ContentType: "image/jpeg"}
		if _, err := cat.Commit(b.Context(), store.Commit{Object: o}); err != nil {
			b.Fatal(err)
		}
	}
	c, err := New(cat, Options{Servers: []memcache.Server{s.members[0]}})
	if err != nil {
		b.Fatal(err)
	}
	r := run(b, c)
	b.Cleanup(func() {
		r.stop()
		_ = c.CloseServers()
	})
	end := time.Now().Add(patience)
	for before := c.Stats().Hits; c.Stats().Hits < before+2*n; {
		for i := range n {
			if _, _, err := c.Find(b.Context(), "b", fmt.Sprintf("photos/%08d.jpg", i)); err != nil {
				b.Fatal(err)
			}
		}
		if time.Now().After(end) {
			b.Fatal("the cache server is not used")
		}
	}
	for _, who := range []struct {
		name string
		cat  store.Catalog
	}{{"sqlite", cat}, {"memory", catalog.Cached(cat, 0)}, {"metacache", c}} {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("photos/%08d.jpg", i)
			for range 2 {
				_, _, _ = who.cat.Find(b.Context(), "b", names[i])
			}
		}
		b.Run(who.name, func(b *testing.B) {
			b.ReportAllocs()
			ctx, i := context.Background(), 0
			for b.Loop() {
				i++
				if _, _, err := who.cat.Find(ctx, "b", names[i%n]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(who.name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if _, _, err := who.cat.Find(context.Background(), "b", names[i%n]); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
