package gearmand

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"wheelhouse/gearman/packet"
	"wheelhouse/internal/rawio"
)

const (
	packetNoop  = packet.Noop
	packetNoJob = packet.NoJob
)

// ability is a function that a worker has announced.
type ability struct {
	c       *conn
	fn      *function
	timeout time.Duration // 0: none
	place   int           // in fn.workers
}

// abilitySize is what an ability counts in Server.memory.
const abilitySize = 128

// held is an answer that waits for the store, and what is to be sent behind it.
type held struct {
	j    *job
	tail []byte
}

// conn is one connection, or an HTTP request that stands for one: that has no nc.
type conn struct {
	srv    *Server
	nc     net.Conn
	socket io.Closer       // what close does not wait for: nc, or what is below its TLS
	raw    syscall.RawConn // of a plain connection, nil for others
	id     uint64
	// Of an HTTP request:
	ready    chan struct{} // there is something in out
	collects bool          // it takes the whole result before it sends anything

	// Of the connection's goroutine.
	in      *buffer // nil while there is nothing to be read
	pos     int     // of in.b that has been handled
	big     int64   // of Server.memory, for a large packet that is being read
	readErr error
	readFn  func(fd uintptr) bool
	args    [8][]byte
	taken   bool // the buffer belongs to a job or a client now
	flushes []*conn

	// Guarded by Server.mu.
	clientID   string
	exceptions bool
	gone       bool
	touched    bool // in Server.touched
	asleep     bool
	abilities  []*ability
	jobs       jobList // that it runs
	waits      *listener
	held       []held
	heldBytes  int
	packets    uint64 // batches, in fact; for sweepIdle
	seen       uint64
	since      time.Time
	sent       int         // bytes, in this batch
	late       bool        // in Server.patient.created
	raised     string      // handle of the last job that it ended with an exception
	finished   bool        // a job, since it last asked for one
	parked     packet.Type // the kind of GRAB_JOB that has not been answered, 0 for none
	parkedAt   uint32      // rounds
	lateAt     uint32

	wmu     sync.Mutex // guards the rest; taken under Server.mu, never the other way
	drained sync.Cond
	out     outbox
	writing bool // somebody writes
	slow    int  // bytes that a goroutine waits to write; they, and out, count in Server.memory
	closed  bool
	ending  bool   // the server ends: the deadline is set
	wbuf    []byte // of the one who writes
	wn      int
	werr    error
	writeFn func(fd uintptr) bool
}

func (s *Server) newConn(nc net.Conn) *conn {
	c := &conn{srv: s, nc: nc, socket: nc, exceptions: s.opts.Exceptions, since: s.now()}
	c.drained.L = &c.wmu
	switch n := nc.(type) {
	case nil:
		c.socket, c.ready = nil, make(chan struct{}, 1)
	case *tls.Conn:
		c.socket = n.NetConn()
	case syscall.Conn:
		if raw, err := n.SyscallConn(); err == nil {
			c.raw, c.readFn, c.writeFn = raw, c.tryRead, c.tryWrite
		}
	}
	return c
}

// errClosing ends a connection that the server has given up.
var errClosing = errors.New("gearmand: connection ended by the server")

// serve is the connection's goroutine.
func (c *conn) serve() {
	defer c.depart()
	if t, ok := c.nc.(*tls.Conn); ok {
		t.SetDeadline(time.Now().Add(c.srv.opts.HandshakeTimeout))
		if err := t.Handshake(); err != nil {
			c.srv.log.Debug("tls handshake failed", "addr", c.nc.RemoteAddr(), "err", err)
			return
		}
		t.SetDeadline(time.Time{})
	}
	for {
		if err := c.fill(); err != nil {
			return
		}
		for {
			n, err := c.batch()
			if err != nil {
				c.linger()
				return
			}
			c.waitOut()
			if n < batchPackets && !c.more() {
				break
			}
		}
		c.compact()
	}
}

// more reports whether the buffer still has something that can be handled: a batch ends early when it has answered much.
func (c *conn) more() bool {
	b := c.unread()
	if len(b) == 0 {
		return false
	}
	if b[0] != 0 {
		return bytes.IndexByte(b, '\n') >= 0
	}
	return len(b) >= packet.HeaderSize && len(b)-packet.HeaderSize >= int(packet.ParseHeader(b).Size)
}

func (c *conn) unread() []byte {
	if c.in == nil {
		return nil
	}
	return c.in.b[c.pos:]
}

// fill reads once, waiting for it; while it waits with nothing read, the connection has no buffer.
func (c *conn) fill() error {
	if c.raw == nil {
		return c.fillPlain()
	}
	c.readErr = nil
	if err := c.raw.Read(c.readFn); err != nil {
		return err
	}
	return c.readErr
}

// tryRead is called when the socket may have something.
func (c *conn) tryRead(fd uintptr) bool {
	if c.readErr = c.makeRoom(); c.readErr != nil {
		return true
	}
	b := c.in.b
	n, err := ignoringEINTR(rawio.Read, fd, b[len(b):cap(b)])
	switch {
	case err == syscall.EAGAIN:
		c.giveBack()
		return false
	case err != nil:
		c.readErr = err
	case n == 0:
		c.readErr = io.EOF
	default:
		c.in.b = b[:len(b)+n]
		c.srv.counts.in.Add(uint64(n))
	}
	return true
}

func ignoringEINTR(f func(uintptr, []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		n, err := f(fd, p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// fillPlain reads from what is no socket of ours to look at: TLS, pipes. It waits with a small buffer.
func (c *conn) fillPlain() error {
	if c.in == nil {
		c.in, c.pos = &buffer{b: make([]byte, 0, 512)}, 0
	} else if err := c.makeRoom(); err != nil {
		return err
	}
	b := c.in.b
	n, err := c.nc.Read(b[len(b):cap(b)])
	c.in.b = b[:len(b)+n]
	c.srv.counts.in.Add(uint64(n))
	if n > 0 {
		return nil
	}
	return err
}

// giveBack lets go of a buffer that holds nothing.
func (c *conn) giveBack() {
	if c.in != nil && c.pos == len(c.in.b) {
		putBuffer(c.in)
		c.in, c.pos = nil, 0
		c.unreserve()
	}
}

func (c *conn) unreserve() {
	if c.big > 0 {
		c.srv.memory.Add(-c.big)
		c.big = 0
	}
}

// compact is called when all that is complete has been handled.
func (c *conn) compact() {
	switch {
	case c.in == nil:
	case c.pos == len(c.in.b) && (c.big > 0 || c.raw == nil):
		c.giveBack()
	case c.pos == len(c.in.b):
		c.in.b, c.pos = c.in.b[:0], 0
	case c.pos > 0:
		c.in.b = c.in.b[:copy(c.in.b, c.in.b[c.pos:])]
		c.pos = 0
	}
}

// makeRoom sees to a buffer with room for more. It grows with what has arrived, not with what is announced, and large ones
// are counted, so that nobody gets memory by promises.
func (c *conn) makeRoom() error {
	if c.in == nil {
		c.in, c.pos = getBuffer(), 0
		return nil
	}
	if len(c.in.b) < cap(c.in.b) {
		return nil
	}
	want := max(bufferSize, 2*cap(c.in.b))
	if b := c.unread(); len(b) >= packet.HeaderSize && b[0] == 0 {
		want = max(bufferSize, min(want, packet.HeaderSize+int(packet.ParseHeader(b).Size)))
		if want <= cap(c.in.b) { // the packet is complete, which batch has not seen: it holds its answers back
			want = 2 * cap(c.in.b)
		}
	}
	if want > keepSize {
		if !c.srv.reserve(int64(want) - c.big) {
			c.srv.log.Warn("connection closed: no memory for its packet", "addr", c.nc.RemoteAddr(), "bytes", want)
			return errClosing
		}
		c.big = int64(want)
	}
	b := make([]byte, len(c.in.b), want)
	copy(b, c.in.b)
	putBuffer(c.in)
	c.in = &buffer{b: b}
	return nil
}

// reserve counts n bytes more, unless that is too many.
func (s *Server) reserve(n int64) bool {
	if s.memory.Add(n) > s.opts.MaxMemory {
		s.memory.Add(-n)
		return false
	}
	return true
}

// batch handles packets and lines that are complete, under one lock, and sends what is to be sent to whomever. It returns how
// many there were. An error ends the connection.
func (c *conn) batch() (n int, err error) {
	s := c.srv
	s.mu.Lock()
	var render func() []byte
	defer func() {
		c.flushes = s.unlock(c.flushes)
		if render == nil || err != nil {
			return
		}
		text := render()
		s.mu.Lock()
		c.sendText(text)
		c.flushes = s.unlock(c.flushes)
	}()
	for c.waitsForStore() && !c.gone {
		s.stored.Wait()
	}
	c.packets++
	for c.sent = 0; n < batchPackets && c.sent < highWater && !c.waitsForStore(); n++ {
		if c.gone {
			return n, errClosing
		}
		b := c.unread()
		if len(b) == 0 {
			return n, nil
		}
		var size int
		if b[0] != 0 {
			size, render, err = c.line(b)
		} else {
			size, err = c.packet(b)
		}
		if size == 0 || err != nil {
			return n, err
		}
		c.pos += size
		if c.taken {
			c.taken, c.in, c.pos = false, nil, 0
			c.unreserve()
		}
		if render != nil {
			return n + 1, nil
		}
	}
	return n, nil
}

// waitsForStore reports whether so much waits for the store that the connection is not listened to. s.mu is held.
func (c *conn) waitsForStore() bool {
	return len(c.held) >= maxUnstored || (len(c.held) > 0 && c.heldBytes > highWater)
}

// packet handles the packet at the beginning of b and returns its size, 0 when it is not complete. s.mu is held.
func (c *conn) packet(b []byte) (size int, err error) {
	if len(b) < packet.HeaderSize {
		return 0, nil
	}
	h := packet.ParseHeader(b)
	switch {
	case h.Magic != packet.Req && h.Magic != packet.Res:
		return 0, errClosing
	case int64(h.Size) > int64(c.srv.opts.MaxPacket):
		c.refuse(sizeRefusal(h.Type, h.Size, c.srv.opts.MaxPacket))
		return 0, errClosing
	case h.Type == 0 || h.Type > packet.StatusResUnique:
		return 0, errClosing
	}
	size = packet.HeaderSize + int(h.Size)
	if len(b) < size {
		return 0, nil
	}
	c.srv.counts.packets.Add(1)
	if h.Magic != packet.Req {
		c.refuse(errMagic)
		return size, nil
	}
	// A large packet has a buffer to itself, which need not be kept for what follows.
	c.srv.lasting = c.big > 0 && len(b) == size && cap(c.in.b) <= 2*size
	c.dispatch(h.Type, b[packet.HeaderSize:size])
	c.srv.lasting = false
	return size, nil
}

// depart takes the connection out of everything. It is deferred.
func (c *conn) depart() {
	if v := recover(); v != nil {
		c.srv.counts.panics.Add(1)
		c.srv.log.Error("connection panicked", "addr", c.nc.RemoteAddr(), "err", v, "stack", string(debug.Stack()))
	}
	s := c.srv
	s.mu.Lock()
	s.leave(c)
	delete(s.conns, c)
	s.unlock(nil)
	c.flush() // what waits for more has its last chance
	c.shut()
	if c.in != nil {
		c.unreserve()
		putBuffer(c.in)
		c.in = nil
	}
}

// leave undoes what a connection has done to the state. s.mu is held.
func (s *Server) leave(c *conn) {
	c.gone = true
	s.unpark(c) // which gives it nothing any more
	s.resetAbilities(c)
	for c.jobs.head != nil {
		s.requeue(c.jobs.head)
	}
	s.dropListeners(c)
	c.held = nil
	s.stored.Broadcast()
}
