package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is one connection and, while a handler runs, its [Exchange]. All fields but word, those of
// the sweeper and those under mu belong to the connection's goroutine.
type conn struct {
	srv    *Server
	nc     net.Conn
	raw    syscall.RawConn // of a plain TCP or unix connection, nil for others
	word   atomic.Uint64   // see phase
	client net.Addr        // of whom the connection is, nil: of its other end
	late   bool            // a phase lasted too long: this is the connection's last exchange
	born   time.Time
	served atomic.Uint64 // requests

	// Read side: rbuf[rpos:rend] has been read and not consumed. Below low lies the head of the request in work.
	rbuf            []byte
	rpos, rend, low int
	stash           []byte // the beginning of a head, while rbuf is nil
	fresh           bool   // no request has been read yet

	lim     *serverLimits // in force for the request in work
	req     Request
	body    reqBody
	expect  bool // 100 Continue is owed
	answer  answer
	header  Header  // of the answer
	out     *buffer // what is held back, nil when nothing is
	owed    bool    // out holds complete answers: it must go before the client is waited for
	werr    error   // the first write error
	sending rawSend
	idling  rawRecv
	file    preader // what SendFile copies from

	stall  uint64 // of the sweeper: the word at which unsent was taken
	unsent int    // of the sweeper: what the socket held then

	mu     sync.Mutex // guards ctx and cancel, which the sweeper uses too
	ctx    context.Context
	cancel context.CancelCauseFunc
	gone   bool // the connection has ended
}

var _ Exchange = (*conn)(nil)

var (
	errLate  = errors.New("http1: the connection's time is over")
	errWoken = errors.New("http1: woken to look at the server's state")
)

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, nc: nc, fresh: true, born: time.Now()}
	c.raw = rawConnOf(nc)
	c.sending.bind(c)
	c.idling.bind(c)
	c.body.c = c
	c.enter(phaseFresh)
	return c
}

// serve is the connection's goroutine.
func (c *conn) serve() {
	var handed net.Conn
	defer c.depart(&handed)
	for {
		if err := c.readHead(); err == errHandOver {
			handed = c.nc
			return
		} else if err != nil {
			c.refuse(err)
			return
		}
		if !c.exchange() {
			return
		}
	}
}

// depart ends the connection, unless it is handed over, and takes it off the server's list. It is deferred.
func (c *conn) depart(handed *net.Conn) {
	if v := recover(); v != nil { // the engine's own, since handlers' panics end in handle
		c.panicked(v)
	}
	late := c.enter(phaseGone)
	if *handed != nil && (late || c.werr != nil) {
		*handed = nil
	}
	c.end()
	if *handed == nil {
		c.nc.Close()
	}
	c.srv.drop(c, *handed)
}

func (c *conn) panicked(v any) {
	stack := debug.Stack()
	c.srv.counts.panics.Add(1)
	c.srv.log.Error("handler panicked", "addr", c.nc.RemoteAddr(), "method", c.req.Method,
		"path", string(c.req.Path), "err", v, "stack", string(stack))
	if f := c.srv.opts.OnPanic; f != nil {
		f(v, stack)
	}
}

// end releases what the connection holds.
func (c *conn) end() {
	c.mu.Lock()
	c.gone = true
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		cancel(context.Canceled)
	}
	c.release()
}

// read reads once, in the present phase; without p into a new c.rbuf. It undoes deadlines that were set to wake the connection while it idled.
func (c *conn) read(p []byte) (int, error) {
	for {
		var n int
		var err error
		if p == nil {
			n, err = c.idling.read()
		} else {
			n, err = c.nc.Read(p)
		}
		if n > 0 {
			c.srv.counts.in.Add(uint64(n))
			return n, nil
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		w := c.word.Load()
		if w&claimed != 0 {
			return 0, errLate
		}
		c.nc.SetReadDeadline(time.Time{})
		if ph := phaseOf(w); ph == phaseIdle || ph == phaseFresh {
			return 0, errWoken
		}
	}
}

// fill reads once into the buffer, which it compacts or grows if there is no room. The request's head, below low, stays where
// it is: a buffer that is outgrown lives on for as long as the request points into it.
func (c *conn) fill() (int, error) {
	if c.owed {
		if err := c.flush(false); err != nil {
			return 0, err
		}
	}
	if c.rbuf == nil && c.raw != nil {
		n, err := c.read(nil)
		c.rend += n
		return n, err
	}
	if c.rpos == c.rend {
		c.rpos, c.rend = c.low, c.low
	}
	if len(c.rbuf)-c.rend < 512 && c.rpos > c.low {
		c.rend = c.low + copy(c.rbuf[c.low:], c.rbuf[c.rpos:c.rend])
		c.rpos = c.low
	}
	if len(c.rbuf)-c.rend < 512 {
		unread := c.rbuf[c.rpos:c.rend]
		b := make([]byte, max(readBuffer, 2*len(unread)))
		c.rpos, c.rend, c.low = 0, copy(b, unread), 0
		c.rbuf = b
	}
	n, err := c.read(c.rbuf[c.rend:])
	c.rend += n
	return n, err
}

// exchange handles the request that readHead has parsed. It reports whether the connection lives on.
func (c *conn) exchange() bool {
	c.srv.counts.requests.Add(1)
	c.served.Add(1)
	c.req.ID = c.srv.opts.Sequence.Add(1)
	c.body.begin(&c.req, &c.lim.Limits)
	c.expect = c.req.ExpectContinue
	c.answer = answer{open: -1}
	c.header.Reset()
	c.enter(phaseHandle)

	finished := c.handle()
	c.finishAnswer(finished)
	keep := c.answer.keep && c.werr == nil && !c.late
	if keep && !c.body.done() {
		keep = c.body.discard(drainBytes)
	}
	if keep {
		c.low = 0
		return true
	}
	c.close()
	return false
}

// handle runs the handler; false when it panicked.
func (c *conn) handle() (finished bool) {
	defer func() {
		if finished {
			return
		}
		// recover is nil when the handler called runtime.Goexit; the connection then ends by serve's deferred call.
		if v := recover(); v != nil {
			c.panicked(v)
		}
	}()
	c.srv.handler.ServeExchange(c)
	return true
}

// close ends a connection after its last answer. When the client may still be sending, it lingers.
func (c *conn) close() {
	c.flush(false)
	switch {
	case c.answer.aborted:
	case c.werr != nil:
		c.cut(c.werr == ErrWriteTimeout) // else what is in the socket's buffer would keep it for minutes
	case !c.body.done(), c.rpos < c.rend:
		c.linger()
	}
}

// linger ends the sending side and drops what arrives, for a bounded time and amount, until the client closes. Else the close
// would make the kernel answer what arrives by a reset, which can destroy the answer on its way (RFC 9112 §9.6).
func (c *conn) linger() {
	w, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || c.werr != nil || w.CloseWrite() != nil {
		return
	}
	c.enter(phaseLinger)
	c.nc.SetReadDeadline(time.Time{})
	if c.word.Load()&claimed != 0 {
		return // its deadline has just been undone
	}
	b := getBuffer()
	defer putBuffer(b)
	for left := lingerBytes; left > 0; {
		n, err := c.read(b.b[:cap(b.b)])
		if err != nil {
			return
		}
		left -= n
	}
}

// Context ends when the connection does, when the server is closed, and, as far as the sweeper can see it from outside,
// when the client has closed its side.
func (c *conn) Context() context.Context {
	if c.ctx == nil { // no other goroutine writes it
		c.mu.Lock()
		c.ctx, c.cancel = newConnContext(c.srv.base)
		c.mu.Unlock()
	}
	return c.ctx
}

// watch cancels the context if the client has closed its side. It is called by the sweeper while a handler runs.
func (c *conn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil && !c.gone && c.ctx.Err() == nil && c.peerClosed() {
		c.cancel(ErrClientGone)
	}
}

func (c *conn) peerClosed() bool {
	if c.raw != nil {
		return peerClosed(c.raw)
	}
	raw := c.socket()
	return raw != nil && tlsPeerClosed(raw)
}

// onlyAlert reports whether b is nothing, or one record of TLS which is, or in TLS 1.3 may be, an alert (RFC 8446 §5.2, §6): nothing that is as
// short is a request.
func onlyAlert(b []byte) bool {
	const alert, data, header, tls13 = 21, 23, 5, 2 + 1 + 16
	if len(b) < header {
		return len(b) == 0
	}
	n := int(b[3])<<8 | int(b[4])
	return len(b) == header+n && (b[0] == alert || b[0] == data && n <= tls13)
}

func (c *conn) Request() *Request   { return &c.req }
func (c *conn) Body() io.Reader     { return &c.body }
func (c *conn) Header() *Header     { return &c.header }
func (c *conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

func (c *conn) RemoteAddr() net.Addr {
	if c.client != nil {
		return c.client
	}
	return c.nc.RemoteAddr()
}

func (c *conn) TLS() bool {
	_, ok := c.nc.(interface{ ConnectionState() tls.ConnectionState })
	return ok
}
