package memcached

import (
	"net"

	"golang.org/x/sys/unix"

	"wheelhouse/memcache/segcache"
)

// writeHeld writes what waits and then a large value, straight from the cache's memory. What the client does not take at once is copied,
// so that it does not hold the memory, up to maxUnread for all clients together; beyond, it does, for WriteTimeout at most.
func (c *conn) writeHeld(v []byte, held segcache.Held) error {
	out := c.w.out
	n := 0
	if c.fd >= 0 {
		var err error
		if n, err = unix.Writev(c.fd, [][]byte{out, v}); err != nil && err != unix.EAGAIN && err != unix.EINTR {
			held.Release()
			return err
		}
		n = max(n, 0)
		c.stripe.n[bytesWritten].Add(uint64(n))
	}
	if k := min(n, len(out)); k > 0 {
		out, n = out[k:], n-k
	}
	rest := v[n:]
	size := int64(len(rest))
	if size > 0 { // the client is going to be waited for, and the copy may be long
		c.detach()
	}
	if c.fd >= 0 && c.s.unread.Add(size) <= maxUnread {
		rest = append(make([]byte, 0, len(rest)), rest...)
		held.Release()
		defer c.s.unread.Add(-size)
	} else {
		if c.fd >= 0 {
			c.s.unread.Add(-size)
		}
		defer held.Release()
	}
	defer func() { c.w.out = c.w.out[:0] }()
	defer c.writing.Store(0)
	for len(out)+len(rest) > 0 {
		c.writing.Store(c.s.clock.real.Load()) // WriteTimeout is for each piece: a large value may take long
		piece := rest[:min(len(rest), flushAt)]
		k, err := c.writeBoth(out, piece)
		c.stripe.n[bytesWritten].Add(uint64(k))
		if err != nil {
			return err
		}
		out, rest = nil, rest[len(piece):]
	}
	return nil
}

// writeBoth writes a and then b.
func (c *conn) writeBoth(a, b []byte) (int64, error) {
	if c.fd < 0 {
		bufs := net.Buffers{a, b}
		return bufs.WriteTo(c.nc)
	}
	n := 0
	for _, p := range [...][]byte{a, b} {
		k, err := c.writeAll(p)
		if n += k; err != nil {
			return int64(n), err
		}
	}
	return int64(n), nil
}
