package memcache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// backend is one server: its connections, and whether it is set aside.
type backend struct {
	server Server
	opts   *options
	slots  chan struct{} // as many as connections in use

	mu       sync.Mutex // guards all below
	idle     []*conn
	closed   bool
	failed   int           // in a row
	until    time.Time     // set aside up to then
	pause    time.Duration // how long it was set aside the last time
	probing  bool          // one request tries whether it is back
	ejection uint64        // how often it was set aside
}

func newBackend(s Server, o *options) *backend {
	return &backend{server: s, opts: o, slots: make(chan struct{}, o.maxConns)}
}

// admit tells whether a request may be sent. If so, settle must be called with what came of it.
func (b *backend) admit() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 {
		return true
	}
	if b.probing || b.opts.now().Before(b.until) {
		return false
	}
	b.probing = true
	return true
}

type outcome int

const (
	worked outcome = iota
	failed
	unknown // the caller gave up
)

func (b *backend) settle(what outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch what {
	case worked:
		b.failed, b.pause = 0, 0
	case failed:
		b.failed++
		if b.opts.failures == 0 || b.failed < b.opts.failures {
			break
		}
		if b.pause > 0 && b.opts.now().Before(b.until) {
			break // one of those that were under way when it was set aside
		}
		b.pause = min(max(2*b.pause, b.opts.minEject), b.opts.maxEject)
		b.until = b.opts.now().Add(b.pause)
		b.ejection++
		b.drop()
	}
	b.probing = false
}

// drop closes the idle connections: those to a server that hangs would hang.
func (b *backend) drop() {
	for _, c := range b.idle {
		_ = c.nc.Close()
	}
	b.idle = nil
}

func (b *backend) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.drop()
}

// take returns a connection that is idle and whole, or nil.
func (b *backend) take() (*conn, error) {
	for {
		b.mu.Lock()
		if b.closed {
			b.mu.Unlock()
			return nil, ErrClosed
		}
		n := len(b.idle)
		if n == 0 {
			b.mu.Unlock()
			return nil, nil
		}
		c := b.idle[n-1]
		b.idle = b.idle[:n-1]
		b.mu.Unlock()
		if alive(c.nc) {
			return c, nil
		}
		_ = c.nc.Close()
	}
}

func (b *backend) give(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.idle) >= b.opts.maxIdle {
		_ = c.nc.Close()
		return
	}
	b.idle = append(b.idle, c)
}

// unsent marks an error of a request of which the server has seen nothing.
type unsent struct{ error }

func (e unsent) Unwrap() error { return e.error }

// do sends one request: f writes it and reads the reply. again says that it may be sent twice.
func (b *backend) do(ctx context.Context, again bool, f func(*conn) error) error {
	if err := ctx.Err(); err != nil {
		return unsent{err}
	}
	if !b.admit() {
		return unsent{fmt.Errorf("%w: %s", ErrUnavailable, b.server.Addr())}
	}
	err := b.try(ctx, again, f)
	b.settle(judge(err))
	return b.named(err)
}

// hold is do with a request that may be sent twice, and leaves the connection to the caller, who releases it.
func (b *backend) hold(ctx context.Context, f func(*conn) error) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, unsent{err}
	}
	if !b.admit() {
		return nil, unsent{fmt.Errorf("%w: %s", ErrUnavailable, b.server.Addr())}
	}
	c, err := b.attempt(ctx, true, f)
	b.settle(judge(err))
	if err != nil {
		b.release(c)
		return nil, b.named(err)
	}
	return c, nil
}

// named says which server an error is of, unless it is an answer.
func (b *backend) named(err error) error {
	if err == nil || answered(err) {
		return err
	}
	return fmt.Errorf("memcache: %s: %w", b.server.Addr(), err)
}

func (b *backend) try(ctx context.Context, again bool, f func(*conn) error) error {
	c, err := b.attempt(ctx, again, f)
	b.release(c)
	return err
}

// release gives back what attempt has returned.
func (b *backend) release(c *conn) {
	if c != nil {
		b.give(c)
		<-b.slots
	}
}

// attempt is try, and leaves the caller the connection, which is whole and nobody else's until release; nil when it had to be closed.
func (b *backend) attempt(ctx context.Context, again bool, f func(*conn) error) (*conn, error) {
	if err := b.slot(ctx); err != nil {
		return nil, unsent{err}
	}
	c, err := b.send(ctx, again, f)
	if c == nil {
		<-b.slots
	}
	return c, err
}

func (b *backend) send(ctx context.Context, again bool, f func(*conn) error) (*conn, error) {
	for {
		c, err := b.take()
		if err != nil {
			return nil, unsent{err}
		}
		fresh := c == nil
		if fresh {
			if c, err = dial(ctx, b.server, b.opts); err != nil {
				return nil, unsent{err}
			}
		}
		c.got = false
		err = c.under(ctx, func() error { return f(c) })
		if reusable(err) && !c.spoilt() {
			return c, err
		}
		_ = c.nc.Close()
		if err == nil || answered(err) || fresh || !again || c.got || judge(err) != failed || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			return nil, err
		}
		// The server closed an idle connection at this moment. Sending the request once more does no harm.
	}
}

// errBusy says that all connections to a server were in use for as long as a request may take.
var errBusy = errors.New("memcache: all connections are in use")

func (b *backend) slot(ctx context.Context) error {
	select {
	case b.slots <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTimer(b.opts.timeout)
	defer t.Stop()
	select {
	case b.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errBusy, ctx.Err())
	case <-t.C:
		return errBusy
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// answered tells whether an error is what the server has to say: it works.
func answered(err error) bool {
	var refused *ServerError
	return errors.As(err, &refused) || errors.Is(err, ErrCacheMiss) || errors.Is(err, ErrNotStored) || errors.Is(err, ErrCASConflict) ||
		errors.Is(err, ErrNoLeases)
}

// reusable tells whether the connection is between two replies. After ERROR and CLIENT_ERROR servers differ in what they do with the data
// of a store command.
func reusable(err error) bool {
	var refused *ServerError
	if errors.As(err, &refused) {
		return len(refused.Text) > 6 && refused.Text[:6] == "SERVER"
	}
	return err == nil || answered(err)
}

// judge says what an error tells of the server.
func judge(err error) outcome {
	switch {
	case err == nil || answered(err):
		return worked
	case errors.Is(err, context.Canceled), errors.Is(err, errBusy), errors.Is(err, ErrClosed):
		return unknown
	case errors.Is(err, ErrTooLarge), errors.Is(err, ErrCompression):
		return worked // it answered; the connection is closed, the server is well
	}
	return failed
}
