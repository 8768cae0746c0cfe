package gearmand

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/internal/accept"
	"wheelhouse/internal/pace"
)

// Server is a job server. Its methods are safe for concurrent use.
type Server struct {
	opts   Options
	log    *slog.Logger
	epoch  string       // of the keys in the store: another one for each process
	memory atomic.Int64 // bytes, see MaxMemory
	counts counters
	told   pace.Gate // of a store that fails

	tick    chan struct{} // for clock
	work    chan struct{} // for keep
	hurry   chan struct{} // for hurryUp
	quit    chan struct{} // closed when the server is
	writers sync.WaitGroup
	parts   sync.WaitGroup // clock, keep, hurryUp
	serving sync.WaitGroup // connections
	once    sync.Once      // OnShutdown

	mu        sync.Mutex // guards all below
	functions map[string]*function
	jobs      map[uint64]*job // by the handle's number
	foreign   map[string]*job // by handle: jobs from the store with handles of another form
	merge     map[string]*job // by merge key; jobs of other functions follow by job.twin
	conns     map[*conn]struct{}
	listeners map[net.Listener]struct{}
	lasting   bool    // the packet in work lies in a buffer that can be kept
	touched   []*conn // those to whom something is to be sent
	times     timeHeap
	lastJob   uint64
	lastConn  uint64
	lastKey   uint64
	running   int
	stopping  bool // no new connections, no new jobs
	closed    bool
	idle      chan struct{} // closed when stopping and nothing runs
	nextSweep time.Time

	patient patient

	stored  sync.Cond // something came out of the store
	adds    []add
	updates []*job
	removes []string
}

// Open loads the jobs of the store and starts the server, which Close must end. Jobs that cannot be loaded are an error.
func Open(ctx context.Context, opts Options) (*Server, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	s := &Server{
		opts:      opts.withDefaults(),
		epoch:     rand.Text()[:13],
		tick:      make(chan struct{}, 1),
		work:      make(chan struct{}, 1),
		hurry:     make(chan struct{}, 1),
		quit:      make(chan struct{}),
		functions: map[string]*function{},
		jobs:      map[uint64]*job{},
		foreign:   map[string]*job{},
		merge:     map[string]*job{},
		conns:     map[*conn]struct{}{},
		listeners: map[net.Listener]struct{}{},
		idle:      make(chan struct{}),
	}
	s.log = s.opts.Log
	s.stored.L = &s.mu
	if s.opts.Store != nil {
		if err := s.load(ctx); err != nil {
			return nil, err
		}
		// What is kept is kept to the end, also when the caller's context ends before.
		ctx := context.WithoutCancel(ctx)
		s.parts.Go(func() { s.keep(ctx) })
	}
	s.parts.Go(s.clock)
	s.parts.Go(s.hurryUp)
	return s, nil
}

// Serve accepts connections from ln until the server stops, then returns ErrServerClosed, or until ln fails, then returns its
// error. Several listeners may be served at once. Shutdown and Close close them.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		ln.Close()
		return ErrServerClosed
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, ln)
		s.mu.Unlock()
		ln.Close()
	}()
	err := accept.All(ln, s.log, s.quit, s.ServeConn)
	if s.isStopping() {
		return ErrServerClosed
	}
	return err
}

// ServeConn adopts a connection and returns at once.
func (s *Server) ServeConn(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || len(s.conns) >= s.opts.MaxConns {
		if !s.stopping {
			s.counts.turnedAway.Add(1)
			s.log.Warn("connection turned away: there are too many", "addr", nc.RemoteAddr(), "limit", s.opts.MaxConns)
		}
		nc.Close()
		return
	}
	c := s.newConn(nc)
	s.lastConn++
	c.id = s.lastConn
	s.conns[c] = struct{}{}
	s.counts.accepted.Add(1)
	s.serving.Go(c.serve)
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// Shutdown takes no more connections and jobs, hands out no more, and waits until all running jobs have finished, or ctx has
// ended; then it closes the server. The error is ErrForced when jobs were still running. Jobs that wait are lost, unless they
// are in the store.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	var err error
	select {
	case <-s.idle:
	case <-s.quit:
	case <-ctx.Done():
		err = ErrForced
	}
	return errors.Join(err, s.Close())
}

// stop begins the end.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return
	}
	s.stopping = true
	for ln := range s.listeners {
		ln.Close()
	}
	s.finished()
}

// finished tells Shutdown when nothing runs any more. s.mu is held.
func (s *Server) finished() {
	if !s.stopping || s.running > 0 {
		return
	}
	select {
	case <-s.idle:
	default:
		close(s.idle)
	}
}

// Close ends all connections at once, waits until what was acknowledged is in the store, and returns when all goroutines are
// gone. It may be called more than once.
func (s *Server) Close() error {
	s.stop()
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	if first {
		close(s.quit)
	}
	for c := range s.conns {
		c.gone = true
		c.wmu.Lock()
		if !c.writing {
			c.close()
		} else { // its last answers have a moment
			c.ending = true
			c.nc.SetReadDeadline(time.Now())
			c.nc.SetWriteDeadline(time.Now().Add(time.Second))
		}
		c.wmu.Unlock()
	}
	s.stored.Broadcast()
	s.mu.Unlock()
	s.serving.Wait()
	s.parts.Wait()
	s.writers.Wait()
	return nil
}
