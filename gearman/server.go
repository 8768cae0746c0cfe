package gearman

import (
	"context"
	"fmt"
	"sync"
	"time"

	"wheelhouse/gearman/packet"
)

// server is one job server as a client knows it, and its connections.
type server struct {
	addr string
	opts *ClientOptions

	dialing chan struct{} // capacity 1: held by who opens a connection

	mu        sync.Mutex // guards what follows
	conns     []*conn
	opening   *conn
	failures  int   // to open one
	failure   error // the last
	downUntil time.Time
	closed    bool
	readers   sync.WaitGroup
}

func newServer(addr string, opts *ClientOptions) *server {
	return &server{addr: addr, opts: opts, dialing: make(chan struct{}, 1)}
}

// busyConn is how much may wait on a connection before another one is opened, while there may be more.
const busyConn = 32

// conn returns the connection with the least to do, and opens one when all have much.
func (s *server) conn(ctx context.Context) (*conn, error) {
	if c, enough := s.pick(); enough {
		return c, nil
	}
	s.mu.Lock()
	failures := s.failures
	s.mu.Unlock()
	select {
	case s.dialing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.dialing }()
	c, enough := s.pick() // another one may have opened one meanwhile
	if enough {
		return c, nil
	}
	fresh, err := s.openUnless(ctx, failures)
	if err != nil && c != nil {
		return c, nil // it has much to do, but it lives
	}
	return fresh, err
}

// pick returns the least busy connection, and whether it will do. Broken ones are forgotten.
func (s *server) pick() (best *conn, enough bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	least := 0
	alive := s.conns[:0]
	for _, c := range s.conns {
		load, ok := c.busy()
		if !ok {
			continue
		}
		alive = append(alive, c)
		if best == nil || load < least {
			best, least = c, load
		}
	}
	clear(s.conns[len(alive):])
	s.conns = alive
	return best, best != nil && (least < busyConn || len(alive) >= s.opts.MaxConns)
}

// openUnless opens a connection, unless others have failed to while the caller waited for them: it does not wait as long again.
func (s *server) openUnless(ctx context.Context, failures int) (*conn, error) {
	s.mu.Lock()
	if s.failures != failures {
		defer s.mu.Unlock()
		return nil, s.failure
	}
	s.mu.Unlock()
	tctx, cancel := context.WithTimeout(ctx, s.opts.DialTimeout)
	defer cancel()
	c, err := s.open(tctx)
	if err == nil {
		return c, nil
	}
	if tctx.Err() == context.DeadlineExceeded && ctx.Err() == nil {
		err = fmt.Errorf("no answer within %s", s.opts.DialTimeout)
	}
	err = fmt.Errorf("%s: %w", s.addr, err)
	if ctx.Err() == nil {
		s.down(err)
	}
	return nil, err
}

func (s *server) open(ctx context.Context) (*conn, error) {
	nc, err := s.opts.dialer().dial(ctx, s.addr)
	if err != nil {
		return nil, err
	}
	c := newConn(s.addr, newOutbox(nc), s.opts.MaxReply)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = nc.Close()
		return nil, ErrClosed
	}
	s.opening = c // nobody else has it yet, whose jobs would end with the caller's patience
	s.readers.Go(c.read)
	s.mu.Unlock()
	// Servers that do not know the option say so, and send WORK_FAIL without a reason.
	_, err = c.ask(ctx, func(buf []byte) []byte {
		return packet.Append(buf, packet.Req, packet.OptionReq, "exceptions")
	})
	_, refused := err.(*ServerError)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening = nil
	if err != nil && !refused {
		_ = c.out.close(err)
		return nil, err
	}
	if s.closed {
		return nil, ErrClosed
	}
	s.conns = append(s.conns, c)
	s.downUntil = time.Time{}
	return c, nil
}

// down has the server passed over for a while.
func (s *server) down(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures++
	s.failure = why
	s.downUntil = time.Now().Add(s.opts.RetryAfter)
}

func (s *server) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.downUntil)
}

func (s *server) close() {
	s.mu.Lock()
	s.closed = true
	conns := s.conns
	s.conns = nil
	if s.opening != nil {
		conns = append(conns, s.opening)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.end(ErrClosed)
	}
	s.readers.Wait()
}
