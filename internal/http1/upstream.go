package http1

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// Transport is what the connections of one caller have in common: their options, and a counter. It is for callers that keep
// their own pools, as a balancer does; others use a [Client].
type Transport struct {
	opts   ClientOptions
	splice atomic.Uint64
}

// NewTransport makes a transport. MaxIdlePerHost, IdleTimeout and Dial of its options are not used.
func NewTransport(o ClientOptions) *Transport { return &Transport{opts: o.withDefaults()} }

// SpliceBytes is how many bytes of bodies never entered this process's memory.
func (t *Transport) SpliceBytes() uint64 { return t.splice.Load() }

// ClientConn is one connection to a server. It carries one exchange at a time, and belongs to whoever has it: nothing of it is
// safe for concurrent use.
type ClientConn struct {
	cc   *clientConn
	done func(reusable bool)
}

// NewConn makes a ClientConn of a connection to addr (the Host of requests that name none). done, which may be nil, is called at
// the end of each exchange, by the goroutine that ends it: reusable says that the connection is sound and idle, else it has been
// closed. The ClientConn may be handed on from within done.
func (t *Transport) NewConn(nc net.Conn, addr string, done func(reusable bool)) *ClientConn {
	c := &ClientConn{done: done}
	c.cc = newClientConn(nc, addr, &t.opts, c, &t.splice)
	return c
}

// Do sends a request and returns the response when its head has arrived; interim responses are skipped. Addr of the request is
// not used. The exchange ends when the response's body is closed, or with an error, a *DoError; nothing is tried again.
func (c *ClientConn) Do(ctx context.Context, r *OutRequest) (*Response, error) {
	if err := r.check(); err != nil {
		c.put(c.cc) // as it was
		return nil, err
	}
	res, err := c.cc.roundTrip(ctx, r)
	c.cc.reused = true
	return res, err
}

// Used reports whether the connection has carried an exchange.
func (c *ClientConn) Used() bool { return c.cc.reused }

// Stale reports whether the server has closed the idle connection, or has sent what nobody asked for: either way it cannot be
// used any more. It is known of plain TCP and unix connections only; of others it is always false. A request without a body finds it
// out by itself, see [ErrStale].
func (c *ClientConn) Stale() bool { return c.cc.raw != nil && readable(c.cc.raw) }

// Close closes a connection that is idle.
func (c *ClientConn) Close() error { return c.cc.nc.Close() }

// Loop is the event loop that the connection waits in, by its own account (a method Loop), counted from 1; 0 when it does not say.
func (c *ClientConn) Loop() int { return loopOf(c.cc.nc) }

// LocalAddr is this end's address.
func (c *ClientConn) LocalAddr() net.Addr { return c.cc.nc.LocalAddr() }

func (c *ClientConn) put(*clientConn) {
	if c.done != nil {
		c.done(true)
	} else {
		c.cc.nc.Close()
	}
}

func (c *ClientConn) lost(*clientConn) {
	if c.done != nil {
		c.done(false)
	}
}

// Switched gives the connection of an answer of status 101, to be used in the protocol that was agreed on, with what the server
// has sent already in front. It is the caller's to close. It returns nil for any other answer. The body is to be closed too.
func (r *Response) Switched() net.Conn {
	cc := r.body.cc
	if r.Status != 101 || cc == nil || cc.nc == nil {
		return nil
	}
	nc := cc.nc
	if !cc.unwatch() {
		return nil // the context has ended, and with it the connection
	}
	cc.broken = true
	early := append([]byte(nil), cc.buf.b[cc.rpos:cc.rend]...)
	cc.rpos = cc.rend
	nc.SetDeadline(time.Time{})
	cc.nc = nil
	return withEarly(nc, early)
}
