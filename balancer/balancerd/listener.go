package balancerd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"reflect"
	"sync"
	"syscall"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/config"
	"wheelhouse/balancer/transport"
	"wheelhouse/internal/accept"
	"wheelhouse/internal/http1"
	"wheelhouse/internal/netpoll"
)

// listener is a service's socket with the engine that serves it.
type listener struct {
	addr    string // as configured
	ln      net.Listener
	poller  *netpoll.Poller
	set     *balancer.Settings
	srv     *http1.Server    // nil for raw roles
	front   *transport.Front // nil for packets
	raw     func(net.Conn)   // of raw roles
	serving sync.WaitGroup
	conns   *rawConns // of raw roles
	passed  bool      // conns are another listener's, which has taken this one's place
	log     *slog.Logger
}

// sameFront reports whether a listener need not be made anew for new settings: its engine's timeouts can be changed while it runs, those
// of HTTP/2 cannot.
func sameFront(old, set *balancer.Settings) bool {
	if set.TLS.Enabled && set.HTTP2 && (old.HeadTimeout != set.HeadTimeout || old.IdleTimeout != set.IdleTimeout || old.ClientIdleTimeout != set.ClientIdleTimeout || old.MaxRequestBody != set.MaxRequestBody) {
		return false
	}
	return old.Role == set.Role && old.ProxyProtocol == set.ProxyProtocol && old.HTTP2 == set.HTTP2 && old.ClientSndbuf == set.ClientSndbuf &&
		old.MaxConnections == set.MaxConnections && reflect.DeepEqual(old.TLS, set.TLS)
}

// limits are the engine's for a service's settings.
func limits(set *balancer.Settings) http1.Limits {
	idle := orNever(set.IdleTimeout)
	return http1.Limits{
		Head: 100 << 10, Line: 32 << 10, Body: orNoSize(set.MaxRequestBody), FirstByteTimeout: idle, IdleTimeout: orNever(set.ClientIdleTimeout),
		HeadTimeout: orNever(set.HeadTimeout), BodyTimeout: idle, WriteTimeout: idle, MaxConns: set.MaxConnections,
	}
}

func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func orNoSize(n int64) int64 {
	if n == 0 {
		return -1
	}
	return n
}

// newListener makes a listener of a socket. It does not accept yet.
func (s *Service) newListener(ln net.Listener, set *balancer.Settings) (*listener, error) {
	l := &listener{addr: set.Listen, ln: ln, poller: s.b.poller, set: set, log: s.log}
	if raw := s.rawRole(set); raw != nil {
		l.raw, l.conns = raw, &rawConns{}
		if set.Role == config.UploadTracker {
			return l, nil
		}
		err := config.CheckTLS(&set.TLS)
		if err == nil {
			l.front, err = transport.NewRaw(s.name, set, l.takeRaw, s.b.o.Tickets, s.log)
		}
		return l, err
	}
	o := http1.Options{Limits: limits(set), Log: s.log, Sequence: &s.b.sequence, ErrorFormat: errorPage, OnRefuse: s.refused}
	over := &transport.H2Conns{}
	o.Others = over
	l.srv = http1.NewServer(s, o)
	err := config.CheckTLS(&set.TLS)
	if err == nil {
		l.front, err = transport.New(s.name, set, l.srv, over, s.b.o.Tickets, s.log)
	}
	return l, err
}

// refused tells of a request that the engine has refused.
func (s *Service) refused(r *http1.Refusal) {
	f, c := s.b.o.Refused, s.now.Load()
	if f == nil || c == nil {
		return
	}
	f(&balancer.Refusal{
		Service: s, Set: c.set, Client: peer(r.Client), TLS: r.TLS, Began: time.Now().Add(-r.Took), Line: r.Line,
		Status: r.Err.Status, Sent: r.Sent, Reason: r.Err.Reason,
	})
}

// errorPage is the page of an answer that the engine gives by itself.
func errorPage(h *http1.Header, e *http1.Error) []byte {
	h.Set("Content-Type", "text/html")
	return balancer.Page(e.Status, e.Reason)
}

// rawRole is what serves raw connections of a service, nil when it speaks HTTP.
func (s *Service) rawRole(set *balancer.Settings) func(net.Conn) {
	switch set.Role {
	case config.Management:
		return func(nc net.Conn) { s.b.o.Console(s.b, nc) }
	case config.ReverseProxy, config.WebServer, config.SelectorRole:
		return nil
	}
	return func(nc net.Conn) {
		if c := s.now.Load(); c != nil {
			for _, i := range c.chain.Instances {
				if r, ok := i.(balancer.Role); ok {
					r.ServeConn(nc)
					return
				}
			}
		}
		nc.Close()
	}
}

// start accepts.
func (l *listener) start() {
	l.serving.Go(func() {
		var err error
		switch {
		case l.front == nil:
			_, err = l.ln.Accept() // takes packets in until it is closed
		case l.raw != nil:
			err = l.front.Serve(l.ln)
		default:
			err = l.front.Serve(l.poller.Listener(l.ln))
		}
		if err != nil && !errors.Is(err, http1.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			l.log.Error("listener failed", "addr", l.addr, "err", err)
		}
	})
}

// takeRaw has a connection served, if there are not too many.
func (l *listener) takeRaw(nc net.Conn) {
	if !l.conns.add(nc) {
		nc.Close()
		return
	}
	l.serving.Go(func() {
		defer l.conns.drop(nc)
		l.raw(nc)
	})
}

// stop closes the listener; what is under way is finished, or cut when ctx ends.
func (l *listener) stop(ctx context.Context) error {
	if l.raw != nil {
		l.ln.Close()
		if l.front != nil {
			_ = l.front.Shutdown(ctx) // without HTTP/2 it does not wait
		}
		if !l.passed {
			l.conns.close()
		}
		l.serving.Wait()
		return nil
	}
	l.ln.Close()
	err := l.both(ctx, func() error { return l.srv.Shutdown(ctx) })
	l.serving.Wait()
	return err
}

// drainTo ends a listener whose socket is closed: handshakes under way are finished, what is under way is answered, and connections that idle
// are given away.
func (l *listener) drainTo(ctx context.Context, give func(nc net.Conn, client net.Addr)) error {
	served := make(chan struct{})
	go func() {
		l.serving.Wait()
		close(served)
	}()
	select {
	case <-served:
	case <-ctx.Done():
	}
	err := l.both(ctx, func() error { return l.srv.DrainTo(ctx, give) })
	<-served
	return err
}

// both ends the engine, and beside it what the engine does not know of: neither is to wait for the other's requests.
func (l *listener) both(ctx context.Context, end func() error) error {
	engine := make(chan error, 1)
	go func() { engine <- end() }()
	err := l.front.Shutdown(ctx)
	return errors.Join(<-engine, err)
}

// rawConns are the connections of a raw role, so that they can be closed.
type rawConns struct {
	mu     sync.Mutex
	list   map[net.Conn]struct{}
	closed bool
}

// maxRaw is how many connections a raw role has at most.
const maxRaw = 1000

func (r *rawConns) add(nc net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.list) >= maxRaw {
		return false
	}
	if r.list == nil {
		r.list = map[net.Conn]struct{}{}
	}
	r.list[nc] = struct{}{}
	return true
}

func (r *rawConns) drop(nc net.Conn) {
	r.mu.Lock()
	delete(r.list, nc)
	r.mu.Unlock()
	nc.Close()
}

// close closes all of them at once: TLS says farewell, for which a client that does not read lets it wait.
func (r *rawConns) close() {
	var all sync.WaitGroup
	r.mu.Lock()
	r.closed = true
	for nc := range r.list {
		all.Go(func() { nc.Close() })
	}
	r.mu.Unlock()
	all.Wait()
}

// duplicate is another descriptor of the same socket.
func duplicate(ln net.Listener) (net.Listener, error) {
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return accept.Duplicate(ln)
}

// setMaxFiles is SERVER max_connections: how many descriptors the process may have.
func setMaxFiles(n int, log *slog.Logger) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil || lim.Cur == uint64(n) {
		return
	}
	lim.Cur = uint64(n)
	lim.Max = max(lim.Max, lim.Cur)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		log.Warn("max_connections could not be set", "count", n, "err", err)
	}
}
