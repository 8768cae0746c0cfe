package http1

import (
	"io"
	"net"
	"time"
)

// Switcher is an [Exchange] whose connection can change its protocol (RFC 9110 §7.8). Those of this package's server are, those of
// [NetHTTP] are not.
type Switcher interface {
	// Switch answers 101 with protocol and the answer's fields, and returns the connection, with what the client has sent already
	// in front. The engine closes it when ServeExchange returns; the engine's timeouts do not apply to it any more.
	Switch(protocol string) (net.Conn, error)
}

var _ Switcher = (*conn)(nil)

// Switch implements [Switcher].
func (c *conn) Switch(protocol string) (net.Conn, error) {
	a := &c.answer
	switch {
	case a.aborted:
		return nil, ErrAborted
	case a.started:
		return nil, ErrStarted
	case c.req.Minor < 1 || !c.body.done():
		return nil, ErrStatus // RFC 9110 §7.8: HTTP/1.0 cannot; a body would be taken for the other protocol
	}
	c.header.Set("Upgrade", protocol)
	c.grab(readBuffer)
	b := appendStatusLine(c.out.b, 101)
	b = c.header.appendTo(b)
	c.out.b = append(b, "Connection: Upgrade\r\n\r\n"...)
	if err := c.flush(false); err != nil {
		return nil, err
	}
	a.started, a.complete, a.keep = true, true, false
	early := append([]byte(nil), c.rbuf[c.rpos:c.rend]...)
	c.rpos = c.rend
	c.nc.SetDeadline(time.Time{})
	return withEarly(c.nc, early), nil
}

// withEarly is nc with bytes in front that have been read already. Without such bytes it is nc itself.
func withEarly(nc net.Conn, early []byte) net.Conn {
	if len(early) == 0 {
		return nc
	}
	return &earlyConn{Conn: nc, early: early}
}

// earlyConn is a connection of which the first bytes were read beforehand.
type earlyConn struct {
	net.Conn
	early []byte
}

func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// WriteTo gives the early bytes, and then the rest.
func (c *earlyConn) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(c.early)
	c.early = nil
	if err != nil {
		return int64(n), err
	}
	m, err := copyConn(w, c.Conn)
	return int64(n) + m, err
}

// CloseWrite ends the sending side.
func (c *earlyConn) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(nc net.Conn) error {
	if w, ok := nc.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nc.Close()
}

// Tunnel copies both ways between two connections until both directions have ended, or one has failed; then it closes both. The
// end of one direction is passed on. idle is how long neither side may send anything; 0: for ever. It returns the bytes moved
// from a to b, and from b to a.
func Tunnel(a, b net.Conn, idle time.Duration) (ab, ba int64) {
	watch := newIdleWatch(idle, a, b)
	defer watch.stop()
	done := make(chan int64)
	go func() {
		n, err := copyConn(watch.writer(b), a)
		endHalf(a, b, err)
		done <- n
	}()
	ba, err := copyConn(watch.writer(a), b)
	endHalf(b, a, err)
	ab = <-done
	a.Close()
	b.Close()
	return ab, ba
}

// copyConn copies what comes from src to dst, until its end. Most connections that have changed protocol are silent most of the time: those that
// are plain hold no buffer then.
func copyConn(dst io.Writer, src net.Conn) (n int64, err error) {
	raw := rawConnOf(src)
	if raw == nil {
		return io.Copy(dst, src)
	}
	for {
		b, err := readPooled(raw)
		if b == nil {
			return n, err
		}
		m, err := dst.Write(b.b)
		putBuffer(b)
		if n += int64(m); err != nil {
			return n, err
		}
	}
}

// endHalf passes on the end of what came from src. An error ends both.
func endHalf(src, dst net.Conn, err error) {
	if err == nil {
		err = closeWrite(dst)
	}
	if err != nil {
		src.Close()
		dst.Close()
	}
}
