package gearmand

import (
	"io"
	"net"
	"syscall"
	"time"

	"wheelhouse/gearman/packet"
	"wheelhouse/internal/rawio"
)

// send appends a packet to what is to be sent to the connection. s.mu is held.
func (c *conn) send(t packet.Type, args ...[]byte) { c.sendPacket(false, t, args) }

// sendLasting is send for a last argument that will never change: a large one is not copied. It reports whether it was not.
func (c *conn) sendLasting(t packet.Type, args ...[]byte) bool {
	return c.sendPacket(len(args[len(args)-1]) >= lendSize, t, args)
}

func (c *conn) sendPacket(lend bool, t packet.Type, args [][]byte) bool {
	if c.gone {
		return false
	}
	if n := len(c.held); n > 0 { // it must not overtake an answer that waits for the store
		h := &c.held[n-1]
		before := len(h.tail)
		h.tail = packet.Append(h.tail, packet.Res, t, args...)
		c.heldBytes += len(h.tail) - before
		c.sent += len(h.tail) - before
		if c.heldBytes > c.srv.opts.MaxOutput {
			c.kill("it does not read")
		}
		return false
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.closed {
		return false
	}
	before := c.out.n
	b := c.out.last()
	c.out.n -= len(b.b)
	if lend {
		b.b = appendFront(b.b, t, args)
		c.out.push(&buffer{b: args[len(args)-1], lent: true})
	} else {
		b.b = packet.Append(b.b, packet.Res, t, args...)
	}
	c.out.n += len(b.b)
	c.appended(before)
	return lend
}

// appendFront appends a packet without its last argument.
func appendFront(b []byte, t packet.Type, args [][]byte) []byte {
	size := len(args) - 1
	for _, a := range args {
		size += len(a)
	}
	b = packet.AppendHeader(b, packet.Res, t, size)
	for _, a := range args[:len(args)-1] {
		b = append(append(b, a...), 0)
	}
	return b
}

// sendText appends the answer to a text command. s.mu is held.
func (c *conn) sendText(text []byte) {
	if c.gone {
		return
	}
	if n := len(c.held); n > 0 {
		c.held[n-1].tail = append(c.held[n-1].tail, text...)
		c.heldBytes += len(text)
		c.sent += len(text)
		return
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	before := c.out.n
	b := c.out.last()
	b.b = append(b.b, text...)
	c.out.n += len(text)
	c.appended(before)
}

// appended follows an addition to out. s.mu and c.wmu are held.
func (c *conn) appended(before int) {
	n := c.out.n - before
	c.sent += n
	s := c.srv
	if !c.touched {
		c.touched = true
		s.touched = append(s.touched, c)
	}
	if c.slow == 0 && c.nc != nil {
		return
	}
	// It does not read as fast as it is sent to; what waits is bounded for it, and for all together.
	c.slow += n
	limit := s.opts.MaxOutput
	if c.collects {
		limit = max(limit, s.opts.MaxPacket)
	}
	if s.memory.Add(int64(n)) > s.opts.MaxMemory || (before > 0 && c.slow > limit) {
		s.log.Warn("connection closed: it does not read", "addr", c.addr(), "bytes", c.slow)
		s.counts.slow.Add(1)
		c.close()
	}
}

// kill ends a connection from outside; its goroutine does the rest. s.mu is held.
func (c *conn) kill(why string) {
	c.srv.log.Info("connection closed", "addr", c.addr(), "err", why)
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.close()
}

// close ends the socket, without waiting. c.wmu is held.
func (c *conn) close() {
	if c.closed {
		return
	}
	c.closed = true
	c.drained.Broadcast()
	if c.socket != nil {
		c.socket.Close()
		return
	}
	c.signal()
}

func (c *conn) signal() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// refuse sends an ERROR. s.mu is held.
func (c *conn) refuse(r *refusal) {
	c.srv.counts.refused.Add(1)
	c.send(packet.Error, []byte(r.code), []byte(r.text))
}

// flush writes what is in out, as far as the socket takes it at once; the rest is left to a goroutine.
func (c *conn) flush() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.writing || c.out.n == 0 || c.closed {
		return // whoever writes will look again
	}
	if c.nc == nil {
		c.signal()
		return
	}
	c.writing = true
	for b := c.out.pop(); b != nil; b = c.out.pop() {
		n := 0
		if c.raw != nil {
			c.wmu.Unlock()
			var err error
			n, err = c.write(b.b)
			c.wmu.Lock()
			if err != nil {
				c.close()
				break
			}
		}
		if c.closed {
			break
		}
		if n < len(b.b) {
			c.slow = len(b.b) - n + c.out.n
			c.srv.memory.Add(int64(c.slow))
			c.srv.writers.Go(func() { c.drain(b, n) })
			return
		}
		putBuffer(b)
	}
	c.writing = false
	c.drained.Broadcast()
}

// write writes without waiting.
func (c *conn) write(b []byte) (int, error) {
	c.wbuf, c.wn, c.werr = b, 0, nil
	err := c.raw.Write(c.writeFn)
	c.wbuf = nil
	if err == nil {
		err = c.werr
	}
	c.srv.counts.out.Add(uint64(c.wn))
	return c.wn, err
}

func (c *conn) tryWrite(fd uintptr) bool {
	for c.wn < len(c.wbuf) {
		n, err := ignoringEINTR(rawio.Write, fd, c.wbuf[c.wn:])
		if err == syscall.EAGAIN {
			break
		}
		if err != nil {
			c.werr = err
			break
		}
		c.wn += n
	}
	return true
}

// writeStep is how much must be taken within WriteTimeout.
const writeStep = 256 << 10

// drain writes b, from off, and what follows, waiting for the socket.
func (c *conn) drain(b *buffer, off int) {
	var err error
	for b != nil {
		for p := b.b[off:]; len(p) > 0 && err == nil; {
			c.allow(c.srv.opts.WriteTimeout)
			var n int
			n, err = c.nc.Write(p[:min(len(p), writeStep)])
			c.srv.counts.out.Add(uint64(n))
			p = p[n:]
		}
		if err == nil {
			c.allow(0)
		}
		c.wmu.Lock()
		written := len(b.b) - off
		putBuffer(b)
		if b, off = c.out.pop(), 0; err != nil || c.closed {
			b, c.out = nil, outbox{}
			c.close()
		}
		if b == nil {
			written = c.slow
		}
		c.slow -= written
		c.srv.memory.Add(int64(-written))
		c.writing = b != nil
		c.drained.Broadcast()
		c.wmu.Unlock()
	}
}

// allow sets how long the next write may take, 0 for ever; not once the server has set it for the last time.
func (c *conn) allow(d time.Duration) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	switch {
	case c.ending:
	case d == 0:
		c.nc.SetWriteDeadline(time.Time{})
	default:
		c.nc.SetWriteDeadline(time.Now().Add(d))
	}
}

// waitOut waits while much is to be written: one that does not read is not listened to either.
func (c *conn) waitOut() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for c.slow > highWater && !c.closed {
		c.drained.Wait()
	}
}

// linger sees to it that the last answer arrives: a close with unread bytes makes the kernel reset the connection. It takes
// what still comes, for a short time.
func (c *conn) linger() {
	c.wmu.Lock()
	for c.writing && !c.closed {
		c.drained.Wait()
	}
	closed := c.closed
	c.wmu.Unlock()
	w, ok := c.nc.(interface{ CloseWrite() error })
	if closed || !ok || w.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(time.Second))
	io.CopyN(io.Discard, c.nc, 1<<20) // whatever comes, it ends here
}

// shut is the end: the connection is in no list any more. What is being written has its time.
func (c *conn) shut() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for c.writing && !c.closed {
		c.drained.Wait()
	}
	c.close()
	if !c.writing && c.slow > 0 {
		c.srv.memory.Add(int64(-c.slow))
		c.slow = 0
	}
	if !c.writing {
		c.out = outbox{}
	}
}

// unlock lets go of the lock and then sends what has been appended under it. It uses list for its notes, and returns it.
func (s *Server) unlock(list []*conn) []*conn {
	list = append(list[:0], s.touched...)
	for _, c := range list {
		c.touched = false
	}
	clear(s.touched)
	s.touched = s.touched[:0]
	s.mu.Unlock()
	for i, c := range list {
		c.flush()
		list[i] = nil
	}
	return list[:0]
}

// addr is where the connection comes from, for the log.
func (c *conn) addr() string {
	if c.nc == nil {
		return "http"
	}
	return c.nc.RemoteAddr().String()
}

// host is the address without the port, for people.
func (c *conn) host() string {
	switch a := c.nc.RemoteAddr().(type) {
	case *net.TCPAddr:
		return a.IP.String()
	case *net.UnixAddr:
		return "unix"
	default:
		return a.String()
	}
}
