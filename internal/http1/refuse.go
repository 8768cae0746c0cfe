package http1

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"time"
)

// maxRefusedLine is how many bytes of a request line a [Refusal] has: what nobody understood is not worth more in a log.
const maxRefusedLine = 1 << 10

// Refusal is a request that the engine has answered by itself, since it was none, too large or too slow. No handler has seen it.
type Refusal struct {
	Err    *Error
	Client net.Addr // as Exchange.RemoteAddr has it
	TLS    bool
	Line   []byte        // the request line without its end, as far as it came, 1 KiB at most; valid until OnRefuse returns
	Took   time.Duration // since the head began, as far as the server's clock tells (it ticks four times a second); 0: it came at once
	Sent   int64         // bytes of the answer's body
}

// refused counts a refusal, and tells of it.
func (s *Server) refused(r *Refusal) {
	s.counts.refuse(r.Err.Status)
	s.log.Debug("request refused", "addr", r.Client, "err", r.Err)
	if f := s.opts.OnRefuse; f != nil {
		f(r)
	}
}

// RefuseConn answers a connection whose first bytes somebody in front has read, and found not to be a request, with e, and closes it. It
// returns at once. head is what was read; of more than 4 KiB the rest is forgotten. client is as in ServeConnFrom.
func (s *Server) RefuseConn(nc net.Conn, client net.Addr, head []byte, e *Error) {
	c := newConn(s, nc)
	c.client, c.lim = client, s.lim.Load()
	c.rbuf = takeReadBuffer()
	c.rend = copy(c.rbuf, head)
	if s.adopt(c) {
		go c.serveRefusal(e)
	}
}

func (c *conn) serveRefusal(e *Error) {
	var none net.Conn
	defer c.depart(&none)
	c.refuse(e)
}

// refuse ends the connection on an error of readHead: with an answer if the client broke the protocol, without if it is gone. The
// connection ends with it, so that one refusal is all that a client can have of it.
func (c *conn) refuse(err error) {
	var e *Error
	if !errors.As(err, &e) {
		if err == errLate {
			c.srv.counts.timeouts.Add(1)
		}
		c.flush(false)
		return
	}
	if e == errHeadTimeout {
		c.srv.counts.timeouts.Add(1)
	}
	r := &Refusal{Err: e, Client: c.RemoteAddr(), TLS: c.TLS(), Line: firstLine(c.rbuf[c.rpos:c.rend]), Took: c.headTime()}
	c.answer = answer{open: -1}
	c.header.Reset()
	c.body.kind = bodyNone
	c.req.Method, c.req.Minor, c.req.close = "", 1, true
	r.Sent = c.replyError(e)
	c.flush(false)
	c.srv.refused(r)
	c.linger()
}

// headTime is how long the head has taken that is being read.
func (c *conn) headTime() time.Duration {
	w := c.word.Load()
	if phaseOf(w) != phaseHead {
		return 0
	}
	return time.Duration(c.srv.clock.Load()-int64(w>>timeShift)) * time.Millisecond
}

// firstLine is the line that b begins with, as far as it is there and is to be told of.
func firstLine(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		b = bytes.TrimSuffix(b[:i], []byte{'\r'})
	}
	return b[:min(len(b), maxRefusedLine)]
}

// refuse answers a request that is none.
func (x *netExchange) refuse(s *Server, e *Error) {
	sent := x.replyError(e)
	if s == nil {
		return
	}
	line := []byte(x.r.Method + " " + x.r.RequestURI + " " + x.r.Proto)
	s.refused(&Refusal{Err: e, Client: x.RemoteAddr(), TLS: x.TLS(), Line: line[:min(len(line), maxRefusedLine)], Sent: sent})
}

// NetHTTP serves the server's handler by net/http, as the function NetHTTP does. What is refused is counted and told of as the server's own;
// what net/http refuses before it calls handlers is not.
func (s *Server) NetHTTP() http.Handler { return netHTTP(s.handler, s) }
