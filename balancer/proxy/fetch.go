package proxy

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/internal/netpoll"
)

// reproxyIdle is how long connections to storages are kept, and how many to one.
const (
	reproxyIdle    = 5 * time.Second
	reproxyIdleMax = 256
)

// Fetcher fetches what X-REPROXY-URL names, for all services of a process. It is safe for concurrent use.
type Fetcher struct {
	client *http1.Client
	limits func() (all int, to map[string]int)
	poller *netpoll.Poller

	mu      sync.Mutex // guards all below
	gates   map[string]*gate
	dialing map[string]int
}

// gate bounds the requests under way to one server.
type gate struct {
	busy    int
	waiting []chan struct{}
}

// NewFetcher makes a fetcher, whose connections wait in poller. limits gives SERVER max_reproxy_connections as it is now: for each server, and for
// servers by name; 0 is no limit.
func NewFetcher(poller *netpoll.Poller, limits func() (all int, to map[string]int)) *Fetcher {
	f := &Fetcher{poller: poller, limits: limits, gates: map[string]*gate{}, dialing: map[string]int{}}
	f.client = http1.NewClient(http1.ClientOptions{
		IdleTimeout: reproxyIdle, MaxIdlePerHost: reproxyIdleMax, DialTimeout: 5 * time.Second, HeadTimeout: 30 * time.Second, Dial: f.dial,
	})
	return f
}

// dial makes a connection, and has it counted meanwhile.
func (f *Fetcher) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	f.mu.Lock()
	f.dialing[addr]++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.dialing[addr]--; f.dialing[addr] == 0 {
			delete(f.dialing, addr)
		}
	}()
	nc, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return f.poller.Wrap(nc), nil
}

// Close ends its connections.
func (f *Fetcher) Close() { f.client.Close() }

// location is a URL of X-REPROXY-URL, taken apart.
type location struct{ addr, host, target string }

// parseLocation reads http://host[:port][/path].
func parseLocation(s string) (location, error) {
	rest, ok := strings.CutPrefix(s, "http://")
	if !ok {
		return location{}, errors.New("not an http URL")
	}
	host, target := rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		host, target = rest[:i], rest[i:]
		if target[0] == '?' {
			target = "/" + target
		}
	}
	if plainAddr(host) {
		return location{host, host, target}, nil
	}
	u, err := url.Parse("http://" + host)
	if err != nil || u.Host == "" || u.User != nil {
		return location{}, errors.New("malformed host")
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "80")
	}
	return location{addr, host, target}, nil
}

// plainAddr reports whether a host is an IPv4 address and a port, as storages are named most often.
func plainAddr(s string) bool {
	a, err := netip.ParseAddrPort(s)
	return err == nil && a.Addr().Is4()
}

// allowed reports whether a location lies in networks that may be fetched from.
func (l location) allowed(networks []netip.Prefix) bool {
	if len(networks) == 0 {
		return true
	}
	a, err := netip.ParseAddrPort(l.addr)
	if err != nil {
		return false
	}
	for _, p := range networks {
		if p.Contains(a.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// fetch asks for a location. done is to be called when the response's body has been closed.
func (f *Fetcher) fetch(ctx context.Context, l location, method, host string, rng []byte, loop int) (res *http1.Response, done func(), err error) {
	if err := f.enter(ctx, l.addr); err != nil {
		return nil, nil, err
	}
	out := &http1.OutRequest{Method: method, Addr: l.addr, Target: l.target, Host: host, Loop: loop}
	if rng != nil {
		out.Header.SetBytes("Range", rng)
	}
	if res, err = f.client.Do(ctx, out); err != nil {
		f.leave(l.addr)
		return nil, nil, err
	}
	return res, func() { f.leave(l.addr) }, nil
}

// enter waits until a server may be asked.
func (f *Fetcher) enter(ctx context.Context, addr string) error {
	limit, to := f.limits()
	if n, ok := to[addr]; ok {
		limit = n
	}
	f.mu.Lock()
	if limit <= 0 {
		g := f.gate(addr)
		g.busy++
		f.mu.Unlock()
		return nil
	}
	g := f.gate(addr)
	if g.busy < limit {
		g.busy++
		f.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	g.waiting = append(g.waiting, turn)
	f.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, w := range g.waiting {
		if w == turn {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return context.Cause(ctx)
		}
	}
	f.pass(addr, g) // it was this one's turn already
	return context.Cause(ctx)
}

// gate is a server's gate. f.mu is held.
func (f *Fetcher) gate(addr string) *gate {
	g := f.gates[addr]
	if g == nil {
		g = &gate{}
		f.gates[addr] = g
	}
	return g
}

func (f *Fetcher) leave(addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pass(addr, f.gates[addr])
}

// pass lets the next one in. f.mu is held.
func (f *Fetcher) pass(addr string, g *gate) {
	if len(g.waiting) > 0 {
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
		return
	}
	if g.busy--; g.busy == 0 {
		delete(f.gates, addr)
	}
}

// ReproxyState is what the console shows of one server.
type ReproxyState struct {
	Addr              string
	Connecting, Bored int // connections that are being made, and that wait for work
	Busy, Waiting     int // requests under way, and those that may not go there yet
}

// State is what there is of connections and requests, by server, in the order of the addresses.
func (f *Fetcher) State() []ReproxyState {
	idle := f.client.Idle()
	f.mu.Lock()
	defer f.mu.Unlock()
	addrs := map[string]bool{}
	for addr := range idle {
		addrs[addr] = true
	}
	for addr := range f.gates {
		addrs[addr] = true
	}
	for addr := range f.dialing {
		addrs[addr] = true
	}
	var list []ReproxyState
	for _, addr := range slices.Sorted(maps.Keys(addrs)) {
		s := ReproxyState{Addr: addr, Connecting: f.dialing[addr], Bored: idle[addr]}
		if g := f.gates[addr]; g != nil {
			s.Busy, s.Waiting = g.busy, len(g.waiting)
		}
		list = append(list, s)
	}
	return list
}
