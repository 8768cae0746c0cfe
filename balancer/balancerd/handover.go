package balancerd

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
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
				errs[i] = l.drainTo(ctx, func(nc net.Conn, _ net.Addr) { nc.Close() })
			default:
				errs[i] = l.drainTo(ctx, func(nc net.Conn, client net.Addr) { give(withClient(name, client), nc) })
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// Adopt takes over a connection that another process has given away.
func (b *Balancer) Adopt(name string, nc net.Conn) {
	name, client := cutClient(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range *b.services.Load() {
		if l := s.listener; l != nil && l.srv != nil && SocketName(s.name, l.addr) == name {
			l.srv.ServeConnFrom(b.poller.Wrap(nc), client)
			return
		}
	}
	nc.Close()
}

// clientMark stands between the name of a socket and the client of a connection that a proxy has made for it.
const clientMark = " for "

// withClient is the name of a socket with a connection's client, if that is not the connection's own.
func withClient(name string, client net.Addr) string {
	if client == nil {
		return name
	}
	return name + clientMark + client.String()
}

func cutClient(s string) (name string, client net.Addr) {
	i := strings.LastIndex(s, clientMark)
	if i < 0 {
		return s, nil
	}
	a, err := netip.ParseAddrPort(s[i+len(clientMark):])
	if err != nil { // it is part of a path
		return s, nil
	}
	return s[:i], net.TCPAddrFromAddrPort(a)
}
