package http1

import (
	"io"
	"math"
	"net"
)

// ReadFrom sends what r holds as body, but no more than is left of the announced size, beyond which r is not read. Where r
// is a plain connection, a [Body] on one, or an io.LimitedReader over either, the bytes are spliced in the kernel; where
// it is a regular file, they go by sendfile. An error of r is a *BodyReadError.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	limit := int64(math.MaxInt64)
	lr, limited := r.(*io.LimitedReader)
	if limited {
		limit, r = max(0, lr.N), lr.R
	}
	a := &c.answer
	if a.mode == fixedLength {
		limit = min(limit, a.rem)
	}
	n, err := c.readKnown(r, limit)
	if limited {
		lr.N -= n
	}
	return n, err
}

// readKnown picks the fast path for what r is.
func (c *conn) readKnown(r io.Reader, limit int64) (int64, error) {
	switch src := r.(type) {
	case *Body:
		return c.readBody(src, limit)
	case net.Conn:
		if raw := rawConnOf(src); raw != nil && c.spliceable(limit) {
			return c.splice(raw, limit, nil)
		}
	case file:
		if n, err, ok := c.readFile(src, limit); ok {
			return n, err
		}
	}
	return c.readFrom(r, limit)
}

// readFile sends a regular file from its present offset on, and moves that as reading would.
func (c *conn) readFile(f file, limit int64) (n int64, err error, ok bool) {
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return 0, nil, false
	}
	off, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, nil, false
	}
	limit = min(limit, max(0, fi.Size()-off))
	if limit == 0 {
		return 0, nil, true
	}
	n, err = c.sendRange(f, off, limit)
	if _, serr := f.Seek(off+n, io.SeekStart); err == nil && serr != nil {
		err = readError(serr)
	}
	return n, err, true
}

// readBody sends a response's body: by copy what has been read with the head or is small, by splice the rest.
func (c *conn) readBody(b *Body, limit int64) (int64, error) {
	var n int64
	if rest := b.spliceRest(); c.raw != nil && rest > 0 && c.spliceable(min(limit, rest)) {
		var err error
		if k := min(limit, int64(b.buffered())); k > 0 {
			if n, err = c.readFrom(b, k); err != nil || n < k {
				return n, err
			}
		}
		if limit = min(limit-n, rest); limit == 0 {
			return n, c.werr
		}
		m, err := c.splice(b.cc.raw, limit, b)
		return n + m, err
	}
	return c.readFrom(b, limit)
}

// spliceable reports whether a body of that size can be and is worth being put on the connection past this process.
func (c *conn) spliceable(size int64) bool {
	a := &c.answer
	return c.raw != nil && !a.bodiless && a.mode != chunked && size >= sendfileLimit
}

// splice moves up to n bytes from src, a connection, to the client. b is told of progress if it is not nil.
func (c *conn) splice(src rawConn, n int64, b *Body) (int64, error) {
	if err := c.flush(true); err != nil {
		return 0, err
	}
	a := &c.answer
	s := splicer{
		beforeRead: func() error {
			c.enter(phaseHandle) // the source's silence is not the client's
			if b != nil {
				return b.arm()
			}
			return nil
		},
		beforeWrite: func() {
			if b != nil {
				b.came()
			}
			c.enter(phaseWrite)
		},
		wrote: func(m int) {
			if b != nil {
				b.moved += int64(m)
			}
			c.touch(phaseWrite)
			c.srv.counts.splice.Add(uint64(m))
		},
	}
	moved, eof, rerr, werr := s.run(c.raw, src, n)
	a.rem -= moved
	if b != nil {
		rerr = b.spliced(moved, eof, rerr, werr)
	}
	if err := c.sent(int(moved), werr); err != nil {
		return moved, err
	}
	if rerr != nil {
		return moved, readError(rerr)
	}
	if a.mode == fixedLength && a.rem == 0 {
		return moved, c.completed()
	}
	return moved, nil
}

// readFrom copies up to limit bytes of r through the buffer. A read that does not fill the buffer is sent on at once,
// unless it ends the answer: r may be slow.
func (c *conn) readFrom(r io.Reader, limit int64) (int64, error) {
	a := &c.answer
	var n int64
	for n < limit {
		c.grab(copyLimit + 2*chunkRoom)
		c.openChunk()
		at := len(c.out.b)
		room := c.out.b[at : cap(c.out.b)-chunkRoom]
		if int64(len(room)) > limit-n {
			room = room[:limit-n]
		}
		m, err := r.Read(room)
		if !a.bodiless {
			c.out.b = c.out.b[:at+m]
		}
		c.dropEmptyChunk()
		n += int64(m)
		a.rem -= int64(m)
		if a.mode == fixedLength && a.rem == 0 {
			return n, c.completed()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return n, readError(err)
		}
		if n < limit && m > 0 && !a.bodiless {
			if err := c.flush(false); err != nil {
				return n, err
			}
		}
	}
	return n, c.werr
}

// dropEmptyChunk takes an open chunk without data out again: a chunk of size 0 would end the body.
func (c *conn) dropEmptyChunk() {
	if at := c.answer.open; at >= 0 && len(c.out.b) == at+chunkDigits+2 {
		c.out.b = c.out.b[:at]
		c.answer.open = -1
	}
}
