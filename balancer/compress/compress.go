// Package compress sends answers in a coding that the client takes: zstd or gzip.
package compress

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// window is zstd's: what a client must be able to hold (RFC 8878 §3.1.1.1.2 lets it refuse more than 8 MiB).
const window = 1 << 20

// Serve has next answer, and compresses what is worth it.
func Serve(r *balancer.Request, next func(*balancer.Request)) {
	coding := Choose(r.X.Request().Header.Joined("Accept-Encoding"), r.Set.Compress)
	x := &exchange{Exchange: r.X, r: r, set: r.Set, coding: coding}
	r.X = x
	next(r)
	r.X = x.Exchange
	x.finish()
}

// Choose is the first of the codings that a client accepts, by its Accept-Encoding (RFC 9110 §12.5.3), "" when it accepts none. Of
// those that it accepts, the one that it likes best wins, and among equals ours.
func Choose(accept string, codings []string) string {
	best, bestQ := "", 0.0
	for _, c := range codings {
		if q := quality(accept, c); q > bestQ {
			best, bestQ = c, q
		}
	}
	return best
}

// quality is how much a client likes a coding, 0 when not at all.
func quality(accept, coding string) float64 {
	any := 0.0
	for part := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := weight(params)
		switch name = strings.TrimSpace(name); {
		case strings.EqualFold(name, coding):
			return q
		case name == "*":
			any = q
		}
	}
	return any
}

// weight is the q of a coding's parameters (RFC 9110 §12.4.2), 1 if there is none, 0 if it is wrong.
func weight(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		name, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		if f, err := strconv.ParseFloat(v, 64); err == nil && f >= 0 && f <= 1 {
			return f
		}
		return 0
	}
	return 1
}

// encoder is a compressor that can be used again.
type encoder interface {
	io.Writer
	Reset(w io.Writer)
	Flush() error
	Close() error
}

var pools = map[string]*sync.Pool{
	"gzip": {New: func() any {
		w, _ := gzip.NewWriterLevel(nil, 5) // the level is a valid one
		return w
	}},
	"zstd": {New: func() any {
		w, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithEncoderLevel(zstd.SpeedDefault))
		return w
	}},
}

// exchange compresses an answer on its way.
type exchange struct {
	http1.Exchange
	r      *balancer.Request
	set    *balancer.Settings
	coding string // that the client takes, "" for none
	enc    encoder
	size   int64 // that the body has uncompressed, -1: not known
	got    int64
	broken bool
}

// Start decides whether the answer is worth compressing.
func (x *exchange) Start(status int, size int64) error {
	h := x.Header()
	if status == 304 {
		x.notModified(h)
	}
	if !x.eligible(status, size, h) {
		return x.Exchange.Start(status, size)
	}
	if !varies(h) {
		h.Add("Vary", "Accept-Encoding")
	}
	if x.coding == "" {
		return x.Exchange.Start(status, size)
	}
	h.Set("Content-Encoding", x.coding)
	h.Del("Accept-Ranges")
	for _, name := range [...]string{"Content-MD5", "Digest", "Content-Digest", "Repr-Digest"} { // of other bytes
		h.Del(name)
	}
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		h.Set("ETag", "W/"+tag) // RFC 9110 §8.8.1: the bytes are others
	}
	x.size = size
	if x.Request().Method != "HEAD" {
		x.enc = pools[x.coding].Get().(encoder)
		x.enc.Reset(x.Exchange)
	}
	return x.Exchange.Start(status, -1)
}

// eligible reports whether answers like this one are compressed for those who take it.
func (x *exchange) eligible(status int, size int64, h *http1.Header) bool {
	switch {
	case status < 200 || status == 204 || status == 206 || status == 304:
		return false
	case size >= 0 && size < x.set.CompressMinSize:
		return false
	case untouchable(h):
		return false
	}
	return x.compressible(h)
}

// untouchable reports whether an answer is coded already, or must stay as it is (RFC 9111 §5.2.2.6).
func untouchable(h *http1.Header) bool {
	return h.Has("Content-Encoding") || strings.Contains(strings.ToLower(h.Joined("Cache-Control")), "no-transform")
}

// compressible reports whether an answer's media type is one of those that are compressed.
func (x *exchange) compressible(h *http1.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	kind = strings.TrimSpace(kind)
	for _, t := range x.set.CompressTypes {
		if strings.EqualFold(t, kind) || strings.HasSuffix(t, "/*") && strings.HasPrefix(strings.ToLower(kind), strings.ToLower(t[:len(t)-1])) {
			return true
		}
	}
	return false
}

func varies(h *http1.Header) bool {
	for v := range strings.SplitSeq(h.Joined("Vary"), ",") {
		if v = strings.TrimSpace(v); v == "*" || strings.EqualFold(v, "Accept-Encoding") {
			return true
		}
	}
	return false
}

// Reply implements http1.Exchange.
func (x *exchange) Reply(status int, body []byte) error {
	err := x.Start(status, int64(len(body)))
	if err != nil || len(body) == 0 {
		return err
	}
	_, err = x.Write(body)
	return err
}

// Write implements http1.Exchange.
func (x *exchange) Write(p []byte) (int, error) {
	if x.enc == nil {
		return x.Exchange.Write(p)
	}
	var excess error
	if x.size >= 0 && x.got+int64(len(p)) > x.size {
		p, excess = p[:x.size-x.got], http1.ErrTooLong
	}
	n, err := x.enc.Write(p)
	x.got += int64(n)
	if err != nil {
		x.broken = true
		return n, err
	}
	return n, excess
}

// ReadFrom implements http1.Exchange.
func (x *exchange) ReadFrom(r io.Reader) (int64, error) {
	if x.enc == nil {
		return x.Exchange.ReadFrom(r)
	}
	if x.size >= 0 {
		r = io.LimitReader(r, x.size-x.got)
	}
	src := &source{r: r}
	n, err := io.Copy(writeOnly{x}, src)
	if src.err != nil {
		x.broken = true
		return n, &http1.BodyReadError{Err: src.err}
	}
	return n, err
}

type writeOnly struct{ io.Writer }

// source notes the error of what is read.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// SendFile implements http1.Exchange.
func (x *exchange) SendFile(f *os.File, off, n int64) (int64, error) {
	if x.enc == nil {
		return x.Exchange.SendFile(f, off, n)
	}
	m, err := x.ReadFrom(io.NewSectionReader(f, off, n))
	if err == nil && m < n {
		x.broken = true
		err = &http1.BodyReadError{Err: io.ErrUnexpectedEOF}
	}
	return m, err
}

// Flush implements http1.Exchange.
func (x *exchange) Flush() error {
	if x.enc != nil {
		if err := x.enc.Flush(); err != nil {
			return err
		}
	}
	return x.Exchange.Flush()
}

// Abort implements http1.Exchange.
func (x *exchange) Abort() {
	x.broken = true
	x.Exchange.Abort()
}

// Unwrap gives the exchange beneath, for http1.As.
func (x *exchange) Unwrap() http1.Exchange { return x.Exchange }

// finish ends the coding, unless the answer is not whole: then the client must see that.
func (x *exchange) finish() {
	if x.enc == nil {
		return
	}
	if x.broken || x.size >= 0 && x.got < x.size {
		x.Exchange.Abort()
		x.enc.Reset(new(bytes.Buffer))
	} else if err := x.enc.Close(); err != nil {
		x.Exchange.Abort()
	}
	pools[x.coding].Put(x.enc)
	x.enc = nil
}
