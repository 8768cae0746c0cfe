package http1

import (
	"errors"
	"strconv"
)

// answerMode is how the end of an answer's body is marked.
type answerMode uint8

const (
	fixedLength answerMode = iota
	chunked
	untilClose // HTTP/1.0
)

// answer is the state of the answer in work.
type answer struct {
	mode     answerMode
	started  bool // the head has been rendered, if not sent
	complete bool // all of it is in out or sent
	bodiless bool // HEAD, 204, 304: the body is counted and dropped
	keep     bool // the connection lives on; known from the head on
	aborted  bool
	rem      int64 // of fixedLength: what is still owed
	open     int   // of chunked: where in out the last chunk's size is to be filled in, -1 when none is open
}

const (
	// copyLimit is the largest part of a body that is copied behind what is held back so that both go in one write. Beyond it, two
	// writes cost less than the copy.
	copyLimit = 32 << 10
	// gatherLimit is the smallest that is not copied where one write can take its bytes from two places.
	gatherLimit = 4 << 10
)

// Started reports whether Start or Reply has been called.
func (c *conn) Started() bool { return c.answer.started }

// Reply sends a whole answer.
func (c *conn) Reply(status int, body []byte) error {
	if err := c.Start(status, int64(len(body))); err != nil {
		return err
	}
	if len(body) > 0 {
		_, err := c.Write(body)
		return err
	}
	return c.completed()
}

// Start begins an answer.
func (c *conn) Start(status int, size int64) error {
	a := &c.answer
	switch {
	case a.aborted:
		return ErrAborted
	case a.started:
		return ErrStarted
	case status < 200 || status > 999: // 1xx is not final, and what 101 needs is not offered here
		return ErrStatus
	}
	a.started = true
	a.bodiless = c.req.Method == "HEAD" || status == 204 || status == 304 // RFC 9112 §6.3, 1
	a.rem = size
	switch {
	case c.req.Method == "CONNECT" && status < 300: // RFC 9110 §9.3.6: neither length nor coding
		a.mode = untilClose
	case size >= 0:
		a.mode = fixedLength
	case c.req.Minor >= 1:
		a.mode = chunked
	default:
		a.mode = untilClose
	}
	a.keep = c.keepAlive()
	c.renderHead(status, size)
	return c.werr
}

// keepAlive decides, when the head is rendered, whether the connection will live on.
func (c *conn) keepAlive() bool {
	a := &c.answer
	switch {
	case c.req.close, c.late, c.lastExchange(), c.header.asksForClose():
		return false
	case c.req.Method == "CONNECT": // a tunnel, which there is none of here, would have to follow its answer
		return false
	case a.mode == untilClose && !a.bodiless:
		return false
	case c.body.done():
		return true
	case c.body.err != nil:
		return false
	case c.body.buffered():
		c.expect = false // if it was owed, it is no more
		return true
	}
	// The rest of the body has to be read, or skipped, for the connection to be used again. It must be known now whether that
	// can be done: to close without a word would lose the client's next request. After an unanswered expectation the
	// client may or may not send the body (RFC 9110 §10.1.1); a chunked body may be of any size.
	return !c.expect && c.body.kind == bodyFixed && c.body.rem <= drainBytes
}

// asksForClose reports whether a handler's fields ask for the connection to be closed.
func (h *Header) asksForClose() bool {
	var f framing
	if v := h.Bytes("Connection"); v != nil {
		f.noteConnection(v)
	}
	return f.close
}

// renderHead appends the head to what is held back.
func (c *conn) renderHead(status int, size int64) {
	c.grab(readBuffer)
	a := &c.answer
	b := appendStatusLine(c.out.b, status)
	if !c.header.Has("Date") {
		b = append(b, *c.srv.date.Load()...)
	}
	if s := c.srv.opts.Server; s != "" && !c.header.Has("Server") {
		b = append(b, "Server: "...)
		b = append(b, s...)
		b = append(b, "\r\n"...)
	}
	b = c.header.appendTo(b)
	switch {
	case status == 204, status == 304 && size <= 0:
		// RFC 9110 §8.6: no Content-Length in a 204, and in a 304 only that of the 200 it stands for.
	case a.mode == fixedLength:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, size, 10)
		b = append(b, "\r\n"...)
	case a.mode == chunked && !a.bodiless:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	switch {
	case !a.keep:
		b = append(b, "Connection: close\r\n"...)
	case c.req.Minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	c.out.b = append(b, "\r\n"...)
}

// appendTo renders the fields of an answer, without those that are the engine's own.
func (h *Header) appendTo(b []byte) []byte {
	for _, f := range h.fields {
		if engineOwned(f.Name) {
			continue
		}
		b = append(b, f.Name...)
		b = append(b, ": "...)
		b = append(b, f.Value...)
		b = append(b, "\r\n"...)
	}
	return b
}

// engineOwned reports whether a field frames the message or speaks of the connection, which only the engine knows. Were a
// handler's let through, two lengths could be sent.
func engineOwned(name []byte) bool {
	switch len(name) {
	case len("Connection"):
		return foldEqual(name, "connection") || foldEqual(name, "keep-alive")
	case len("Content-Length"):
		return foldEqual(name, "content-length")
	case len("Transfer-Encoding"):
		return foldEqual(name, "transfer-encoding")
	}
	return false
}

// finishAnswer brings the exchange to its end after the handler has returned, or panicked.
func (c *conn) finishAnswer(returned bool) {
	a := &c.answer
	switch {
	case a.aborted, a.complete:
	case !a.started && !returned:
		c.req.close = true // nobody knows what state the handler has left things in
		c.replyError(errPanic)
	case !a.started:
		// An answer that the handler owes. What was wrong with the body explains it better than a bare 500.
		e := errNoAnswer
		errors.As(c.body.err, &e)
		c.replyError(e)
	case !returned, a.mode == fixedLength && a.rem > 0 && !a.bodiless:
		c.Abort()
	default:
		if a.mode == chunked && !a.bodiless && c.werr == nil {
			c.closeChunk()
			c.grab(len("0\r\n\r\n"))
			c.out.b = append(c.out.b, "0\r\n\r\n"...)
		}
		c.completed()
	}
}

// completed marks the answer as complete and sends it, unless it may wait for the answer to a request that is in the
// buffer already.
func (c *conn) completed() error {
	a := &c.answer
	a.complete = true
	if c.srv.opts.Coalesce && a.keep && c.rpos < c.rend && c.body.done() && c.out != nil && len(c.out.b) < copyLimit {
		c.owed = true
		return c.werr
	}
	return c.flush(false)
}

// replyError sends an answer of the engine's own, and returns the size of its body as far as that was sent.
func (c *conn) replyError(e *Error) int64 {
	c.header.Reset()
	var body []byte
	if f := c.srv.opts.ErrorFormat; f != nil {
		body = f(&c.header, e)
	} else {
		c.header.Set("Content-Type", "text/plain; charset=utf-8")
		body = append([]byte(e.Error()), '\n')
	}
	if c.Reply(e.Status, body) != nil {
		return 0
	}
	return int64(len(body))
}

// Abort breaks the answer off and closes the connection. What was sent before, complete answers among it, still goes out.
func (c *conn) Abort() {
	a := &c.answer
	if a.aborted || a.complete {
		a.keep = false
		return
	}
	c.flush(false)
	a.aborted, a.keep = true, false
	c.cut(a.mode == untilClose)
}

// cut closes the connection, by a reset if asked to.
func (c *conn) cut(reset bool) {
	if t, ok := c.nc.(interface{ SetLinger(int) error }); ok && reset {
		t.SetLinger(0)
	}
	c.nc.Close()
}
