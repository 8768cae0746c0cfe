package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"wheelhouse/balancer/accesslog"
	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/config"
	"wheelhouse/balancer/console"
	"wheelhouse/balancer/transport"
	"wheelhouse/balancer/web"
	"wheelhouse/internal/http1"
	"wheelhouse/internal/service"
)

// perlbalConf is the file that is read when none is named: Perlbal's.
const perlbalConf = "/etc/perlbal/perlbal.conf"

// defaultShutdown and defaultHandover are SERVER shutdown_timeout and handover_timeout where they are not set.
const (
	defaultShutdown = 10 * time.Second
	defaultHandover = time.Hour
)

// balancerGC trades memory for time, as gearmandGC does: what lives is small, and each doubling of it would be a collection.
const balancerGC = 400

const balancerHelp = `
In place of flags:
  check FILE	say what is wrong with a configuration; nothing is opened
  tunables	print every parameter that SET knows, with its default
`

// runBalancer is the balancer alone: Perlbal's language, in a file and on the console.
func runBalancer(ctx context.Context, env *environment, args []string) error {
	lang := config.NewLanguage(config.NewPlugins(balancerPlugins()...))
	if len(args) > 0 && args[0] == "check" {
		return checkBalancer(env, lang, args[1:])
	}
	if len(args) > 0 && args[0] == "tunables" {
		if len(args) > 1 {
			return usagef("unexpected argument: %s", args[1])
		}
		describeTunables(env.stdout, lang)
		return nil
	}
	fs := newFlags("balancer", env.stderr)
	var file string
	var daemon, version bool
	for _, name := range []string{"config", "c"} {
		fs.StringVar(&file, name, perlbalConf, "configuration `file`")
	}
	for _, name := range []string{"daemon", "d"} {
		fs.BoolVar(&daemon, name, false, "run in the background, and log to syslog")
	}
	fs.BoolVar(&version, "version", false, "print the version")
	usage := fs.Usage
	fs.Usage = func() { usage(); fmt.Fprint(env.stderr, balancerHelp) }
	rest, err := parseFlags(fs, args)
	switch {
	case err != nil:
		return err
	case len(rest) > 0:
		return usagef("unexpected argument: %s", rest[0])
	case version:
		fmt.Fprintln(env.stdout, "wheelhouse balancer", buildVersion())
		return nil
	case daemon && os.Getenv(daemonVariable) == "":
		return daemonize(env, "balancer", args)
	}
	log, closeLog := balancerLog(env.stderr, daemon)
	defer closeLog()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(balancerGC)
	}
	p := &balancerProcess{log: log, out: env.stdout, lang: lang, stop: make(chan stopRequest, 1), parts: newBalancerParts(log)}
	return p.run(ctx, file)
}

// balancerLog is syslog for a process in the background, as Perlbal has it, and standard error for others.
func balancerLog(stderr io.Writer, daemon bool) (*slog.Logger, func()) {
	if daemon {
		sys, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "perlbal")
		if err == nil {
			return slog.New(slog.NewTextHandler(sys, nil)), func() { sys.Close() }
		}
		fmt.Fprintln(stderr, "wheelhouse balancer: no syslog, so nothing is logged once it runs:", err)
	}
	return slog.New(slog.NewTextHandler(stderr, nil)), func() {}
}

// balancerParts are what a balancer needs beside itself, inside up as alone.
type balancerParts struct {
	stats *console.Stats
	logs  *accesslog.Logs
	con   *console.Console
	files *web.Server

	mu  sync.Mutex // guards web
	web http.Handler
}

func newBalancerParts(log *slog.Logger) *balancerParts {
	p := &balancerParts{stats: console.NewStats(), logs: accesslog.New(accesslog.Options{Log: log}), files: web.New(web.Options{})}
	p.con = console.New(console.Options{Log: log, Version: buildVersion(), Metrics: http.HandlerFunc(p.serveMetrics)}, p.stats)
	return p
}

// options wire the parts together.
func (p *balancerParts) options(lang *config.Language, log *slog.Logger, local map[string]http1.Handler) balancerd.Options {
	return balancerd.Options{
		Language: lang, Log: log, Local: local, Console: p.con.Serve, Web: p.files.Serve, File: p.files.File,
		Finished: func(r *balancerRequest) {
			p.stats.Finished(r)
			p.logs.Finished(r)
		},
		Refused: p.logs.Refused,
	}
}

// stopRequest is a SHUTDOWN.
type stopRequest struct {
	graceful bool
	limit    time.Duration // of graceful; 0: none
}

// balancerProcess is a running balancer.
type balancerProcess struct {
	log   *slog.Logger
	out   io.Writer
	lang  *config.Language
	parts *balancerParts
	b     *balancerd.Balancer
	stop  chan stopRequest
	pid   string // file

	tickets *transport.Tickets

	listen  func(name, addr string) (net.Listener, error)
	metrics atomic.Pointer[metricsListener] // nil: none
	serving sync.WaitGroup
}

func (p *balancerProcess) run(ctx context.Context, file string) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGHUP)
	defer signal.Stop(signals)
	from, err := service.Inherit()
	if err != nil {
		return err
	}
	p.listen = balancerListen(from)
	o := p.parts.options(p.lang, p.log, nil)
	p.tickets = inheritedTickets(from.Secret(), p.log)
	o.Listen, o.Tickets = p.listen, p.tickets
	o.Prepare = p.prepareMetrics
	o.Stop = func(graceful bool, limit time.Duration) {
		select {
		case p.stop <- stopRequest{graceful, limit}:
		default: // it ends already
		}
	}
	p.b = balancerd.New(ctx, o)
	p.parts.register(p.b)
	if err := p.open(file); err != nil {
		p.metrics.Load().close()
		return errors.Join(err, p.b.Shutdown(ctx))
	}
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		p.metrics.Load().close()
		end()
		p.serving.Wait()
		p.parts.files.Close()
	}()
	p.serving.Go(func() { p.b.Tick(background) })
	p.serving.Go(func() { p.parts.logs.Run(background) })
	if err := takeOver(from, p.b, p.log); err != nil {
		return err
	}
	p.announce()
	return p.loop(ctx, signals)
}

// open puts the file in force, and what of it concerns the process.
func (p *balancerProcess) open(file string) error {
	if err := p.b.LoadFile(file); err != nil {
		return err
	}
	listening := false
	for _, s := range p.b.Services() {
		listening = listening || s.Addr() != nil
	}
	if !listening {
		return fmt.Errorf("%s: no services or management port configured; nothing to do", file)
	}
	p.pid = p.b.State().Server.PIDFile
	if err := (&daemonFiles{pidFile: p.pid}).writePID(); err != nil {
		return fmt.Errorf("pidfile: %w", err)
	}
	return nil
}

// removePID removes the pidfile, unless a process that took over has written its own.
func (p *balancerProcess) removePID() {
	if p.pid == "" {
		return
	}
	if text, err := os.ReadFile(p.pid); err == nil && strings.TrimSpace(string(text)) == strconv.Itoa(os.Getpid()) {
		os.Remove(p.pid)
	}
}

// announce prints the line that scripts wait for.
func (p *balancerProcess) announce() {
	line := "ready"
	for _, s := range p.b.Services() {
		a := s.Addr()
		if a == nil {
			continue
		}
		scheme := "http"
		switch set := s.Settings(); {
		case set.TLS.Enabled:
			scheme = "https"
		case set.Role == config.UploadTracker:
			scheme = "udp"
		}
		if a.Network() == "unix" {
			line += " " + s.Name() + "=unix:" + a.String()
		} else {
			line += " " + s.Name() + "=" + scheme + "://" + a.String()
		}
	}
	if m := p.metrics.Load(); m != nil {
		line += " metrics_listen=http://" + m.ln.Addr().String()
	}
	releaseDaemon(p.out, p.log, line, false) // only a process in the background lets go, and it logs to syslog
}

// loop waits for signals and SHUTDOWN.
func (p *balancerProcess) loop(ctx context.Context, signals <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return p.end(ctx, p.drain(), signals)
		case r := <-p.stop:
			p.log.Info("stopping: the console asked for it", "graceful", r.graceful)
			if !r.graceful {
				p.removePID()
				return nil // the connections end with the process
			}
			return p.end(ctx, r.limit, signals)
		case sig := <-signals:
			switch sig {
			case syscall.SIGUSR1:
				p.parts.logs.Reopen()
			case syscall.SIGHUP:
				p.reload()
			case syscall.SIGUSR2:
				if err := p.upgrade(ctx, signals); err != nil {
					p.log.Error("upgrade failed; serving on as before", "err", err)
					continue
				}
				return nil
			default:
				p.log.Info("stopping", "signal", sig.String())
				return p.end(ctx, p.drain(), signals)
			}
		}
	}
}

func (p *balancerProcess) drain() time.Duration {
	return timeOr(p.b.State().Server.ShutdownTimeout, defaultShutdown)
}

// timeOr is a time as a configuration has it, or what it is where it is not set.
func timeOr(v string, otherwise time.Duration) time.Duration {
	if d, err := config.ParseTime(v); err == nil {
		return d
	}
	return otherwise
}

// reload puts the file in force as it is now. One that is wrong changes nothing.
func (p *balancerProcess) reload() {
	if err := p.b.Reload(); err != nil {
		p.log.Error("reload failed; nothing has changed", "err", err)
		return
	}
	p.log.Info("reloaded")
}

// end finishes what is under way, within a limit if that is above 0. Another signal makes it quick.
func (p *balancerProcess) end(ctx context.Context, limit time.Duration, signals <-chan os.Signal) error {
	ctx, stop := drainContext(ctx, limit, signals, func(sig os.Signal) bool { return sig == syscall.SIGTERM || sig == syscall.SIGINT })
	defer stop()
	err := p.b.Shutdown(ctx)
	p.removePID()
	if err != nil {
		p.log.Warn("requests were cut off", "err", err)
	}
	return nil
}

// metricsListener is SERVER metrics_listen: the console's pages on an address of their own, without the console.
type metricsListener struct {
	addr string
	ln   net.Listener
	srv  *http.Server
}

// metricsSocket is its name between processes.
func metricsSocket(addr string) string { return balancerd.SocketName("metrics_listen", addr) }

// prepareMetrics opens it for a configuration that is to come, where that names another address than the one in force.
func (p *balancerProcess) prepareMetrics(state *config.State) (commit func(), err error) {
	addr := state.Server.MetricsListen
	now := p.metrics.Load()
	if now != nil && now.addr == addr || now == nil && addr == "" {
		return nil, nil
	}
	var next *metricsListener
	if addr != "" {
		ln, err := p.listen("metrics_listen", addr)
		if err != nil {
			return nil, fmt.Errorf("metrics_listen: %w", err)
		}
		next = &metricsListener{addr: addr, ln: ln, srv: &http.Server{
			Handler: p.parts.con.Handler(p.b), ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
			MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		}}
	}
	return func() {
		if next != nil {
			p.serving.Go(func() {
				if err := next.srv.Serve(next.ln); !errors.Is(err, http.ErrServerClosed) {
					p.log.Error("metrics_listen failed", "err", err)
				}
			})
		}
		p.metrics.Swap(next).close()
	}, nil
}

func (m *metricsListener) close() {
	if m != nil {
		m.srv.Close()
	}
}

func (m *metricsListener) listeners() map[string]net.Listener {
	if m == nil {
		return nil
	}
	return map[string]net.Listener{metricsSocket(m.addr): m.ln}
}
