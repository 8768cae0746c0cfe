package http1

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
)

// NetHTTP serves h by net/http, for TLS with HTTP/2 in particular. The same handler, the same promises, except: fields come
// in alphabetical order and canonical case, a Connection field other than close is not sent, sendfile and splice are up
// to net/http. A limit on bodies is set with http.MaxBytesHandler; exceeding it is an *Error with status 413.
func NetHTTP(h Handler) http.Handler { return netHTTP(h, nil) }

// netHTTP is NetHTTP; s is told of what is refused, unless it is nil.
func netHTTP(h Handler, s *Server) http.Handler {
	var seq atomic.Uint64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &netExchange{w: w, r: r}
		x.body.r = r.Body
		if s != nil && r.ProtoMajor == 2 {
			x.bound(&s.lim.Load().Limits)
		}
		if err := x.fill(seq.Add(1)); err != nil {
			x.refuse(s, err)
			return
		}
		h.ServeExchange(x)
		switch {
		case x.aborted, x.started && x.fixed && x.rem > 0 && !x.bodiless:
			panic(http.ErrAbortHandler) // how net/http is asked to break an answer off
		case !x.started:
			e := errNoAnswer
			errors.As(x.body.err, &e)
			x.replyError(e)
		}
		x.leave()
	})
}

// netExchange is an [Exchange] over net/http.
type netExchange struct {
	w      http.ResponseWriter
	r      *http.Request
	req    Request
	header Header
	body   netBody
	stall  *stall // of the answer

	started, fixed, bodiless, aborted bool
	rem                               int64
}

var _ Exchange = (*netExchange)(nil)

// fill makes a Request of net/http's.
func (x *netExchange) fill(id uint64) *Error {
	r, q := x.r, &x.req
	q.ID, q.Method, q.Minor, q.ContentLength, q.close = id, r.Method, 1, r.ContentLength, r.Close
	q.HTTP2 = r.ProtoMajor == 2
	if r.ProtoMajor == 1 {
		q.Minor = r.ProtoMinor
	}
	if v := r.Header["Content-Length"]; len(v) > 1 {
		return errLengths
	} else if len(v) == 1 { // of HTTP/2, net/http takes one that is no number for 0, and any where there is no body
		n, ok := parseDecimal([]byte(v[0]))
		if !ok {
			return errLength
		}
		if q.HTTP2 && n != r.ContentLength {
			return errLengthBody
		}
	}
	if !isToken(q.Method) {
		return errMethod
	}
	q.Target = []byte(r.RequestURI)
	if len(q.Target) == 0 {
		return errTarget
	}
	if q.HTTP2 && q.Target[0] != '/' && q.Method != "CONNECT" && r.RequestURI != "*" { // RFC 9113 §8.3.1: :path is no URI
		return errTargetForm
	}
	if err := q.splitTarget(); err != nil {
		return err.(*Error)
	}
	if q.Host == nil {
		q.Host = []byte(r.Host)
	}
	if len(q.Host) > 0 && !validAuthority(q.Host) {
		return errHost
	}
	if r.Host != "" {
		q.Header.Add("Host", r.Host)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, v := range r.Header[name] {
			q.Header.Add(name, v)
		}
	}
	q.ExpectContinue = foldEqual(r.Header.Get("Expect"), "100-continue")
	return nil
}

func (x *netExchange) replyError(e *Error) int64 {
	x.header.Reset()
	x.header.Set("Content-Type", "text/plain; charset=utf-8")
	body := append([]byte(e.Error()), '\n')
	if x.Reply(e.Status, body) != nil || x.bodiless {
		return 0
	}
	return int64(len(body))
}

func (x *netExchange) Context() context.Context { return x.r.Context() }
func (x *netExchange) Request() *Request        { return &x.req }
func (x *netExchange) Body() io.Reader          { return &x.body }
func (x *netExchange) Header() *Header          { return &x.header }
func (x *netExchange) Started() bool            { return x.started }
func (x *netExchange) Abort()                   { x.aborted = true }
func (x *netExchange) TLS() bool                { return x.r.TLS != nil }

func (x *netExchange) RemoteAddr() net.Addr {
	if ap, err := netip.ParseAddrPort(x.r.RemoteAddr); err == nil {
		return net.TCPAddrFromAddrPort(ap)
	}
	return &net.UnixAddr{Name: x.r.RemoteAddr, Net: "unix"}
}

func (x *netExchange) LocalAddr() net.Addr {
	a, _ := x.r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return a
}

func (x *netExchange) Reply(status int, body []byte) error {
	if err := x.Start(status, int64(len(body))); err != nil {
		return err
	}
	_, err := x.Write(body)
	return err
}

func (x *netExchange) Start(status int, size int64) error {
	switch {
	case x.aborted:
		return ErrAborted
	case x.started:
		return ErrStarted
	case status < 200 || status > 999:
		return ErrStatus
	}
	x.started, x.fixed, x.rem = true, size >= 0, size
	x.bodiless = x.r.Method == "HEAD" || status == 204 || status == 304
	h := x.w.Header()
	for name, value := range x.header.All() {
		if !engineOwned(name) {
			h.Add(string(name), string(value))
		}
	}
	if x.header.asksForClose() {
		h.Set("Connection", "close")
	}
	if size >= 0 && status != 204 && (status != 304 || size > 0) {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	if len(h["Content-Type"]) == 0 {
		h["Content-Type"] = nil // else net/http would guess one
	}
	x.w.WriteHeader(status)
	return nil
}

// check says whether a part of a body may be sent now.
func (x *netExchange) check() error {
	switch {
	case x.aborted:
		return ErrAborted
	case !x.started:
		return ErrNotStarted
	}
	return nil
}

func (x *netExchange) Write(p []byte) (n int, err error) {
	if err := x.check(); err != nil {
		return 0, err
	}
	var excess error
	if x.fixed && int64(len(p)) > x.rem {
		p, excess = p[:x.rem], ErrTooLong
	}
	if n = len(p); n > 0 && !x.bodiless {
		n, err = x.send(p)
	}
	x.rem -= int64(n)
	if err == nil {
		err = excess
	}
	return n, err
}

func (x *netExchange) ReadFrom(r io.Reader) (n int64, err error) {
	if err := x.check(); err != nil {
		return 0, err
	}
	// A source that net/http can splice or send by sendfile is handed over as it is; of any other the errors are noted,
	// to be told from the receiver's.
	tr := &trackedReader{r: r}
	src := io.Reader(tr)
	inner := r
	if lr, ok := r.(*io.LimitedReader); ok {
		inner = lr.R
	}
	switch inner.(type) {
	case *net.TCPConn, *net.UnixConn, *os.File:
		src = r
	}
	if x.fixed {
		src = io.LimitReader(src, x.rem)
	}
	if x.bodiless {
		n, err = io.Copy(io.Discard, src)
	} else {
		n, err = io.Copy(x.dst(), src)
	}
	x.rem -= n
	if tr.err != nil {
		return n, readError(tr.err)
	}
	return n, err
}

func (x *netExchange) SendFile(f *os.File, off, n int64) (int64, error) {
	if err := x.check(); err != nil {
		return 0, err
	}
	var excess error
	if x.fixed && n > x.rem {
		n, excess = x.rem, ErrTooLong
	}
	sent, err := x.ReadFrom(io.NewSectionReader(f, off, n))
	if err == nil && sent < n {
		err = readError(io.ErrUnexpectedEOF)
	}
	if err == nil {
		err = excess
	}
	return sent, err
}

func (x *netExchange) Flush() error {
	var err error
	x.stall.watch(func() { err = http.NewResponseController(x.w).Flush() })
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// trackedReader notes the error of a reader.
type trackedReader struct {
	r   io.Reader
	err error
}

func (t *trackedReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}

// netBody gives a body's errors in the terms of [Exchange].Body.
type netBody struct {
	r     io.Reader
	err   error
	stall *stall
}

func (b *netBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	var n int
	var err error
	b.stall.watch(func() { n, err = b.r.Read(p) })
	var big *http.MaxBytesError
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case errors.As(err, &big):
		b.err = errBodyLong
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.err = errBodyTimeout
	default: // net/http does not tell a broken chunk from a broken connection
		b.err = io.ErrUnexpectedEOF
	}
	return n, b.err
}
