// Package balancerd is the balancer at work: it makes what a configuration says, and changes it while it runs.
//
// A change is made on a copy of the configuration; what it needs is compiled and opened; only when all of that has succeeded is it
// put in force. A command or a file that is wrong therefore changes nothing.
package balancerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/backend"
	"wheelhouse/balancer/config"
	"wheelhouse/balancer/proxy"
	"wheelhouse/balancer/transport"
	"wheelhouse/internal/http1"
	"wheelhouse/internal/netpoll"
)

// Options of a Balancer.
type Options struct {
	Language *config.Language // required
	Log      *slog.Logger     // default: nothing is logged
	// Local are the handlers of this process that "local:NAME" nodes stand for.
	Local map[string]http1.Handler
	// Listen opens a service's listener; default Listen. A process that takes over from another has some already.
	Listen func(service, addr string) (net.Listener, error)
	// Lookup finds the addresses of nodes that are given by name; default: the system's resolver.
	Lookup backend.Lookup
	// Tickets are the keys of TLS sessions; default: new ones. With those of the process before, its clients go on with theirs.
	Tickets *transport.Tickets
	// Console serves the connections of management services; required where there are any. It closes them.
	Console func(b *Balancer, nc net.Conn)
	// Web answers requests of web_server services.
	Web func(r *balancer.Request)
	// File answers with a file; see proxy.Proxy.File.
	File func(r *balancer.Request, path string, status int, expected int64)
	// Finished is told of each request at its end, for logs and metrics; may be nil.
	Finished func(r *balancer.Request)
	// Refused is told of each request that a listener has answered by itself, which Finished is not told of; may be nil.
	Refused func(r *balancer.Refusal)
	// Reread makes the configuration anew for Reload where it was not made by LoadFile; may be nil.
	Reread func() (*config.State, error)
	// Prepare is told of each configuration after everything else of it was found good, for what of it concerns the process; may be nil.
	// An error refuses the configuration. commit, unless it is nil, is called when the configuration is in force; it must not ask the
	// balancer for changes.
	Prepare func(next *config.State) (commit func(), err error)
	// Stop is called for SHUTDOWN; graceful waits for what is under way, as long as limit if that is above 0.
	Stop func(graceful bool, limit time.Duration)
}

// Balancer is a running balancer. Its methods are safe for concurrent use.
type Balancer struct {
	o       Options
	log     *slog.Logger
	born    time.Time
	poller  *netpoll.Poller // of HTTP's connections, on both sides
	fetcher *proxy.Fetcher
	uploads uploads
	ctx     context.Context // of everything that runs in the background
	cancel  context.CancelFunc
	running sync.WaitGroup

	requests atomic.Int64
	sequence atomic.Uint64

	mu       sync.Mutex // guards changes, and all below
	state    atomic.Pointer[config.State]
	services atomic.Pointer[map[string]*Service]
	pools    map[string]*runningPool
	file     string
	stopping bool
}

// runningPool is a pool with what ends its background work.
type runningPool struct {
	*backend.Pool
	stop context.CancelFunc
}

// New makes a balancer without services. ctx bounds its background work.
func New(ctx context.Context, o Options) *Balancer {
	b := &Balancer{o: o, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), born: time.Now(), poller: netpoll.New(), pools: map[string]*runningPool{}}
	if b.o.Listen == nil {
		b.o.Listen = func(_, addr string) (net.Listener, error) { return Listen(addr) }
	}
	if b.o.Tickets == nil {
		b.o.Tickets = transport.NewTickets()
	}
	b.ctx, b.cancel = context.WithCancel(ctx)
	b.state.Store(config.NewState())
	b.services.Store(&map[string]*Service{})
	b.fetcher = proxy.NewFetcher(b.poller, func() (int, map[string]int) {
		s := &b.state.Load().Server
		return s.MaxReproxy, s.MaxReproxyTo
	})
	return b
}

// Listen opens a listener on ip:port or unix:/path. A socket's file that nobody listens on any more is replaced.
func Listen(addr string) (net.Listener, error) {
	path, unix := cutUnix(addr)
	if !unix {
		return net.Listen("tcp", addr)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s is in use", path)
	}
	if fi, err := os.Stat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
		os.Remove(path)
	}
	return net.Listen("unix", path)
}

func cutUnix(addr string) (string, bool) {
	if len(addr) > 5 && addr[:5] == "unix:" {
		return addr[5:], true
	}
	return "", false
}

// State is the configuration in force. It is not to be changed.
func (b *Balancer) State() *config.State { return b.state.Load() }

// Current is a copy of the configuration in force, with the nodes that nodefiles name by now.
func (b *Balancer) Current() *config.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current()
}

// current is Current. b.mu is held.
func (b *Balancer) current() *config.State {
	s := b.state.Load().Clone()
	for name, p := range s.Pools {
		b.pools[name].Refresh()
		p.FileRead(b.pools[name].Listed())
	}
	return s
}

// Language is the configuration's language.
func (b *Balancer) Language() *config.Language { return b.o.Language }

// Service is a service by its name, nil when there is none.
func (b *Balancer) Service(name string) *Service { return (*b.services.Load())[name] }

// Services are all services, sorted by name.
func (b *Balancer) Services() []*Service {
	list := make([]*Service, 0, len(*b.services.Load()))
	for _, s := range *b.services.Load() {
		list = append(list, s)
	}
	slices.SortFunc(list, func(x, y *Service) int { return cmp.Compare(x.name, y.name) })
	return list
}

// Pools are all pools, sorted by name.
func (b *Balancer) Pools() []*backend.Pool {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]*backend.Pool, 0, len(b.pools))
	for _, p := range b.pools {
		list = append(list, p.Pool)
	}
	slices.SortFunc(list, func(x, y *backend.Pool) int { return cmp.Compare(x.Name(), y.Name()) })
	return list
}

// Fetcher is what fetches for X-REPROXY-URL.
func (b *Balancer) Fetcher() *proxy.Fetcher { return b.fetcher }

// Started is when the balancer began.
func (b *Balancer) Started() time.Time { return b.born }

// Requests is how many requests it has taken.
func (b *Balancer) Requests() int64 { return b.requests.Load() }

// Stop asks for the end, as SHUTDOWN does.
func (b *Balancer) Stop(graceful bool, limit time.Duration) {
	if b.o.Stop != nil {
		b.o.Stop(graceful, limit)
	}
}

// Exec executes a command that changes the configuration, and puts the change in force. After an error nothing has changed. Keys of TLS take
// several commands to change: what does not go together yet, or cannot be read, is kept in the configuration and said, and meanwhile the
// listener goes on with the TLS that it has.
func (b *Balancer) Exec(c *config.Context, cmd config.Command) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	saved := *c
	was := b.state.Load()
	next := b.current()
	err := b.o.Language.Exec(next, c, cmd)
	if err == nil {
		err = b.apply(next, false)
	}
	if err != nil {
		c.Last, c.Verbose = saved.Last, saved.Verbose
		return err
	}
	for _, svc := range next.Ordered() {
		lacks := b.Service(svc.Name).now.Load().lacks
		if old := was.Services[svc.Name]; lacks == nil || old != nil && old.Enabled && maps.Equal(old.Params, svc.Params) {
			continue // or this command is not what it lacks something by
		}
		b.log.Warn("TLS goes on as it was: what is configured cannot be used yet", "service", svc.Name, "err", lacks)
		if c.Say != nil {
			c.Say(fmt.Sprintf("OK; service %s goes on with the TLS that it has: %v", svc.Name, lacks))
		}
	}
	return nil
}

// LoadFile puts a file in force in place of what was. After an error nothing has changed. The file is the one that Reload reads. Where the
// program makes the configuration (Options.Reread) it refuses: the file would take away what the program lives by.
func (b *Balancer) LoadFile(path string) error {
	if b.o.Reread != nil {
		return errors.New("the program around the balancer says what is loaded; RELOAD without a file reads that again")
	}
	state, err := b.o.Language.Load(path, config.Expander{Env: os.LookupEnv}, func(text string) { b.log.Warn(text) })
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.apply(state, true); err != nil {
		return err
	}
	b.file = path
	return nil
}

// LoadState puts a state in force in place of what was.
func (b *Balancer) LoadState(s *config.State) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.apply(s, true)
}

// Reload reads the file of LoadFile again, or what Reread reads, and certificates with it. After an error nothing has changed.
func (b *Balancer) Reload() error {
	if b.o.Reread != nil {
		state, err := b.o.Reread()
		if err != nil {
			return err
		}
		return b.LoadState(state)
	}
	b.mu.Lock()
	path := b.file
	b.mu.Unlock()
	if path == "" {
		return errors.New("no configuration file was loaded")
	}
	return b.LoadFile(path)
}

// Tick does what is due every second, until ctx ends.
func (b *Balancer) Tick(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for _, s := range *b.services.Load() {
				s.queue.Tick(now)
			}
			b.uploads.expire(now)
		}
	}
}
