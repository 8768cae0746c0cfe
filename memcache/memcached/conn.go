package memcached

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/rawio"
	"wheelhouse/memcache/segcache"
)

// conn is one connection. What it needs only while it works is in its work.
type conn struct {
	s        *Server
	mu       sync.Mutex // guards fd and nc against those whose the connection is not
	fd       int        // if it is in the poller, else -1
	nc       net.Conn   // if it is not
	local    net.Addr
	peer     net.Addr
	state    atomic.Uint32 // in the poller
	ready    chan struct{} // see wait
	lead     *lead         // of the goroutine whose it is, if that leads
	stripe   *stripe
	w        *work
	user     string
	id       uint64
	last     atomic.Int64 // time of the last command, Unix seconds
	writing  atomic.Int64 // since when a write does not end, Unix seconds; 0: none
	watching atomic.Bool
	closed   atomic.Bool
	reason   atomic.Pointer[string]
	err      error  // of tryRead
	n        int    // of tryRead
	into     []byte // for tryRead: where to read to, rather than to the work's buffer
	rest     []byte // what has been read of a request, while there is no work
	lack     int    // bytes that errPartial waits for
	skipping int    // bytes of input that are still to be dropped
	owed     []byte // the answer to what they belong to
	turn     int    // commands since others had theirs
	protocol Protocol
	authed   bool
	quit     bool // close when the answers are out
	datagram bool
	long     bool  // its input is in Server.pending
	takes    int64 // bytes, see mustTake
	late     bool  // the answer comes after what is skipped, not before
	again    bool  // this request has been looked at before, and was not complete
	short    bool  // the last read took all there was
	drain    bool  // there may be more, of which no event will tell
	behind   bool  // requests that have been read wait for their turn
	unsent   *unsent
	kept     int // bytes that are counted in Server.kept
	sent     int // bytes in this turn
	scanned  int // bytes from work.r on in which there is no line's end
	step     saslStep
	atGate   gateState
}

// work is what a connection needs while it handles requests.
type work struct {
	in     []byte
	r, n   int // in[r:n] has been read and not handled
	out    []byte
	txn    segcache.Txn
	tok    [maxTokens][]byte
	meta   metaFlags
	key    [maxKey + 6]byte // for a key that must outlive the buffer
	tags   [maxTagBytes]byte
	bin    [256]byte // for a key in base64
	tail   [2]byte   // of a value that was read to where it is to be
	ahead  ahead
	opaque uint32 // of a stat request
}

func newWork(size int) *work { return &work{in: make([]byte, size), out: make([]byte, 0, size)} }

// sent empties what has been sent, and keeps no more memory for it than most answers need.
func (w *work) sent() {
	w.out = w.out[:0]
	if cap(w.out) > 4*flushAt {
		w.out = make([]byte, 0, readBuffer)
	}
}

func newConn(s *Server, nc net.Conn, id uint64) *conn {
	c := &conn{
		s: s, fd: -1, nc: nc, local: nc.LocalAddr(), peer: nc.RemoteAddr(), id: id, stripe: &s.stripes[id%stripes], protocol: s.opts.Protocol,
	}
	c.last.Store(time.Now().Unix())
	return c
}

// errClosed ends a connection without a word.
var errClosed = errors.New("memcached: connection closed")

// serve is the goroutine of a connection that is not in the poller.
func (c *conn) serve() {
	defer c.end()
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
		}
	}()
	if tc, ok := c.nc.(*tls.Conn); ok {
		c.nc.SetDeadline(time.Now().Add(10 * time.Second))
		if tc.Handshake() != nil {
			c.stripe.add(handshakeErrors)
			return
		}
		c.nc.SetDeadline(time.Time{})
	}
	c.logConn()
	for !c.quit {
		if err := c.fill(); err != nil {
			c.fail(err)
			return
		}
		if !c.handle() {
			return
		}
	}
}

// handle answers what is complete. It is a function of its own so that the stack of a connection that waits is small.
//
//go:noinline
func (c *conn) handle() bool {
	if c.respond() == ended {
		return false
	}
	c.shrink()
	if c.flush() != nil {
		return false
	}
	c.park()
	return true
}

// park gives the buffers back if nothing is left in them.
func (c *conn) park() {
	if w := c.w; w != nil && w.r == w.n {
		c.w = nil
		c.s.giveBack(w)
		if c.long {
			c.long = false
			c.s.pending.release(c)
		}
	} else if w != nil {
		c.slim()
	}
}

// slim gives back what large answers have taken, before the connection waits with half a request or for its turn, if there are many.
func (c *conn) slim() {
	if w := c.w; len(w.out) == 0 && cap(w.out) > 2*readBuffer && c.s.crowded() {
		w.out = make([]byte, 0, readBuffer)
	}
}

// giveBack returns buffers to the pool, unless they have become large.
func (s *Server) giveBack(w *work) {
	if cap(w.in) > 4*readBuffer || cap(w.in) < crowdBuffer || cap(w.out) > 4*flushAt {
		return
	}
	w.r, w.n, w.out = 0, 0, w.out[:0]
	s.works.Put(w)
}

func (c *conn) panicked(p any) {
	c.stripe.add(panics)
	c.s.log.Error("panic", "addr", c.remote(), "err", p, "stack", string(debug.Stack()))
	c.close("panic")
}

// end is the last that happens to a connection.
func (c *conn) end() {
	c.close("normal")
	if c.fd >= 0 {
		c.leavePoller(nil)
	}
	if c.long {
		c.s.pending.release(c)
	}
	c.s.gate.unpark(c)
	if u := c.unsent; u != nil {
		u.release()
		c.unblocked()
	}
	c.account(0)
	c.logClose()
	c.s.open.Add(-1)
	c.s.taken.Add(-c.takes)
	c.s.forget(c)
	c.s.serving.Done()
}

// close closes the connection. The first reason counts. Any goroutine may call it.
func (c *conn) close(reason string) {
	if c.closed.Swap(true) {
		return
	}
	c.reason.CompareAndSwap(nil, &reason)
	if nc := c.shut(); nc != nil {
		nc.Close()
	}
}

// expel has the connection's own goroutine close it. Unlike close it waits for nothing, so that two connections may do it to each other while
// they are about to read.
func (c *conn) expel(reason string) {
	c.reason.CompareAndSwap(nil, &reason)
	if nc := c.shut(); nc != nil {
		nc.SetDeadline(time.Unix(1, 0))
	}
}

// shut shuts the socket of a connection in the poller down: whoever's it is finds that out, and closes it. It returns what is to be ended of one that is
// not there.
func (c *conn) shut() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd >= 0 {
		c.closed.Store(true) // what has come is not read any more
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
	}
	return c.nc
}

func (c *conn) fail(err error) { c.close(ending(err)) }

// ending is the reason for which a connection ends by an error.
func ending(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, errClosed) {
		return "normal"
	}
	return "error"
}

func (c *conn) remote() string {
	if c.peer != nil {
		return c.peer.String()
	}
	return ""
}

// full reports whether it is time to write what has been gathered.
func (c *conn) full() bool {
	n := len(c.w.out)
	return n > flushAt || n > leastPiece && c.s.pressed() && n > c.s.piece()
}

// stepFull is full for what is done in steps, between which it waits for the gate: it waits with little if many do.
func (c *conn) stepFull() bool { return c.full() || len(c.w.out) > flushEarly && c.s.crowded() }

// flushStep writes the answers if it is time, between two steps.
func (c *conn) flushStep() error {
	if !c.stepFull() {
		return nil
	}
	err := c.flush()
	c.slim()
	return err
}

// flush writes the answers, and waits for the client.
func (c *conn) flush() error {
	if c.w == nil || len(c.w.out) == 0 && c.unsent == nil {
		return nil
	}
	if c.datagram { // answers are gathered to the end
		if len(c.w.out) > udpMax {
			return errClosed
		}
		return nil
	}
	for c.unsent != nil {
		left, err := c.push()
		if err != nil {
			return err
		}
		if left && c.isStuck() {
			c.wait()
		}
		c.sent = 0
	}
	if cap(c.w.out) > 2*readBuffer && c.s.pressed() {
		// This one may not read, as many others do not: what is kept for it is no more than it must be.
		c.w.out = bytes.Clone(c.w.out)
	}
	err := c.write(c.w.out)
	c.w.sent()
	return err
}

func (c *conn) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	listed := c.enter()
	n, err := c.writeAll(p)
	c.leave(listed)
	c.stripe.n[bytesWritten].Add(uint64(n))
	return err
}

// enter notes that the connection's goroutine is going to write, for which it may have to wait, and what is kept meanwhile. leave wants what it
// returns.
func (c *conn) enter() (listed bool) {
	c.writing.Store(c.s.clock.real.Load())
	n := c.waits()
	c.account(n)
	if listed = c.s.pressed(); listed {
		c.s.blocked.take(c, n)
	}
	return listed
}

func (c *conn) leave(listed bool) {
	if listed {
		c.s.blocked.release(c)
	}
	c.account(0)
	c.writing.Store(0)
}

func (c *conn) writeAll(p []byte) (int, error) {
	if c.fd < 0 {
		return c.nc.Write(p)
	}
	for n := 0; ; {
		k, err := rawio.Write(uintptr(c.fd), p[n:])
		switch {
		case err == nil:
			if n += k; n == len(p) {
				return n, nil
			}
		case err == unix.EAGAIN:
			c.wait()
		case err != unix.EINTR:
			return n, err
		}
	}
}

// errTurn means that others have their turn now, though there is more to do.
var errTurn = errors.New("memcached: not all requests have been handled")

// negotiate settles what the connection speaks, once the first byte has come.
func (c *conn) negotiate() {
	if w := c.w; c.protocol == Auto && w.n > w.r {
		c.protocol = ASCII
		if w.in[w.r] == binRequest {
			c.protocol = Binary
		}
	}
}

// process answers all requests that have been read as a whole, or, for one in the poller, so many that others do not wait for long, and as much as the
// client takes: errTurn then.
func (c *conn) process() error {
	w := c.w
	c.negotiate()
	for c.turn = 0; w.r < w.n && !c.quit; {
		if c.skipping > 0 {
			c.skip(c.skipping)
			continue
		}
		before := len(w.out)
		var more bool
		var err error
		if c.protocol == Binary {
			more, err = c.binary()
		} else {
			more, err = c.line()
		}
		if err != nil || !more {
			return err
		}
		if c.skipping > 0 && c.late {
			c.owed, w.out = append([]byte(nil), w.out[before:]...), w.out[:before]
		}
		if stop, err := c.flushDue(); err != nil {
			return err
		} else if stop && (w.r < w.n || c.unsent != nil) {
			return errTurn
		}
		if c.turn++; c.turn >= c.s.opts.Batch && w.r < w.n {
			c.turn = 0
			c.stripe.add(connYields)
			if c.fd >= 0 {
				return errTurn
			}
			if err := c.yield(); err != nil {
				return err
			}
		}
	}
	return nil
}

// yield lets others have a turn. Where there are many, each of which has answers that wait meanwhile, it leaves little behind.
func (c *conn) yield() error {
	if len(c.w.out) >= readBuffer {
		if err := c.flush(); err != nil {
			return err
		}
	}
	c.slim()
	runtime.Gosched()
	return nil
}

// line handles one line of text, and what belongs to it. more is false where it is not complete.
func (c *conn) line() (more bool, err error) {
	w := c.w
	buf := w.in[w.r:w.n]
	i := bytes.IndexByte(buf[c.scanned:], '\n')
	if i < 0 {
		c.scanned = len(buf)
		if len(buf) <= maxLine {
			return false, nil
		}
		if p := bytes.TrimLeft(buf[:min(len(buf), 100)], " "); !isMultiget(p) || len(buf) > maxMultiget {
			return false, errClosed
		}
		c.makeRoom(readBuffer)
		return false, nil
	}
	i += c.scanned
	c.scanned = 0
	start := w.r
	w.r += i + 1
	if i < 3 { // with the line's end, less than 4
		c.answer("CLIENT_ERROR bad command line format")
		return true, nil
	}
	line := buf[:i]
	if line[i-1] == '\r' {
		line = line[:i-1]
	}
	if c.s.flushAt.Load() != 0 {
		c.s.dueFlush()
	}
	if c.s.slow.after == 0 {
		err = c.command(line)
	} else {
		err = c.timed(line)
	}
	switch err {
	case errPartial:
		return false, c.postpone(start)
	case errNotYet:
		w.r, c.again = start, true
		return false, err
	}
	if err != errTurn {
		c.again = false
	}
	return true, err
}

// isMultiget reports whether a line that is too long may be a multiget.
func isMultiget(p []byte) bool {
	for _, name := range [...]string{"get ", "gets ", "gat ", "gats "} {
		if len(p) >= len(name) && string(p[:len(name)]) == name {
			return true
		}
	}
	return false
}

// answer appends a line.
func (c *conn) answer(s string) {
	c.w.out = append(append(c.w.out, s...), '\r', '\n')
}
