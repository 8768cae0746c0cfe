package balancerd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"wheelhouse/balancer"
	"wheelhouse/balancer/backend"
	"wheelhouse/balancer/config"
	"wheelhouse/balancer/transport"
)

// change is a new configuration, compiled and opened, before it is in force.
type change struct {
	b        *Balancer
	state    *config.State
	pools    map[string]*balancer.PoolSettings
	services []*pendingService
	opened   []*listener // that nobody else has
}

// pendingService is what a service is to become.
type pendingService struct {
	svc      *Service
	compiled *compiled
	listener *listener       // nil: none
	keys     *transport.Keys // to put in force at listener, nil: those that it has
}

// apply puts a state in force. whole says that it was made anew, not from the one in force. b.mu is held.
func (b *Balancer) apply(next *config.State, whole bool) error {
	if b.stopping {
		return errors.New("the balancer is stopping")
	}
	if err := b.o.Language.CheckAll(next, false); err != nil {
		return err
	}
	if whole {
		if err := b.o.Check(next); err != nil {
			return err
		}
	}
	ch := &change{b: b, state: next, pools: map[string]*balancer.PoolSettings{}}
	err := ch.prepare(whole)
	var commit func()
	if err == nil && b.o.Prepare != nil {
		commit, err = b.o.Prepare(next)
	}
	if err != nil {
		for _, l := range ch.opened {
			l.ln.Close()
		}
		return err
	}
	ch.commit()
	if commit != nil {
		commit()
	}
	return nil
}

// prepare does everything that can fail.
func (ch *change) prepare(whole bool) error {
	for name, p := range ch.state.Pools {
		set, err := ch.b.o.Language.PoolSettings(p)
		if err != nil {
			return err
		}
		ch.pools[name] = set
		if err := ch.b.o.checkLocal(name, ch.fresh(name, set.Nodes)); err != nil {
			return err
		}
	}
	old := *ch.b.services.Load()
	for _, conf := range ch.state.Ordered() {
		svc := old[conf.Name]
		if svc == nil {
			svc = newService(ch.b, conf.Name)
		}
		p := &pendingService{svc: svc}
		var err error
		if p.compiled, err = svc.compile(ch.state, conf, whole); err != nil {
			return err
		}
		ch.services = append(ch.services, p)
	}
	for _, p := range ch.services {
		if err := ch.listen(p, whole); err != nil {
			return err
		}
	}
	return nil
}

// fresh are those of a pool's nodes that it does not have yet. Those that a nodefile has brought since are no reason to refuse what has nothing
// to do with them.
func (ch *change) fresh(pool string, nodes []balancer.Node) []balancer.Node {
	running := ch.b.pools[pool]
	if running == nil {
		return nodes
	}
	have, _ := running.Listed()
	return slices.DeleteFunc(slices.Clone(nodes), func(n balancer.Node) bool { return slices.Contains(have, n) })
}

// listen finds or opens a service's listener. One that another service lets go of in the same change is taken over.
func (ch *change) listen(p *pendingService, whole bool) error {
	set := p.compiled.set
	if !p.compiled.conf.Enabled || set.Listen == "" {
		return nil
	}
	now := p.svc.listener
	switch {
	case now != nil && now.addr == set.Listen && sameFront(now.set, set):
		p.listener = now
		if whole && now.front != nil {
			var err error
			if p.keys, err = loadKeys(set.TLS); err != nil {
				return fmt.Errorf("service %s: %w", p.svc.name, err)
			}
		}
		return nil
	case now != nil && now.addr == set.Listen:
		ln, err := duplicate(now.ln)
		if err != nil {
			return cannotStart(p.svc, set.Listen, err)
		}
		return ch.open(p, ln)
	}
	if whole {
		for _, other := range *ch.b.services.Load() {
			if l := other.listener; l != nil && l.addr == set.Listen && !ch.keeps(other, l) {
				ln, err := duplicate(l.ln)
				if err != nil {
					return err
				}
				return ch.open(p, ln)
			}
		}
	}
	var ln net.Listener
	var err error
	if set.Role == config.UploadTracker {
		ln, err = listenPackets(&ch.b.uploads, set.Listen)
	} else {
		ln, err = ch.b.o.Listen(p.svc.name, set.Listen)
	}
	if err != nil {
		return cannotStart(p.svc, set.Listen, err)
	}
	return ch.open(p, ln)
}

func cannotStart(s *Service, addr string, err error) error {
	return config.Fault(fmt.Sprintf("Can't start service '%s' on %s: Error creating listening socket: %v", s.name, addr, cause(err)))
}

// keeps reports whether a service goes on with its listener.
func (ch *change) keeps(s *Service, l *listener) bool {
	return slices.ContainsFunc(ch.services, func(p *pendingService) bool {
		return p.svc == s && p.compiled.conf.Enabled && p.compiled.set.Listen == l.addr
	})
}

func (ch *change) open(p *pendingService, ln net.Listener) error {
	l, err := p.svc.newListener(ln, p.compiled.set)
	if err != nil {
		ln.Close()
		return fmt.Errorf("service %s: %w", p.svc.name, err)
	}
	p.listener = l
	ch.opened = append(ch.opened, l)
	return nil
}

// cause is an error without the address that stands in it twice otherwise.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// commit puts everything in force. It cannot fail.
func (ch *change) commit() {
	b := ch.b
	for name, set := range ch.pools {
		b.poolFor(name).Update(set)
	}
	next := make(map[string]*Service, len(ch.services))
	for _, p := range ch.services {
		next[p.svc.name] = p.svc
		p.svc.put(p.compiled)
	}
	for name := range ch.pools {
		b.poolFor(name).Settled()
	}
	old := *b.services.Load()
	b.services.Store(&next)
	was := b.state.Swap(ch.state)
	for _, p := range ch.services {
		p.svc.switchListener(p.listener)
		if p.keys != nil {
			p.listener.front.SetKeys(p.keys)
		}
	}
	for name, s := range old {
		if next[name] != s {
			b.running.Go(s.retire)
		}
	}
	for name, p := range b.pools {
		if ch.pools[name] == nil {
			p.stop()
			delete(b.pools, name)
		}
	}
	if n := ch.state.Server.MaxConnections; n > 0 {
		setMaxFiles(n, b.log)
	}
	if n := ch.state.Server.NiceLevel; n != was.Server.NiceLevel {
		setNice(n, b.log)
	}
}

// poolFor is a running pool, started if need be. b.mu is held.
func (b *Balancer) poolFor(name string) *backend.Pool {
	if p := b.pools[name]; p != nil {
		return p.Pool
	}
	ctx, stop := context.WithCancel(b.ctx)
	p := &runningPool{backend.NewPool(name, b.log, b.o.Lookup), stop}
	b.pools[name] = p
	b.running.Go(func() { p.Run(ctx) })
	return p.Pool
}

// Shutdown stops the balancer: listeners close at once, requests under way are finished; when ctx ends before that, they are cut.
func (b *Balancer) Shutdown(ctx context.Context) error {
	b.mu.Lock()
	b.stopping = true
	services := slices.Collect(maps.Values(*b.services.Load()))
	b.mu.Unlock()
	errs := make(chan error, len(services))
	for _, s := range services {
		go func() { errs <- s.shutdown(ctx) }()
	}
	var all []error
	for range services {
		all = append(all, <-errs)
	}
	b.cancel()
	for _, s := range services {
		s.cache.Wait()
		s.queue.Close()
		s.closeChain()
	}
	b.running.Wait()
	b.fetcher.Close()
	b.poller.Close()
	return errors.Join(all...)
}
