package http1

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"strconv"
	"time"
)

// send writes the request. When the server answers before it has all of it, res is filled in.
func (cc *clientConn) send(r *OutRequest, res *Response) error {
	if cc.raw != nil && !r.hasBody() {
		// It goes with the read of the answer, which then may lie over it.
		cc.unsent = r.appendHead(cc.buf.b)
		return nil
	}
	cc.out = getBuffer()
	cc.out.b = r.appendHead(cc.out.b)
	if r.Expect100 && r.hasBody() {
		if answered, err := cc.awaitContinue(r, res); answered || err != nil {
			return err
		}
	}
	if r.BodyReader != nil && r.Size != 0 || len(r.Body) > watchedBody {
		if err := cc.watchAnswer(); err != nil {
			return err
		}
	}
	err := cc.sendBody(r)
	if err == nil {
		err = cc.flush()
	}
	came := cc.endWatch()
	if err == nil || cc.interrupted.Load() {
		return err
	}
	cc.broken = true
	var read *BodyReadError
	if errors.As(err, &read) {
		return err
	}
	// A server that refuses a request may close before it has read it all; its answer, if there is one, says more than
	// the failed write.
	timeout := cc.opts.ContinueTimeout
	if came {
		timeout = cc.opts.HeadTimeout
	}
	cc.waited()
	head := cc.readHead(r, res, timeout, false)
	if head == nil {
		return nil
	}
	res.Status = 0
	if came {
		return head
	}
	return cc.cause(err)
}

// awaitContinue sends the head and waits for the server's consent to send the body (RFC 9110 §10.1.1).
func (cc *clientConn) awaitContinue(r *OutRequest, res *Response) (answered bool, err error) {
	if err := cc.flush(); err != nil {
		return false, err
	}
	err = cc.readHead(r, res, cc.opts.ContinueTimeout, true)
	switch {
	case err == nil && res.Status != 100:
		cc.broken = true // the server may or may not go on to wait for the body
		return true, nil
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded) && !cc.interrupted.Load() && cc.rpos == cc.rend:
		res.Status = 0
		return false, nil
	}
	return false, err
}

func (r *OutRequest) hasBody() bool {
	return len(r.Body) > 0 || r.BodyReader != nil && r.Size != 0
}

// appendHead renders the head.
func (r *OutRequest) appendHead(b []byte) []byte {
	b = append(b, r.Method...)
	b = append(b, ' ')
	if r.Target == "" {
		b = append(b, '/')
	}
	b = append(b, r.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	switch host := r.Header.Bytes("Host"); {
	case r.Host != "":
		b = append(b, r.Host...)
	case host != nil:
		b = append(b, host...)
	default:
		b = append(b, r.Addr...)
	}
	b = append(b, "\r\n"...)
	for _, f := range r.Header.fields {
		if engineOwned(f.Name) || foldEqual(f.Name, "host") || foldEqual(f.Name, "expect") || foldEqual(f.Name, "upgrade") {
			continue
		}
		b = append(b, f.Name...)
		b = append(b, ": "...)
		b = append(b, f.Value...)
		b = append(b, "\r\n"...)
	}
	switch {
	case r.BodyReader != nil && r.Size < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.hasBody(), r.Method == "PUT", r.Method == "POST", r.Method == "PATCH": // RFC 9110 §8.6
		b = append(b, "Content-Length: "...)
		n := r.Size
		if r.BodyReader == nil {
			n = 0
		}
		n += int64(len(r.Body))
		b = strconv.AppendInt(b, n, 10)
		b = append(b, "\r\n"...)
	}
	if r.Expect100 && r.hasBody() {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	if r.Upgrade != "" {
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, r.Upgrade...)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// sendBody sends the body, the last part of which may stay in the buffer.
func (cc *clientConn) sendBody(r *OutRequest) error {
	switch {
	case !r.hasBody():
		return nil
	case r.BodyReader != nil && r.Size < 0:
		if len(r.Body) > 0 {
			return cc.sendChunked(io.MultiReader(bytes.NewReader(r.Body), r.BodyReader))
		}
		return cc.sendChunked(r.BodyReader)
	}
	if err := cc.sendBytes(r.Body); err != nil || r.BodyReader == nil {
		return err
	}
	if b, ok := r.BodyReader.(*reqBody); ok && cc.raw != nil && b.spliceable(r.Size) {
		return cc.spliceFrom(b, r.Size)
	}
	return cc.sendFixed(r.BodyReader, r.Size)
}

// sendBytes sends a body, or its beginning, with the head if both fit.
func (cc *clientConn) sendBytes(p []byte) error {
	if len(cc.out.b)+len(p) <= cap(cc.out.b) {
		cc.out.b = append(cc.out.b, p...)
		return nil
	}
	if err := cc.flush(); err != nil {
		return err
	}
	return cc.write(p)
}

func (cc *clientConn) sendFixed(src io.Reader, size int64) error {
	for size > 0 {
		if cap(cc.out.b)-len(cc.out.b) < bufferSize/2 {
			if err := cc.flush(); err != nil {
				return err
			}
		}
		at := len(cc.out.b)
		room := cc.out.b[at:cap(cc.out.b)]
		if int64(len(room)) > size {
			room = room[:size]
		}
		n, err := src.Read(room)
		cc.waited()
		cc.out.b = cc.out.b[:at+n]
		size -= int64(n)
		if size > 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return readError(err)
		}
		if size > 0 && n < len(room) { // the source may be slow: let the server have what there is
			if err := cc.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (cc *clientConn) sendChunked(src io.Reader) error {
	const lead = chunkDigits + 2
	for {
		if cap(cc.out.b)-len(cc.out.b) < bufferSize/2 {
			if err := cc.flush(); err != nil {
				return err
			}
		}
		at := len(cc.out.b)
		n, err := src.Read(cc.out.b[at+lead : cap(cc.out.b)-len("\r\n0\r\n\r\n")])
		cc.waited()
		if n > 0 {
			cc.out.b = append(cc.out.b, "000000\r\n"...)
			for i, v := chunkDigits-1, n; i >= 0; i, v = i-1, v>>4 {
				cc.out.b[at+i] = "0123456789abcdef"[v&15]
			}
			cc.out.b = append(cc.out.b[:at+lead+n], "\r\n"...)
		}
		if err == io.EOF {
			cc.out.b = append(cc.out.b, "0\r\n\r\n"...)
			return nil
		}
		if err != nil {
			return readError(err)
		}
		if err := cc.flush(); err != nil {
			return err
		}
	}
}

// flush sends what is in the buffer.
func (cc *clientConn) flush() error {
	if len(cc.out.b) == 0 {
		return nil
	}
	err := cc.write(cc.out.b)
	cc.out.b = cc.out.b[:0]
	return err
}

// write sends p in pieces, each of which may take the write timeout.
func (cc *clientConn) write(p []byte) error {
	for len(p) > 0 {
		if err := cc.armWrite(); err != nil {
			return err
		}
		n, err := cc.nc.Write(p[:min(len(p), writePiece)])
		if err != nil {
			return cc.cause(err)
		}
		if p = p[n:]; n > bufferSize { // less fits into the buffer of a connection that was idle, and does not wait
			cc.waited()
		}
	}
	return nil
}

// armWrite readies the connection for a write. It is errAnswered when there is no use in that any more.
func (cc *clientConn) armWrite() error {
	if err := cc.armDeadline(&cc.writeBy, cc.nc.SetWriteDeadline, cc.opts.WriteTimeout); err != nil {
		return err
	}
	return cc.heard()
}

// spliceable reports whether size bytes of the body can be and are worth being spliced.
func (b *reqBody) spliceable(size int64) bool {
	return b.c.raw != nil && b.kind == bodyFixed && b.err == nil && size <= b.rem &&
		size-int64(b.c.rend-b.c.rpos) >= sendfileLimit
}

// spliceFrom sends a request's body that this process is receiving: what is buffered by a write, the rest by splice.
func (cc *clientConn) spliceFrom(b *reqBody, size int64) error {
	c := b.c
	if c.expect {
		if err := c.sendContinue(); err != nil {
			return readError(b.fail(err))
		}
	}
	if err := cc.flush(); err != nil {
		return err
	}
	n := int64(c.rend - c.rpos)
	if err := cc.write(c.rbuf[c.rpos:c.rend]); err != nil {
		return err
	}
	c.rpos = c.rend
	b.took(n)
	var armed error
	s := splicer{
		beforeRead: func() error {
			c.enter(phaseBody)
			return armed
		},
		beforeWrite: func() {
			c.enter(phaseHandle)
			cc.waited()
			armed = cc.armWrite()
		},
		wrote: func(m int) {
			cc.waited()
			cc.splice.Add(uint64(m))
			c.srv.counts.in.Add(uint64(m))
			armed = cc.armWrite()
		},
	}
	left := size - n
	moved, eof, rerr, werr := s.run(cc.raw, c.raw, left)
	for rerr != armed && errors.Is(rerr, os.ErrDeadlineExceeded) { // as in conn.read
		b.took(moved)
		left -= moved
		if c.late || c.word.Load()&claimed != 0 {
			return readError(b.fail(errLate))
		}
		c.nc.SetReadDeadline(time.Time{}) // it was to wake the connection while it was idle
		moved, eof, rerr, werr = s.run(cc.raw, c.raw, left)
	}
	c.enter(phaseHandle)
	b.took(moved)
	switch {
	case werr != nil:
		b.fail(errSpliceBroken) // what was in the pipe is lost
		return cc.cause(werr)
	case rerr != nil && rerr == armed:
		return rerr
	case rerr != nil || eof:
		return readError(b.fail(cmp.Or(rerr, io.ErrUnexpectedEOF)))
	}
	return nil
}
