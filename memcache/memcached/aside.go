package memcached

import "crypto/tls"

// What a connection that waits takes of the process's memory, in bytes: what is remembered of it, and, if it is not in the poller, its stack, the
// descriptor's state and that of TLS. Measured with 10 000 connections, and 6 000 of TLS.
const (
	polledTakes = 1 << 10
	plainTakes  = 6 << 10
	tlsTakes    = 14 << 10
	tlsLarge    = 38 << 10 // once it has sent a large record: package tls keeps the buffer for it
	tlsSmall    = 1 << 10  // bytes of a record that is none
)

// The 64 MB beyond the limit have room for freeTakes bytes of connections; what they take beyond, items give up, in steps.
const (
	freeTakes = 12 << 20
	asideStep = 2 << 20
)

// mustTake is what the connection will take while it waits, in bytes.
func (c *conn) mustTake() int64 {
	if c.fd >= 0 {
		return polledTakes
	}
	if _, ok := c.nc.(*tls.Conn); ok {
		return tlsTakes
	}
	return plainTakes
}

// takesLarge notes that a connection of TLS has sent a large record.
func (c *conn) takesLarge() {
	c.s.taken.Add(tlsLarge - c.takes)
	c.takes = tlsLarge
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.setAside()
}

// ConnectionMemory is what the connections take, in bytes: by their number and kind, and what they keep beyond half of maxKept.
func (s *Server) ConnectionMemory() int64 { return s.taken.Load() + max(s.kept.Load()-maxKept/2, 0) }

// setAside has items give up what the connections need, at once. s.mu is held.
func (s *Server) setAside() {
	if need := s.ConnectionMemory() - freeTakes; need > s.aside {
		s.aside = (need + asideStep - 1) / asideStep * asideStep
		s.cache.SetAside(s.aside)
	}
}

// restoreAside lets items have a step back when the connections need two less: where these come and go, not all is forgotten each time.
func (s *Server) restoreAside() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keptAside.Store(max(s.kept.Load(), maxKept/2))
	if need := s.ConnectionMemory() - freeTakes; s.aside > 0 && need < s.aside-2*asideStep {
		s.aside -= asideStep
		s.cache.SetAside(s.aside)
	}
}
