package http1

import (
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
)

// FromHandler serves an ordinary http.Handler by this engine. Its ResponseWriter has Flush and ReadFrom (with sendfile);
// hijacking, trailers, interim responses and http.Pusher are not offered. The request's body may be read by another
// goroutine, as httputil.ReverseProxy does, but a read and a write wait for one another.
// panic(http.ErrAbortHandler) breaks the answer off.
func FromHandler(h http.Handler) Handler {
	return HandlerFunc(func(x Exchange) {
		r, err := netRequest(x)
		if err != nil {
			x.Reply(http.StatusBadRequest, []byte(errTarget.Error()+"\n"))
			return
		}
		ctx, cancel := context.WithCancel(x.Context())
		defer cancel() // as net/http does when ServeHTTP returns
		r = r.WithContext(ctx)
		w := &netWriter{x: x}
		if x.Request().HasBody() {
			r.Body = &guardedBody{w: w, r: x.Body()}
		}
		defer func() {
			w.mu.Lock()
			w.over = true
			w.mu.Unlock()
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				x.Abort()
			default:
				panic(v)
			}
		}()
		h.ServeHTTP(w, r)
		w.finish()
	})
}

// netRequest makes net/http's request of an exchange's.
func netRequest(x Exchange) (*http.Request, error) {
	q := x.Request()
	target := string(q.Target)
	u := &url.URL{Host: target}
	if q.Method != "CONNECT" {
		var err error
		if u, err = url.ParseRequestURI(target); err != nil {
			return nil, err
		}
	}
	r := &http.Request{
		Method: q.Method, URL: u, RequestURI: target, Host: string(q.Host),
		Proto: "HTTP/1." + strconv.Itoa(q.Minor), ProtoMajor: 1, ProtoMinor: q.Minor,
		Header: make(http.Header, q.Header.Len()), ContentLength: q.ContentLength, Body: http.NoBody, Close: q.WantsClose(),
		RemoteAddr: x.RemoteAddr().String(),
	}
	for name, value := range q.Header.All() {
		r.Header.Add(string(name), string(value))
	}
	r.Header.Del("Host")
	if q.ContentLength < 0 {
		r.TransferEncoding = []string{"chunked"}
		r.Header.Del("Transfer-Encoding")
	}
	if x.TLS() {
		r.TLS = &tls.ConnectionState{HandshakeComplete: true}
		if c, ok := x.(*conn); ok {
			cs := c.nc.(interface{ ConnectionState() tls.ConnectionState }).ConnectionState()
			r.TLS = &cs
		}
	}
	return r, nil
}

// smallAnswer is how much of a body is held back to learn its length when the handler does not say.
const smallAnswer = 4 << 10

// guardedBody is a request's body, which http.Handlers may read in other goroutines, and beyond their own return.
type guardedBody struct {
	w *netWriter
	r io.Reader
}

func (b *guardedBody) Read(p []byte) (int, error) {
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	if b.w.over {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.r.Read(p)
}

func (b *guardedBody) Close() error { return nil }

// netWriter is the http.ResponseWriter of an exchange.
type netWriter struct {
	mu   sync.Mutex // guards the exchange: between the writer and readers of the body
	over bool       // the handler has returned

	x      Exchange
	header http.Header
	status int
	held   []byte
}

var (
	_ http.Flusher    = (*netWriter)(nil)
	_ io.ReaderFrom   = (*netWriter)(nil)
	_ io.StringWriter = (*netWriter)(nil)
)

func (w *netWriter) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

func (w *netWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *netWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.WriteHeader(http.StatusOK)
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if !w.x.Started() {
		if len(w.held)+len(p) <= smallAnswer {
			w.held = append(w.held, p...)
			return len(p), nil
		}
		if err := w.start(p); err != nil {
			return 0, err
		}
	}
	return w.x.Write(p)
}

func (w *netWriter) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// ReadFrom sends files by sendfile. Other sources are copied, and read without the lock: they may themselves depend on the
// request's body being read.
func (w *netWriter) ReadFrom(r io.Reader) (n int64, err error) {
	src := r
	if lr, ok := r.(*io.LimitedReader); ok {
		src = lr.R
	}
	if _, ok := src.(file); !ok {
		buf := getBuffer()
		defer putBuffer(buf)
		return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, buf.b[:cap(buf.b)])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.WriteHeader(http.StatusOK)
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if !w.x.Started() {
		h := w.Header()
		if h.Get("Content-Type") == "" || h.Get("Content-Length") == "" { // both may be told from the first bytes
			if n, err = w.hold(r); err == io.EOF {
				return n, nil
			} else if err != nil {
				return n, err
			}
		}
		if err := w.start(nil); err != nil {
			return n, err
		}
	}
	m, err := w.x.ReadFrom(r)
	return n + m, err
}

// hold reads r into what is held back, until that is full (nil) or r ends (io.EOF).
func (w *netWriter) hold(r io.Reader) (n int64, err error) {
	for err == nil && len(w.held) < smallAnswer {
		if cap(w.held) < smallAnswer {
			w.held = append(make([]byte, 0, smallAnswer), w.held...)
		}
		var m int
		m, err = r.Read(w.held[len(w.held):smallAnswer])
		w.held = w.held[:len(w.held)+m]
		n += int64(m)
	}
	return n, err
}

// Flush sends what is held back.
func (w *netWriter) Flush() { w.FlushError() }

// FlushError is Flush, for http.ResponseController.
func (w *netWriter) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.WriteHeader(http.StatusOK)
	if !w.x.Started() {
		if err := w.start(nil); err != nil {
			return err
		}
	}
	return w.x.Flush()
}

// start begins the answer; next is what follows the held bytes, to tell the type by.
func (w *netWriter) start(next []byte) error {
	size := int64(-1)
	if n, err := strconv.ParseUint(w.header.Get("Content-Length"), 10, 63); err == nil {
		size = int64(n)
	}
	w.render(next)
	if err := w.x.Start(w.status, size); err != nil {
		return err
	}
	if len(w.held) == 0 {
		return nil
	}
	_, err := w.x.Write(w.held)
	w.held = nil
	return err
}

// finish ends the answer when the handler has returned.
func (w *netWriter) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.WriteHeader(http.StatusOK)
	switch {
	case w.x.Started():
	case w.header.Get("Content-Length") != "" && bodyAllowed(w.status):
		w.start(nil) // for HEAD, this is the length that a GET would be answered with
	case len(w.held) == 0 && w.x.Request().Method == "HEAD":
		w.start(nil) // that nothing was written says nothing of a GET's length
	default:
		w.render(nil)
		w.x.Reply(w.status, w.held)
	}
}

// render moves the fields over. next is what follows the held bytes.
func (w *netWriter) render(next []byte) {
	h := w.x.Header()
	for _, name := range slices.Sorted(maps.Keys(w.header)) {
		for _, v := range w.header[name] {
			h.Add(name, v)
		}
	}
	if _, ok := w.header["Content-Type"]; !ok && bodyAllowed(w.status) && len(w.held)+len(next) > 0 {
		h.Set("Content-Type", http.DetectContentType(append(w.held[:len(w.held):len(w.held)], next...)))
	}
}

func bodyAllowed(status int) bool { return status != 204 && status != 304 }
