package disk

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"wheelhouse/store"
)

// waitZeros waits until the zeros ahead have been written as far as they will be.
func waitZeros(d *Disk) {
	if w := d.commits.w; w != nil {
		w.idle.Wait()
	}
}

func BenchmarkPut(b *testing.B) {
	data := content(1, 10_000)
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("size=10K/writers=%d", writers), func(b *testing.B) {
			d := open(b, b.TempDir(), Options{StorageID: 7, MinFree: -1})
			info := entity(1, data)
			var id atomic.Uint64
			for range 200 { // so that the zeros are ahead
				info.ID = store.ObjectID(id.Add(1))
				if err := d.Put(b.Context(), info, data); err != nil {
					b.Fatal(err)
				}
				waitZeros(d)
			}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					info := info
					for left.Add(-1) >= 0 {
						info.ID = store.ObjectID(id.Add(1))
						if err := d.Put(context.Background(), info, data); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
	}
}

func BenchmarkGet(b *testing.B) {
	const n = 2000
	d := open(b, b.TempDir(), Options{StorageID: 7, MinFree: -1})
	data := content(1, 10_000)
	fill(b, d, 1, n, data)
	for _, kind := range []string{"active", "sealed"} {
		b.Run("size=10K/pack="+kind, func(b *testing.B) {
			if kind == "sealed" {
				sealActive(b, d)
			}
			buf := make([]byte, len(data))
			i := 0
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				i = (i + 7) % n
				if _, err := d.Get(b.Context(), store.ObjectID(1+i), int64(len(data)), buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fill stores n entities of the same content, by many writers at once.
func fill(t testing.TB, d *Disk, first store.ObjectID, n int, data []byte) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		id := first + store.ObjectID(i)
		d.PutAsync(entity(id, data), data, func(err error) {
			defer wg.Done()
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// sealActive ends the active pack.
func sealActive(t testing.TB, d *Disk) {
	t.Helper()
	d.commits.mu.Lock()
	for d.commits.running {
		d.commits.idle.Wait()
	}
	if d.commits.w != nil {
		d.commits.roll()
	}
	d.commits.mu.Unlock()
	d.bg.Wait()
}

// tcpSender sends files to a connection by sendfile.
type tcpSender struct{ *net.TCPConn }

func (s tcpSender) SendFile(f *os.File, off, n int64) (int64, error) {
	if _, err := f.Seek(off, io.SeekStart); err != nil { // a benchmark's shortcut: one reader only
		return 0, err
	}
	return s.ReadFrom(&io.LimitedReader{R: f, N: n})
}

func BenchmarkOpenWriteTo(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go io.Copy(io.Discard, c)
		}
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	for _, verify := range []bool{true, false} {
		for _, kind := range []string{"sendfile", "write"} {
			b.Run(fmt.Sprintf("size=1M/verify=%v/by=%s", verify, kind), func(b *testing.B) {
				d := open(b, b.TempDir(), Options{StorageID: 7, MinFree: -1, NoVerify: !verify})
				data := content(1, 1<<20)
				put(b, d, 1, data)
				var w io.Writer = tcpSender{conn.(*net.TCPConn)}
				if kind == "write" {
					w = struct{ io.Writer }{conn}
				}
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					r, err := d.Open(b.Context(), 1, 0, -1)
					if err != nil {
						b.Fatal(err)
					}
					if n, err := r.WriteTo(w); err != nil || n != int64(len(data)) {
						b.Fatal(n, err)
					}
					r.Close()
				}
			})
		}
	}
}
