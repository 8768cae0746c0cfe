package http1

import (
	"bytes"
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

const benchRequest = "GET /bucket/photos/2026/11/07/0123456789abcdef.jpg HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n" +
	"User-Agent: wrk/4.1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nIf-None-Match: \"abc\"\r\n\r\n"

// loopConn is a connection in memory whose client sends the same request over and over, until stop requests were sent.
type loopConn struct {
	memConn
	request string
	left    int
	written atomic.Int64
}

func (c *loopConn) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	c.left--
	return copy(p, c.request), nil
}

func (c *loopConn) Write(p []byte) (int, error) {
	c.written.Add(int64(len(p)))
	return len(p), nil
}

func newLoop(request string, n int) *loopConn {
	return &loopConn{memConn: memConn{closed: make(chan struct{})}, request: request, left: n}
}

var benchBody = make([]byte, 10<<10)

var benchHandler = HandlerFunc(func(x Exchange) {
	r := x.Request()
	if r.Header.Bytes("If-None-Match") == nil || len(r.Path) == 0 {
		x.Reply(400, nil)
		return
	}
	h := x.Header()
	h.Set("Content-Type", "image/jpeg")
	h.Set("ETag", `"0123456789abcdef"`)
	h.Set("Cache-Control", "public, max-age=3600")
	x.Reply(200, benchBody)
})

// TestNoAllocations: a request costs no allocation once its connection has served one.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations differ under the race detector")
	}
	f := tempFile(t, benchBody)
	for name, h := range map[string]HandlerFunc{
		"reply": benchHandler,
		"file": func(x Exchange) {
			x.Start(200, int64(len(benchBody)))
			x.SendFile(f, 0, int64(len(benchBody)))
		},
		"chunked": func(x Exchange) {
			x.Start(200, -1)
			x.Write(benchBody)
		},
		"refusing": func(x Exchange) { x.Reply(404, nil) },
	} {
		s := NewServer(h, Options{})
		c := newConn(s, newLoop(benchRequest, 1<<30))
		serveOne := func() {
			if err := c.readHead(); err != nil {
				t.Fatal(err)
			}
			if !c.exchange() {
				t.Fatal("the connection was to live on")
			}
		}
		serveOne()
		if n := testing.AllocsPerRun(1000, serveOne); n != 0 {
			t.Errorf("%s: %v allocations per request; want 0", name, n)
		}
	}
	body := "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
	s := NewServer(HandlerFunc(func(x Exchange) {
		var b [16]byte
		n, _ := x.Body().Read(b[:])
		x.Reply(200, b[:n])
	}), Options{})
	c := newConn(s, newLoop(body, 1<<30))
	serveOne := func() {
		c.readHead()
		c.exchange()
	}
	serveOne()
	if n := testing.AllocsPerRun(1000, serveOne); n > 1 { // b escapes
		t.Errorf("PUT: %v allocations per request; want 1", n)
	}
}

func BenchmarkParseRequestHead(b *testing.B) {
	b.ReportAllocs()
	buf := []byte(benchRequest)
	b.SetBytes(int64(len(buf)))
	var r Request
	for b.Loop() {
		if n, err := parseRequestHead(buf, testLimits, &r); n == 0 || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkMemory(b *testing.B) {
	b.ReportAllocs()
	s := NewServer(benchHandler, Options{})
	c := newConn(s, newLoop(benchRequest, 1<<40))
	for b.Loop() {
		if c.readHead() != nil || !c.exchange() {
			b.Fatal("the connection ended")
		}
	}
}

// BenchmarkLoopback is a GET on a kept connection over loopback TCP, the client's side included.
func BenchmarkLoopback(b *testing.B) {
	f := tempFile(b, make([]byte, 1<<20))
	request := []byte(benchRequest)
	for _, bb := range []struct {
		name string
		size int
		h    HandlerFunc
	}{
		{"reply=10K", 10 << 10, benchHandler},
		{"file=10K", 10 << 10, func(x Exchange) { x.Start(200, 10<<10); x.SendFile(f, 0, 10<<10) }},
		{"file=1M", 1 << 20, func(x Exchange) { x.Start(200, 1<<20); x.SendFile(f, 0, 1<<20) }},
	} {
		for _, conns := range []int{1, 16} {
			b.Run(bb.name+"/conns="+strconv.Itoa(conns), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(bb.size))
				_, addr := serve(b, bb.h, Options{})
				var left atomic.Int64
				left.Store(int64(b.N))
				var ready, wg sync.WaitGroup
				start := make(chan bool)
				for range conns {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						b.Fatal(err)
					}
					defer c.Close()
					ready.Add(1)
					wg.Go(func() {
						buf := make([]byte, 1<<20+1<<10)
						n := getOnce(c, buf, bb.size) // the answers are all of this length
						ready.Done()
						<-start
						for left.Add(-1) >= 0 {
							c.Write(request)
							io.ReadFull(c, buf[:n])
						}
					})
				}
				ready.Wait()
				b.ResetTimer()
				close(start)
				wg.Wait()
			})
		}
	}
}

func getOnce(c net.Conn, buf []byte, size int) (n int) {
	io.WriteString(c, benchRequest)
	for head := 0; head == 0 || n < head+size; {
		m, err := c.Read(buf[n:])
		if n += m; err != nil {
			return n
		}
		if i := bytes.Index(buf[:n], []byte("\r\n\r\n")); i > 0 {
			head = i + 4
		}
	}
	return n
}

func BenchmarkClient(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(10 << 10)
	_, addr := serve(b, benchHandler, Options{})
	c := NewClient(ClientOptions{})
	defer c.Close()
	r := &OutRequest{Method: "GET", Addr: addr, Target: "/bucket/name"}
	r.Header.Set("If-None-Match", `"a"`)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	buf := make([]byte, 16<<10)
	for b.Loop() {
		res, err := c.Do(ctx, r)
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = res.Body.Read(buf)
		}
		res.Body.Close()
	}
}

func BenchmarkProxy(b *testing.B) {
	request := []byte(benchRequest)
	for _, size := range []int{10 << 10, 1 << 20} {
		b.Run("size="+strconv.Itoa(size>>10)+"K", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			body := make([]byte, size)
			_, up := serve(b, HandlerFunc(func(x Exchange) { x.Reply(200, body) }), Options{})
			c := NewClient(ClientOptions{})
			defer c.Close()
			_, addr := serve(b, proxy(b, c, up), Options{})
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			defer nc.Close()
			buf := make([]byte, 1<<20+1<<10)
			n := getOnce(nc, buf, size)
			for b.Loop() {
				nc.Write(request)
				io.ReadFull(nc, buf[:n])
			}
		})
	}
}
