package memcached

import (
	"net"

	"wheelhouse/memcache/segcache"
)

// writeHeld writes what waits and then a value, straight from the cache's memory. For a connection in the poller it is unsent then, unless the
// client takes it at once.
func (c *conn) writeHeld(v []byte, held segcache.Held) error {
	out := c.w.out
	if c.fd < 0 {
		defer held.Release()
		return c.writeHeldNow(out, v)
	}
	err := c.begin(out, v)
	c.w.out = out[:0]
	if c.unsent == nil {
		held.Release()
		return err
	}
	c.unsent.held, c.unsent.holds = held, true
	return err
}

// writeHeldNow is writeHeld for a connection that is not in the poller. The client may take his time.
func (c *conn) writeHeldNow(out, v []byte) error {
	defer func() { c.w.out = c.w.out[:0] }()
	listed := c.enter()
	defer func() { c.leave(listed) }()
	most := flushAt
	if c.s.pressed() {
		most = c.s.piece()
	}
	for len(out)+len(v) > 0 {
		c.writing.Store(c.s.clock.real.Load()) // WriteTimeout is for each piece: a large value may take long
		piece := v[:min(len(v), most)]
		bufs := net.Buffers{out, piece}
		k, err := bufs.WriteTo(c.nc)
		c.stripe.n[bytesWritten].Add(uint64(k))
		if err != nil {
			return err
		}
		out, v = nil, v[len(piece):]
	}
	return nil
}
