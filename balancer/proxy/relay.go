package proxy

import (
	"context"
	"errors"
	"io"
	"sync"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// pieceSize is how much of a body is read at once: a response up to this size is read whole before the client gets any of it, so
// that its backend is free before the client has taken a byte.
const pieceSize = 64 << 10

type piece struct{ b [pieceSize]byte }

var piecePool = sync.Pool{New: func() any { return new(piece) }}

// relay gives a backend's response to the client.
func (c *call) relay(res *http1.Response) {
	h := c.x.Header()
	h.Reset() // an attempt before may have left something
	copyFields(h, &res.Header, nil)
	persist(c.r, h)
	status := res.Status
	if res.ContentLength >= 0 && res.ContentLength <= pieceSize {
		c.relaySmall(res, status)
		return
	}
	goOn, err := c.r.Begin(status, res.ContentLength)
	if !goOn || err != nil || bodiless(c.x.Request().Method, status) {
		res.Body.Close()
		return
	}
	c.finish(c.copyBody(res, c.set.BufferSize))
}

// persist closes a client's connection after its request where the service says so.
func persist(r *balancer.Request, h *http1.Header) {
	if !r.Entry.PersistClient {
		h.Set("Connection", "close")
	}
}

// relaySmall reads a small body whole, lets the backend go, and then answers.
func (c *call) relaySmall(res *http1.Response, status int) {
	if bodiless(c.x.Request().Method, status) {
		res.Body.Close()
		_, _ = c.r.Begin(status, res.ContentLength) // a client that has gone needs no answer
		return
	}
	if body, ok := res.Body.Take(); ok {
		defer body.Release()
		c.r.Reply(status, body.Bytes())
		return
	}
	buf := piecePool.Get().(*piece)
	defer piecePool.Put(buf)
	n := 0
	size := res.ContentLength
	for int64(n) < size {
		m, err := res.Body.Read(buf.b[n:size])
		n += m
		if err != nil && int64(n) < size {
			res.Body.Close()
			if c.clientGone(err) {
				c.finish(err)
				return
			}
			c.r.Error(502, "", "backend "+c.r.Backend+" broke off its response: "+err.Error())
			return
		}
	}
	res.Body.Close()
	c.r.Reply(status, buf.b[:n])
}

// bodiless reports whether a response has no body whatever its length says (RFC 9112 §6.3).
func bodiless(method string, status int) bool {
	return method == "HEAD" || status == 204 || status == 304
}

// clientGone reports whether a backend's response could not be read on because nobody waits for it any more.
func (c *call) clientGone(err error) bool {
	gone := context.Cause(c.x.Context())
	return gone != nil && errors.Is(err, gone)
}

// finish ends an answer whose body was copied, or broke off.
func (c *call) finish(err error) {
	if err == nil {
		return
	}
	var read *http1.BodyReadError
	if errors.As(err, &read) && !c.clientGone(err) {
		c.r.Reason = "backend " + c.r.Backend + " broke off its response: " + read.Err.Error()
	} else {
		c.r.Reason = "the client is gone: " + err.Error()
	}
	c.x.Abort()
}

// copyBody copies a response's body to the client and closes it. ahead is how much may be read before the client has taken it. An
// error of the backend is a *http1.BodyReadError.
func (c *call) copyBody(res *http1.Response, ahead int64) error {
	if body, ok := res.Body.Take(); ok {
		defer body.Release()
		n, err := c.x.Write(body.Bytes())
		c.r.Sent += int64(n)
		return err
	}
	size := res.ContentLength
	if size >= 0 && size > ahead {
		n, err := c.x.ReadFrom(io.LimitReader(res.Body, size-ahead))
		c.r.Sent += n
		if err != nil {
			res.Body.Close()
			return err
		}
		size -= n
	}
	pace, _ := http1.As[http1.Pacer](c.x)
	buf := piecePool.Get().(*piece)
	defer piecePool.Put(buf)
	for {
		if size > pieceSize && pace != nil && pace.Room(4*pieceSize) { // the client keeps up: no need to have it in memory
			n, err := c.x.ReadFrom(io.LimitReader(res.Body, min(size, 4*pieceSize)))
			if n == 0 && err == nil {
				err = &http1.BodyReadError{Err: io.ErrUnexpectedEOF}
			}
			c.r.Sent += n
			if size -= n; err != nil || size == 0 {
				res.Body.Close()
				return err
			}
			continue
		}
		if pace == nil || !pace.Room(pieceSize) {
			return c.pump(res.Body, ahead)
		}
		n, err := res.Body.Read(buf.b[:])
		if err != nil || size >= 0 && int64(n) == size {
			res.Body.Close() // the backend is free
		}
		if n > 0 {
			if size >= 0 {
				size -= int64(n)
			}
			m, werr := c.x.Write(buf.b[:n])
			if c.r.Sent += int64(m); werr != nil {
				res.Body.Close()
				return werr
			}
		}
		switch {
		case err == io.EOF || size == 0:
			return nil
		case err != nil:
			return &http1.BodyReadError{Err: err}
		case size < 0:
			if err := c.x.Flush(); err != nil { // what a backend says now is for now
				res.Body.Close()
				return err
			}
		}
	}
}
