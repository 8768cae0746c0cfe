package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/transport"
	"wheelhouse/internal/service"
)

// balancerListen takes sockets from the process that this one takes over from, where it has them, and opens the others.
func balancerListen(from *service.Inherited) func(name, addr string) (net.Listener, error) {
	return func(name, addr string) (net.Listener, error) {
		if ln := from.Listener(balancerd.SocketName(name, addr)); ln != nil {
			return ln, nil
		}
		return balancerd.Listen(addr)
	}
}

// inheritedTickets are the keys of TLS sessions that the process before has used, or new ones; of what it has told that is wrong, clients
// notice no more than that they shake hands from the beginning.
func inheritedTickets(secret []byte, log *slog.Logger) *transport.Tickets {
	if len(secret) == 0 {
		return transport.NewTickets()
	}
	t, err := transport.ReadTickets(secret)
	if err != nil {
		log.Warn("TLS sessions of the old process cannot be resumed", "err", err)
		return transport.NewTickets()
	}
	return t
}

// takeOver tells the old process that this one serves, and takes in what the old one gives away, in the background.
func takeOver(from *service.Inherited, b *balancerd.Balancer, log *slog.Logger) error {
	if from == nil {
		return nil
	}
	if err := from.Serving(); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	go func() {
		if err := from.Adopt(b.Adopt); err != nil {
			log.Warn("the old process went before it had given everything away", "err", err)
		}
	}()
	return nil
}

// upgrade has a new process of this program take over, and finishes what is under way, within handover_timeout; SIGTERM or SIGINT makes it
// quick. An error means that nothing has changed.
func (p *balancerProcess) upgrade(ctx context.Context, signals <-chan os.Signal) error {
	b, log := p.b, p.log
	names, listeners := b.Listeners()
	for name, ln := range p.metrics.Load().listeners() {
		names, listeners = append(names, name), append(listeners, ln)
	}
	next, err := service.Upgrade(names, listeners, p.tickets.Append(nil))
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	log.Info("a new process serves; finishing what is under way", "pid", next.PID())
	limit := timeOr(b.State().Server.HandoverTimeout, defaultHandover)
	end, cancel := drainContext(ctx, limit, signals, func(sig os.Signal) bool { return sig == syscall.SIGTERM || sig == syscall.SIGINT })
	defer cancel()
	err = b.HandOver(end, func(name string, nc net.Conn) {
		if err := next.Give(name, nc); err != nil {
			log.Warn("a connection could not be given to the new process", "err", err)
		}
	})
	if err != nil {
		log.Warn("requests were cut off by the upgrade", "err", err)
	}
	if err := next.Finish(); err != nil {
		log.Warn("the new process has not said that it has everything", "err", err)
	}
	return nil
}
