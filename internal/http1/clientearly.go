package http1

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// errAnswered ends the sending of a body to which the final answer has come already.
var errAnswered = errors.New("http1: the server has answered before it had all of the body")

// watchedBody is the size in bytes from which on a body in memory is watched for an answer: a smaller one fits into the sockets.
const watchedBody = 256 << 10

// answerWatch looks out for an answer while a request's body is being sent (RFC 9112 §9.5): a server that refuses a body may stop reading
// it, and the client is to have the answer, not to wait until it can send on. A goroutine waits for it, and ends the write that is under way.
type answerWatch struct {
	r    *OutRequest
	res  *Response
	came atomic.Bool // the answer, or the connection's end
	note atomic.Bool // an interim response, after which it does not look any further
	done chan struct{}
}

// what awaitAnswer has seen.
type seen uint8

const (
	seenNothing seen = iota // the connection's deadline
	seenInterim
	seenAnswer // or the connection's end
)

// watchAnswer begins to look out, if that can be done on this connection. endWatch ends it.
func (cc *clientConn) watchAnswer(r *OutRequest, res *Response) error {
	if cc.raw == nil {
		return nil
	}
	cc.readBy = time.Time{}
	cc.nc.SetReadDeadline(time.Time{})
	if cc.interrupted.Load() { // whose deadline may just have been overwritten
		cc.nc.SetDeadline(past)
		return context.Cause(cc.ctx)
	}
	w := &answerWatch{r: r, res: res, done: make(chan struct{})}
	cc.watch = w
	go func() {
		defer close(w.done)
		switch awaitAnswer(cc.raw) {
		case seenInterim:
			w.note.Store(true)
		case seenAnswer:
			w.came.Store(true)
			cc.nc.SetWriteDeadline(past)
		}
	}()
	return nil
}

// endWatch ends the look-out, and reports whether the answer has come.
func (cc *clientConn) endWatch() (came bool) {
	w := cc.watch
	if w == nil {
		return false
	}
	cc.watch = nil
	select {
	case <-w.done:
	default:
		cc.nc.SetReadDeadline(past)
		<-w.done
		cc.readBy = time.Time{}
		cc.nc.SetReadDeadline(time.Time{})
	}
	if came = w.came.Load(); came {
		cc.writeBy = time.Time{}
		cc.nc.SetWriteDeadline(time.Time{})
	}
	if cc.interrupted.Load() {
		cc.nc.SetDeadline(past)
	}
	return came
}

// heard is errAnswered when the answer has come; if an interim response came with it, the response is filled in. Interim responses alone are
// skipped.
func (cc *clientConn) heard() error {
	w := cc.watch
	switch {
	case w == nil:
		return nil
	case w.came.Load():
		return errAnswered
	case !w.note.Load():
		return nil
	}
	cc.endWatch()
	for {
		if err := cc.readHead(w.r, w.res, cc.opts.HeadTimeout, takeInterim); err != nil {
			return err
		}
		if w.res.Status >= 200 || w.res.Status == 101 {
			return errAnswered
		}
		w.res.Status = 0
		if cc.rpos == cc.rend {
			return cc.watchAnswer(w.r, w.res)
		}
	}
}
