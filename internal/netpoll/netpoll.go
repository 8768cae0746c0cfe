// Package netpoll waits for sockets in event loops of its own instead of the runtime's poller.
//
// The runtime has one thread in epoll_wait. It gives what that has found to whichever processor is free and wakes threads for it, which costs a busy
// server with two threads a tenth of the time, and leaves processors idle that have work. Here each processor of the runtime has an epoll set and
// a loop that waits for it. What a loop finds is done on its processor, before it looks again; between bursts it stays there, in the kernel, for a tenth
// of a millisecond. So connections stay with one processor, and nobody is woken in vain. When there is nothing to do, loops wait in the
// runtime's poller as others do.
//
// Connections keep their goroutines, which do not know of all this: a [Conn] is a [net.Conn]. docs/design/002 has the reasons and figures.
package netpoll

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"wheelhouse/internal/accept"
)

// Poller is a set of loops. It is safe for concurrent use. A nil Poller has none: its connections stay as they are.
type Poller struct {
	table Table[Conn]
	next  atomic.Uint32 // counts connections, for the loop of the next

	mu     sync.Mutex // guards all below
	loops  []*loop    // started with the first connection
	turns  *Turns
	closed bool
	ended  sync.WaitGroup
}

// New makes a poller. It starts nothing before the first connection.
func New() *Poller { return &Poller{} }

// Wrap takes nc's socket over, which waits in a loop of p from now on, and closes nc. It is nc itself where that is neither a TCP nor a Unix
// connection, where it or p is closed, or where descriptors are wanting. Deadlines of nc are forgotten.
func (p *Poller) Wrap(nc net.Conn) net.Conn {
	if p == nil {
		return nc
	}
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nc
	}
	loops := p.start()
	if len(loops) == 0 {
		return nc
	}
	fd, err := accept.Descriptor(nc.(syscall.Conn))
	if err != nil {
		return nc
	}
	c := &Conn{loop: loops[int(p.next.Add(1))%len(loops)], fd: fd, local: nc.LocalAddr(), remote: nc.RemoteAddr()}
	c.users.Store(1)
	if c.loop.add(c) != nil {
		_ = c.Close()
		return nc
	}
	_ = nc.Close()
	return c
}

// start starts the loops, or returns those that have been. There are none when p is closed, or descriptors are wanting.
func (p *Poller) start() []*loop {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loops != nil || p.closed {
		return p.loops
	}
	turns, err := NewTurns()
	if err != nil {
		return nil
	}
	var loops []*loop
	for n := range runtime.GOMAXPROCS(0) {
		l, err := newLoop(n+1, &p.table, turns)
		if err != nil {
			break
		}
		loops = append(loops, l)
	}
	if len(loops) == 0 {
		turns.Close()
		return nil
	}
	p.turns, p.loops = turns, loops
	for _, l := range loops {
		l.start(&p.ended)
	}
	return loops
}

// Close ends the loops, and closes the connections that are left. It may be called more than once.
func (p *Poller) Close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	loops := p.loops
	p.loops, p.closed = nil, true
	p.mu.Unlock()
	if loops == nil {
		return
	}
	for _, l := range loops {
		l.stop()
	}
	for c := range p.table.All() {
		_ = c.Close()
	}
	p.ended.Wait()
	for _, l := range loops {
		_ = l.set.Close()
	}
	p.turns.Close()
}

// Listener is ln, whose connections are as Wrap makes them.
func (p *Poller) Listener(ln net.Listener) net.Listener { return listener{ln, p} }

type listener struct {
	net.Listener
	p *Poller
}

func (l listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.p.Wrap(nc), nil
}

// SetDeadline is the listener's, where it has one.
func (l listener) SetDeadline(t time.Time) error {
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		return d.SetDeadline(t)
	}
	return nil
}
