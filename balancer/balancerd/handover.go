package balancerd

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
)

// Listeners are the sockets of all services, with names by which another process of the same configuration finds them.
func (b *Balancer) Listeners() (names []string, list []net.Listener) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range *b.services.Load() {
		if s.listener == nil {
			continue
		}
		if _, shared := s.listener.ln.(syscall.Conn); shared {
			names, list = append(names, SocketName(s.name, s.listener.addr)), append(list, s.listener.ln)
		}
	}
	return names, list
}

// SocketName is the name of a service's socket between processes.
func SocketName(service, addr string) string { return service + " " + addr }

// HandOver stops accepting and finishes what is under way; connections that wait for their next request are given away as soon as
// they do. When ctx ends, what is left is cut. No configuration is taken any more.
func (b *Balancer) HandOver(ctx context.Context, give func(name string, nc net.Conn)) error {
	b.mu.Lock()
	b.stopping = true
	var list []*Service
	for _, s := range *b.services.Load() {
		if s.listener != nil {
			list = append(list, s)
		}
	}
	b.mu.Unlock()
	errs := make([]error, len(list))
	var all sync.WaitGroup
	for i, s := range list {
		all.Go(func() {
			l := s.listener // nobody changes it any more
			if u, ok := l.ln.(*net.UnixListener); ok {
				u.SetUnlinkOnClose(false) // the file is the next process's
			}
			name := SocketName(s.name, l.addr)
			l.ln.Close() // the next process has a descriptor of its own
			switch {
			case l.srv == nil:
				errs[i] = l.stop(ctx)
			case l.set.TLS.Enabled:
				errs[i] = errors.Join(l.srv.DrainTo(ctx, func(nc net.Conn) { nc.Close() }), l.front.Shutdown(ctx))
			default:
				errs[i] = l.srv.DrainTo(ctx, func(nc net.Conn) { give(name, nc) })
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// Adopt takes over a connection that another process has given away.
func (b *Balancer) Adopt(name string, nc net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range *b.services.Load() {
		if l := s.listener; l != nil && l.srv != nil && SocketName(s.name, l.addr) == name {
			l.srv.ServeConn(b.poller.Wrap(nc))
			return
		}
	}
	nc.Close()
}
