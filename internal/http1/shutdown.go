package http1

import (
	"context"
	"errors"
	"net"
	"time"
)

// grace is how long a stopping server waits for handlers to return after their connections were cut.
const grace = 5 * time.Second

// Shutdown stops the server: it closes the listeners and the connections that idle, lets the requests in work be
// answered (with Connection: close), and returns when all goroutines have ended. When ctx ends before that, it cuts
// what is left and returns ctx's error. A second call waits like the first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.advance(closing)
	s.stopListeners(true)
	s.wakeIdle()
	err := s.ended(ctx)
	if err != nil {
		err = errors.Join(err, s.cut())
	}
	s.finish()
	return err
}

// Drain stops the server for a hot restart. It stops accepting, without closing the listeners, of which the caller has passed
// a duplicate to the new process (one that has no SetDeadline, as that of crypto/tls, can only be stopped by closing it;
// Close of a duplicated TCP listener does no harm, of a unix listener it removes the socket's file); closes nothing that can live on; lets the requests be answered of which a byte has
// been read, pipelined ones included; and returns the plain TCP and unix connections that are open, idle, and have no
// byte in a buffer, for another process to serve (see [Server.ServeConn]). Their clients notice nothing. Connections
// that cannot be handed over (TLS, and those of [Server.ServeConnFrom]) are closed when they idle, after an answer with Connection: close if one was in
// work or the first is still to come. When ctx ends before all is done, what is left is cut, and ctx's error is returned beside the connections.
func (s *Server) Drain(ctx context.Context) (idle []net.Conn, err error) {
	s.advance(draining)
	s.stopListeners(false)
	s.wakeIdle()
	if err = s.ended(ctx); err != nil {
		err = errors.Join(err, s.cut())
	}
	s.finish()
	s.mu.Lock()
	idle, s.handed = s.handed, nil
	s.mu.Unlock()
	for _, nc := range idle {
		nc.SetDeadline(time.Time{}) // it was woken by a deadline in the past
	}
	return idle, err
}

// DrainTo is Drain that gives away each connection as soon as it idles, instead of all at the end, and with it the client of one that
// [Server.ServeConnFrom] has taken; nil: the connection's own. give must not wait for anything of this server.
func (s *Server) DrainTo(ctx context.Context, give func(nc net.Conn, client net.Addr)) error {
	s.mu.Lock()
	s.give = give
	s.mu.Unlock()
	s.telling.Store(true)
	_, err := s.Drain(ctx)
	return err
}

// Close stops the server at once: listeners and connections are closed, contexts cancelled. It waits for the handlers, but
// not for ever, and returns an error when some have not returned.
func (s *Server) Close() error {
	s.advance(closing)
	s.stopListeners(true)
	err := s.cut()
	s.finish()
	return err
}

// advance moves the server's state forward.
func (s *Server) advance(to state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Load() < int32(to) {
		s.state.Store(int32(to))
	}
	s.notify()
}

// stopListeners makes Accept return: by closing, or by a deadline where the caller keeps the listener.
func (s *Server) stopListeners(closeThem bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ln := range s.listeners {
		if d, ok := ln.(interface{ SetDeadline(time.Time) error }); ok && !closeThem && d.SetDeadline(past) == nil {
			continue
		}
		ln.Close()
	}
}

// wakeIdle wakes the connections that wait for a request, so that they see the server's state. One that becomes idle
// while this runs sees it by itself: it looks at the state after it has entered the phase.
func (s *Server) wakeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if p := phaseOf(c.word.Load()); p == phaseIdle || p == phaseFresh {
			c.nc.SetReadDeadline(past)
		}
	}
}

// ended waits until no connection and no Serve is left.
func (s *Server) ended(ctx context.Context) error {
	for {
		s.mu.Lock()
		left, changed := len(s.conns)+s.serving, s.changed
		s.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cut closes all connections, and waits for their handlers for as long as grace.
func (s *Server) cut() error {
	s.advance(closing)
	s.cancel()
	s.mu.Lock()
	for c := range s.conns {
		c.nc.Close()
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), grace) // the caller's is over already
	defer cancel()
	if s.ended(ctx) != nil {
		return errors.New("http1: handlers have not returned although their connections were cut")
	}
	return nil
}

// finish ends the sweeper. It may be called again.
func (s *Server) finish() {
	s.mu.Lock()
	first := s.state.Load() != int32(closed)
	s.state.Store(int32(closed))
	s.notify()
	s.mu.Unlock()
	if first {
		close(s.quit)
	}
	s.sweeper.Wait()
	s.cancel()
}
