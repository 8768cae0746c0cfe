//go:build unix

package rawio

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// Wrap is nc with a Read and a Write that wait as nc's do, but read and write as this package does: for what reads and writes often and through a
// [net.Conn] only, as crypto/tls. It is nc itself where that is neither a TCP nor a Unix connection of package net. All other methods, deadlines too, are nc's; what nc has
// beyond net.Conn is found by NetConn. It is safe for concurrent use.
func Wrap(nc net.Conn) net.Conn {
	raw := Raw(nc)
	if _, does := nc.(interface{ Raw() syscall.RawConn }); does || raw == nil {
		return nc
	}
	c := &conn{Conn: nc, raw: raw}
	c.in.step, c.out.step = c.in.read, c.out.write
	return c
}

// conn is what Wrap makes.
type conn struct {
	net.Conn
	raw     syscall.RawConn
	in, out half
}

// half is one direction of a connection: mu guards the others, which are of one call.
type half struct {
	mu   sync.Mutex
	p    []byte
	n    int
	err  error
	step func(fd uintptr) bool // read or write, made once, so that a call does not allocate
}

// NetConn is the connection beneath.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Read implements [net.Conn].
func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return c.Conn.Read(p)
	}
	n, err := c.in.do(p, c.raw.Read)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, c.named("read", "recvfrom", err)
}

// Write implements [net.Conn].
func (c *conn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return c.Conn.Write(p)
	}
	n, err := c.out.do(p, c.raw.Write)
	return n, c.named("write", "sendto", err)
}

// do has step done with p until it is through.
func (h *half) do(p []byte, until func(step func(fd uintptr) bool) error) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.p, h.n, h.err = p, 0, nil
	err := until(h.step)
	h.p = nil
	if h.err != nil {
		err = h.err
	}
	return h.n, err
}

// read reads once, or returns false to be called again when there is something to read.
func (h *half) read(fd uintptr) bool {
	for {
		n, err := Read(fd, h.p)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		}
		h.n, h.err = n, err
		return true
	}
}

// write writes what is left, or returns false to be called again when there is room.
func (h *half) write(fd uintptr) bool {
	for h.n < len(h.p) {
		n, err := Write(fd, h.p[h.n:])
		switch err {
		case nil:
			h.n += n
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			h.err = err
			return true
		}
	}
	return true
}

// named is an error as those of package net are: of op, and of the system call where that has failed.
func (c *conn) named(op, call string, err error) error {
	switch e := err.(type) {
	case nil:
		return nil
	case syscall.Errno:
		err = os.NewSyscallError(call, e)
	case *net.OpError: // of the RawConn: closed, or a deadline
		err = e.Err
	}
	remote := c.RemoteAddr()
	return &net.OpError{Op: op, Net: remote.Network(), Source: c.LocalAddr(), Addr: remote, Err: err}
}

// Listener is ln, whose connections are as Wrap makes them.
func Listener(ln net.Listener) net.Listener { return listener{ln} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return Wrap(nc), nil
}
