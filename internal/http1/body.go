package http1

import (
	"errors"
	"io"
)

type bodyKind uint8

const (
	bodyNone bodyKind = iota
	bodyFixed
	bodyChunked
	bodyUntilClose // responses only
)

// continueLine is the interim response that asks for the body (RFC 9110 §15.2.1).
const continueLine = "HTTP/1.1 100 Continue\r\n\r\n"

// reqBody reads a request's body. Its error is sticky.
type reqBody struct {
	c     *conn
	kind  bodyKind
	rem   int64 // of bodyFixed: what is left
	total int64 // of bodyChunked: what has been read
	chunk chunkDecoder
	err   error
}

func (b *reqBody) begin(r *Request, lim *Limits) {
	b.err, b.total, b.rem = nil, 0, 0
	switch {
	case r.ContentLength < 0:
		b.kind = bodyChunked
		b.chunk = chunkDecoder{lim: lim}
	case r.ContentLength > 0:
		b.kind = bodyFixed
		b.rem = r.ContentLength
	default:
		b.kind = bodyNone
	}
}

// done reports whether nothing of the body is left on the connection.
func (b *reqBody) done() bool {
	switch b.kind {
	case bodyFixed:
		return b.rem == 0
	case bodyChunked:
		return b.chunk.done()
	}
	return true
}

// Read reads the body; see [Exchange].Body.
func (b *reqBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.done() {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	c := b.c
	if c.expect {
		if err := c.sendContinue(); err != nil {
			return 0, b.fail(err)
		}
	}
	if b.kind == bodyChunked {
		if err := b.nextChunk(); err != nil {
			return 0, b.fail(err)
		}
		if b.done() {
			return 0, io.EOF
		}
	}
	n, err := b.data(p)
	if err != nil {
		return n, b.fail(err)
	}
	return n, nil
}

// data reads some of the bytes that the framing says are next.
func (b *reqBody) data(p []byte) (int, error) {
	c := b.c
	left := b.left()
	if int64(len(p)) > left {
		p = p[:left]
	}
	var n int
	switch {
	case c.rpos < c.rend:
		n = copy(p, c.rbuf[c.rpos:c.rend])
		c.rpos += n
	case len(p) >= readBuffer/2 || int64(len(p)) == left && b.kind == bodyFixed:
		if c.owed {
			if err := c.flush(false); err != nil {
				return 0, err
			}
		}
		c.enter(phaseBody)
		m, err := c.read(p)
		if err != nil {
			return 0, err
		}
		c.enter(phaseHandle)
		n = m
	default:
		if err := b.fill(); err != nil {
			return 0, err
		}
		n = copy(p, c.rbuf[c.rpos:c.rend])
		c.rpos += n
	}
	b.took(int64(n))
	if b.total > c.lim.Body {
		return 0, errBodyLong
	}
	return n, nil
}

// left is how many bytes of data the framing says are next.
func (b *reqBody) left() int64 {
	if b.kind == bodyChunked {
		return b.chunk.rem
	}
	return b.rem
}

func (b *reqBody) took(n int64) {
	if b.kind == bodyChunked {
		b.chunk.took(n)
		b.total += n
	} else {
		b.rem -= n
	}
}

// nextChunk reads framing until there is data or the body ends.
func (b *reqBody) nextChunk() error {
	c := b.c
	for {
		n, err := b.chunk.frame(c.rbuf[c.rpos:c.rend])
		c.rpos += n
		if err != nil || b.chunk.rem > 0 && b.chunk.state == chunkData || b.chunk.done() {
			return err
		}
		if err := b.fill(); err != nil {
			return err
		}
	}
}

func (b *reqBody) fill() error {
	b.c.enter(phaseBody)
	if _, err := b.c.fill(); err != nil {
		return err
	}
	b.c.enter(phaseHandle)
	return nil
}

// fail makes err the body's error, in the terms that [Exchange].Body promises.
func (b *reqBody) fail(err error) error {
	b.c.enter(phaseHandle)
	var e *Error
	switch {
	case err == errLate:
		b.c.srv.counts.timeouts.Add(1)
		b.c.srv.counts.refuse(errBodyTimeout.Status)
		b.err = errBodyTimeout
	case errors.As(err, &e):
		b.c.srv.counts.refuse(e.Status)
		b.err = err
	default:
		b.err = io.ErrUnexpectedEOF
	}
	b.c.answer.keep = false
	return b.err
}

// buffered reports whether all that is left of the body is in the connection's buffer.
func (b *reqBody) buffered() bool {
	unread := b.c.rbuf[b.c.rpos:b.c.rend]
	if b.kind == bodyFixed {
		return b.rem <= int64(len(unread))
	}
	d := b.chunk // a copy: the handler may still want to read
	for len(unread) > 0 && !d.done() {
		if d.state == chunkData {
			n := min(d.rem, int64(len(unread)))
			d.took(n)
			unread = unread[n:]
			continue
		}
		n, err := d.frame(unread)
		if err != nil {
			return false
		}
		unread = unread[n:]
	}
	return d.done()
}

// discard reads and drops the rest of the body if that is at most max bytes, and reports whether it got to the end.
func (b *reqBody) discard(max int64) bool {
	if b.err != nil || b.c.expect || b.kind == bodyFixed && b.rem > max {
		return b.done()
	}
	buf := getBuffer()
	defer putBuffer(buf)
	for max > 0 && !b.done() {
		n, err := b.Read(buf.b[:cap(buf.b)])
		if err != nil {
			return err == io.EOF && b.done()
		}
		max -= int64(n)
	}
	return b.done()
}

// sendContinue asks for the body, unless it comes already (RFC 9110 §10.1.1) or the final answer has begun.
func (c *conn) sendContinue() error {
	c.expect = false
	if c.rpos < c.rend || c.answer.started {
		return nil
	}
	c.grab(len(continueLine))
	c.out.b = append(c.out.b, continueLine...)
	return c.flush(false)
}
