package http1

import (
	"io"
	"math"
	"net/http"
	"time"
)

// stall ends what waits for a client of HTTP/2 and gets nowhere, which net/http bounds for whole requests only. It belongs to one goroutine.
type stall struct {
	limit time.Duration
	end   func(time.Time) error // sets the deadline of what is to be ended
	timer *time.Timer
	fired chan struct{}
}

// watch calls wait, and ends it when it takes longer than the limit. A nil stall has none.
func (s *stall) watch(wait func()) {
	if s == nil {
		wait()
		return
	}
	if s.timer == nil {
		s.fired = make(chan struct{})
		s.timer = time.AfterFunc(s.limit, func() {
			_ = s.end(past) // it is over anyway
			s.fired <- struct{}{}
		})
	} else {
		s.timer.Reset(s.limit)
	}
	wait()
	if !s.timer.Stop() {
		<-s.fired // lest it touch the exchange when that has ended
	}
}

// bound has the exchange keep the server's limits where net/http does not.
func (x *netExchange) bound(l *Limits) {
	rc := http.NewResponseController(x.w)
	if l.BodyTimeout < math.MaxInt64 {
		x.body.stall = &stall{limit: l.BodyTimeout, end: rc.SetReadDeadline}
	}
	if l.WriteTimeout < math.MaxInt64 {
		x.stall = &stall{limit: l.WriteTimeout, end: rc.SetWriteDeadline}
	}
}

// stallPiece is how much of an answer may take the write timeout, in bytes: a frame of HTTP/2's default size.
const stallPiece = 16 << 10

// send writes to the client, each piece within the limit.
func (x *netExchange) send(p []byte) (n int, err error) {
	if x.stall == nil {
		return x.w.Write(p)
	}
	for n < len(p) && err == nil {
		var m int
		x.stall.watch(func() { m, err = x.w.Write(p[n:min(len(p), n+stallPiece)]) })
		n += m
	}
	return n, err
}

// bounded is the exchange as a writer of its body.
type bounded struct{ x *netExchange }

func (b bounded) Write(p []byte) (int, error) { return b.x.send(p) }

// dst is where to copy an answer to.
func (x *netExchange) dst() io.Writer {
	if x.stall == nil {
		return x.w
	}
	return bounded{x}
}

// leave has what net/http still holds of the answer be taken within the limit.
func (x *netExchange) leave() {
	if x.stall != nil && x.started && !x.bodiless {
		_ = x.stall.end(time.Now().Add(x.stall.limit)) // a stream that has ended needs none
	}
}
