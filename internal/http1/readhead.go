package http1

import (
	"bytes"
	"errors"
	"net"

	"wheelhouse/internal/rawio"
)

var errHandOver = errors.New("http1: the connection can be handed over")

// readHead waits for the next request and parses its head into c.req. Errors: *Error when the client broke the protocol,
// errHandOver when the connection is to be given up unharmed, others when it is over.
func (c *conn) readHead() error {
	var h headScan
	c.lim = c.srv.lim.Load()
	empty := 0
	begun := false
	for {
		unread, err := c.skipEmptyLines(&empty)
		if err != nil {
			return err
		}
		if h.worthParsing(unread, &c.lim.Limits) {
			n, err := parseRequestHead(unread, &c.lim.Limits, &c.req)
			if err != nil {
				return err
			}
			if n > 0 {
				c.rpos += n
				c.low = c.rpos
				c.fresh = false
				return nil
			}
			h.parsed(unread)
		}
		switch {
		case begun:
		case len(unread) > 0:
			begun = true
			c.enter(phaseHead)
		default:
			if err := c.idle(); err != nil {
				return err
			}
		}
		if err := c.fillHead(); err != nil {
			return err
		}
	}
}

// idle prepares for the wait for a request's first byte, and looks at what the server wants.
func (c *conn) idle() error {
	if c.raw != nil || len(c.rbuf) > keepBuffer {
		giveReadBuffer(c.rbuf)
		c.rbuf = nil
	}
	c.rpos, c.rend, c.low = 0, 0, 0
	if c.owed {
		if err := c.flush(false); err != nil {
			return err
		}
	}
	p := phaseIdle
	if c.fresh {
		p = phaseFresh
	}
	// A phase that is entered anew after a wake-up keeps its time: being woken is no progress.
	if phaseOf(c.word.Load()) != p {
		c.enter(p)
	}
	switch state(c.srv.state.Load()) {
	case running:
		return nil
	case draining:
		switch {
		case c.transferable():
			return errHandOver
		case c.fresh && c.lim.phase[phaseFresh] > 0: // it has come just now, for an answer
			return nil
		}
	}
	return net.ErrClosed
}

// fillHead reads more of a head.
func (c *conn) fillHead() error {
	if unread := c.rbuf[c.rpos:c.rend]; c.raw != nil && len(unread) > 0 && len(unread) <= stashBytes {
		c.stash = append(make([]byte, 0, len(unread)), unread...)
		giveReadBuffer(c.rbuf)
		c.rbuf, c.rpos, c.rend, c.low = nil, 0, 0, 0
	}
	_, err := c.fill()
	if err != nil && len(c.stash) > 0 { // nothing has come: it is as before
		c.rbuf = append(takeReadBuffer()[:0], c.stash...)[:readBuffer]
		c.rend, c.stash = len(c.stash), nil
	}
	switch {
	case err == nil, err == errWoken:
		return nil
	case err == errLate && phaseOf(c.word.Load()) == phaseHead:
		return errHeadTimeout
	}
	return err
}

// skipEmptyLines consumes CRLFs before a request line (RFC 9112 §2.2) and returns what is unread then.
func (c *conn) skipEmptyLines(n *int) ([]byte, error) {
	for {
		unread := c.rbuf[c.rpos:c.rend]
		if len(unread) < 2 || unread[0] != '\r' || unread[1] != '\n' {
			return unread, nil
		}
		if *n++; *n > maxEmptyLines {
			return nil, errEmptyLines
		}
		c.rpos += 2
	}
}

// headScan decides when the unread bytes are worth a parse, so that a head that comes byte by byte is searched once, not
// once for each byte.
type headScan struct {
	tried bool // a parse has found the head incomplete
	lined bool // … with its request line complete and valid
	pos   int  // where the search for the head's end goes on
}

// parsed notes that b was parsed and is incomplete.
func (h *headScan) parsed(b []byte) {
	h.tried = true
	h.lined = h.lined || bytes.IndexByte(b, '\n') >= 0
	h.ends(b)
}

// worthParsing reports whether the parser may have something new to say about b.
func (h *headScan) worthParsing(b []byte, lim *Limits) bool {
	switch {
	case len(b) == 0:
		return false
	case !h.tried, len(b) >= lim.Head:
		return true
	case !h.lined:
		return len(b) >= lim.Line || b[0] == '\r' || bytes.IndexByte(b[h.pos:], '\n') >= 0
	}
	return h.ends(b)
}

// ends searches b for an empty line, or for a line end that the parser will refuse.
func (h *headScan) ends(b []byte) bool {
	for i := h.pos; ; {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			h.pos = len(b)
			return false
		}
		lf := i + j
		if lf == 0 || b[lf-1] != '\r' {
			return true
		}
		if lf+2 >= len(b) {
			h.pos = lf // what follows this LF is not known yet
			return false
		}
		if b[lf+1] == '\r' && b[lf+2] == '\n' {
			return true
		}
		i = lf + 1
	}
}

// transferable reports whether another process could go on with the connection: nothing of it is in this process's memory but, where whoever
// takes it can be told, who its client is.
func (c *conn) transferable() bool {
	return rawio.Raw(c.nc) != nil && c.werr == nil && !c.late && (c.client == nil || c.srv.telling.Load())
}

// lastExchange reports whether the server is about to end its connections, so that an answer should say so.
func (c *conn) lastExchange() bool {
	switch state(c.srv.state.Load()) {
	case running:
		return false
	case draining:
		return !c.transferable()
	}
	return true
}
