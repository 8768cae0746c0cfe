package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"wheelhouse/internal/rawio"
)

// bufferSize is that of the pooled buffers: a head and the largest body that is sent by read and write.
const (
	bufferSize    = 68 << 10
	sendfileLimit = 64 << 10 // from here on, sendfile and splice cost less than a copy
	writePiece    = 256 << 10
)

type buffer struct{ b []byte }

var bufferPool = sync.Pool{New: func() any { return &buffer{make([]byte, 0, bufferSize)} }}

var readPool = sync.Pool{New: func() any { return new([readBuffer]byte) }}

func takeReadBuffer() []byte { return readPool.Get().(*[readBuffer]byte)[:] }

// giveReadBuffer takes back a buffer that nothing points into any more. One of another size is left to the collector.
func giveReadBuffer(b []byte) {
	if cap(b) == readBuffer {
		readPool.Put((*[readBuffer]byte)(b[:readBuffer]))
	}
}

func getBuffer() *buffer { return bufferPool.Get().(*buffer) }

func putBuffer(b *buffer) {
	if cap(b.b) == bufferSize { // one that a huge head has outgrown is left to the collector
		b.b = b.b[:0]
		bufferPool.Put(b)
	}
}

// grab makes sure that there is a buffer with room for n more bytes; what it holds may be sent for that.
func (c *conn) grab(n int) {
	if c.out != nil && len(c.out.b)+n > cap(c.out.b) {
		c.flush(false)
	}
	if c.out == nil {
		c.out = getBuffer()
	}
}

func (c *conn) release() {
	if c.out != nil {
		putBuffer(c.out)
		c.out = nil
	}
}

// Flush sends what is held back.
func (c *conn) Flush() error { return c.flush(false) }

// flush sends what is held back and gives the buffer away. more: the next write follows at once.
func (c *conn) flush(more bool) error {
	if c.out == nil {
		return c.werr
	}
	c.closeChunk()
	if len(c.out.b) > 0 {
		c.send(c.out.b, more)
	}
	c.owed = false
	c.release()
	return c.werr
}

// send writes p. An error is sticky: what follows would not be what the client expects at that place.
func (c *conn) send(p []byte, more bool) error {
	if c.werr != nil {
		return c.werr
	}
	c.enter(phaseWrite)
	var n int
	var err error
	if c.raw != nil {
		n, err = c.sending.write(p, more)
	} else {
		for n < len(p) && err == nil {
			var m int
			m, err = c.nc.Write(p[n:min(len(p), n+writePiece)])
			n += m
			c.touch(phaseWrite)
		}
	}
	return c.sent(n, err)
}

// sent ends a phase of writing.
func (c *conn) sent(n int, err error) error {
	c.srv.counts.out.Add(uint64(n))
	if late := c.enter(phaseHandle); late || err != nil {
		if late || errors.Is(err, os.ErrDeadlineExceeded) {
			c.srv.counts.timeouts.Add(1)
			err = ErrWriteTimeout
		}
		c.werr = err
		c.answer.keep = false
	}
	return c.werr
}

// check says whether a part of a body may be sent now.
func (c *conn) check() error {
	a := &c.answer
	switch {
	case a.aborted:
		return ErrAborted
	case !a.started:
		return ErrNotStarted
	}
	return c.werr
}

// Write sends a part of the body.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	a := &c.answer
	var excess error
	if a.mode == fixedLength && int64(len(p)) > a.rem {
		p, excess = p[:a.rem], ErrTooLong
	}
	if len(p) == 0 {
		return 0, excess
	}
	a.rem -= int64(len(p))
	if !a.bodiless {
		if err := c.writeBody(p); err != nil {
			return 0, err
		}
	}
	if a.mode == fixedLength && a.rem == 0 {
		if err := c.completed(); err != nil {
			return len(p), err
		}
	}
	return len(p), excess
}

func (c *conn) writeBody(p []byte) error {
	if len(p) >= gatherLimit && c.raw != nil && c.answer.mode == fixedLength && c.out != nil && len(c.out.b) > 0 && c.werr == nil {
		return c.gather(p)
	}
	if len(p) > copyLimit {
		c.beginRaw(int64(len(p)))
		c.send(p, c.answer.mode == chunked)
		return c.endRaw()
	}
	c.grab(len(p) + 2*chunkRoom) // its own framing, and the end of the chunk before it
	c.openChunk()
	c.out.b = append(c.out.b, p...)
	return c.werr
}

// gather sends what is held back and p in one write, without a copy.
func (c *conn) gather(p []byte) error {
	c.enter(phaseWrite)
	n, err := c.sending.gather(c.out.b, p)
	c.owed = false
	c.release()
	return c.sent(n, err)
}

// chunkRoom is what a chunk in the buffer needs beyond its data: "ffffff\r\n" and "\r\n".
const (
	chunkDigits = 6
	chunkRoom   = chunkDigits + 4
)

// openChunk leaves room for a chunk's size, which is known when the buffer is sent.
func (c *conn) openChunk() {
	if c.answer.mode == chunked && c.answer.open < 0 && !c.answer.bodiless {
		c.answer.open = len(c.out.b)
		c.out.b = append(c.out.b, "000000\r\n"...)
	}
}

// closeChunk fills in the size of the open chunk; leading zeros are allowed (RFC 9112 §7.1).
func (c *conn) closeChunk() {
	at := c.answer.open
	if at < 0 {
		return
	}
	c.answer.open = -1
	n := len(c.out.b) - at - chunkDigits - 2
	for i := chunkDigits - 1; i >= 0; i-- {
		c.out.b[at+i] = "0123456789abcdef"[n&15]
		n >>= 4
	}
	c.out.b = append(c.out.b, "\r\n"...)
}

// beginRaw sends what is held back so that n bytes of body can be put on the connection past the buffer.
func (c *conn) beginRaw(n int64) error {
	if c.answer.mode == chunked {
		if c.out != nil {
			c.closeChunk()
		}
		c.grab(chunkRoom + 16)
		c.out.b = append(appendHex(c.out.b, n), "\r\n"...)
	}
	return c.flush(true)
}

// endRaw ends what beginRaw has begun.
func (c *conn) endRaw() error {
	if c.answer.mode == chunked && c.werr == nil {
		c.grab(2)
		c.out.b = append(c.out.b, "\r\n"...)
	}
	return c.werr
}

// SendFile sends n bytes of f from off on. The file's own offset is neither used nor moved.
func (c *conn) SendFile(f *os.File, off, n int64) (int64, error) { return c.sendRange(f, off, n) }

func (c *conn) sendRange(f file, off, n int64) (int64, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	a := &c.answer
	var excess error
	if a.mode == fixedLength && n > a.rem {
		n, excess = a.rem, ErrTooLong
	}
	if n <= 0 {
		return 0, excess
	}
	var sent int64
	var err error
	switch {
	case a.bodiless:
		sent = n
		a.rem -= n
	case n >= sendfileLimit && c.raw != nil && regular(f):
		sent, err = c.sendfile(f, off, n)
		a.rem -= sent
	default:
		c.file = preader{f, off}
		sent, err = c.readFrom(&c.file, n)
		c.file = preader{}
	}
	if err == nil && sent < n {
		err = readError(io.ErrUnexpectedEOF)
	}
	if err == nil && a.mode == fixedLength && a.rem == 0 && !a.complete {
		err = c.completed()
	}
	if err == nil {
		err = excess
	}
	return sent, err
}

// file is an *os.File, or what os.File.WriteTo hands on in its stead.
type file interface {
	io.ReaderAt
	io.Seeker
	syscall.Conn
	Stat() (os.FileInfo, error)
}

// preader reads a file from off on, without moving its offset.
type preader struct {
	f   file
	off int64
}

func (r *preader) Read(p []byte) (int, error) {
	n, err := r.f.ReadAt(p, r.off)
	r.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func regular(f file) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode().IsRegular()
}

func (c *conn) sendfile(f file, off, n int64) (int64, error) {
	if err := c.beginRaw(n); err != nil {
		return 0, err
	}
	c.enter(phaseWrite)
	sent, rerr, werr := c.sending.sendfile(f, off, n)
	c.srv.counts.sendfile.Add(uint64(sent))
	if err := c.sent(int(sent), werr); err != nil {
		return sent, err
	}
	if rerr != nil {
		return sent, readError(rerr)
	}
	if sent < n {
		return sent, nil
	}
	return sent, c.endRaw()
}

// rawConnOf gives access to the descriptor of a plain connection.
func rawConnOf(nc net.Conn) syscall.RawConn {
	if !haveRaw {
		return nil
	}
	return rawio.Raw(nc)
}
