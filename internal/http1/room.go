package http1

import (
	"net"
	"syscall"
	"time"
)

// Pacer is an [Exchange] that knows how much its client has still to take in. Those of this package's server are.
type Pacer interface {
	// Room reports whether n more bytes can be written without waiting for the client, as far as the kernel tells.
	Room(n int) bool
}

var _ Pacer = (*conn)(nil)

// Room implements [Pacer].
func (c *conn) Room(n int) bool {
	raw := c.socket()
	if raw == nil {
		return false
	}
	if c.out != nil {
		n += len(c.out.b)
	}
	size := 0
	raw.Control(func(fd uintptr) { size, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF) })
	// The kernel counts its own bookkeeping against the buffer: half of it is what surely fits.
	return unsent(raw)+n <= size/2
}

// socket gives access to the descriptor, be it one that TLS lies upon; nil where there is none.
func (c *conn) socket() rawConn {
	raw := c.raw
	for nc := c.nc; raw == nil; raw = rawConnOf(nc) {
		t, ok := nc.(interface{ NetConn() net.Conn }) // TLS, and what it may lie upon
		if !ok {
			break
		}
		nc = t.NetConn()
	}
	return raw
}

// Looper is an [Exchange] that knows which event loop its connection waits in. Those of this package's server are.
type Looper interface {
	// Loop is the loop's number, counted from 1; 0: the connection does not say.
	Loop() int
}

var _ Looper = (*conn)(nil)

// Loop implements [Looper].
func (c *conn) Loop() int { return loopOf(c.nc) }

func loopOf(nc net.Conn) int {
	if l, ok := nc.(interface{ Loop() int }); ok {
		return l.Loop()
	}
	return 0
}

// ConnInfo is what a server knows of one of its connections.
type ConnInfo struct {
	Remote, Local net.Addr
	// State is handling, fresh, idle, reading (a head or a body), writing or closing.
	State string
	// Age is how long the connection has been in that state.
	Age time.Duration
	// Open is how long the connection has been open, and Requests how many requests have come on it.
	Open     time.Duration
	Requests uint64
}

var phaseNames = [phases]string{"handling", "fresh", "idle", "reading", "reading", "writing", "closing", "closing"}

// Conns are the connections as they are now, in no order.
func (s *Server) Conns() []ConnInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]ConnInfo, 0, len(s.conns))
	now, opened := s.clock.Load(), time.Now()
	for c := range s.conns {
		w := c.word.Load()
		list = append(list, ConnInfo{
			c.RemoteAddr(), c.LocalAddr(), phaseNames[phaseOf(w)], time.Duration(max(0, now-int64(w>>timeShift))) * time.Millisecond,
			opened.Sub(c.born), c.served.Load(),
		})
	}
	return list
}
