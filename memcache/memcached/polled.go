package memcached

import (
	"io"
	"net"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/accept"
)

// step is what is done with a connection in the poller, in this order. All of a list have had one step before the first has the next: its code
// stays in the processor's cache, and memory that one step asks for comes while the others of the list are dealt with.
type step uint8

const (
	stepRead step = iota
	stepForesee
	stepFetchAhead
	stepRespond
	stepSend
	steps
)

// outcome of a step.
type outcome uint8

const (
	goesOn  outcome = iota // to the next step
	rests                  // until something happens at its socket
	hasMore                // to do: begins again with the first step, when others have had their turn
	ended
)

// The states of a connection in the poller.
const (
	idle    uint32 = iota // it is nobody's
	busy                  // it is one goroutine's, and no other may touch it
	again                 // the same, and something has happened that this goroutine does not know of
	waiting               // the same, and the goroutine waits at conn.ready for something to happen
)

// joinPoller takes the socket out of the hands of package net, if it is one that the poller can wait for.
func (c *conn) joinPoller() {
	if c.s.poller == nil {
		return
	}
	sc, ok := c.nc.(syscall.Conn)
	if !ok {
		return
	}
	fd, err := accept.Descriptor(sc)
	if err != nil { // there is none left: the connection stays as it is
		return
	}
	c.nc.Close()
	c.fd, c.nc = fd, nil
}

// leavePoller closes the socket's descriptor. From now on the connection is nc, if there is one.
func (c *conn) leavePoller(nc net.Conn) {
	c.s.poller.drop(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	unix.Close(c.fd)
	c.fd, c.nc = -1, nc
}

// hijack gives the connection back to package net, for what needs more than one goroutine.
func (c *conn) hijack() error {
	if c.fd < 0 {
		return nil
	}
	c.detach()
	fd, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "")
	nc, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return err
	}
	c.leavePoller(nc)
	if c.closed.Load() {
		nc.Close() // which the one who closed it may not have seen
		return errClosed
	}
	return nil
}

// happened notes that something has happened at the socket. If it is nobody's, it is the caller's from now on.
func (c *conn) happened() (mine bool) {
	for {
		switch s := c.state.Load(); s {
		case idle:
			if c.state.CompareAndSwap(s, busy) {
				return true
			}
		case busy:
			if c.state.CompareAndSwap(s, again) {
				return false
			}
		case waiting:
			if c.state.CompareAndSwap(s, busy) {
				c.ready <- struct{}{} // has room: one waits
				return false
			}
		case again:
			return false
		}
	}
}

// settle makes the connection nobody's, unless something has happened meanwhile.
func (c *conn) settle() bool {
	if c.state.CompareAndSwap(busy, idle) {
		return true
	}
	c.state.Store(busy)
	c.drain = true
	return false
}

// detach gives the lead to another goroutine, if it is the caller's. It is to be called before anything that may take long.
func (c *conn) detach() {
	if l := c.lead; l != nil {
		c.lead = nil
		l.list[l.at-1] = nil
		c.s.parts.Go(func() { c.s.poller.run(l) })
	}
}

// wait waits until something happens at the socket, whatever it is.
func (c *conn) wait() {
	c.detach()
	if c.ready == nil {
		c.ready = make(chan struct{}, 1)
	}
	if c.state.CompareAndSwap(busy, waiting) {
		<-c.ready
	} else {
		c.state.Store(busy)
	}
	c.drain = true
}

// alone goes on after a step in which the lead was given away. What is to be done after the steps that follow is the leaders' again.
func (c *conn) alone(at step, o outcome) {
	for {
		for o == goesOn {
			at++
			o = c.try(at)
		}
		if o != hasMore || !c.behind {
			break
		}
		runtime.Gosched()
		at, o = stepRead, c.try(stepRead) // of what it has already no event would tell
	}
	if o != ended {
		c.putDown()
	}
	switch {
	case o == ended: // or has left the poller: then it does nothing else any more
		c.end()
	case o == hasMore || !c.settle():
		// Now something must happen, so that a leader sees to it: MOD tells all that is as it was, above all that it can be written to. Another
		// event may come first, and then this one finds nothing to do, or a connection that has ended.
		fd := c.fd
		c.state.Store(idle)
		_ = c.s.poller.watch(fd, unix.EPOLL_CTL_MOD)
	}
}

// resume goes on with a connection that rests although there is something to do, unless somebody has it in hand: then that one will.
func (c *conn) resume() {
	if c.happened() {
		c.alone(stepRead, c.try(stepRead))
	}
}

// try takes the connection through a step, and ends it if that panics.
func (c *conn) try(s step) (o outcome) {
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
			o = ended
		}
	}()
	switch s {
	case stepRead:
		return c.readIn()
	case stepForesee:
		return c.foresee()
	case stepFetchAhead:
		return c.fetchAhead()
	case stepRespond:
		return c.respond()
	}
	return c.send()
}

// readIn reads what has come.
func (c *conn) readIn() outcome {
	if c.closed.Load() {
		return ended
	}
	c.sent = 0
	if c.unsent != nil {
		if o := c.pushOn(); o != goesOn {
			return o
		}
	}
	if c.behind {
		if c.w == nil {
			c.takeWork()
		}
		return goesOn
	}
	if c.w != nil {
		c.makeRoom(1)
	}
	if !c.tryRead() {
		c.drain = false
		return rests
	}
	if c.n <= 0 {
		if c.err == nil {
			c.err = io.EOF
		}
		c.fail(c.err)
		return ended
	}
	w := c.w
	w.n += c.n
	c.stripe.n[bytesRead].Add(uint64(c.n))
	return goesOn
}

// respond answers what is complete.
func (c *conn) respond() outcome {
	c.last.Store(c.s.clock.real.Load())
	err := c.process()
	c.behind = err == errTurn || err == errNotYet
	switch {
	case err == errNotYet && c.unsent == nil && len(c.w.out) > 0:
		return goesOn
	case err == errNotYet && c.unsent == nil:
		c.s.gate.park(c)
		c.stow()
		return rests
	case (err == nil || c.behind) && c.isStuck():
		return c.yet()
	case c.behind:
		if c.unsent != nil || len(c.w.out) < readBuffer && !c.s.pressed() {
			return hasMore
		}
		return goesOn
	case err != nil && c.fd >= 0: // what was right before is answered
		c.quit, c.w.r, c.scanned = true, c.w.n, 0
		c.reason.CompareAndSwap(nil, new(ending(err)))
		return goesOn
	case err != nil:
		_ = c.flush() // what was right before
		c.fail(err)
		return ended
	}
	return goesOn
}

// send writes the answers.
func (c *conn) send() outcome {
	if o := c.pushOn(); o != goesOn {
		return o
	}
	if c.behind {
		c.slim()
		return hasMore
	}
	c.park()
	if !c.short || c.drain {
		return hasMore
	}
	if c.w != nil {
		c.beforeWait(false)
	}
	return rests
}
