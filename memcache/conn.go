package memcache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// growth is how much memory is taken for a value before its bytes are there: what a server announces is no reason to take a gigabyte.
const growth = 1 << 20

// conn is a connection to a server, used by one request at a time.
type conn struct {
	nc    net.Conn
	r     *bufio.Reader
	w     *bufio.Writer
	meta  bool // the server speaks the meta protocol
	limit int  // for a value, bytes
	timed time.Duration
	got   bool // the request at hand has got a line
	late  bool // the context ended while the last request came to its end
}

func newConn(nc net.Conn, o *options) *conn {
	return &conn{nc: nc, r: bufio.NewReaderSize(nc, MaxLine+2), w: bufio.NewWriterSize(nc, 16<<10), limit: o.maxValue, timed: o.timeout}
}

// dial connects to a server, says who it is and asks which protocol there is.
func dial(callers context.Context, s Server, o *options) (*conn, error) {
	ctx, cancel := context.WithTimeout(callers, o.dialTimeout)
	defer cancel()
	nc, err := o.dialer(ctx, s.Network(), s.Addr())
	if err != nil {
		return nil, late(callers, err, o)
	}
	c := newConn(nc, o)
	if err := c.under(ctx, func() error { return c.greet(o) }); err != nil {
		_ = nc.Close()
		return nil, late(callers, err, o)
	}
	return c, nil
}

// late is what a caller is told of the end of a time that was not its context's.
func late(callers context.Context, err error, o *options) error {
	d, has := callers.Deadline()
	if !errors.Is(err, context.DeadlineExceeded) || callers.Err() != nil || has && !time.Now().Before(d) {
		return err
	}
	return fmt.Errorf("no connection within %v: %w", o.dialTimeout, os.ErrDeadlineExceeded)
}

func (c *conn) greet(o *options) error {
	if o.user != "" {
		text := o.user + " " + o.password
		fmt.Fprintf(c.w, "set auth 0 0 %d\r\n%s\r\n", len(text), text)
		line, err := c.ask()
		if err == nil && string(line) != "STORED" {
			err = unexpected(line)
		}
		if err != nil {
			return fmt.Errorf("authentication: %w", err)
		}
	}
	if o.protocol != Auto {
		c.meta = o.protocol == Meta
		return nil
	}
	_, _ = c.w.WriteString("mn\r\n")
	line, err := c.ask()
	if refused := (*ServerError)(nil); errors.As(err, &refused) {
		return nil // a server from before the meta protocol
	}
	if err == nil && string(line) != "MN" {
		err = unexpected(line)
	}
	c.meta = err == nil
	return err
}

// under runs f, which is cut short when ctx ends, or when its time is over and ctx has no earlier deadline.
func (c *conn) under(ctx context.Context, f func() error) error {
	deadline := time.Now().Add(c.timed)
	d, callers := ctx.Deadline()
	if callers = callers && d.Before(deadline); callers {
		deadline = d
	}
	if err := c.nc.SetDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(1, 0)) })
	err := f()
	c.late = !stop()
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if callers { // the context's own clock is a moment behind
			return context.DeadlineExceeded
		}
	}
	return err
}

// spoilt tells whether the connection must not be used again although its last request went well.
func (c *conn) spoilt() bool { return c.late || c.r.Buffered() > 0 }

// ask sends what was written and reads a line that is no refusal.
func (c *conn) ask() ([]byte, error) {
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	return c.line()
}

// line reads a line, without its end. It is valid until the next read. A refusal is returned as an error.
func (c *conn) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", ErrProtocol, MaxLine)
		}
		if errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, err
	}
	c.got = true
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, refusal(line)
}

// value reads n bytes and the end of line after them.
func (c *conn) value(n int) ([]byte, error) {
	b := make([]byte, min(n, growth))
	for at := 0; ; {
		if _, err := io.ReadFull(c.r, b[at:]); err != nil {
			return nil, noEOF(err)
		}
		if at = len(b); at == n {
			break
		}
		more := make([]byte, min(n, 2*at))
		copy(more, b)
		b = more
	}
	var end [2]byte
	if _, err := io.ReadFull(c.r, end[:]); err != nil {
		return nil, noEOF(err)
	}
	if string(end[:]) != "\r\n" {
		return nil, unexpected(end[:])
	}
	return b, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
