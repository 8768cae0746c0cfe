package http1

import (
	"bytes"
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
	came atomic.Bool // the answer, or the connection's end
	done chan struct{}
}

// watchAnswer begins to look out, if that can be done on this connection. endWatch ends it.
func (cc *clientConn) watchAnswer() error {
	if cc.raw == nil {
		return nil
	}
	cc.readBy = time.Time{}
	cc.nc.SetReadDeadline(time.Time{})
	if cc.interrupted.Load() { // whose deadline may just have been overwritten
		cc.nc.SetDeadline(past)
		return context.Cause(cc.ctx)
	}
	w := &answerWatch{done: make(chan struct{})}
	cc.watch = w
	go func() {
		defer close(w.done)
		if awaitAnswer(cc.raw) {
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

// heard is errAnswered when the answer has come.
func (cc *clientConn) heard() error {
	if w := cc.watch; w != nil && w.came.Load() {
		return errAnswered
	}
	return nil
}

// onlyInterim reports whether what has come of an answer is nothing but interim responses, the last of which may be cut.
func onlyInterim(b []byte) bool {
	const status = len("HTTP/1.1 ")
	for len(b) > 0 {
		if len(b) < status+3 {
			return true // it cannot be said yet
		}
		if b[status] != '1' || string(b[status:status+3]) == "101" {
			return false
		}
		i := bytes.Index(b, []byte("\r\n\r\n"))
		if i < 0 {
			return true
		}
		b = b[i+4:]
	}
	return true
}
