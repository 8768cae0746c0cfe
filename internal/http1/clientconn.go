package http1

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// clientConn is a connection to a server. It belongs to the goroutine whose exchange it carries; only interrupt comes from
// others.
type clientConn struct {
	owner  connOwner
	splice *atomic.Uint64 // counts what never entered this process's memory
	opts   *ClientOptions
	addr   string
	nc     net.Conn
	raw    rawConn // nil when it is not a plain TCP or unix connection

	buf             *buffer // nil between exchanges; buf.b[rpos:rend] has been read and not consumed, below low lies the head
	rpos, rend, low int
	out             *buffer // what is to be sent
	unsent          []byte  // goes with the next read
	fields          []Field // storage for the responses' headers

	reused    bool // it has carried an exchange before
	looked    bool // it has been seen that nothing has come on it since
	began     bool // bytes of the response have arrived
	broken    bool // the exchange went off the regular course: not to be reused
	idleSince time.Time

	ctx         context.Context // of the exchange, for its cause
	watched     *connContext    // ctx, if the watch on it is the context's own
	watch       *answerWatch    // while a body is being sent
	stop        func() bool     // ends another watch on ctx, nil when there is none
	onDone      func()          // interrupt, bound once
	trip        rawTrip
	interrupted atomic.Bool
	now         time.Time // zero after whatever may have waited: see waited
	readBy      time.Time // the deadlines that are armed
	writeBy     time.Time
}

// connOwner is who gets a connection back when its exchange has ended: put when it can carry another, lost when it is closed.
type connOwner interface {
	put(*clientConn)
	lost(*clientConn)
}

// maxInterim is how many interim responses are skipped.
const maxInterim = 8

// interrupt ends all waiting on the connection. It runs when the exchange's context ends.
func (cc *clientConn) interrupt() {
	cc.interrupted.Store(true)
	cc.nc.SetDeadline(past)
}

// cause is what an error of the connection comes from: the context's end, where that was it.
func (cc *clientConn) cause(err error) error {
	if cc.interrupted.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		return context.Cause(cc.ctx)
	}
	return err
}

// waited notes that time has gone by.
func (cc *clientConn) waited() { cc.now = time.Time{} }

// arm sees to it that the next read ends within once to one and a half times d. Most often that is so already.
func (cc *clientConn) arm(d time.Duration) error {
	return cc.armDeadline(&cc.readBy, cc.nc.SetReadDeadline, d)
}

func (cc *clientConn) armDeadline(by *time.Time, set func(time.Time) error, d time.Duration) error {
	if d == math.MaxInt64 {
		if by.IsZero() {
			return nil
		}
		*by = time.Time{}
	} else {
		if cc.now.IsZero() {
			cc.now = time.Now()
		}
		now := cc.now
		if left := by.Sub(now); left >= d && left <= 2*d {
			return nil
		}
		*by = now.Add(d + d/2)
	}
	set(*by)
	if cc.interrupted.Load() { // whose deadline may just have been overwritten
		cc.nc.SetDeadline(past)
		return context.Cause(cc.ctx)
	}
	return nil
}

// read reads once. lend says that p is all of the buffer.
func (cc *clientConn) read(p []byte, lend bool, timeout time.Duration) (int, error) {
	if err := cc.arm(timeout); err != nil {
		return 0, err
	}
	for {
		n, err := cc.readOnce(p, lend)
		cc.waited()
		if n > 0 {
			cc.began = true
			return n, nil
		}
		if err != nil {
			return 0, cc.cause(err)
		}
	}
}

// readOnce reads once, after it has sent what is still to be sent.
func (cc *clientConn) readOnce(p []byte, lend bool) (int, error) {
	if cc.raw == nil {
		return cc.nc.Read(p)
	}
	n, left, err := cc.trip.read(cc.unsent, p, !cc.looked, lend)
	if len(left) > 0 && err == nil {
		err = cc.write(left)
	}
	if err == nil || len(left) == 0 {
		cc.unsent = nil
	}
	return n, err
}

// fill reads once into the buffer, above the response's head.
func (cc *clientConn) fill(timeout time.Duration) error {
	if cc.rpos == cc.rend {
		cc.rpos, cc.rend = cc.low, cc.low
	}
	if cap(cc.buf.b)-cc.rend < 512 {
		unread := cc.buf.b[cc.rpos:cc.rend]
		b := &buffer{make([]byte, 0, max(bufferSize, 2*len(unread)))} // the old one lives on under the head
		cc.rpos, cc.rend, cc.low = 0, copy(b.b[:cap(b.b)], unread), 0
		cc.buf = b
	}
	n, err := cc.read(cc.buf.b[cc.rend:cap(cc.buf.b)], cc.rend == 0, timeout)
	cc.rend += n
	return err
}

// begin readies the connection for an exchange. now is zero where it is not known.
func (cc *clientConn) begin(ctx context.Context, now time.Time) {
	cc.buf = getBuffer()
	cc.rpos, cc.rend, cc.low = 0, 0, 0
	cc.began, cc.broken, cc.ctx, cc.now = false, false, ctx, now
	if own, ok := ctx.(*connContext); ok && own.watch(cc) {
		cc.watched = own
	} else if ctx.Done() != nil {
		cc.stop = context.AfterFunc(ctx, cc.onDone)
	}
}

// unwatch ends the watch on the exchange's context. It is false when that has fired: then its deadline may be set at any time, and the
// connection is spoilt.
func (cc *clientConn) unwatch() bool {
	quiet := true
	switch {
	case cc.watched != nil:
		quiet = cc.watched.leave(cc)
	case cc.stop != nil:
		quiet = cc.stop()
	}
	cc.watched, cc.stop = nil, nil
	return quiet
}

// done ends the exchange: the connection goes to the pool, if it is sound and nothing speaks against it.
func (cc *clientConn) done(sound bool) {
	sound = cc.unwatch() && sound
	if cc.out != nil {
		putBuffer(cc.out)
		cc.out = nil
	}
	clear(cc.fields)
	cc.unsent = nil
	leftover := cc.rpos < cc.rend
	if cc.buf != nil { // else it was taken
		putBuffer(cc.buf)
	}
	cc.buf, cc.ctx = nil, nil
	if sound && !cc.broken && !leftover {
		cc.owner.put(cc)
		return
	}
	if cc.nc != nil { // else it has changed its protocol, and is another's
		cc.nc.Close()
	}
	cc.owner.lost(cc)
}

// diedIdle reports whether err means that a reused connection had been closed by the server before it saw the request.
func (cc *clientConn) diedIdle(ctx context.Context, err error) bool {
	var read *BodyReadError
	return cc.reused && !cc.began && ctx.Err() == nil &&
		!errors.Is(err, os.ErrDeadlineExceeded) && !errors.As(err, &read)
}

// roundTrip sends r and reads the head of the response.
func (cc *clientConn) roundTrip(ctx context.Context, r *OutRequest) (*Response, error) {
	cc.begin(ctx, r.Now)
	res := &Response{}
	res.Header.fields = cc.fields[:0]
	op := "write"
	err := cc.send(r, res)
	if err == nil && res.Status == 0 {
		op = "read"
		err = cc.readHead(r, res, cc.opts.HeadTimeout, false)
	}
	if err != nil {
		if cc.unsent != nil {
			op = "write"
		}
		cc.done(false)
		return nil, &DoError{Op: op, Addr: cc.addr, Reused: cc.reused, Began: cc.began, Err: cc.cause(err)}
	}
	cc.looked = false
	cc.fields = res.Header.fields
	cc.broken = cc.broken || res.close
	res.body = Body{cc: cc, kind: res.kind, rem: res.ContentLength, chunk: chunkDecoder{lim: &cc.opts.Limits}}
	res.Body = &res.body
	return res, nil
}

// readHead reads up to the end of a final response's head; of a 100's too, if that is waited for.
func (cc *clientConn) readHead(r *OutRequest, res *Response, timeout time.Duration, interim bool) error {
	var h headScan
	for skipped := 0; ; {
		unread := cc.buf.b[cc.rpos:cc.rend]
		if h.worthParsing(unread, &cc.opts.Limits) {
			n, err := parseResponseHead(unread, &cc.opts.Limits, r.Method, res)
			switch {
			case err != nil:
				return err
			case n == 0:
				h.parsed(unread)
			case res.Status == 101 && r.Upgrade == "":
				return errSwitched
			case skipped > maxInterim:
				return errManyInterim
			default:
				cc.rpos += n
				cc.low = cc.rpos
				if res.Status >= 200 || res.Status == 101 || interim && res.Status == 100 {
					return nil
				}
				skipped++
				h = headScan{}
				continue
			}
		}
		if err := cc.fill(timeout); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
}
