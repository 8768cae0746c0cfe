package http1

import (
	"io"
	"net"
	"time"
)

// Body is a response's body. It is for one goroutine.
type Body struct {
	cc    *clientConn // nil once closed
	kind  bodyKind
	rem   int64 // of bodyFixed: what is left
	chunk chunkDecoder
	err   error // sticky; io.EOF at the proper end
	inner bool  // within WriteTo

	silence time.Duration // 0: the client's BodyTimeout
	watch   func(n int64, waited time.Duration) error
	began   time.Time // of the present wait; zero: none
	waited  time.Duration
	moved   int64
}

// Watch bounds how slow the server may be: silence replaces the client's BodyTimeout, and f, if it is not nil, is asked before
// each wait for bytes, with the bytes that have come since the call of Watch and the time that was spent waiting for them; time
// in which the reader did not ask for more does not count. An error of f ends the body. It is for before the first read.
func (b *Body) Watch(silence time.Duration, f func(n int64, waited time.Duration) error) {
	b.silence, b.watch = silence, f
}

// timeout is how long the server may be silent.
func (b *Body) timeout() time.Duration {
	if b.silence > 0 {
		return b.silence
	}
	return b.cc.opts.BodyTimeout
}

// await is called before each wait for bytes.
func (b *Body) await() error {
	if b.watch == nil {
		return nil
	}
	if err := b.watch(b.moved, b.waited); err != nil {
		return err
	}
	b.began = time.Now()
	return nil
}

// came is called when bytes have come.
func (b *Body) came() {
	if !b.began.IsZero() {
		b.waited += time.Since(b.began)
		b.began = time.Time{}
	}
}

// Read reads the body, de-chunked. Errors: io.EOF at its proper end; io.ErrUnexpectedEOF when the server closed before;
// *Error when it broke the protocol; others from the connection, or the context's.
func (b *Body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.atEnd() {
		b.err = io.EOF
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if b.kind == bodyChunked {
		if err := b.nextChunk(); err != nil {
			return 0, b.fail(err)
		}
		if b.chunk.done() {
			b.err = io.EOF
			return 0, io.EOF
		}
	}
	if left := b.left(); left >= 0 && int64(len(p)) > left {
		p = p[:left]
	}
	cc := b.cc
	var n int
	if cc.rpos == cc.rend {
		if err := b.await(); err != nil {
			return 0, b.fail(err)
		}
		defer b.came()
	}
	if cc.rpos < cc.rend || len(p) < readBuffer {
		if cc.rpos == cc.rend {
			if err := cc.fill(b.timeout()); err != nil {
				return 0, b.fail(err)
			}
		}
		n = copy(p, cc.buf.b[cc.rpos:cc.rend])
		cc.rpos += n
	} else {
		var err error
		if n, err = cc.read(p, false, b.timeout()); err != nil {
			return 0, b.fail(err)
		}
	}
	b.took(int64(n), false)
	return n, nil
}

// atEnd reports whether all of the body has been taken off the connection.
func (b *Body) atEnd() bool {
	switch b.kind {
	case bodyFixed:
		return b.rem == 0
	case bodyChunked:
		return b.chunk.done()
	case bodyUntilClose:
		return b.err == io.EOF
	}
	return true
}

// left is how many bytes of data the framing says are next, -1 when it does not say.
func (b *Body) left() int64 {
	switch b.kind {
	case bodyFixed:
		return b.rem
	case bodyChunked:
		return b.chunk.rem
	}
	return -1
}

// took notes that n bytes of data were moved, and the end of the connection.
func (b *Body) took(n int64, eof bool) {
	b.moved += n
	switch b.kind {
	case bodyFixed:
		b.rem -= n
	case bodyChunked:
		b.chunk.took(n)
	}
	if eof {
		b.fail(io.EOF)
	}
}

func (b *Body) nextChunk() error {
	cc := b.cc
	for {
		n, err := b.chunk.frame(cc.buf.b[cc.rpos:cc.rend])
		cc.rpos += n
		if err != nil {
			return badGateway(err)
		}
		if b.chunk.state == chunkData || b.chunk.done() {
			return nil
		}
		if err := cc.fill(b.timeout()); err != nil {
			return err
		}
	}
}

// fail makes err the body's error. The connection's end is the body's only if nothing else says where that is.
func (b *Body) fail(err error) error {
	if err == io.EOF && b.kind != bodyUntilClose {
		err = io.ErrUnexpectedEOF
	}
	b.err = err
	return err
}

// WriteTo writes the body to w. Where both ends are plain connections (w a *net.TCPConn, or an [Exchange] of this package)
// the bytes are spliced in the kernel; another w with a ReadFrom method is given the body to read. A failure to read is
// a *BodyReadError, any other error is w's.
func (b *Body) WriteTo(w io.Writer) (int64, error) {
	if b.inner { // w's ReadFrom has handed the body back
		return b.copyTo(w)
	}
	b.inner = true
	defer func() { b.inner = false }()
	switch w := w.(type) {
	case *net.TCPConn:
		return b.spliceTo(w)
	case io.ReaderFrom:
		n, err := w.ReadFrom(b)
		return n, b.side(err)
	}
	return b.copyTo(w)
}

// side marks err as the reading side's if that has failed.
func (b *Body) side(err error) error {
	if b.err != nil && b.err != io.EOF {
		return readError(b.err)
	}
	return err
}

func (b *Body) copyTo(w io.Writer) (n int64, err error) {
	buf := getBuffer()
	defer putBuffer(buf)
	for {
		m, rerr := b.Read(buf.b[:cap(buf.b)])
		if m > 0 {
			k, werr := w.Write(buf.b[:m])
			n += int64(k)
			if werr == nil && k < m {
				werr = io.ErrShortWrite
			}
			if werr != nil {
				return n, werr
			}
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, readError(rerr)
		}
	}
}

// spliceTo sends what is buffered by a write, the rest by splice.
func (b *Body) spliceTo(w *net.TCPConn) (int64, error) {
	dst, rest := rawConnOf(w), b.spliceRest()
	if dst == nil || rest < sendfileLimit {
		return b.copyTo(w)
	}
	cc := b.cc
	n, err := w.Write(cc.buf.b[cc.rpos:cc.rend])
	cc.rpos += n
	b.took(int64(n), false)
	if err != nil {
		return int64(n), err
	}
	s := splicer{
		beforeRead:  b.arm,
		beforeWrite: b.came,
		wrote: func(m int) {
			b.moved += int64(m)
			cc.splice.Add(uint64(m))
		},
	}
	moved, eof, rerr, werr := s.run(dst, cc.raw, rest)
	if rerr = b.spliced(moved, eof, rerr, werr); rerr != nil {
		return int64(n) + moved, readError(rerr)
	}
	return int64(n) + moved, werr
}

// spliced notes how a splice from the body's connection has ended, and returns the error of the reading side.
func (b *Body) spliced(moved int64, eof bool, rerr, werr error) error {
	b.moved -= moved // they were counted one by one
	b.took(moved, eof)
	switch {
	case rerr != nil:
		return b.fail(b.cc.cause(rerr))
	case werr != nil:
		b.err = errSpliceBroken
	case eof && b.err != io.EOF:
		return b.err
	}
	return nil
}

// spliceRest is how many bytes beyond the buffered ones are to come on a connection that can be spliced from, 0 when it
// cannot, and a large number when the body ends with the connection.
func (b *Body) spliceRest() int64 {
	switch {
	case b.err != nil || b.cc == nil || b.cc.raw == nil:
		return 0
	case b.kind == bodyFixed:
		return b.rem - int64(b.buffered())
	case b.kind == bodyUntilClose:
		return 1<<63 - 1
	}
	return 0
}

// buffered is how many bytes of a body that is not chunked have been read and not consumed.
func (b *Body) buffered() int {
	n := b.cc.rend - b.cc.rpos
	if b.kind == bodyFixed && int64(n) > b.rem {
		n = int(b.rem)
	}
	return n
}

// arm sees to it that the next wait for bytes ends in time.
func (b *Body) arm() error {
	if err := b.await(); err != nil {
		return err
	}
	return b.cc.arm(b.timeout())
}

// Taken is a body as a whole. It belongs to who took it until Release.
type Taken struct {
	b    []byte
	from *buffer
}

// Bytes is the body. It must not be changed, and is not valid after Release.
func (t Taken) Bytes() []byte { return t.b }

// Release gives the memory back. It is to be called once.
func (t Taken) Release() { putBuffer(t.from) }

// Take takes what is left of a body out of its connection's memory, and closes the body, so that the connection is free before anything is
// done with what it has sent. ok is false, and nothing has changed, where not all of it is there yet. The response's header is not
// valid any more after Release.
func (b *Body) Take() (t Taken, ok bool) {
	cc := b.cc
	if cc == nil || b.err != nil || b.kind != bodyFixed || int64(cc.rend-cc.rpos) < b.rem {
		return Taken{}, false
	}
	n := int(b.rem)
	t = Taken{cc.buf.b[cc.rpos : cc.rpos+n : cc.rpos+n], cc.buf}
	cc.rpos += n
	b.took(int64(n), false)
	cc.buf = nil
	b.Close()
	return t, true
}

// Close gives the connection back: to the pool when the body has been read to its end and the connection can be used
// again, else it is closed. It may be called more than once.
func (b *Body) Close() error {
	cc := b.cc
	if cc == nil {
		return nil
	}
	if b.kind == bodyChunked && b.err == nil && !b.chunk.done() && b.chunk.state != chunkData {
		// The reader had all the data, but has not asked for the end, which may be here already.
		n, err := b.chunk.frame(cc.buf.b[cc.rpos:cc.rend])
		cc.rpos += n
		if err != nil {
			b.err = err
		}
	}
	sound := b.atEnd() && (b.err == nil || b.err == io.EOF) && b.kind != bodyUntilClose
	if b.err == nil {
		b.err = errClosedBody
	}
	b.cc = nil
	cc.done(sound)
	return nil
}
