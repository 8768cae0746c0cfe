package netpoll

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/accept"
	"wheelhouse/internal/rawio"
)

// Conn is a TCP or Unix connection whose socket waits in a loop of its [Poller]. It is safe for concurrent use, as a [net.TCPConn] is, and its
// errors are as those of that.
type Conn struct {
	loop          *loop
	fd            int
	local, remote net.Addr
	in, out       half
	closed        atomic.Bool
	users         atomic.Int32 // of fd; one as long as it is not closed
}

var (
	_ net.Conn     = (*Conn)(nil)
	_ syscall.Conn = (*Conn)(nil)
)

// half is one direction of a connection.
type half struct {
	mu    sync.Mutex // one call at a time
	state atomic.Uint32
	wake  chan struct{} // made by the first who waits

	try  func(fd uintptr) bool // that is postponed
	done bool                  // what it said

	past  atomic.Bool // the deadline
	timer deadline
}

// The states of a half. Whoever makes it happened from waiting sends to wake.
const (
	quiet             = iota // nothing has happened since the call under way began, or last tried
	happened                 // something has: try again
	waiting                  // a goroutine waits until something happens
	postponed                // it waits for the loop's try at the end of the round
	postponedHappened        // and something has happened before that
)

// happen notes that something has happened. It reports whether a goroutine is to be woken for it: the caller must.
func (h *half) happen() (wake bool) {
	for {
		switch s := h.state.Load(); s {
		case happened, postponedHappened:
			return false
		case quiet:
			if h.state.CompareAndSwap(quiet, happened) {
				return false
			}
		case waiting:
			if h.state.CompareAndSwap(waiting, quiet) {
				return true
			}
		case postponed:
			if h.state.CompareAndSwap(postponed, postponedHappened) {
				return false
			}
		}
	}
}

// rouse has whoever waits look again.
func (h *half) rouse() {
	if h.happen() {
		h.wake <- struct{}{}
	}
}

// wait waits until something happens, or has since the state was made quiet.
func (h *half) wait() {
	h.canWake()
	if h.state.CompareAndSwap(quiet, waiting) {
		<-h.wake
		return
	}
	h.state.Store(quiet)
}

func (h *half) canWake() {
	if h.wake == nil {
		h.wake = make(chan struct{}, 1)
	}
}

// postpone leaves a try to the loop, unless something has happened since the state was made quiet; await waits for its end.
func (h *half) postpone(try func(fd uintptr) bool) bool {
	h.canWake()
	h.try, h.done = try, false
	return h.state.CompareAndSwap(quiet, postponed)
}

func (h *half) await() {
	<-h.wake
	h.try = nil
}

// tryNow makes the try that was postponed. It reports whether the goroutine is to be woken: when that was all, or there is more to be done at once.
func (h *half) tryNow(fd int) (wake bool) {
	if h.done = h.try(uintptr(fd)); !h.done && h.state.CompareAndSwap(postponed, waiting) {
		return false
	}
	h.state.Store(quiet)
	return true
}

// until calls try until it returns true, again whenever something has happened; the first time at the end of the loop's round, with later.
func (c *Conn) until(h *half, later bool, try func(fd uintptr) bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !c.hold() {
		return net.ErrClosed
	}
	defer c.release()
	h.state.Store(quiet) // nobody waits
	for {
		switch {
		case c.closed.Load():
			return net.ErrClosed
		case h.past.Load():
			return os.ErrDeadlineExceeded
		case later && c.loop.postpone(c, h, try):
			if h.await(); h.done {
				return nil
			}
		case try(uintptr(c.fd)):
			return nil
		default:
			h.wait()
		}
		later = false
	}
}

// hold keeps the descriptor open until release. It is false when the connection is closed.
func (c *Conn) hold() bool {
	for {
		n := c.users.Load()
		if n == 0 || c.closed.Load() {
			return false
		}
		if c.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (c *Conn) release() {
	if c.users.Add(-1) > 0 {
		return
	}
	c.loop.drop(c.fd)
	_ = unix.Close(c.fd)
}

// Close implements [net.Conn].
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return c.named("close", "", net.ErrClosed)
	}
	for _, h := range []*half{&c.in, &c.out} {
		h.timer.stop()
		h.rouse()
	}
	c.release()
	return nil
}

// Read implements [net.Conn].
func (c *Conn) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	werr := c.until(&c.in, false, func(fd uintptr) bool {
		for {
			switch n, err = rawio.Read(fd, p); err {
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				return true
			}
		}
	})
	if werr != nil {
		n, err = 0, werr
	}
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, c.named("read", "recvfrom", err)
}

// Write implements [net.Conn].
func (c *Conn) Write(p []byte) (n int, err error) {
	werr := c.until(&c.out, false, func(fd uintptr) bool {
		for n < len(p) {
			var m int
			switch m, err = rawio.Write(fd, p[n:]); err {
			case nil:
				n += m
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				return true
			}
		}
		return true
	})
	if werr != nil {
		err = werr
	}
	return n, c.named("write", "sendto", err)
}

// named is an error as those of package net are: of op, and of the system call where that has failed.
func (c *Conn) named(op, call string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(call, e)
	}
	return &net.OpError{Op: op, Net: c.remote.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// ReadLater is Raw().Read, but f is called the first time when all connections of the loop have been seen to that have work now, one after the other
// with those of other such calls: what is sent there does not wake its receivers one by one, each of which may take the processor away. It is for
// what sends a request, and then waits for the answer. f is called by the loop, which it must not keep waiting.
func (c *Conn) ReadLater(f func(fd uintptr) bool) error { return c.until(&c.in, true, f) }

// Loop is the loop that the connection waits in: 1 to as many as there are.
func (c *Conn) Loop() int { return c.loop.number }

// LocalAddr implements [net.Conn].
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements [net.Conn].
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements [net.Conn].
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.in, t) }

// SetWriteDeadline implements [net.Conn].
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.out, t) }

func (c *Conn) setDeadline(h *half, t time.Time) error {
	h.timer.set(h, t)
	if c.closed.Load() {
		h.timer.stop()
		return c.named("set", "", net.ErrClosed)
	}
	return nil
}

// deadline is the timer of a half's deadline.
type deadline struct {
	mu    sync.Mutex // guards all below, and stores to the half's past
	timer *time.Timer
	sets  int
}

// set is for h's own timer.
func (d *deadline) set(h *half, t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sets++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if t.IsZero() {
		h.past.Store(false)
		return
	}
	left := time.Until(t)
	h.past.Store(left <= 0)
	if left <= 0 {
		h.rouse()
		return
	}
	sets := d.sets
	d.timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.sets == sets {
			h.past.Store(true)
			h.rouse()
		}
	})
}

func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// CloseWrite ends the sending side.
func (c *Conn) CloseWrite() error {
	return c.do("close", "shutdown", func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

// SetLinger is as [net.TCPConn.SetLinger]: whether Close drops what the peer has not taken yet (0), or after how many seconds; below 0: never.
func (c *Conn) SetLinger(sec int) error {
	l := unix.Linger{}
	if sec >= 0 {
		l = unix.Linger{Onoff: 1, Linger: int32(sec)}
	}
	return c.do("set", "setsockopt", func(fd int) error { return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &l) })
}

// SetWriteBuffer asks the kernel for a buffer of so many bytes.
func (c *Conn) SetWriteBuffer(bytes int) error {
	return c.do("set", "setsockopt", func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, bytes) })
}

// do calls f with the descriptor.
func (c *Conn) do(op, call string, f func(fd int) error) error {
	if !c.hold() {
		return c.named(op, call, net.ErrClosed)
	}
	defer c.release()
	return c.named(op, call, f(c.fd))
}

// File returns a descriptor of the caller's own of the same socket, as [net.TCPConn.File] does. It does not block.
func (c *Conn) File() (*os.File, error) {
	fd, err := accept.Descriptor(c)
	if err != nil {
		return nil, c.named("file", "fcntl", err)
	}
	return os.NewFile(uintptr(fd), c.remote.String()), nil
}

// SyscallConn implements [syscall.Conn].
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.Raw(), nil }

// Raw is SyscallConn's.
func (c *Conn) Raw() syscall.RawConn { return (*rawConn)(c) }

type rawConn Conn

func (r *rawConn) Control(f func(fd uintptr)) error {
	c := (*Conn)(r)
	if !c.hold() {
		return net.ErrClosed
	}
	defer c.release()
	f(uintptr(c.fd))
	return nil
}

func (r *rawConn) Read(f func(fd uintptr) bool) error {
	c := (*Conn)(r)
	return c.until(&c.in, false, f)
}

func (r *rawConn) Write(f func(fd uintptr) bool) error {
	c := (*Conn)(r)
	return c.until(&c.out, false, f)
}
