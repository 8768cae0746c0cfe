package http1

import (
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"wheelhouse/internal/rawio"
)

// haveRaw: the fast paths below exist on this system.
const haveRaw = true

type rawConn = syscall.RawConn

// rawSend writes to a connection's descriptor itself, where net.Conn would hide how far a write has come, and offers no
// offset for sendfile and no MSG_MORE. The closures are made once for a connection, so that a write does not allocate.
type rawSend struct {
	c     *conn
	head  []byte // of gather: what goes before p
	p     []byte
	n     int // of head and p
	flags int
	err   error
	step  func(fd uintptr) bool
}

func (s *rawSend) bind(c *conn) {
	s.c = c
	s.step = s.writeSome
}

// gather writes all of head and then all of p, neither of which may be empty, in one call if the socket takes it.
func (s *rawSend) gather(head, p []byte) (int, error) {
	s.head = head
	n, err := s.write(p, false)
	s.head = nil
	return n, err
}

// rawRecv reads what comes on an idle connection, or on one whose head comes slowly, into a buffer that is taken when there is
// something to read: a connection that waits has none, only what has come of its head.
type rawRecv struct {
	c    *conn
	n    int
	err  error
	step func(fd uintptr) bool
}

func (r *rawRecv) bind(c *conn) {
	r.c = c
	r.step = r.readSome
}

// read reads once, into c.rbuf.
func (r *rawRecv) read() (int, error) {
	r.n, r.err = 0, nil
	if err := r.c.raw.Read(r.step); err != nil && r.err == nil {
		r.err = err
	}
	return r.n, r.err
}

// readSome reads, or returns false to be called again when the descriptor is readable.
func (r *rawRecv) readSome(fd uintptr) bool {
	b := takeReadBuffer()
	k := copy(b, r.c.stash)
	for {
		n, err := rawio.Read(fd, b[k:])
		switch {
		case n > 0:
			r.c.rbuf, r.c.rend, r.n = b, k, n
			r.c.stash = nil
			return true
		case err == syscall.EINTR:
			continue
		}
		giveReadBuffer(b)
		switch err {
		case nil:
			r.err = io.EOF
		case syscall.EAGAIN:
			return false
		default:
			r.err = os.NewSyscallError("read", err)
		}
		return true
	}
}

// rawTrip sends a request and reads the beginning of its answer in one go: the read waits until something is there, instead of
// finding nothing right after the request. What has come before the request is seen before it is sent: later, nothing would tell it
// from the answer, and nobody would be woken for it. While it waits for the beginning of an answer the connection has no buffer: many may
// wait for slow servers, and one that has just been given back is in the processor's cache.
type rawTrip struct {
	cc    *clientConn
	later laterReader // cc's connection, nil: it has no such way
	out   []byte      // to be sent first; what is left is for the caller to send
	look  bool        // whether something has come
	lend  bool        // the buffer while it waits: nothing is in it
	in    []byte
	n     int
	err   error
	step  func(fd uintptr) bool
}

// laterReader is a connection in an event loop, which sends requests together: see netpoll.Conn.
type laterReader interface {
	ReadLater(step func(fd uintptr) bool) error
}

func (t *rawTrip) bind(cc *clientConn) {
	t.cc = cc
	t.later, _ = cc.nc.(laterReader)
	t.step = t.some
}

// read sends out and reads once, into in. With 0 bytes and no error some of out is left. With look it is ErrStale, and nothing was sent, if
// something has come before. With lend in is the connection's buffer, in which nothing is but out.
func (t *rawTrip) read(out, in []byte, look, lend bool) (n int, left []byte, err error) {
	t.out, t.in, t.look, t.lend, t.n, t.err = out, in, look, lend, 0, nil
	read := t.cc.raw.Read
	if t.later != nil && len(out) > 0 {
		read = t.later.ReadLater
	}
	if err = read(t.step); err == nil {
		err = t.err
	}
	if t.cc.buf == nil && lend { // it has waited in vain
		t.cc.buf = getBuffer()
	}
	left = t.out
	t.out, t.in = nil, nil
	return t.n, left, err
}

// some goes on, or returns false to be called again when the descriptor is readable.
func (t *rawTrip) some(fd uintptr) bool {
	if len(t.out) > 0 {
		if t.look {
			if gone, data := peek(fd); gone || data {
				t.err = ErrStale
				return true
			}
		}
		n, err := rawio.Write(fd, t.out)
		if err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
			t.err = os.NewSyscallError("write", err)
			return true
		}
		if t.out = t.out[n:]; len(t.out) > 0 {
			return true
		}
		t.giveBuffer()
		return false
	}
	if t.lend {
		if t.cc.buf == nil {
			t.cc.buf = getBuffer()
		}
		t.in = t.cc.buf.b[:cap(t.cc.buf.b)]
	}
	for {
		n, err := rawio.Read(fd, t.in)
		switch {
		case n > 0:
			t.n = n
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			t.giveBuffer()
			return false
		case err == nil:
			t.err = io.EOF
		default:
			t.err = os.NewSyscallError("read", err)
		}
		return true
	}
}

// giveBuffer gives the connection's buffer back while it waits.
func (t *rawTrip) giveBuffer() {
	if t.lend {
		putBuffer(t.cc.buf)
		t.cc.buf = nil
	}
}

// write writes all of p, by MSG_MORE if more follows at once.
func (s *rawSend) write(p []byte, more bool) (int, error) {
	s.p, s.n, s.err, s.flags = p, 0, nil, 0
	if more {
		s.flags = syscall.MSG_MORE
	}
	if err := s.c.raw.Write(s.step); err != nil && s.err == nil {
		s.err = err
	}
	s.p = nil
	return s.n, s.err
}

// writeSome writes until all is written, or returns false to be called again when the descriptor is writable.
func (s *rawSend) writeSome(fd uintptr) bool {
	h := len(s.head)
	for s.n < h+len(s.p) {
		var n int
		var err error
		switch {
		case s.n < h:
			n, err = rawio.Gather(fd, s.head[s.n:], s.p)
		case s.flags == 0:
			n, err = rawio.Write(fd, s.p[s.n-h:])
		default:
			n, err = syscall.SendmsgN(int(fd), s.p[s.n-h:], nil, nil, s.flags|syscall.MSG_NOSIGNAL)
		}
		switch err {
		case nil:
			if s.n += n; s.n < h+len(s.p) {
				s.c.touch(phaseWrite)
			}
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			s.err = os.NewSyscallError("write", err)
			return true
		}
	}
	return true
}

// sendfile sends n bytes of f at off. The file is kept open meanwhile, whoever closes it.
func (s *rawSend) sendfile(f file, off, n int64) (sent int64, rerr, werr error) {
	file, err := f.SyscallConn()
	if err != nil {
		return 0, err, nil
	}
	rerr = file.Control(func(ffd uintptr) {
		err := s.c.raw.Write(func(fd uintptr) bool {
			for sent < n {
				m, err := syscall.Sendfile(int(fd), int(ffd), &off, int(min(n-sent, 1<<30)))
				switch {
				case err == syscall.EINTR:
				case err == syscall.EAGAIN:
					return false
				case err != nil:
					werr = os.NewSyscallError("sendfile", err)
					return true
				case m == 0:
					return true // the file is shorter than that
				default:
					sent += int64(m)
					s.c.touch(phaseWrite)
				}
			}
			return true
		})
		if werr == nil {
			werr = err
		}
	})
	return sent, rerr, werr
}

// readPooled reads once, into a buffer that is taken when there is something to read. It is nil, without an error, at the end of the stream.
func readPooled(raw rawConn) (b *buffer, err error) {
	werr := raw.Read(func(fd uintptr) bool {
		b = getBuffer()
		var n int
		for err = syscall.EINTR; err == syscall.EINTR; {
			n, err = rawio.Read(fd, b.b[:cap(b.b)])
		}
		if n > 0 {
			b.b = b.b[:n]
			return true
		}
		putBuffer(b)
		b = nil
		return err != syscall.EAGAIN
	})
	switch {
	case werr != nil:
		return nil, werr
	case err != nil:
		return nil, os.NewSyscallError("read", err)
	}
	return b, nil
}

// peerClosed reports whether the peer has closed its side and everything that it sent before has been read. It does not
// disturb a read that is under way.
func peerClosed(raw rawConn) (gone bool) {
	raw.Control(func(fd uintptr) { gone, _ = peek(fd) })
	return gone
}

// tlsPeerClosed is peerClosed for a connection that TLS lies upon: the last that a peer sends is an alert that says so, which nobody has read
// while a handler runs.
func tlsPeerClosed(raw rawConn) (gone bool) {
	raw.Control(func(fd uintptr) {
		if !hungUp(fd) {
			return
		}
		var b [64]byte
		for {
			n, err := rawio.Peek(fd, b[:])
			switch {
			case err == syscall.EINTR:
				continue
			case err == syscall.EAGAIN:
			default:
				gone = err != nil || onlyAlert(b[:n])
			}
			return
		}
	})
	return gone
}

// hungUp reports whether the peer has closed its side, whatever there is to read.
func hungUp(fd uintptr) bool {
	const errHup, rdHup = 0x8 | 0x10, 0x2000 // POLLERR, POLLHUP; POLLRDHUP: include/uapi/asm-generic/poll.h
	p := struct {
		fd              int32
		events, revents int16
	}{fd: int32(fd), events: rdHup}
	var now syscall.Timespec
	n, _, _ := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n == 1 && p.revents&(rdHup|errHup) != 0
}

// readable reports whether there is anything to read, the end of the stream included: on an idle connection to a server
// either means that it cannot be used any more.
func readable(raw rawConn) (is bool) {
	err := raw.Control(func(fd uintptr) {
		gone, data := peek(fd)
		is = gone || data
	})
	return is || err != nil
}

// awaitAnswer waits until something comes that is no interim response, or the connection's end. It reads nothing. It is false when the read
// deadline comes first.
func awaitAnswer(raw rawConn) (came bool) {
	b := getBuffer()
	defer putBuffer(b)
	err := raw.Read(func(fd uintptr) bool {
		for {
			n, err := rawio.Peek(fd, b.b[:cap(b.b)])
			switch {
			case err == syscall.EINTR:
				continue
			case err == syscall.EAGAIN, err == nil && n > 0 && n < cap(b.b) && onlyInterim(b.b[:n]):
				return false // until more comes
			}
			return true
		}
	})
	return err == nil
}

func peek(fd uintptr) (gone, data bool) {
	var b [1]byte
	for {
		n, err := rawio.Peek(fd, b[:])
		switch err {
		case nil:
			return n == 0, n > 0
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false, false
		default:
			return true, false
		}
	}
}

// unsent is how many bytes the socket holds that the peer has not acknowledged.
func unsent(raw rawConn) int {
	var n int32
	raw.Control(func(fd uintptr) {
		syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	})
	return int(n)
}

// pipe is a kernel pipe that splice moves bytes through.
type pipe struct{ r, w int }

const (
	pipeSize = 1 << 20

	// include/linux/splice.h, fcntl.h: not in package syscall.
	spliceMove     = 0x1
	spliceNonblock = 0x2
	setPipeSize    = 1031
)

var pipePool = sync.Pool{New: func() any { return newPipe() }}

func newPipe() *pipe {
	var fds [2]int
	if syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK) != nil {
		return nil
	}
	// A larger pipe moves more per call; when the user's quota for that is used up, the default size works too.
	syscall.Syscall(syscall.SYS_FCNTL, uintptr(fds[0]), setPipeSize, pipeSize)
	p := &pipe{fds[0], fds[1]}
	// The pool drops pipes as it likes: close them then.
	runtime.SetFinalizer(p, (*pipe).close)
	return p
}

func (p *pipe) close() {
	runtime.SetFinalizer(p, nil)
	syscall.Close(p.r)
	syscall.Close(p.w)
}

// splicer moves bytes from one connection to another within the kernel. In difference to net.TCPConn.ReadFrom it tells which
// side failed, and how it gets on.
type splicer struct {
	beforeRead  func() error
	beforeWrite func()
	wrote       func(n int)
}

// run moves n bytes, or what there is until src's end.
func (s *splicer) run(dst, src rawConn, n int64) (moved int64, eof bool, rerr, werr error) {
	p, _ := pipePool.Get().(*pipe)
	if p == nil {
		return 0, false, os.NewSyscallError("pipe2", syscall.EMFILE), nil
	}
	inPipe := 0
	defer func() {
		if inPipe > 0 {
			p.close()
		} else {
			pipePool.Put(p)
		}
	}()
	for moved < n {
		if rerr = s.beforeRead(); rerr != nil {
			return moved, false, rerr, nil
		}
		inPipe, rerr = spliceOnce(src.Read, func(fd uintptr) (int64, error) {
			return syscall.Splice(int(fd), nil, p.w, nil, int(min(n-moved, pipeSize)), spliceMove|spliceNonblock)
		})
		if rerr != nil || inPipe == 0 {
			return moved, rerr == nil, rerr, nil
		}
		s.beforeWrite()
		for inPipe > 0 {
			m, err := spliceOnce(dst.Write, func(fd uintptr) (int64, error) {
				return syscall.Splice(p.r, nil, int(fd), nil, inPipe, spliceMove|spliceNonblock)
			})
			if err == nil && m == 0 {
				err = io.ErrShortWrite
			}
			if err != nil {
				return moved, false, nil, err
			}
			inPipe -= m
			moved += int64(m)
			s.wrote(m)
		}
	}
	return moved, false, nil, nil
}

// spliceOnce calls f when the descriptor is ready, until it has moved something.
func spliceOnce(wait func(func(fd uintptr) bool) error, f func(fd uintptr) (int64, error)) (n int, err error) {
	werr := wait(func(fd uintptr) bool {
		for {
			var m int64
			m, err = f(fd)
			switch err {
			case syscall.EINTR:
			case syscall.EAGAIN:
				err = nil
				return false
			case nil:
				n = int(m)
				return true
			default:
				err = os.NewSyscallError("splice", err)
				return true
			}
		}
	})
	if err == nil {
		err = werr
	}
	return n, err
}
