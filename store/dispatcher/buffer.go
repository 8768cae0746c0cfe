package dispatcher

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"wheelhouse/internal/http1"
)

// bufferPool holds bodies in memory, within a limit on all of them together.
type bufferPool struct {
	limit int64
	used  atomic.Int64
	pools [len(bufferSizes)]sync.Pool
}

// bufferSizes are the sizes that a buffer grows through while its body arrives, so that a client that trickles holds no
// more memory than it has sent.
var bufferSizes = [...]int{16 << 10, 64 << 10, 256 << 10, 1 << 20}

func newBufferPool(limit int64) *bufferPool { return &bufferPool{limit: limit} }

// body is a request's body in memory. It is released when its last holder is done: a storage that lags behind may still
// be writing it when the request has been answered.
type body struct {
	pool *bufferPool
	buf  []byte
	n    int
	size int // index into bufferSizes; -1: of a size of its own
	refs atomic.Int32
}

func (b *body) bytes() []byte { return b.buf[:b.n] }

func (b *body) hold(n int32) { b.refs.Add(n) }

func (b *body) release() {
	if b.refs.Add(-1) == 0 {
		b.pool.put(b.buf, b.size)
		b.buf = nil
	}
}

// get returns a buffer of at least n bytes, or a failure when too much is held already.
func (p *bufferPool) get(n int) ([]byte, int, *failure) {
	for i, size := range bufferSizes {
		if n > size {
			continue
		}
		if p.used.Add(int64(size)) > p.limit {
			p.used.Add(-int64(size))
			return nil, 0, overloaded(p.limit)
		}
		if b, ok := p.pools[i].Get().(*[]byte); ok {
			return *b, i, nil
		}
		return make([]byte, size), i, nil
	}
	if p.used.Add(int64(n)) > p.limit {
		p.used.Add(-int64(n))
		return nil, 0, overloaded(p.limit)
	}
	return make([]byte, n), -1, nil
}

func overloaded(limit int64) *failure {
	return failf(http.StatusServiceUnavailable, "too many uploads at once: %d bytes of bodies are in memory", limit).with("Retry-After", "1")
}

func (p *bufferPool) put(buf []byte, size int) {
	p.used.Add(-int64(len(buf)))
	if size >= 0 {
		p.pools[size].Put(&buf)
	}
}

// read takes a body of size bytes (-1: not known), up to limit. full reports that the limit was reached before the end:
// the rest is still in r. The caller must release the body, also after a failure, unless it is nil.
func (p *bufferPool) read(r io.Reader, size, limit int64) (b *body, full bool, err error) {
	want := int64(bufferSizes[0])
	if size >= 0 {
		want = min(want, size)
	}
	buf, class, f := p.get(int(want))
	if f != nil {
		return nil, false, f
	}
	b = &body{pool: p, buf: buf, size: class}
	b.refs.Store(1)
	for {
		if b.n == int(limit) {
			return b, size != limit, nil
		}
		if b.n == len(b.buf) {
			if f := b.grow(int(limit)); f != nil {
				return b, false, f
			}
		}
		n, err := r.Read(b.buf[b.n:min(int64(len(b.buf)), limit)])
		b.n += n
		switch {
		case err == io.EOF && size >= 0 && int64(b.n) < size:
			return b, false, io.ErrUnexpectedEOF
		case err == io.EOF || err == nil && size >= 0 && int64(b.n) == size:
			return b, false, nil
		case err != nil:
			return b, false, err
		}
	}
}

func (b *body) grow(limit int) *failure {
	buf, class, f := b.pool.get(min(len(b.buf)*4, max(limit, len(b.buf)+1)))
	if f != nil {
		return f
	}
	copy(buf, b.buf[:b.n])
	b.pool.put(b.buf, b.size)
	b.buf, b.size = buf, class
	return nil
}

// readFailure turns an error of reading a request's body into an answer; nil where nobody is left to read one.
func readFailure(err error, t *target) *failure {
	if f, ok := err.(*failure); ok {
		return f
	}
	if _, ok := err.(*http1.Error); ok {
		return fail(err, t)
	}
	return failf(http.StatusBadRequest, "the body ended before its announced length: %s", t)
}
