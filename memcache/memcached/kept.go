package memcached

import (
	"bytes"
	"crypto/tls"
	"unsafe"
)

// What connections keep while they are in nobody's hands counts against maxKept, together: answers that are not taken, and what has been read and
// not answered. While they have half of it, each reads and answers in pieces of its share; beyond all of it, those who take nothing are closed.

// What there is besides buffers, in bytes.
const (
	workSize   = int(unsafe.Sizeof(work{}))
	unsentSize = int(unsafe.Sizeof(unsent{}))
	stackSize  = 8 << 10 // of a connection in the poller that has to wait within a command
)

// pressed reports whether connections are to keep little.
func (s *Server) pressed() bool { return s.kept.Load() > maxKept/2 }

// piece is how much a connection reads, and answers, before it writes, if that is to be little: what is left has room for that of all.
func (s *Server) piece() int {
	return min(max(maxKept/4/int(max(s.open.Load(), 1)), leastPiece), mostPiece)
}

// moreKept is how much may be kept besides maxKept, in bytes: part of what items can give up.
func (s *Server) moreKept() int {
	limit := s.cache.Limit()
	return int(min(max(limit/2-max(s.taken.Load()-freeTakes, 0), 0), limit/4))
}

// keepAside has items give up what is kept beyond half of maxKept.
func (s *Server) keepAside() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setAside()
	s.keptAside.Store(s.kept.Load() + asideStep)
}

// holds reports whether a value of n bytes is written from where it is.
func (c *conn) holds(n int) bool {
	return n > leastPiece && !c.datagram && (n > holdAbove || c.s.pressed() && n > c.s.piece())
}

// keeps is what the connection keeps, in bytes.
func (c *conn) keeps() int {
	n := cap(c.rest)
	if w := c.w; w != nil {
		n += workSize + cap(w.in) + cap(w.out)
	}
	if c.unsent != nil {
		n += c.unsent.size()
	}
	return n
}

// account counts what the connection keeps.
func (c *conn) account(n int) {
	if d := n - c.kept; d != 0 {
		c.kept = n
		if c.s.kept.Add(int64(d)) > c.s.keptAside.Load() {
			c.s.keepAside()
		}
	}
}

// putDown is for a connection in the poller that leaves the hands of its goroutine, and has not ended.
func (c *conn) putDown() {
	if c.w != nil && c.s.pressed() {
		c.stow()
	}
	c.account(c.keeps())
}

// waits is what the connection keeps while its goroutine waits for the client.
func (c *conn) waits() int {
	n := c.keeps()
	if c.fd >= 0 {
		return n + stackSize
	}
	if _, ok := c.nc.(*tls.Conn); ok { // package tls has a copy
		if c.s.pressed() {
			return n + c.s.piece()
		}
		return n + min(cap(c.w.out), tlsRecord)
	}
	return n
}

// shrink has a connection that is not in the poller keep no more than it must while it writes.
func (c *conn) shrink() {
	w := c.w
	if c.fd >= 0 || c.datagram || w == nil || !c.s.pressed() {
		return
	}
	if cap(w.in) > w.n-w.r+leastPiece {
		w.in = bytes.Clone(w.in[w.r:w.n])
		w.r, w.n = 0, len(w.in)
	}
	w.out = bytes.Clone(w.out)
}
