package backend

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Lookup finds the addresses of a host, as LookupNetIP of [net.Resolver] does. network is "ip".
type Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

const (
	lookupTime  = 10 * time.Second // for one look-up
	lookupPause = time.Second      // after which at the latest a name of which nothing is known is looked up again
	lookupsMax  = 16               // at once
)

// names is what a pool knows of nodes that are given by name, by what stands in the configuration. All is guarded by the pool's mu.
type names struct {
	known  map[string][]string // addresses; what a later look-up does not find out stays
	failed map[string]error    // of those whose last look-up failed
	first  chan struct{}       // closed when each name has been looked up; nil: each has
}

// looked reports whether a name has been looked up, with success or without.
func (n *names) looked(name string) bool { return n.known[name] != nil || n.failed[name] != nil }

// isName reports whether an address has a name for a host.
func isName(addr string) bool {
	if strings.HasPrefix(addr, "unix:") || strings.HasPrefix(addr, "local:") || strings.HasPrefix(addr, processPrefix) {
		return false
	}
	_, err := netip.ParseAddrPort(addr)
	return err != nil
}

// named are those that are given by name, each once. p.mu is held.
func (p *Pool) named() (list []string) {
	for _, n := range p.listed {
		if isName(n.Addr) && !slices.Contains(list, n.Addr) {
			list = append(list, n.Addr)
		}
	}
	return list
}

// relist forgets what is known of names that are not listed any more, and has those looked up that are new. p.mu is held.
func (p *Pool) relist() {
	list := p.named()
	for name := range p.names.known {
		if !slices.Contains(list, name) {
			delete(p.names.known, name)
		}
	}
	for name := range p.names.failed {
		if !slices.Contains(list, name) {
			delete(p.names.failed, name)
		}
	}
	p.settle(list)
	if p.names.first != nil {
		poke(p.wakeNames)
	}
}

// settle notes whether there are names that have not been looked up yet. p.mu is held.
func (p *Pool) settle(list []string) {
	fresh := slices.ContainsFunc(list, func(name string) bool { return !p.names.looked(name) })
	switch {
	case fresh && p.names.first == nil:
		p.names.first = make(chan struct{})
	case !fresh && p.names.first != nil:
		close(p.names.first)
		p.names.first = nil
	}
}

// poke wakes whoever waits on a channel that has room for one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// resolving looks names up when they are new, and again every resolve_interval, until ctx ends.
func (p *Pool) resolving(ctx context.Context) {
	for {
		select {
		case <-p.wakeNames: // what it is about is seen now
		default:
		}
		p.Resolve(ctx)
		var due <-chan time.Time
		pause := p.lookupDue()
		timer := time.NewTimer(max(pause, 50*time.Millisecond))
		if pause > 0 {
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-due:
		case <-p.wakeNames:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// lookupDue is after which time names are to be looked up again, 0: not at all.
func (p *Pool) lookupDue() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	list, pause := p.named(), p.set.Load().ResolveInterval
	if len(list) == 0 {
		return 0
	}
	if slices.ContainsFunc(list, func(name string) bool { return p.names.known[name] == nil }) && (pause == 0 || pause > lookupPause) {
		return lookupPause
	}
	return pause
}

// Resolve looks up all nodes that are given by name, and returns when that is done. A look-up that fails, also because there is no
// such name any more, leaves the addresses that were known.
func (p *Pool) Resolve(ctx context.Context) {
	p.mu.Lock()
	list := p.named()
	p.mu.Unlock()
	var all sync.WaitGroup
	room := make(chan struct{}, lookupsMax)
	for _, name := range list {
		room <- struct{}{}
		all.Go(func() {
			addrs, err := p.lookUp(ctx, name)
			if ctx.Err() == nil {
				p.found(name, addrs, err)
			}
			<-room
		})
	}
	all.Wait()
}

// lookUp finds the addresses of a node, sorted, at least one if there is no error.
func (p *Pool) lookUp(ctx context.Context, name string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	host, port, err := net.SplitHostPort(name)
	if err != nil {
		return nil, err
	}
	ips, err := p.lookup(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("lookup %s: no addresses", host)
	}
	addrs := make([]string, 0, len(ips))
	for _, ip := range ips {
		addrs = append(addrs, net.JoinHostPort(ip.Unmap().String(), port))
	}
	slices.Sort(addrs)
	return slices.Compact(addrs), nil
}

// found notes what a look-up has found.
func (p *Pool) found(name string, addrs []string, err error) {
	p.mu.Lock()
	list := p.named()
	if !slices.Contains(list, name) {
		p.mu.Unlock()
		return
	}
	known, failed := p.names.known[name], p.names.failed[name]
	changed := err == nil && !slices.Equal(addrs, known)
	if err != nil {
		p.names.failed[name] = err
	} else {
		delete(p.names.failed, name)
	}
	if changed {
		p.names.known[name] = addrs
		p.rebuild()
	}
	p.settle(list)
	p.mu.Unlock()
	switch {
	case err != nil && failed == nil:
		p.log.Warn("name of a node cannot be resolved, what was known stays", "name", name, "count", len(known), "err", err)
	case err == nil && failed != nil, changed && known != nil:
		p.log.Info("name of a node is resolved", "name", name, "addrs", addrs)
	}
	if changed {
		p.notify()
	}
}

// Unresolved says, for each name of nodes whose last look-up failed, why, sorted.
func (p *Pool) Unresolved() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []string
	for name, err := range p.names.failed {
		list = append(list, name+": "+err.Error())
	}
	slices.Sort(list)
	return list
}

// populated waits, where the pool has no nodes because its names are still being looked up for the first time, until they have been. The
// error is ErrNoNodes with its cause, or ctx's.
func (p *Pool) populated(ctx context.Context, limit time.Duration) error {
	if len(p.Nodes()) > 0 {
		return nil
	}
	p.mu.Lock()
	first := p.names.first
	p.mu.Unlock()
	if first != nil {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		select {
		case <-first:
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if len(p.Nodes()) > 0 {
		return nil
	}
	if why := p.Unresolved(); len(why) > 0 {
		return fmt.Errorf("%w (%s)", ErrNoNodes, strings.Join(why, "; "))
	}
	return ErrNoNodes
}
