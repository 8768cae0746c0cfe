// Package service is the life of a server process: it binds addresses, opens what the process owns, serves, stops without
// cutting anybody off, and hands over to a new process of itself without refusing anybody.
//
// Handover (SIGUSR2): the old process starts the new one, which reads and checks its configuration; only then does the old
// one finish what is in flight, close its disks and pass on the listening sockets and the connections that wait for their
// next request; the new one opens the disks and goes on. Clients that connect or ask meanwhile wait in the kernel's queues.
// If the new process fails at any point, the old one opens everything again and serves as before.
package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"wheelhouse/internal/accept"
	"wheelhouse/internal/http1"
)

// Endpoint is an address to serve on.
type Endpoint struct {
	Name string // what it is for; unique, and the same in each process that hands over to the next
	Addr string // host:port
}

// Opened is what a process owns while it serves.
type Opened struct {
	Handlers   map[string]http1.Handler // by the name of the endpoint
	Background []func(ctx context.Context) error
	Close      func() error
	Status     func(phase string) // told "serving" and "stopping"; may be nil
	// Reload is called at SIGHUP, and Reopen at SIGUSR1, by the goroutine that waits for signals. Without Reload SIGHUP is a request to
	// stop, like SIGTERM, unless the process was started with it ignored; without Reopen SIGUSR1 does nothing.
	Reload, Reopen func()
}

// Options describe a process.
type Options struct {
	Endpoints []Endpoint
	// Open takes hold of what the process owns. addrs are the addresses in use, by endpoint. It is called again if a
	// handover fails after Close.
	Open func(ctx context.Context, addrs map[string]net.Addr) (*Opened, error)
	// Leave is what this process tells the one that takes over from it, and nobody else, in memory alone: 16 KiB at most. Take is given what
	// the process before has told, before Open. Both may be nil.
	Leave func() []byte
	Take  func(secret []byte)
	HTTP  http1.Options
	Drain time.Duration // how long requests in flight may take to finish; default 30 s
	Log   *slog.Logger
	Out   io.Writer // receives the line "ready …"
}

// ErrForced means that requests were cut off because they took longer than Options.Drain.
var ErrForced = errors.New("service: requests were cut off after the drain time")

// Run serves until ctx ends, SIGTERM or SIGINT comes, or a successor has taken over.
func Run(ctx context.Context, o Options) error {
	o.Drain = cmp.Or(o.Drain, 30*time.Second)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2)
	if !signal.Ignored(syscall.SIGHUP) { // by nohup(1)
		signal.Notify(signals, syscall.SIGHUP)
	}
	defer signal.Stop(signals)

	p, err := inherit()
	if err != nil {
		return err
	}
	r := &runner{o: o, signals: signals}
	if err := r.bind(p); err != nil {
		return err
	}
	defer r.unbind()
	var adopted map[string][]net.Conn
	if p != nil {
		if adopted, err = p.takeOver(o.Drain); err != nil {
			return err
		}
		if o.Take != nil && p.secret != nil {
			o.Take(p.secret)
		}
	}
	if err := r.start(ctx, adopted); err != nil {
		return err
	}
	if p != nil {
		if err := p.send(message{Kind: "ready"}); err != nil {
			o.Log.Warn("the old process could not be told", "err", err)
		}
		_ = p.c.Close()
	}
	return r.loop(ctx)
}

// runner is one process' state.
type runner struct {
	o         Options
	signals   chan os.Signal
	names     []string
	listeners []net.Listener

	opened  *Opened
	servers []*http1.Server
	serving sync.WaitGroup
	stop    context.CancelFunc // ends the background work
	work    sync.WaitGroup     // the background work
	failed  chan error         // a part that ended by itself
}

// bind takes the predecessor's listeners, where they are for the same address, and opens the others.
func (r *runner) bind(p *predecessor) error {
	for _, e := range r.o.Endpoints {
		var ln net.Listener
		if p != nil {
			ln = p.listeners[e.Name]
			delete(p.listeners, e.Name)
		}
		if ln != nil && !serves(ln.Addr(), e.Addr) {
			_ = ln.Close()
			ln = nil
		}
		if ln == nil {
			var err error
			if ln, err = net.Listen("tcp", e.Addr); err != nil {
				r.unbind()
				return fmt.Errorf("%s: %w", e.Name, err)
			}
		}
		r.names, r.listeners = append(r.names, e.Name), append(r.listeners, ln)
	}
	if p != nil {
		for _, ln := range p.listeners { // no longer configured
			_ = ln.Close()
		}
	}
	return nil
}

// serves reports whether a listener is on a configured address. Port 0 is whichever port it has.
func serves(have net.Addr, want string) bool {
	host, port, err := net.SplitHostPort(want)
	tcp, ok := have.(*net.TCPAddr)
	if err != nil || !ok {
		return false
	}
	resolved, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return false
	}
	sameHost := resolved.IP.Equal(tcp.IP) || len(resolved.IP) == 0 && tcp.IP.IsUnspecified()
	return sameHost && (resolved.Port == 0 || resolved.Port == tcp.Port)
}

func (r *runner) unbind() {
	for _, ln := range r.listeners {
		_ = ln.Close()
	}
}

// start opens what the process owns and serves.
func (r *runner) start(ctx context.Context, adopted map[string][]net.Conn) error {
	addrs := map[string]net.Addr{}
	for i, name := range r.names {
		addrs[name] = r.listeners[i].Addr()
	}
	opened, err := r.o.Open(ctx, addrs)
	if err != nil {
		return err
	}
	r.opened, r.failed, r.servers = opened, make(chan error, len(opened.Background)+len(r.names)), nil
	workCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	for _, f := range opened.Background {
		r.work.Go(func() {
			if err := f(workCtx); err != nil {
				r.failed <- err
			}
		})
	}
	for i, name := range r.names {
		// A listener of the server's own, so that its closing leaves ours open for a successor.
		ln, err := accept.Duplicate(r.listeners[i])
		if err != nil {
			return errors.Join(err, r.close())
		}
		s := http1.NewServer(opened.Handlers[name], r.o.HTTP)
		r.servers = append(r.servers, s)
		for _, c := range adopted[name] {
			s.ServeConn(c)
		}
		r.serving.Go(func() {
			if err := s.Serve(ln); err != nil && !errors.Is(err, http1.ErrServerClosed) {
				r.failed <- err
			}
		})
	}
	if opened.Status != nil {
		opened.Status("serving")
	}
	if opened.Reload != nil {
		signal.Notify(r.signals, syscall.SIGHUP)
	}
	r.announce()
	return nil
}

// announce prints the line that scripts wait for.
func (r *runner) announce() {
	var b strings.Builder
	b.WriteString("ready")
	for i, name := range r.names {
		fmt.Fprintf(&b, " %s=http://%s", name, r.listeners[i].Addr())
	}
	fmt.Fprintln(r.o.Out, b.String())
	if err := notifySystemd(); err != nil {
		r.o.Log.Warn("systemd was not told", "err", err)
	}
}

// loop waits for the end.
func (r *runner) loop(ctx context.Context) error {
	for {
		select {
		case err := <-r.failed:
			r.o.Log.Error("a part of the server failed; stopping", "err", err)
			return errors.Join(err, r.shutdown())
		case <-ctx.Done():
			return r.shutdown()
		case sig := <-r.signals:
			if r.minds(sig) {
				continue
			}
			if sig != syscall.SIGUSR2 {
				r.o.Log.Info("stopping", "signal", sig.String())
				return r.shutdown()
			}
			done, err := r.handOver(ctx)
			if done || err != nil {
				return err
			}
		}
	}
}

// minds does what a signal asks for that changes nothing of the process's life; false for the others.
func (r *runner) minds(sig os.Signal) bool {
	do := r.opened.Reload
	switch {
	case sig == syscall.SIGUSR1:
		do = r.opened.Reopen
	case sig != syscall.SIGHUP || do == nil:
		return false
	}
	if do != nil {
		do()
	}
	return true
}

// shutdown finishes what is in flight and closes everything. A second signal makes it quick.
func (r *runner) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), r.o.Drain) // the caller's has ended
	defer cancel()
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		for {
			select {
			case sig := <-r.signals:
				if sig == syscall.SIGTERM || sig == syscall.SIGINT {
					cancel()
					return
				}
			case <-stopped:
				return
			}
		}
	}()
	if r.opened.Status != nil {
		r.opened.Status("stopping")
	}
	var forced sync.WaitGroup
	errs := make([]error, len(r.servers))
	for i, s := range r.servers {
		forced.Go(func() { errs[i] = s.Shutdown(ctx) })
	}
	forced.Wait()
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		errs = append(errs, ErrForced)
	}
	return errors.Join(append(errs, r.close())...)
}

// close ends the background work and lets go of what the process owns. The servers have been stopped.
func (r *runner) close() error {
	r.serving.Wait()
	r.stop()
	r.work.Wait()
	return r.opened.Close()
}

// handOver lets a new process take over. done is true when it has; an error means that nothing is served any more.
func (r *runner) handOver(ctx context.Context) (done bool, err error) {
	r.o.Log.Info("handing over to a new process")
	var secret []byte
	if r.o.Leave != nil {
		secret = r.o.Leave()
	}
	s, err := startSuccessor(r.names, r.listeners, secret)
	if err != nil {
		r.o.Log.Error("handover failed; serving on as before", "err", err)
		return false, nil
	}
	conns := r.drain()
	if err := r.close(); err != nil {
		r.o.Log.Error("closing before the handover", "err", err)
	}
	if err = s.handOver(conns); err == nil {
		err = s.waitReady()
	}
	if err != nil {
		s.kill()
		r.o.Log.Error("the new process failed after taking over; serving again", "err", err)
		return false, r.start(ctx, conns)
	}
	for _, list := range conns {
		for _, c := range list {
			_ = c.Close()
		}
	}
	r.o.Log.Info("handed over", "pid", s.cmd.Process.Pid)
	return true, nil
}

// drain stops accepting and returns the connections that wait for their next request, when all others are finished.
func (r *runner) drain() map[string][]net.Conn {
	ctx, cancel := context.WithTimeout(context.Background(), r.o.Drain)
	defer cancel()
	var mu sync.Mutex
	conns := map[string][]net.Conn{}
	var all sync.WaitGroup
	for i, s := range r.servers {
		all.Go(func() {
			idle, err := s.Drain(ctx)
			if err != nil {
				r.o.Log.Warn("requests were cut off by the handover", "endpoint", r.names[i], "err", err)
			}
			mu.Lock()
			defer mu.Unlock()
			conns[r.names[i]] = idle
		})
	}
	all.Wait()
	return conns
}
