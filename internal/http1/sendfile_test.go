package http1

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// randomBytes are the same for the same n.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func tempFile(t testing.TB, b []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// fetch GETs a URL by net/http's client, which is not ours.
func fetch(t testing.TB, addr, path string) []byte {
	t.Helper()
	res, err := http.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: %v after %d bytes", path, err, len(b))
	}
	return b
}

func TestSendFile(t *testing.T) {
	data := randomBytes(3<<20 + 7)
	f := tempFile(t, data)
	const off = 5
	s, addr := serve(t, HandlerFunc(func(x Exchange) {
		n, _ := strconv.ParseInt(string(x.Request().Query), 10, 64)
		size := n
		if string(x.Request().Path) == "/chunked" {
			size = -1
		}
		x.Start(200, size)
		if m, err := x.SendFile(f, off, n); m != n || err != nil {
			t.Errorf("SendFile(%d) = %d, %v", n, m, err)
		}
	}), Options{})
	for _, n := range []int{0, 1, 10 << 10, sendfileLimit - 1, sendfileLimit, 100 << 10, 3 << 20} {
		for _, path := range []string{"/fixed", "/chunked"} {
			before := s.Stats().SendfileBytes
			var wg sync.WaitGroup // the file's offset is shared: nobody may use it
			for range 4 {
				wg.Go(func() {
					if got := fetch(t, addr, path+"?"+strconv.Itoa(n)); !bytes.Equal(got, data[off:off+n]) {
						t.Errorf("%s %d: the bytes differ", path, n)
					}
				})
			}
			wg.Wait()
			want := uint64(0)
			if n >= sendfileLimit {
				want = uint64(4 * n)
			}
			eventually(t, path+" "+strconv.Itoa(n)+" by sendfile", func() bool { return s.Stats().SendfileBytes-before == want })
		}
	}
}

func TestSendFileShort(t *testing.T) {
	f := tempFile(t, make([]byte, 100<<10))
	_, addr := serve(t, HandlerFunc(func(x Exchange) {
		x.Start(200, 200<<10)
		var read *BodyReadError
		off, n := int64(0), int64(200<<10)
		if string(x.Request().Path) == "/small" {
			off, n = 99<<10, 2<<10
		}
		if _, err := x.SendFile(f, off, n); !errors.As(err, &read) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: SendFile beyond the end: %v", x.Request().Path, err)
		}
	}), Options{})
	for _, path := range []string{"/large", "/small"} {
		res, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, res.Body); err != io.ErrUnexpectedEOF {
			t.Errorf("%s: the client got %d bytes, %v; want io.ErrUnexpectedEOF", path, n, err)
		}
		res.Body.Close()
	}
}

func TestReadFromFileMovesItsOffset(t *testing.T) {
	data := randomBytes(300 << 10)
	s, addr := serve(t, HandlerFunc(func(x Exchange) {
		f, err := os.Open(string(x.Request().Query))
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		f.Seek(10, io.SeekStart)
		x.Start(200, int64(len(data)-10))
		io.CopyN(x, f, 100<<10)
		if n, err := io.Copy(x, f); n != int64(len(data)-10-100<<10) || err != nil {
			t.Errorf("Copy = %d, %v", n, err)
		}
	}), Options{})
	f := tempFile(t, data)
	if got := fetch(t, addr, "/?"+f.Name()); !bytes.Equal(got, data[10:]) {
		t.Error("the bytes differ")
	}
	eventually(t, "all by sendfile", func() bool { return s.Stats().SendfileBytes == uint64(len(data)-10) })
}

// upstream serves /length?n, /close?n and /chunked?n bytes by net/http.
func upstream(t testing.TB) (addr string, data []byte) {
	data = randomBytes(4 << 20)
	ln := listen(t)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.RawQuery)
		switch r.URL.Path {
		case "/length":
			w.Header().Set("Content-Length", strconv.Itoa(n))
			w.Write(data[:n])
		case "/chunked":
			w.(http.Flusher).Flush()
			w.Write(data[:n])
		case "/close":
			c, buf, _ := w.(http.Hijacker).Hijack()
			buf.WriteString("HTTP/1.1 200 OK\r\n\r\n")
			buf.Write(data[:n])
			buf.Flush()
			c.Close()
		case "/broken":
			w.Header().Set("Content-Length", strconv.Itoa(n))
			w.Write(data[:n/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/upload":
			h := sha256.New()
			io.Copy(h, r.Body)
			w.Write(h.Sum(nil))
		}
	})}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	return ln.Addr().String(), data
}

// proxy passes requests on to up.
func proxy(t testing.TB, c *Client, up string) Handler {
	return HandlerFunc(func(x Exchange) {
		r := x.Request()
		out := &OutRequest{Method: r.Method, Addr: up, Target: string(r.Target)}
		if r.HasBody() {
			out.BodyReader, out.Size = x.Body(), r.ContentLength
		}
		res, err := c.Do(x.Context(), out)
		if err != nil {
			x.Reply(502, []byte(err.Error()))
			return
		}
		defer res.Body.Close()
		if err := x.Start(res.Status, res.ContentLength); err != nil {
			return
		}
		if string(r.Path) == "/limited" {
			io.CopyN(x, res.Body, res.ContentLength)
			return
		}
		if _, err := res.Body.WriteTo(x); err != nil && string(r.Path) != "/broken" {
			t.Errorf("%s: %v", r.Target, err)
		} else if err != nil {
			var read *BodyReadError
			if !errors.As(err, &read) {
				t.Errorf("%s: %v; want a BodyReadError", r.Target, err)
			}
		}
	})
}

func TestProxySplices(t *testing.T) {
	up, data := upstream(t)
	c := NewClient(ClientOptions{})
	defer c.Close()
	s, addr := serve(t, proxy(t, c, up), Options{})
	for _, path := range []string{"/length", "/close", "/chunked"} {
		for _, n := range []int{0, 1, 10 << 10, 60 << 10, 200 << 10, 4 << 20} {
			before := s.Stats().SpliceBytes
			for range 3 {
				if got := fetch(t, addr, path+"?"+strconv.Itoa(n)); !bytes.Equal(got, data[:n]) {
					t.Errorf("%s %d: the bytes differ (%d)", path, n, len(got))
				}
			}
			want := uint64(0)
			if path == "/length" && n >= 200<<10 {
				want = uint64(3 * (n - bufferSize))
			}
			eventually(t, path+" "+strconv.Itoa(n)+" by splice", func() bool {
				spliced := s.Stats().SpliceBytes - before
				return spliced >= want && (want > 0 || spliced == 0)
			})
		}
	}
	// HTTP/1.0 has no chunks: until close to until close is spliced again.
	before := s.Stats().SpliceBytes
	got := talk(t, addr, "GET /close?4000000 HTTP/1.0\r\n\r\n", false)
	if !bytes.HasSuffix([]byte(got), data[:4000000]) {
		t.Errorf("HTTP/1.0: %d bytes", len(got))
	}
	eventually(t, "HTTP/1.0 by splice", func() bool { return s.Stats().SpliceBytes-before >= 3900000 })
	if st := c.Stats(); st.Dials > 20 {
		t.Errorf("connections are not reused: %+v", st)
	}
}

func TestProxyBroken(t *testing.T) {
	up, _ := upstream(t)
	c := NewClient(ClientOptions{})
	defer c.Close()
	_, addr := serve(t, proxy(t, c, up), Options{})
	for _, n := range []string{"1000", "4000000"} {
		res, err := http.Get("http://" + addr + "/broken?" + n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != io.ErrUnexpectedEOF {
			t.Errorf("%s: %v; want io.ErrUnexpectedEOF", n, err)
		}
		res.Body.Close()
	}
}

func TestProxyUploadSplices(t *testing.T) {
	up, data := upstream(t)
	c := NewClient(ClientOptions{})
	defer c.Close()
	_, addr := serve(t, proxy(t, c, up), Options{})
	for _, n := range []int{0, 10, 100 << 10, 4 << 20} {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = bytes.NewReader(data[:n])
			if chunked {
				body = struct{ io.Reader }{body}
			}
			before := c.Stats().SpliceBytes
			res, err := http.Post("http://"+addr+"/upload", "", body)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if want := sha256.Sum256(data[:n]); !bytes.Equal(got, want[:]) {
				t.Errorf("%d, chunked %v: wrong sum", n, chunked)
			}
			if !chunked && n > 1<<20 {
				eventually(t, "upload by splice", func() bool { return c.Stats().SpliceBytes-before >= uint64(n-bufferSize) })
			}
		}
	}
}

// TestReadFromConn: a bare connection, or a part of what it gives, is spliced too.
func TestReadFromConn(t *testing.T) {
	data := randomBytes(1 << 20)
	s, addr := serve(t, HandlerFunc(func(x Exchange) {
		ln := listen(t)
		defer ln.Close()
		go func() {
			w, _ := net.Dial("tcp", ln.Addr().String())
			w.Write(data)
			w.Write(data)
			w.Close()
		}()
		src, err := ln.Accept()
		if err != nil {
			return
		}
		defer src.Close()
		x.Start(200, int64(len(data)))
		if n, err := x.ReadFrom(io.LimitReader(src, 500<<10)); n != 500<<10 || err != nil {
			t.Errorf("ReadFrom = %d, %v", n, err)
		}
		if n, err := x.ReadFrom(src); n != int64(len(data)-500<<10) || err != nil {
			t.Errorf("ReadFrom = %d, %v", n, err)
		}
	}), Options{})
	if got := fetch(t, addr, "/"); !bytes.Equal(got, data) {
		t.Error("the bytes differ")
	}
	eventually(t, "all by splice", func() bool { return s.Stats().SpliceBytes == uint64(len(data)) })
}

// TestSpliceReceiverGone: the receiver's failure is not taken for the source's, and poisons the source.
func TestSpliceReceiverGone(t *testing.T) {
	up, _ := upstream(t)
	c := NewClient(ClientOptions{})
	defer c.Close()
	res, err := c.Do(testContext(t), &OutRequest{Method: "GET", Addr: up, Target: "/length?4000000"})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	ln := listen(t)
	defer ln.Close()
	w := dialTest(t, ln.Addr().String())
	r, _ := ln.Accept()
	r.(*net.TCPConn).SetLinger(0)
	r.Close()
	w.SetDeadline(time.Now().Add(wait))
	_, err = res.Body.WriteTo(w)
	var read *BodyReadError
	if err == nil || errors.As(err, &read) {
		t.Errorf("WriteTo = %v; want the receiver's error", err)
	}
	if c.Stats().Idle != 0 {
		t.Error("the connection went back to the pool")
	}
}
