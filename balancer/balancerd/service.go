package balancerd

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/backend"
	"wheelhouse/balancer/cache"
	"wheelhouse/balancer/compress"
	"wheelhouse/balancer/config"
	"wheelhouse/balancer/proxy"
	"wheelhouse/balancer/ratelimit"
	"wheelhouse/balancer/transport"
	"wheelhouse/internal/http1"
)

// Service is a service at work. Its methods are safe for concurrent use.
type Service struct {
	b     *Balancer
	name  string
	log   *slog.Logger
	now   atomic.Pointer[compiled]
	queue *backend.Queue
	proxy *proxy.Proxy
	cache *cache.Cache
	limit *ratelimit.Limiter
	live  inFlight

	Requests atomic.Int64

	listener *listener // guarded by Balancer.mu
}

// compiled is a service's configuration in the form in which it is used. It is never changed.
type compiled struct {
	conf    *config.Service
	set     *balancer.Settings
	chain   *balancer.Chain
	pool    *backend.Pool
	handler func(*balancer.Request)
	lacks   error // why TLS is not what conf says but what it was before, nil: it is
}

var _ balancer.Service = (*Service)(nil)

func newService(b *Balancer, name string) *Service {
	s := &Service{b: b, name: name, log: b.log.With("service", name)}
	s.queue = backend.NewQueue(b.ctx, s.log, s.dial)
	s.cache, s.limit = cache.New(b.ctx, name, s.log), ratelimit.New()
	s.proxy = &proxy.Proxy{
		Log: s.log, Pool: s.Pool, Queue: s.queue, Fetcher: b.fetcher, Local: func(name string) http1.Handler { return b.o.Local[name] },
		File: b.o.File, Progress: s.progress,
	}
	return s
}

// Name is the service's name.
func (s *Service) Name() string { return s.name }

// Log is where its plugins log.
func (s *Service) Log() *slog.Logger { return s.log }

// Queues implements balancer.Service.
func (s *Service) Queues(p balancer.Priority) (int, time.Duration) { return s.queue.Waiting(p) }

// Queue is the service's connections to its backends.
func (s *Service) Queue() *backend.Queue { return s.queue }

// Proxy is the service's reverse proxy.
func (s *Service) Proxy() *proxy.Proxy { return s.proxy }

// Settings are those in force.
func (s *Service) Settings() *balancer.Settings { return s.now.Load().set }

// Config is what the configuration says of the service.
func (s *Service) Config() *config.Service { return s.now.Load().conf }

// Chain is the plugins in force.
func (s *Service) Chain() *balancer.Chain { return s.now.Load().chain }

// Pool is the pool in force, nil when there is none.
func (s *Service) Pool() *backend.Pool {
	if c := s.now.Load(); c != nil {
		return c.pool
	}
	return nil
}

// Addr is where the service listens, nil when it does not.
func (s *Service) Addr() net.Addr {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.ln.Addr()
}

// Conns are the clients' connections.
func (s *Service) Conns() []http1.ConnInfo {
	s.b.mu.Lock()
	l := s.listener
	s.b.mu.Unlock()
	if l == nil || l.srv == nil {
		return nil
	}
	return l.srv.Conns()
}

// Engine is what the engine of the service's listener has counted since that was opened: requests that it refused by itself, which no
// role and no plugin sees, among them.
func (s *Service) Engine() http1.Stats {
	s.b.mu.Lock()
	l := s.listener
	s.b.mu.Unlock()
	if l == nil || l.srv == nil {
		return http1.Stats{}
	}
	return l.srv.Stats()
}

// compile makes of a service's configuration what it is used as. whole says that it was made anew. b.mu is held.
func (s *Service) compile(st *config.State, conf *config.Service, whole bool) (*compiled, error) {
	set, err := s.b.o.Language.Settings(st, conf)
	if err != nil {
		return nil, err
	}
	if set.BufferUploadsPath == "" { // it is not enabled, and not all is said yet
		set.BufferUploads = false
	}
	c := &compiled{conf: conf, set: set}
	if l := s.listener; l != nil && conf.Enabled && !whole && !reflect.DeepEqual(l.set.TLS, set.TLS) {
		if _, c.lacks = loadKeys(set.TLS); c.lacks != nil {
			set.TLS = l.set.TLS
		}
	}
	switch {
	case set.Pool != "":
		c.pool = s.b.poolFor(set.Pool)
	case set.ServerProcess != "":
		c.pool = s.processPool(set.ServerProcess)
	}
	var before *balancer.Chain
	disk := "" // of the cache, in use
	if now := s.now.Load(); now != nil {
		before, disk = now.chain, now.set.Cache.Disk
	}
	if c.chain, err = newChain(s.b.o.Language, s, conf, set, before); err != nil {
		return nil, fmt.Errorf("service %s: %w", s.name, err)
	}
	if c.handler = s.handler(set); c.handler != nil {
		c.handler = s.around(set, c.handler)
	}
	if set.Cache.Enabled && set.Cache.Disk != disk { // one that has gone bad is no reason to refuse what has nothing to do with it
		if err := cache.CheckDir(set.Cache.Disk); err != nil {
			return nil, fmt.Errorf("service %s: %w", s.name, err)
		}
	}
	return c, nil
}

// loadKeys reads the keys that TLS is to have. What is wrong between its parameters is an error too.
func loadKeys(t balancer.TLS) (*transport.Keys, error) {
	if err := config.CheckTLS(&t); err != nil || !t.Enabled {
		return nil, err
	}
	return transport.LoadKeys(t)
}

// processPool is the pool of a service whose backends are started by itself: of one node, of which any number of connections, each
// a process, can be had.
func (s *Service) processPool(path string) *backend.Pool {
	node := balancer.Node{Addr: backend.ProcessNode(path), Weight: 1}
	if now := s.now.Load(); now != nil && now.pool != nil && slices.Equal(now.pool.Settings().Nodes, []balancer.Node{node}) {
		return now.pool
	}
	p := backend.NewPool(s.name, s.log, nil)
	p.Update(&balancer.PoolSettings{Name: s.name, Nodes: []balancer.Node{node}})
	return p
}

// around puts before a handler what the settings want there: first the limit, then the cache, which keeps what was compressed.
func (s *Service) around(set *balancer.Settings, next func(*balancer.Request)) func(*balancer.Request) {
	if inner := next; len(set.Compress) > 0 {
		next = func(r *balancer.Request) { compress.Serve(r, inner) }
	}
	if inner := next; set.Cache.Enabled {
		next = func(r *balancer.Request) { s.cache.Serve(r, inner) }
	}
	if inner := next; set.RateLimit.Rate > 0 {
		next = func(r *balancer.Request) { s.limit.Serve(r, inner) }
	}
	return next
}

// Cache is the service's cache.
func (s *Service) Cache() *cache.Cache { return s.cache }

// Limiter is the service's limit.
func (s *Service) Limiter() *ratelimit.Limiter { return s.limit }

// handler is what answers requests of a role, nil for roles that take none.
func (s *Service) handler(set *balancer.Settings) func(*balancer.Request) {
	switch set.Role {
	case config.ReverseProxy:
		return s.proxy.Serve
	case config.WebServer:
		return s.b.o.Web
	case config.SelectorRole:
		return s.selectService
	}
	return nil
}

// put puts a compiled configuration in force.
func (s *Service) put(c *compiled) {
	old := s.now.Swap(c)
	s.queue.Update(c.set, c.pool)
	s.limit.Update(c.set.RateLimit)
	if c.set.Cache.Enabled {
		if err := s.cache.Update(c.set.Cache); err != nil {
			s.log.Error("cache goes on as it was", "err", err)
		}
	} else {
		s.cache.Clear()
	}
	if old == nil {
		return
	}
	if old.pool != nil && old.pool != c.pool {
		old.pool.Forget(s.queue)
	}
	for i, name := range old.chain.Names {
		if !slices.Contains(c.chain.Names, name) {
			balancer.CloseInstance(old.chain.Instances[i])
		}
	}
}

func (s *Service) closeChain() {
	if c := s.now.Load(); c != nil {
		c.chain.Close()
	}
}

// switchListener puts a listener in the place of the one before. The old one's connections live on: those that idle move over, others
// end after their answer, those of raw roles when their clients end them. Balancer.mu is held.
func (s *Service) switchListener(l *listener) {
	old := s.listener
	s.listener = l
	if l != nil && l == old {
		set := s.now.Load().set
		l.set = set
		if l.srv != nil {
			l.srv.SetLimits(limits(set))
		}
		return
	}
	if l != nil && l.raw != nil && old != nil && old.raw != nil { // a console goes on that has just moved itself
		l.conns, old.passed = old.conns, true
	}
	if l != nil {
		l.start()
	}
	if old == nil {
		return
	}
	old.ln.Close() // before the change is acknowledged
	move := l != nil && l.srv != nil && old.srv != nil && old.set.TLS.Enabled == l.set.TLS.Enabled && old.set.ProxyProtocol == l.set.ProxyProtocol
	s.b.running.Go(func() {
		if !move {
			old.stop(s.b.ctx)
			return
		}
		old.drainTo(s.b.ctx, l.srv.ServeConnFrom)
	})
}

// retire ends a service that is no longer configured: what is under way is finished.
func (s *Service) retire() {
	s.b.mu.Lock()
	l := s.listener
	s.listener = nil
	s.b.mu.Unlock()
	if l != nil {
		l.stop(s.b.ctx)
	}
	s.live.wait(s.b.ctx)
	s.cache.Wait()
	s.queue.Close()
	s.closeChain()
}

// shutdown closes the listener and finishes what is under way.
func (s *Service) shutdown(ctx context.Context) error {
	s.b.mu.Lock()
	l := s.listener
	s.b.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.stop(ctx)
}

// dial makes a connection to a backend.
func (s *Service) dial(ctx context.Context, n *backend.Node, preface []byte) (net.Conn, error) {
	nc, err := backend.DialNode(ctx, n, preface)
	if err != nil {
		return nil, err
	}
	nc = s.b.poller.Wrap(nc)
	if set := s.Settings(); set.BackendTLS {
		return backend.StartTLS(ctx, nc, n, set.BackendTLSVerify)
	}
	return nc, nil
}

// pooled is a request, and its place among those under way.
type pooled struct {
	balancer.Request
	slot slot
}

var requestPool = sync.Pool{New: func() any { return new(pooled) }}

// ServeExchange answers a request to the service's listener.
func (s *Service) ServeExchange(x http1.Exchange) {
	c := s.now.Load()
	p := requestPool.Get().(*pooled)
	r := &p.Request
	r.Reset(x, s, c.set, c.chain, s.b.handTo)
	s.identify(r)
	s.b.requests.Add(1)
	s.live.enter(&p.slot, r)
	defer func() {
		s.live.leave(&p.slot)
		r.End()
		if s.b.o.Finished != nil {
			s.b.o.Finished(r)
		}
		r.X = nil
		requestPool.Put(p)
	}()
	s.serve(r, c)
}

// serve answers a request with a configuration of the service.
func (s *Service) serve(r *balancer.Request, c *compiled) {
	s.Requests.Add(1)
	if r.Entry == c.set && !c.set.PersistClient {
		r.X.Header().Set("Connection", "close")
	}
	if c.chain.Start(r) {
		return
	}
	if q := r.X.Request(); len(r.Path) == 0 || r.Path[0] != '/' && q.Method != "OPTIONS" {
		r.Error(400, "", "the target of the request is no path")
		return
	}
	if s.uploadStatus(r) {
		return
	}
	c.handler(r)
}

// identify says who the client is, and whether what it says of others is believed.
func (s *Service) identify(r *balancer.Request) {
	r.Client = peer(r.X.RemoteAddr())
	r.Observed = r.Client.Addr()
	r.Trusted = r.Set.AlwaysTrusted
	for _, p := range r.Set.TrustedProxies {
		r.Trusted = r.Trusted || p.Contains(r.Client.Addr())
	}
	if r.Trusted {
		r.Observed = observed(r)
	}
	if v := r.X.Request().Header.Bytes("X-Request-Id"); v != nil && r.Trusted && len(v) <= 128 {
		r.ID = string(v)
	} else if r.Set.AccessLog != "" {
		r.ID = idPrefix + strconv.FormatUint(r.X.Request().ID, 16)
	}
}

// peer is a client's address; one of a unix socket is all zeros.
func peer(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ip, _ := netip.AddrFromSlice(t.IP) // without the zone
		return netip.AddrPortFrom(ip.Unmap(), uint16(t.Port))
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
}

// observed is the last address in X-Forwarded-For that is not itself a trusted proxy's: what stands before it anybody may have
// written.
func observed(r *balancer.Request) netip.Addr {
	list := strings.Split(r.X.Request().Header.Joined("X-Forwarded-For"), ",")
	at := r.Client.Addr()
	for _, v := range slices.Backward(list) {
		a, err := netip.ParseAddr(strings.TrimSpace(v))
		if err != nil {
			return at
		}
		at = a.Unmap()
		if !slices.ContainsFunc(r.Set.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(at) }) {
			return at
		}
	}
	return at
}

// idPrefix makes the request ids of a process its own.
var idPrefix = func() string {
	var b [6]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:]) + "-"
}()

// maxHops is how many services may hand a request on.
const maxHops = 8

type hopsKey struct{}

// handTo has another service answer.
func (b *Balancer) handTo(r *balancer.Request, name string) error {
	hops, _ := r.Value(hopsKey{}).(int)
	if hops >= maxHops {
		return errors.New("services hand the request round in a circle")
	}
	svc := b.Service(strings.ToLower(name))
	if svc == nil {
		return fmt.Errorf("there is no service '%s'", name)
	}
	c := svc.now.Load()
	if c.handler == nil {
		return config.Fault("Can't map to service type " + c.set.Role)
	}
	r.SetValue(hopsKey{}, hops+1)
	from := r.Set
	r.Move(svc, c.set, c.chain)
	for _, rule := range from.HeaderRemove {
		r.Edits = append(r.Edits, balancer.HeaderEdit{Name: rule, Remove: true})
	}
	for _, rule := range from.HeaderInsert {
		if strings.EqualFold(rule.Name, "Host") {
			r.Host = []byte(rule.Value)
			continue
		}
		r.Edits = append(r.Edits, balancer.HeaderEdit{Name: rule.Name, Value: rule.Value})
	}
	svc.serve(r, c)
	return nil
}

// selectService is the role selector.
func (s *Service) selectService(r *balancer.Request) {
	if d := r.Set.Latency; d > 0 {
		timer := time.NewTimer(d)
		select {
		case <-timer.C:
		case <-r.X.Context().Done():
			timer.Stop()
			r.X.Abort()
			return
		}
	}
	chain := r.Chain()
	name, handled := chain.Select(r)
	if handled {
		return
	}
	name = cmp.Or(name, r.Set.DefaultService)
	switch {
	case name == "" && !chain.Selects():
		r.Error(500, "No service selector configured.", "the selector has no plugin that selects, and no default_service")
	case name == "":
		r.Error(404, "", "no service was selected")
	default:
		if err := r.HandTo(name); err != nil {
			r.Error(500, err.Error(), err.Error())
		}
	}
}
