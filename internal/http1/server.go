package http1

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a [Server]. The zero value is ready for use.
type Options struct {
	// Limits bound what clients can do; see there for the defaults.
	Limits Limits
	// Log takes panics (Error), failing listeners (Warn) and refused requests (Debug). Default: nothing is logged.
	Log *slog.Logger
	// ErrorFormat makes the body of an answer that the engine gives by itself (a request refused, a handler that panicked
	// or said nothing); it may set fields in h. Default: a line of text that names the problem.
	ErrorFormat func(h *Header, e *Error) []byte
	// Server is the value of the Server field of each answer whose handler sets none. Default "": no such field.
	Server string
	// OnPanic is called after a handler's panic was counted and logged. Default: nothing.
	OnPanic func(value any, stack []byte)
	// OnRefuse is told of each request that the engine has answered by itself, after the answer was written, by the connection's
	// goroutine. Default: nothing.
	OnRefuse func(*Refusal)
	// Sequence is where request ids are drawn from; servers of one process share one. Default: the server's own.
	Sequence *atomic.Uint64
	// Others are connections beside the server's that count towards MaxConns. Default: there are none.
	Others Others
	// Coalesce holds back a complete answer while more requests of the connection are in its buffer already, so that
	// answers to pipelined requests share a write. An answer can then wait for the handler of the next request, so set it
	// only where handlers do not wait for anything. Default false: each answer is sent when it is complete.
	Coalesce bool
}

// Others are connections of somebody else that share a server's limit, as those of another protocol on the same listener do. It is safe for
// concurrent use.
type Others interface {
	// Conns is how many there are.
	Conns() int
	// Evict closes one that idles, if there is one.
	Evict()
}

// state is a server's life; it only moves forward.
type state int32

const (
	running  state = iota
	draining       // Drain: finish what has begun, hand over the rest
	closing        // Shutdown: finish what has begun, close the rest
	closed
)

// Server serves HTTP/1.1 on any number of listeners and single connections. Its methods are safe for concurrent use.
type Server struct {
	handler Handler
	opts    Options
	lim     atomic.Pointer[serverLimits]
	log     *slog.Logger
	tick    time.Duration

	state   atomic.Int32
	clock   atomic.Int64 // ms since born, as of the last tick
	born    time.Time
	date    atomic.Pointer[string] // the Date field line, as of the last tick
	counts  counters
	base    context.Context // parent of the connections' contexts: cancelled when the server has stopped
	cancel  context.CancelFunc
	telling atomic.Bool   // whoever takes connections is told who their clients are
	quit    chan struct{} // closed to end the sweeper
	sweeper sync.WaitGroup

	mu        sync.Mutex // guards all below
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	handed    []net.Conn               // given up by connections while draining
	give      func(net.Conn, net.Addr) // takes them at once, nil: handed does
	serving   int                      // calls of Serve that have not returned
	changed   chan struct{}            // closed, and made anew, when a connection or a Serve has ended
	sweeping  bool
}

// NewServer makes a server of h. It starts nothing.
func NewServer(h Handler, o Options) *Server {
	s := &Server{
		handler:   h,
		opts:      o,
		log:       cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		born:      time.Now(),
		quit:      make(chan struct{}),
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
		changed:   make(chan struct{}),
	}
	if s.opts.Sequence == nil {
		s.opts.Sequence = new(atomic.Uint64)
	}
	var clean Header
	clean.Set("Server", o.Server)
	s.opts.Server = clean.Get("Server")
	s.tick = s.setLimits(o.Limits).tick()
	// The root of what the connections' contexts descend from: no caller's context lives as long as the server.
	s.base, s.cancel = context.WithCancel(context.Background())
	s.setDate(s.born)
	return s
}

// SetLimits replaces the limits while the server runs. Requests whose head has been read keep to the old ones, except for the
// timeouts. How exactly timeouts are kept depends on the limits that the server was made with.
func (s *Server) SetLimits(l Limits) { s.setLimits(l) }

func (s *Server) setLimits(l Limits) *serverLimits {
	sl := &serverLimits{Limits: l.withDefaults()}
	sl.phase = sl.phases()
	s.lim.Store(sl)
	return sl
}

// Serve accepts connections from ln until the server is stopped, then returns ErrServerClosed, or until ln fails, then
// returns its error. Several listeners may be served at once. Serve does not close ln, except in Shutdown and Close.
func (s *Server) Serve(ln net.Listener) error {
	if !s.enlist(ln) {
		return ErrServerClosed
	}
	defer s.delist(ln)
	var pause time.Duration
	for {
		nc, err := ln.Accept()
		if s.state.Load() != int32(running) && err != nil {
			return ErrServerClosed
		}
		if err != nil {
			if !temporary(err) {
				return err
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.Warn("accept failed", "addr", ln.Addr(), "err", err, "dur", pause)
			s.wait(pause)
			continue
		}
		pause = 0
		s.Admit()
		s.ServeConn(nc)
	}
}

// ServeConn adopts a connection, for instance one that another process handed over, and returns at once. A server that has
// stopped closes it.
func (s *Server) ServeConn(nc net.Conn) { s.ServeConnFrom(nc, nil) }

// ServeConnFrom is ServeConn for a connection that something in front has made for a client: RemoteAddr of its exchanges is
// client, if that is not nil.
func (s *Server) ServeConnFrom(nc net.Conn, client net.Addr) {
	c := newConn(s, nc)
	c.client = client
	if s.adopt(c) {
		go c.serve()
	}
}

// adopt takes a connection in, or closes it if the server has stopped.
func (s *Server) adopt(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := state(s.state.Load()); st == closed || st == closing {
		c.nc.Close()
		return false
	}
	s.conns[c] = struct{}{}
	s.startSweeper()
	s.counts.accepted.Add(1)
	return true
}

func (s *Server) enlist(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Load() != int32(running) {
		return false
	}
	s.listeners[ln] = struct{}{}
	s.serving++
	s.startSweeper()
	return true
}

func (s *Server) delist(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
	s.serving--
	if d, ok := ln.(interface{ SetDeadline(time.Time) error }); ok && s.state.Load() == int32(draining) {
		d.SetDeadline(time.Time{}) // the caller may still use it
	}
	s.notify()
}

// drop forgets a connection whose goroutine ends. handed is its connection if it goes to another process.
func (s *Server) drop(c *conn, handed net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	switch {
	case handed == nil:
	case s.state.Load() == int32(draining) && s.give != nil:
		handed.SetDeadline(time.Time{}) // it was woken by a deadline in the past
		s.give(handed, c.client)
	case s.state.Load() == int32(draining):
		s.handed = append(s.handed, handed)
	default:
		handed.Close() // Drain's time is over
	}
	s.notify()
}

// notify wakes those who wait for connections or Serves to end. s.mu is held.
func (s *Server) notify() {
	if s.state.Load() != int32(running) || len(s.conns)+1 >= s.lim.Load().MaxConns {
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// Admit waits until there are fewer than MaxConns connections, or the server stops; it closes one that idles to that end. It is for
// those who accept connections for the server themselves.
func (s *Server) Admit() {
	for {
		s.mu.Lock()
		changed, n := s.changed, len(s.conns)
		if s.opts.Others != nil {
			n += s.opts.Others.Conns()
		}
		full := n >= s.lim.Load().MaxConns
		evicted := full && s.evict()
		s.mu.Unlock()
		if full && !evicted && s.opts.Others != nil {
			s.opts.Others.Evict()
		}
		if !full || s.state.Load() != int32(running) {
			return
		}
		timer := time.NewTimer(s.tick)
		select {
		case <-changed:
		case <-timer.C: // a connection may have become idle, which nobody reports
		}
		timer.Stop()
	}
}

// evict claims the connection that has been idle longest; false when there is none. s.mu is held.
func (s *Server) evict() bool {
	var oldest *conn
	var since uint64
	for c := range s.conns {
		w := c.word.Load()
		switch p := phaseOf(w); {
		case p != phaseIdle && p != phaseFresh, w&claimed != 0:
		case oldest == nil, w>>timeShift < since:
			oldest, since = c, w>>timeShift
		}
	}
	return oldest != nil && oldest.claim(oldest.word.Load(), phaseIdle, phaseFresh)
}

// wait sleeps, but not beyond the server's stop.
func (s *Server) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if s.state.Load() != int32(running) {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		}
	}
}

// temporary reports whether an error of Accept concerns one connection, or a want that can pass, and not the listener.
func temporary(err error) bool {
	var t interface{ Temporary() bool } // syscall.Errno's own list: EMFILE, ENFILE, ECONNABORTED …
	return !errors.Is(err, net.ErrClosed) && errors.As(err, &t) && t.Temporary()
}
