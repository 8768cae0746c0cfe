package memcached

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/netpoll"
)

// poller waits for all connections that are sockets and nothing else (no TLS). They have no goroutine while they wait: leaders take what has
// happened from one epoll set, and see to it. A leader that would have to wait, for a client or for anything that takes long, gives the lead to
// a new goroutine first (conn.detach), and goes on as that client's own: what it does may then block as it likes.
//
// A socket is registered once, edge-triggered. Whose a connection is, is settled by its state. While there is nothing to be done, leaders wait for
// the epoll set itself in the runtime's poller, as other goroutines wait for their sockets.
type poller struct {
	s     *Server
	epoll int
	set   *os.File // of epoll
	raw   syscall.RawConn
	table netpoll.Table[conn]
	turns *netpoll.Turns
	mu    sync.Mutex // a connection is added, and dropped, as a whole
}

// batchConns is how many connections a leader has in hand at once. Half of it are, while there are so many, those that it was not done with: where
// many ask for much, one that asks now and then waits for its own event, and not for all of them.
const batchConns = 32

// lead is what one leader has taken: it is the property of the goroutine that leads.
type lead struct {
	events [batchConns]unix.EpollEvent
	n      int                      // events[:n] have happened
	poll   func(epoll uintptr) bool // pollNow
	polls  int                      // how often it was called
	list   []*conn                  // in hand; nil: one that is done with
	step   step                     // what is being done with them
	at     int                      // list[at:] are still to be seen to in this step
	more   []*conn                  // are not done with; the first has waited longest
}

func newPoller(s *Server) (*poller, error) {
	p := &poller{s: s}
	var err error
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("memcached: epoll: %w", err)
	}
	if err := unix.SetNonblock(p.epoll, true); err != nil { // by which package os knows that it can be waited for
		unix.Close(p.epoll)
		return nil, fmt.Errorf("memcached: epoll: %w", err)
	}
	p.set = os.NewFile(uintptr(p.epoll), "epoll")
	if p.raw, err = p.set.SyscallConn(); err == nil {
		p.turns, err = netpoll.NewTurns()
	}
	if err != nil {
		p.set.Close()
		return nil, fmt.Errorf("memcached: epoll: %w", err)
	}
	return p, nil
}

func (p *poller) watch(fd int, op int) error {
	const events = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff
	return unix.EpollCtl(p.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// start makes goroutines lead, until close.
func (p *poller) start(leaders int) {
	for range leaders {
		p.s.parts.Go(func() { p.run(newLead()) })
	}
}

// close ends the leaders. There are no connections any more. It may be called again.
func (p *poller) close() {
	_ = p.set.Close()
	p.turns.Close()
}

// add begins to wait for a connection, which is idle.
func (p *poller) add(c *conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table.Put(c.fd, c)
	return p.watch(c.fd, unix.EPOLL_CTL_ADD)
}

// drop forgets a connection, before its descriptor is closed.
func (p *poller) drop(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table.Drop(c.fd)
	_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, c.fd, nil)
}

func newLead() *lead {
	l := &lead{}
	l.poll = l.pollNow
	return l
}

// pollNow takes what has happened, and reports whether there is anything to be done.
func (l *lead) pollNow(epoll uintptr) bool {
	l.polls++
	l.n = netpoll.Poll(int(epoll), l.events[:batchConns-len(l.list)])
	return l.n+len(l.list) > 0
}

// run leads until the server ends, or another goroutine leads.
func (p *poller) run(l *lead) {
	for {
		for ; l.step < steps; l.step, l.at = l.step+1, 0 {
			for l.at < len(l.list) {
				l.at++
				if c := l.list[l.at-1]; c != nil && !l.see(c) {
					return
				}
			}
		}
		if !p.next(l) {
			return
		}
	}
}

// see takes a connection through a step, and reports whether the caller still leads.
func (l *lead) see(c *conn) bool {
	c.lead = l
	at := l.step
	o := c.try(at)
	if c.lead == nil {
		c.alone(at, o)
		return false
	}
	c.lead = nil
	if o == goesOn {
		return true
	}
	l.list[l.at-1] = nil
	if o != ended {
		c.putDown()
	}
	switch {
	case o == ended:
		c.end()
	case o == hasMore || !c.settle():
		l.more = append(l.more, c)
	}
	return true
}

// next takes what is to be done next, and waits for it if it must. It reports false when the server ends.
func (p *poller) next(l *lead) bool {
	clear(l.list)
	k := min(len(l.more), batchConns/2)
	l.list = append(l.list[:0], l.more[:k]...)
	l.more = slices.Delete(l.more, 0, k)
	l.step, l.at = 0, 0
	p.turns.Give()
	if len(l.list) > 0 {
		l.pollNow(uintptr(p.epoll)) // which is there as long as there are connections; another leader may be waiting in Read
	} else {
		l.polls = 0
		if p.raw.Read(l.poll) != nil {
			return false
		}
		if l.polls > 1 { // it has waited, where others do
			p.turns.Given(0)
		}
	}
	for i := range l.n {
		e := &l.events[i]
		// It may be the event of a connection that has ended, and whose descriptor another one has now: that finds nothing to read.
		if c := p.table.Get(int(e.Fd)); c != nil && c.happened() {
			c.drain = c.drain || e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
			l.list = append(l.list, c)
		}
	}
	return true
}
