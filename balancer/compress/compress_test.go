package compress

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

func TestChoose(t *testing.T) {
	ours := []string{"zstd", "gzip"}
	for accept, want := range map[string]string{
		"":                              "",
		"gzip":                          "gzip",
		"GZIP":                          "gzip",
		"gzip, zstd":                    "zstd",
		"gzip;q=0.8, zstd;q=0.5":        "gzip",
		"gzip; q=0.8 ,zstd ; q=0.5":     "gzip",
		"gzip;Q=0.5":                    "gzip",
		"zstd;Q=0, gzip;Q=0.1":          "gzip",
		"*":                             "zstd",
		"*;q=0":                         "",
		"zstd;q=0, *":                   "gzip",
		"gzip;q=0":                      "",
		"gzip;q=0.000":                  "",
		"gzip;q=2":                      "",
		"gzip;q=-1":                     "",
		"gzip;q=NaN":                    "",
		"gzip;q=":                       "",
		"gzip;q=x":                      "",
		"gzip;q=1;x=y":                  "gzip",
		"identity":                      "",
		"br":                            "",
		"xgzip, gzipx":                  "",
		",, gzip ,":                     "gzip",
		"identity;q=0":                  "",
		"deflate, gzip;q=1.0, *;q=0.5":  "gzip",
		"br;q=1.0, gzip;q=0.8, *;q=0.1": "gzip",
	} {
		if got := Choose(accept, ours); got != want {
			t.Errorf("Choose(%q) = %q; want %q", accept, got, want)
		}
	}
}

func FuzzChoose(f *testing.F) {
	f.Add("gzip;q=0.5, *")
	f.Add("zstd")
	f.Add("gzip;q=nan")
	f.Fuzz(func(t *testing.T, accept string) {
		got := Choose(accept, []string{"zstd", "gzip"})
		if got != "" && !strings.Contains(strings.ToLower(accept), got) && !strings.Contains(accept, "*") {
			t.Errorf("%q: %s, which the client did not name", accept, got)
		}
		for _, c := range []string{"zstd", "gzip"} {
			if q := quality(accept, c); !(q >= 0 && q <= 1) {
				t.Errorf("%q: quality %v", accept, q)
			}
		}
	})
}

// peer is a client that collects its answer.
type peer struct {
	http1.Exchange
	req     http1.Request
	header  http1.Header
	status  int
	size    int64
	body    bytes.Buffer
	aborted bool
	flushed int // bytes of body at the last Flush
}

func (x *peer) Context() context.Context { return context.TODO() }
func (x *peer) Request() *http1.Request  { return &x.req }
func (x *peer) Header() *http1.Header    { return &x.header }
func (x *peer) Started() bool            { return x.status != 0 }
func (x *peer) Abort()                   { x.aborted = true }
func (x *peer) RemoteAddr() net.Addr     { return nil }

func (x *peer) Flush() error {
	x.flushed = x.body.Len()
	return nil
}

func (x *peer) Start(status int, size int64) error {
	x.status, x.size = status, size
	return nil
}

func (x *peer) Write(p []byte) (int, error)         { return x.body.Write(p) }
func (x *peer) ReadFrom(r io.Reader) (int64, error) { return x.body.ReadFrom(r) }
func (x *peer) SendFile(f *os.File, off, n int64) (int64, error) {
	return x.body.ReadFrom(io.NewSectionReader(f, off, n))
}

func serve(method, accept string, fields []string, answer func(r *balancer.Request)) *peer {
	x := &peer{}
	x.req.Method = method
	if accept != "" {
		x.req.Header.Add("Accept-Encoding", accept)
	}
	return serveOn(x, nil, fields, answer)
}

func serveOn(x *peer, edits []balancer.HeaderEdit, fields []string, answer func(r *balancer.Request)) *peer {
	r := new(balancer.Request)
	r.Reset(x, nil, &balancer.Settings{Compress: []string{"zstd", "gzip"}, CompressMinSize: 100, CompressTypes: []string{"text/*", "application/json"}}, nil, nil)
	r.Edits = append(r.Edits, edits...)
	Serve(r, func(r *balancer.Request) {
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			r.X.Header().Add(name, value)
		}
		answer(r)
	})
	if r.X != x {
		panic("the request's exchange was not put back")
	}
	return x
}

func decode(t *testing.T, x *peer) string {
	t.Helper()
	var r io.Reader = &x.body
	switch x.header.Get("Content-Encoding") {
	case "gzip":
		z, err := gzip.NewReader(&x.body)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	case "zstd":
		z, err := zstd.NewReader(&x.body)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var text = strings.Repeat("some text that compresses well\n", 1000)

// What is compressed for whom, and what the head says of it.
func TestEligible(t *testing.T) {
	whole := func(status int, body string) func(*balancer.Request) {
		return func(r *balancer.Request) { r.Reply(status, []byte(body)) }
	}
	for _, tt := range []struct {
		name, accept string
		fields       []string
		answer       func(*balancer.Request)
		coding, vary string
	}{
		{"text", "gzip", []string{"Content-Type: text/html; charset=utf-8"}, whole(200, text), "gzip", "Accept-Encoding"},
		{"other case", "gzip", []string{"Content-Type: TEXT/HTML"}, whole(200, text), "gzip", "Accept-Encoding"},
		{"one type", "zstd", []string{"Content-Type: application/json"}, whole(200, text), "zstd", "Accept-Encoding"},
		{"an error", "gzip", []string{"Content-Type: text/html"}, whole(500, text), "gzip", "Accept-Encoding"},
		{"not for this client", "br", []string{"Content-Type: text/html"}, whole(200, text), "", "Accept-Encoding"},
		{"vary is there", "gzip", []string{"Content-Type: text/html", "Vary: Cookie, accept-encoding"}, whole(200, text), "gzip", "Cookie, accept-encoding"},
		{"vary is joined", "gzip", []string{"Content-Type: text/html", "Vary: Cookie"}, whole(200, text), "gzip", "Cookie, Accept-Encoding"},
		{"varies by everything", "gzip", []string{"Content-Type: text/html", "Vary: *"}, whole(200, text), "gzip", "*"},
		{"short", "gzip", []string{"Content-Type: text/html"}, whole(200, text[:99]), "", ""},
		{"just long enough", "gzip", []string{"Content-Type: text/html"}, whole(200, text[:100]), "gzip", "Accept-Encoding"},
		{"picture", "gzip", []string{"Content-Type: image/png"}, whole(200, text), "", ""},
		{"no type", "gzip", nil, whole(200, text), "", ""},
		{"coded already", "gzip", []string{"Content-Type: text/html", "Content-Encoding: br"}, whole(200, text), "br", ""},
		{"no-transform", "gzip", []string{"Content-Type: text/html", "Cache-Control: max-age=1, No-Transform"}, whole(200, text), "", ""},
		{"a part", "gzip", []string{"Content-Type: text/html", "Content-Range: bytes 0-9/10"}, whole(206, text), "", ""},
	} {
		x := serve("GET", tt.accept, tt.fields, tt.answer)
		h := &x.header
		if h.Get("Content-Encoding") != tt.coding || h.Joined("Vary") != tt.vary {
			t.Errorf("%s: coding %q, vary %q; want %q, %q", tt.name, h.Get("Content-Encoding"), h.Joined("Vary"), tt.coding, tt.vary)
		}
		if tt.coding == "gzip" || tt.coding == "zstd" {
			if got := decode(t, x); x.size != -1 || !strings.HasPrefix(text, got) || got == "" || x.aborted {
				t.Errorf("%s: size %d, %d bytes, aborted %v", tt.name, x.size, len(got), x.aborted)
			}
		}
	}
}

// What speaks of the bytes as they were is taken out, or weakened.
func TestHeadOfCompressed(t *testing.T) {
	fields := []string{
		"Content-Type: text/html", `ETag: "1"`, "Accept-Ranges: bytes", "Content-MD5: x", "Content-Digest: sha-256=:x:", "Repr-Digest: sha-256=:x:", "Digest: md5=x",
	}
	x := serve("GET", "gzip", fields, func(r *balancer.Request) { r.Reply(200, []byte(text)) })
	for _, name := range []string{"Accept-Ranges", "Content-MD5", "Content-Digest", "Repr-Digest", "Digest"} {
		if x.header.Has(name) {
			t.Errorf("%s: %s", name, x.header.Get(name))
		}
	}
	if tag := x.header.Get("ETag"); tag != `W/"1"` {
		t.Errorf("ETag %s", tag)
	}
	x = serve("GET", "gzip", []string{"Content-Type: text/html", `ETag: W/"1"`}, func(r *balancer.Request) { r.Reply(200, []byte(text)) })
	if tag := x.header.Get("ETag"); tag != `W/"1"` {
		t.Errorf("a weak ETag became %s", tag)
	}
	x = serve("HEAD", "gzip", fields, func(r *balancer.Request) { r.Begin(200, int64(len(text))) })
	if x.header.Get("Content-Encoding") != "gzip" || x.size != -1 || x.body.Len() != 0 {
		t.Errorf("HEAD: %q, size %d, %d bytes", x.header.Get("Content-Encoding"), x.size, x.body.Len())
	}
}

// Each way in which a body can be sent gives the same body, and flushed bytes can be read at once.
func TestBodies(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString("xx" + text + "yy"); err != nil {
		t.Fatal(err)
	}
	size := int64(len(text))
	for name, send := range map[string]func(r *balancer.Request){
		"Reply":             func(r *balancer.Request) { r.Reply(200, []byte(text)) },
		"ReadFrom":          func(r *balancer.Request) { r.Begin(200, size); r.X.ReadFrom(strings.NewReader(text)) },
		"ReadFrom, no size": func(r *balancer.Request) { r.Begin(200, -1); r.X.ReadFrom(strings.NewReader(text)) },
		"ReadFrom, more":    func(r *balancer.Request) { r.Begin(200, size); r.X.ReadFrom(strings.NewReader(text + "more")) },
		"SendFile":          func(r *balancer.Request) { r.Begin(200, size); r.X.SendFile(file, 2, size) },
		"Write": func(r *balancer.Request) {
			r.Begin(200, size)
			for part := range strings.Lines(text) {
				io.WriteString(r.X, part)
			}
		},
	} {
		for _, accept := range []string{"gzip", "zstd"} {
			x := serve("GET", accept, []string{"Content-Type: text/plain"}, send)
			if got := decode(t, x); got != text || x.aborted {
				t.Errorf("%s, %s: %d bytes, aborted %v", name, accept, len(got), x.aborted)
			}
		}
	}
	for _, accept := range []string{"gzip", "zstd"} {
		x := serve("GET", accept, []string{"Content-Type: text/plain"}, func(r *balancer.Request) {
			r.Begin(200, -1)
			io.WriteString(r.X, "first")
			if err := r.X.Flush(); err != nil {
				t.Error(err)
			}
		})
		x.body.Truncate(x.flushed)
		var z io.Reader
		if accept == "gzip" {
			z, _ = gzip.NewReader(&x.body)
		} else {
			d, _ := zstd.NewReader(&x.body)
			defer d.Close()
			z = d
		}
		got := make([]byte, 5)
		if n, _ := io.ReadFull(z, got); string(got[:n]) != "first" {
			t.Errorf("%s: after a flush there is %q", accept, got[:n])
		}
	}
}

// An answer that is not whole does not look whole, and its compressor serves the next as if nothing had been.
func TestBroken(t *testing.T) {
	broken := errors.New("broken")
	for name, send := range map[string]func(r *balancer.Request) error{
		"the source fails": func(r *balancer.Request) error {
			r.Begin(200, -1)
			_, err := r.X.ReadFrom(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)))
			return err
		},
		"shorter than it said": func(r *balancer.Request) error {
			r.Begin(200, int64(len(text))+1)
			r.X.Write([]byte(text))
			return broken
		},
		"aborted": func(r *balancer.Request) error { r.Begin(200, -1); r.X.Write([]byte(text)); r.X.Abort(); return broken },
		"longer than it said": func(r *balancer.Request) error {
			r.Begin(200, 100)
			_, err := r.X.Write([]byte(text))
			if !errors.Is(err, http1.ErrTooLong) {
				t.Errorf("too long: %v", err)
			}
			r.X.Abort()
			return broken
		},
	} {
		x := serve("GET", "gzip", []string{"Content-Type: text/plain"}, func(r *balancer.Request) {
			if err := send(r); !errors.Is(err, broken) {
				t.Errorf("%s: %v", name, err)
			}
		})
		if !x.aborted {
			t.Errorf("%s: the client sees a whole answer", name)
		}
		x = serve("GET", "gzip", []string{"Content-Type: text/plain"}, func(r *balancer.Request) { r.Reply(200, []byte(text)) })
		if decode(t, x) != text {
			t.Errorf("%s: the next answer is broken too", name)
		}
	}
}
