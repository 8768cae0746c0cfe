package http1

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ClientOptions of a [Client]. The zero value is ready for use. For durations zero means the default and a negative one
// no limit; see the package's comment for how exact they are.
type ClientOptions struct {
	// MaxIdlePerHost is how many connections to one address are kept for reuse. Default 64, negative: none.
	MaxIdlePerHost int
	// IdleTimeout is how long they are kept. It should be shorter than the servers' own. Default 30 s.
	IdleTimeout time.Duration
	// DialTimeout bounds the making of a connection. Default 5 s.
	DialTimeout time.Duration
	// HeadTimeout is the longest silence between the request's end and the end of the response's head. Default 60 s.
	HeadTimeout time.Duration
	// BodyTimeout is the longest silence while a response's body is read. Default 60 s.
	BodyTimeout time.Duration
	// WriteTimeout is the longest time for which sending a request may make no progress. Default 60 s.
	WriteTimeout time.Duration
	// ContinueTimeout is how long 100 Continue is waited for before the body is sent without it. Default 1 s.
	ContinueTimeout time.Duration
	// Limits bound responses by Line, Head, Fields and ChunkLine; the other limits are not used.
	Limits Limits
	// Dial makes connections. Default: net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

func (o ClientOptions) withDefaults() ClientOptions {
	o.MaxIdlePerHost = max(0, cmp.Or(o.MaxIdlePerHost, 64))
	for d, def := range map[*time.Duration]time.Duration{
		&o.IdleTimeout: 30 * time.Second, &o.DialTimeout: 5 * time.Second, &o.HeadTimeout: time.Minute,
		&o.BodyTimeout: time.Minute, &o.WriteTimeout: time.Minute, &o.ContinueTimeout: time.Second,
	} {
		if *d = cmp.Or(*d, def); *d < 0 {
			*d = math.MaxInt64
		}
	}
	o.Limits = o.Limits.withDefaults()
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	return o
}

// OutRequest is a request to send.
type OutRequest struct {
	Method string
	// Addr is where to connect, host:port.
	Addr string
	// Host is the value of the Host field. Default: Header's, else Addr.
	Host string
	// Target is the request target, normally a path; default "/".
	Target string
	// Header is the other fields. Content-Length, Transfer-Encoding, Connection and Expect are the engine's own.
	Header Header
	// Body is the body, or its source BodyReader with its Size in bytes: -1 when it is not known (chunked); a source with
	// Size 0 is not read. With both, Body is the beginning, of which Size is not told: Size is that of BodyReader's part.
	Body       []byte
	BodyReader io.Reader
	Size       int64
	// Expect100 waits for the server's consent before the body is sent.
	Expect100 bool
	// Idempotent says that the request may be sent twice, beyond the methods of which that is known.
	Idempotent bool
	// Loop is the event loop of what the request is made for (see [Looper]): a connection that waits in it is best. 0: none. [ClientConn] does not use it.
	Loop int
	// Now is the time, if the caller knows it: that saves a look at the clock.
	Now time.Time
	// Upgrade asks for another protocol on the connection (RFC 9110 §7.8), for instance "websocket". The answer may then be 101,
	// whose connection [Response.Switched] gives. Default "": nothing is asked.
	Upgrade string
}

// DoError is a failure of [Client.Do]. Op is "dial", "write" or "read": after "dial" nothing has been sent, and another server may
// be tried whatever the method.
type DoError struct {
	Op, Addr string
	// Reused: the connection had served another request before, Began: bytes of the response had arrived.
	Reused, Began bool
	Err           error
}

// Error is "http1: op addr: cause".
func (e *DoError) Error() string { return "http1: " + e.Op + " " + e.Addr + ": " + e.Err.Error() }

// Unwrap is the cause; context's errors, *Error (the response is malformed) and *BodyReadError (BodyReader failed) are
// among them.
func (e *DoError) Unwrap() error { return e.Err }

var (
	// ErrClientClosed is what Do returns after Close.
	ErrClientClosed = errors.New("http1: client closed")
	// ErrStale is what [ClientConn.Do] returns when the server has closed the idle connection, or has sent what nobody asked for. Nothing
	// of the request has been sent: it may go to another connection, whatever its method.
	ErrStale = errors.New("http1: the idle connection was closed by the server, or has sent what nobody asked for")

	// ErrBadRequest is what Do returns of a request that would be misunderstood. Nothing of it has been sent, and no server is to blame.
	ErrBadRequest = errors.New("http1: the request cannot be sent: method, target or host is malformed")

	errClosedBody = errors.New("http1: read of a closed body")
)

// ClientStats are a client's counters since its start, and a gauge.
type ClientStats struct {
	Dials, Reused, Retries, SpliceBytes uint64
	Idle                                int
}

// Client sends requests over a pool of connections. It is safe for concurrent use.
type Client struct {
	opts   ClientOptions
	counts struct{ dials, reused, retries, splice atomic.Uint64 }

	mu     sync.Mutex // guards all below
	idle   map[string][]*clientConn
	timer  *time.Timer // runs while there are idle connections
	closed bool
}

// NewClient makes a client. It starts nothing.
func NewClient(o ClientOptions) *Client {
	return &Client{opts: o.withDefaults(), idle: make(map[string][]*clientConn)}
}

// Do sends a request and returns the response when its head has arrived; interim responses are skipped. ctx governs the
// exchange up to the closing of the response's body. A request that can be sent again (no BodyReader) and is idempotent is sent
// again, once and on a new connection, when a reused connection proves dead before any byte of the response. Errors are
// *DoError.
func (c *Client) Do(ctx context.Context, r *OutRequest) (*Response, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	var cc *clientConn
	var res *Response
	var err error
	for {
		if cc, err = c.get(ctx, r); err != nil {
			return nil, err
		}
		if res, err = cc.roundTrip(ctx, r); !errors.Is(err, ErrStale) {
			break
		}
	}
	if err == nil || !cc.diedIdle(ctx, err) || !r.replayable() {
		return res, err
	}
	c.counts.retries.Add(1)
	if cc, err = c.dial(ctx, r.Addr); err != nil {
		return nil, err
	}
	return cc.roundTrip(ctx, r)
}

// check refuses what cannot be sent without being misunderstood.
func (r *OutRequest) check() error {
	if !isToken(r.Method) || !all(r.Target, inTarget) || r.Host != "" && !validAuthority(r.Host) || !all(r.Upgrade, inValue) {
		return &DoError{Op: "write", Addr: r.Addr, Err: ErrBadRequest}
	}
	return nil
}

// replayable reports whether a request may be sent a second time (RFC 9110 §9.2.2).
func (r *OutRequest) replayable() bool {
	if r.BodyReader != nil {
		return false
	}
	switch r.Method {
	case "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "MKCOL":
		return true
	}
	return r.Idempotent
}

// get takes a connection from the pool, or makes one.
func (c *Client) get(ctx context.Context, r *OutRequest) (*clientConn, error) {
	addr := r.Addr
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, &DoError{Op: "dial", Addr: addr, Err: ErrClientClosed}
		}
		list := c.idle[addr]
		if len(list) == 0 {
			c.mu.Unlock()
			return c.dial(ctx, addr)
		}
		i := newest(list, r.Loop)
		cc := list[i]
		c.idle[addr] = slices.Delete(list, i, i+1)
		c.mu.Unlock()
		// Readable means closed, or an answer to no question, which must not be taken for that to the next. A request without a body sees
		// it by itself.
		if cc.raw != nil && r.hasBody() && readable(cc.raw) {
			cc.nc.Close()
			continue
		}
		c.counts.reused.Add(1)
		cc.reused = true
		return cc, nil
	}
}

// newest is which of the connections was used last: of those of a loop, if there is one near the end.
func newest(list []*clientConn, loop int) int {
	last := len(list) - 1
	if loop > 0 {
		for i := last; i >= 0 && i > last-sameLoopTries; i-- {
			if loopOf(list[i].nc) == loop {
				return i
			}
		}
	}
	return last
}

// sameLoopTries is how many idle connections are looked at for one of the loop.
const sameLoopTries = 16

func (c *Client) dial(ctx context.Context, addr string) (*clientConn, error) {
	dctx, cancel := ctx, context.CancelFunc(func() {})
	if c.opts.DialTimeout < math.MaxInt64 {
		dctx, cancel = context.WithTimeout(ctx, c.opts.DialTimeout)
	}
	defer cancel()
	c.counts.dials.Add(1)
	nc, err := c.opts.Dial(dctx, "tcp", addr)
	if err != nil {
		return nil, &DoError{Op: "dial", Addr: addr, Err: err}
	}
	cc := newClientConn(nc, addr, &c.opts, c, &c.counts.splice)
	cc.looked = true // it has not idled
	return cc, nil
}

func newClientConn(nc net.Conn, addr string, o *ClientOptions, owner connOwner, splice *atomic.Uint64) *clientConn {
	cc := &clientConn{owner: owner, splice: splice, opts: o, addr: addr, nc: nc, raw: rawConnOf(nc)}
	cc.onDone = cc.interrupt
	cc.trip.bind(cc)
	return cc
}

// put takes a connection back.
func (c *Client) put(cc *clientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.idle[cc.addr]
	if c.closed || len(list) >= c.opts.MaxIdlePerHost {
		cc.nc.Close()
		return
	}
	cc.idleSince = time.Now()
	c.idle[cc.addr] = append(list, cc)
	if c.timer == nil && c.opts.IdleTimeout < math.MaxInt64 {
		c.timer = time.AfterFunc(c.opts.IdleTimeout, c.expire)
	}
}

// lost is told of a connection that has been closed, of which the pool keeps nothing.
func (c *Client) lost(*clientConn) {}

// expire closes the connections that have been idle for too long. It is the timer's function.
func (c *Client) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.timer == nil {
		return
	}
	now := time.Now()
	next := time.Duration(math.MaxInt64)
	for addr, list := range c.idle {
		n := 0 // the oldest are in front
		for n < len(list) && now.Sub(list[n].idleSince) >= c.opts.IdleTimeout {
			list[n].nc.Close()
			n++
		}
		if n == len(list) {
			delete(c.idle, addr)
			continue
		}
		c.idle[addr] = append(list[:0], list[n:]...)
		clear(list[len(list)-n:])
		next = min(next, c.opts.IdleTimeout-now.Sub(c.idle[addr][0].idleSince))
	}
	if c.timer = nil; next < math.MaxInt64 {
		c.timer = time.AfterFunc(max(next, time.Millisecond), c.expire)
	}
}

// CloseIdle closes the connections that wait in the pool.
func (c *Client) CloseIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, list := range c.idle {
		for _, cc := range list {
			cc.nc.Close()
		}
	}
	clear(c.idle)
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// Close closes the pool. Exchanges under way go on to their end; no new ones are taken.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.CloseIdle()
}

// Idle is how many connections wait in the pool for each address that has any.
func (c *Client) Idle() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	idle := make(map[string]int, len(c.idle))
	for addr, list := range c.idle {
		if len(list) > 0 {
			idle[addr] = len(list)
		}
	}
	return idle
}

// Stats returns the counters as they are now.
func (c *Client) Stats() ClientStats {
	st := ClientStats{
		Dials: c.counts.dials.Load(), Reused: c.counts.reused.Load(),
		Retries: c.counts.retries.Load(), SpliceBytes: c.counts.splice.Load(),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, list := range c.idle {
		st.Idle += len(list)
	}
	return st
}
