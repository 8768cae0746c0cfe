package netpoll

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const batch = 64 // events that a loop takes at once

// loop waits for the sockets of one epoll set, and wakes the goroutines that wait for them.
//
// Two goroutines take turns at it. One that has been woken runs after all that its processor has to do already if another is woken after it, and
// that is what a loop needs: first all that it has found is done, then it looks again. (runtime.Gosched would put it among what any
// processor may take next, and loops and their connections would change processors all the time.)
type loop struct {
	number int // from 1 on
	table  *Table[Conn]
	turns  *Turns
	epoll  int
	set    *os.File // of epoll
	raw    syscall.RawConn
	events [batch]unix.EpollEvent
	n      int               // events[:n] have happened
	polls  int               // of one wait in the runtime's poller
	woken  []chan<- struct{} // of those who wait for what has happened
	poll   func(epoll uintptr) bool
	ending atomic.Bool

	mu    sync.Mutex // guards all below
	round bool       // those who were woken are at work; what they postpone is done when they have waited again
	later []work
	spare []work // later's memory, in turn
}

// work is a try that was postponed.
type work struct {
	c *Conn
	h *half
}

func newLoop(number int, table *Table[Conn], turns *Turns) (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // by which package os knows that it can be waited for
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &loop{number: number, table: table, turns: turns, epoll: fd, set: os.NewFile(uintptr(fd), "epoll"), woken: make([]chan<- struct{}, 0, 2*batch)}
	l.poll = func(uintptr) bool {
		l.polls++
		l.n = Poll(l.epoll, l.events[:])
		return l.n > 0
	}
	l.raw, err = l.set.SyscallConn()
	return l, err
}

// add begins to wait for a connection, for ever: each event is told of once (edge-triggered). With an error the connection is to be closed.
func (l *loop) add(c *Conn) error {
	const events = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff
	l.table.Put(c.fd, c)
	if l.ending.Load() { // whoever closes what is in the table may have been there already
		return net.ErrClosed
	}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.fd)})
}

// drop ends what add began, before the descriptor is closed: closing it would not do where another process has the socket, too.
func (l *loop) drop(fd int) {
	l.table.Drop(fd)
	if !l.ending.Load() { // else the set may be closed
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

// stop ends the loop. Its set may be closed when its goroutines have ended.
func (l *loop) stop() {
	l.ending.Store(true)
	_ = l.set.SetReadDeadline(time.Unix(1, 0))
}

// start starts the loop.
func (l *loop) start(ended *sync.WaitGroup) {
	a, b := make(chan struct{}, 1), make(chan struct{}, 1)
	ended.Go(func() { l.run(a, b) })
	ended.Go(func() { l.run(b, a) })
	a <- struct{}{}
}

// run does a round of the loop whenever it is its turn.
func (l *loop) run(turn, other chan struct{}) {
	defer close(other)
	for range turn {
		l.woken = l.woken[:0]
		l.catchUp()
		l.turns.Give()
		if !l.await() {
			l.finish()
			return
		}
		l.see()
		last := len(l.woken) - 1
		if last < 0 {
			other <- struct{}{}
			continue
		}
		for _, w := range l.woken[:last] {
			w <- struct{}{}
		}
		w := l.woken[last]
		other <- struct{}{} // from here on the other has the loop, and runs after w
		w <- struct{}{}
	}
}

// await waits until something has happened. It is false when the loop is to end.
func (l *loop) await() bool {
	if l.ending.Load() {
		return false
	}
	if l.n = Poll(l.epoll, l.events[:]); l.n+len(l.woken) > 0 || !l.endRound() {
		l.beginRound()
		return true
	}
	defer l.beginRound()
	if l.n = linger(l.epoll, l.events[:]); l.n > 0 {
		return true
	}
	l.polls = 0
	err := l.raw.Read(l.poll)
	if l.polls > 1 { // it has waited where others do
		l.turns.Given(0)
	}
	return err == nil
}

// beginRound is before those are woken for whom something has happened.
func (l *loop) beginRound() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.round = true
}

// endRound is before the loop waits. It is false when something has been postponed meanwhile.
func (l *loop) endRound() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.later) > 0 {
		return false
	}
	l.round = false
	return true
}

// postpone has a try made at the end of the round. It is false when there is none, as nobody would make it soon, or when h has something to look at.
func (l *loop) postpone(c *Conn, h *half, try func(fd uintptr) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.round || !h.postpone(try) {
		return false
	}
	l.later = append(l.later, work{c, h})
	return true
}

// catchUp makes the tries that were postponed.
func (l *loop) catchUp() {
	l.mu.Lock()
	list := l.later
	l.later = l.spare[:0]
	l.mu.Unlock()
	for _, w := range list {
		if w.h.tryNow(w.c.fd) {
			l.woken = append(l.woken, w.h.wake)
		}
	}
	clear(list)
	l.spare = list
}

// finish has nobody wait for the loop any more.
func (l *loop) finish() {
	for !l.endRound() {
		l.catchUp()
	}
	for _, w := range l.woken {
		w <- struct{}{}
	}
}

// see notes what has happened with those who wait for it, and finds out who does.
func (l *loop) see() {
	for i := range l.n {
		e := &l.events[i]
		c := l.table.Get(int(e.Fd))
		if c == nil {
			continue
		}
		// It may be the event of a socket that is closed, whose descriptor another one has now: that finds that nothing has happened.
		if e.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 && c.in.happen() {
			l.woken = append(l.woken, c.in.wake)
		}
		if e.Events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 && c.out.happen() {
			l.woken = append(l.woken, c.out.wake)
		}
	}
}
