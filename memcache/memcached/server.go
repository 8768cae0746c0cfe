package memcached

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/internal/accept"
	"wheelhouse/memcache/segcache"
)

// ErrServerClosed is what Serve returns after Close.
var ErrServerClosed = errors.New("memcached: server closed")

// Server is a cache server. Its methods are safe for concurrent use.
type Server struct {
	opts    Options
	log     *slog.Logger
	cache   *segcache.Cache
	clock   clock
	started time.Time

	stripes   [stripes]stripe
	accepted  atomic.Uint64
	rejected  atomic.Uint64
	open      atomic.Int64
	taken     atomic.Int64 // by the connections, see mustTake
	kept      atomic.Int64 // bytes, see maxKept
	keptAside atomic.Int64 // of kept, beyond which items are to give up more
	users     atomic.Pointer[map[string]string]
	acl       atomic.Pointer[ACL]
	verbose   atomic.Int32
	flushAt   atomic.Uint32 // when all is to be flushed; 0: not
	works     sync.Pool
	knobs     knobs
	detail    detail
	hot       hotKeys
	slow      slowLog
	pending   pending // requests that are not complete
	blocked   pending // answers that are not taken
	gate      gate
	poller    *poller // nil: each connection has a goroutine
	watch     watchers
	saves     saves
	stopOnce  sync.Once

	askedOnce sync.Once    // OnShutdown
	certsAt   atomic.Int64 // when certificates were read, by the cache's clock

	parts     sync.WaitGroup // background work
	serving   sync.WaitGroup // connections
	stop      context.CancelFunc
	mu        sync.Mutex // guards all below
	conns     []*conn    // by their numbers
	lastConn  uint64
	listeners map[net.Listener]uint64 // by the numbers that stats conns shows
	packets   map[*net.UDPConn]uint64
	aside     int64 // of the limit, bytes, see setAside
	closed    bool
	quit      chan struct{} // closed with it
}

// Open makes a server, which Close must end.
func Open(opts Options) (*Server, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	s := &Server{
		opts: opts.withDefaults(), started: time.Now(), listeners: map[net.Listener]uint64{},
		packets: map[*net.UDPConn]uint64{}, quit: make(chan struct{}),
	}
	s.log = s.opts.Log
	s.pending = pending{most: maxPending, reason: "too_long", log: s.log}
	s.keptAside.Store(maxKept / 2)
	s.blocked = pending{most: maxKept, more: s.moreKept, reason: "not_read", log: s.log}
	o := &s.opts
	var err error
	s.cache, err = segcache.New(segcache.Options{
		Limit: o.Limit, NoEvict: o.NoEvict, File: o.File, Meta: o.Meta, Sizes: classSizes(o.Growth, o.LeastItem, o.ChunkMax),
		SizeOf: o.itemTotal, Delimiter: o.Delimiter, Now: unixNow(), Evicted: s.watch.evicted,
	})
	if err != nil {
		return nil, err
	}
	s.clock.cache, s.clock.begun = s.cache, unixNow()-2 // as memcached's, so that the time of the start is not the past
	s.clock.real.Store(time.Now().Unix())
	if o.Meta != nil {
		s.flushAt.Store(o.Meta.FlushAt)
	}
	s.works.New = func() any {
		if s.crowded() {
			return newWork(crowdBuffer)
		}
		return newWork(readBuffer)
	}
	s.SetUsers(o.Users)
	s.SetACL(o.ACL)
	s.knobs.init()
	s.gate.init()
	s.verbose.Store(int32(o.Verbose))
	s.detail.on.Store(o.Detail)
	s.slow.after = o.SlowAfter
	s.certsAt.Store(int64(s.cache.Now()))
	s.watch.init(s)
	if o.Snapshot != "" {
		if err := errors.Join(s.loadSnapshot(o.Snapshot), tryWrite(o.Snapshot)); err != nil {
			return nil, errors.Join(err, s.cache.Close())
		}
	}
	if o.Threads > 0 {
		if s.poller, err = newPoller(s); err != nil {
			return nil, errors.Join(err, s.cache.Close())
		}
		s.poller.start(o.Threads)
	}
	ctx, cancel := context.WithCancel(context.Background()) // ends with Close
	s.stop = cancel
	if !s.opts.still {
		s.parts.Go(func() { s.clock.run(ctx) })
		s.parts.Go(func() { _ = s.cache.Run(ctx) })
	}
	s.parts.Go(func() { s.sweep(ctx) })
	return s, nil
}

// SetUsers replaces the users of the text protocol's authentication. Connections that are authenticated remain so.
func (s *Server) SetUsers(users map[string]string) { s.users.Store(&users) }

// SetACL replaces what users may do, also for connections that are there.
func (s *Server) SetACL(acl *ACL) { s.acl.Store(acl) }

// RefreshCerts does what the command refresh_certs does; without [Options.RefreshCerts] nothing.
func (s *Server) RefreshCerts() error {
	if s.opts.RefreshCerts == nil {
		return nil
	}
	if err := s.opts.RefreshCerts(); err != nil {
		return err
	}
	s.certsAt.Store(int64(s.cache.Now()))
	return nil
}

// Serve accepts connections from ln until the server is closed, then returns ErrServerClosed, or until ln fails, then returns its error.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		ln.Close()
		return ErrServerClosed
	}
	s.lastConn++
	s.listeners[ln] = s.lastConn
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, ln)
		s.mu.Unlock()
		ln.Close()
	}()
	err := accept.All(ln, s.log, s.quit, s.ServeConn)
	if s.isClosed() {
		return ErrServerClosed
	}
	return err
}

// ServeConn adopts a connection and returns at once. One above the limit is told so, unless it is of TLS, and closed.
func (s *Server) ServeConn(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		nc.Close()
		return
	}
	if len(s.conns) >= s.opts.MaxConns {
		s.rejected.Add(1)
		if _, ok := nc.(*tls.Conn); !ok { // who would first have to say hello
			nc.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // it has an empty buffer: this does not wait
			nc.Write([]byte("ERROR Too many open connections\r\n"))
		}
		nc.Close()
		return
	}
	s.lastConn++
	c := newConn(s, nc, s.lastConn)
	s.conns = append(s.conns, c)
	s.accepted.Add(1)
	s.open.Add(1)
	s.serving.Add(1)
	c.joinPoller()
	c.takes = c.mustTake()
	s.taken.Add(c.takes)
	s.setAside()
	if c.fd < 0 {
		go c.serve()
		return
	}
	c.logConn()
	if err := s.poller.add(c); err != nil {
		s.log.Error("a connection cannot be waited for", "addr", c.remote(), "err", err)
		c.close("error")
		if c.happened() { // else a leader has it already, for an event of the descriptor's last owner, and ends it
			go c.end()
		}
	}
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// connections returns those that are open.
func (s *Server) connections() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conns)
}

// connectionsAfter returns the first n of those with numbers above one.
func (s *Server) connectionsAfter(id uint64, n int) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.place(id + 1)
	return slices.Clone(s.conns[at:min(at+n, len(s.conns))])
}

// place is where in conns those with an id from one on begin. s.mu is held.
func (s *Server) place(id uint64) int {
	at, _ := slices.BinarySearchFunc(s.conns, id, func(c *conn, id uint64) int { return cmp.Compare(c.id, id) })
	return at
}

// forget takes a connection that has ended off the list.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.place(c.id)
	s.conns = slices.Delete(s.conns, at, at+1)
}

// sweep closes connections that are silent or do not read, flushes when it is time, and gives items memory back.
func (s *Server) sweep(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		s.dueFlush()
		s.restoreAside()
		now := time.Now()
		for _, c := range s.connections() {
			if w := c.writing.Load(); w != 0 {
				if now.Sub(time.Unix(w, 0)) > s.opts.WriteTimeout {
					c.stripe.add(slowClosed)
					c.close("write_timeout")
				}
				c.last.Store(now.Unix()) // it is we who have something to say
				continue
			}
			if idle := s.idleTimeout(); idle > 0 && !c.watching.Load() && now.Sub(time.Unix(c.last.Load(), 0)) > idle {
				c.stripe.add(idleKicks)
				c.close("idle")
			}
		}
	}
}

func (s *Server) idleTimeout() time.Duration { return s.opts.IdleTimeout }

// dueFlush flushes if a delayed flush_all is due.
func (s *Server) dueFlush() {
	if at := s.flushAt.Load(); at != 0 && s.cache.Now() >= at && s.flushAt.CompareAndSwap(at, 0) {
		s.cache.Flush()
	}
}

// close ends all but the cache.
func (s *Server) end() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.quit)
	}
	for ln := range s.listeners {
		ln.Close()
	}
	for p := range s.packets {
		p.Close()
	}
	for _, c := range s.conns {
		c.close("shutdown")
	}
	s.mu.Unlock()
	s.serving.Wait()
	s.stop()
	if s.poller != nil {
		s.poller.close()
	}
	s.parts.Wait()
}

// Close ends all connections and forgets all items. It returns when all goroutines are gone, and may be called more than once.
func (s *Server) Close() error {
	s.end()
	var err error
	s.stopOnce.Do(func() { err = s.cache.Close() })
	return err
}

// Shutdown closes the server as Close does, and leaves its items: in Options.Snapshot, and in Options.File, for which it returns what the next
// process needs (nil without a file, or if the items are not all in it).
func (s *Server) Shutdown() (meta *segcache.Meta, err error) {
	s.end()
	s.stopOnce.Do(func() {
		if s.opts.Snapshot != "" { // now that clients have their last answer
			if _, snapErr := s.WriteSnapshot(s.opts.Snapshot); snapErr != nil {
				err = fmt.Errorf("snapshot: %w", snapErr)
			}
		}
		m, saveErr := s.cache.Save()
		if meta = m; m != nil {
			m.FlushAt = s.flushAt.Load()
		}
		err = errors.Join(err, saveErr, s.cache.Close())
	})
	return meta, err
}
