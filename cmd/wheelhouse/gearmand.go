package main

import (
	"cmp"
	"context"
	"crypto/tls"
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
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/internal/rawio"
)

// gearmandLevels are gearmand's, as far as ours tell them apart.
var gearmandLevels = map[string]slog.Level{
	"FATAL": slog.LevelError, "ALERT": slog.LevelError, "CRITICAL": slog.LevelError, "ERROR": slog.LevelError,
	"WARNING": slog.LevelWarn, "NOTICE": slog.LevelInfo, "INFO": slog.LevelInfo, "DEBUG": slog.LevelDebug,
}

// gearmandGC trades memory for time: the live heap is small where jobs come and go, and a collection for each doubling of it
// would cost more than the jobs do.
const gearmandGC = 400

// gearmandMemory is from where on collections come more often: what --max-memory counts, a quarter of it for what lies between
// two collections, and what the rest of the program takes.
func gearmandMemory(counted int64) int64 {
	counted = cmp.Or(counted, gearmand.DefaultMaxMemory)
	return counted + counted/4 + 128<<20
}

func runGearmand(ctx context.Context, env *environment, args []string) error {
	g, err := parseGearmand(args)
	if err != nil {
		return err
	}
	switch {
	case g.help:
		g.printHelp(env.stdout)
		return nil
	case g.version:
		fmt.Fprintln(env.stdout, "gearmand", gearmand.Version)
		return nil
	case g.daemon && os.Getenv(daemonVariable) == "":
		return daemonize(env, "gearmand", args)
	}
	log, closeLog, err := g.logger(env.stderr)
	if err != nil {
		return err
	}
	defer closeLog()
	if len(g.unused) > 0 {
		log.Info("flags without a meaning here", "flags", strings.Join(g.unused, " "))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gearmandGC)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(gearmandMemory(g.opts.MaxMemory))
	}
	p := &gearmandProcess{g: g, log: log, out: env.stdout, stop: make(chan bool, 1), failed: make(chan error, 8)}
	return p.run(ctx)
}

// gearmandProcess is a running job server.
type gearmandProcess struct {
	g       *gearmandConfig
	log     *slog.Logger
	out     io.Writer
	srv     *gearmand.Server
	web     *http.Server
	stop    chan bool // true: gracefully
	failed  chan error
	serving sync.WaitGroup
}

func (p *gearmandProcess) run(ctx context.Context) (err error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	defer signal.Stop(signals)
	signal.Ignore(syscall.SIGPIPE)
	if p.g.allowShutdown {
		p.g.opts.OnShutdown = func(graceful bool) { p.stop <- graceful }
	}
	p.g.opts.Log, p.g.opts.Verbose = p.log, p.g.level
	if err := p.g.setFiles(); err != nil {
		return err
	}
	list, err := p.listen()
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range list {
			l.ln.Close() // closed already, unless the start failed
		}
	}()
	if err := p.g.writePID(); err != nil {
		return err
	}
	defer p.g.removePID()
	if err := p.g.changeUser(); err != nil {
		return err
	}
	closeQueue, err := p.openQueue(ctx)
	if err != nil {
		return err
	}
	if p.srv, err = gearmand.Open(ctx, p.g.opts); err != nil {
		return errors.Join(err, closeQueue())
	}
	p.serve(list)
	p.announce(list)
	graceful, failure := p.wait(ctx, signals)
	return errors.Join(failure, p.end(ctx, graceful, signals), closeQueue())
}

// endpoint is a listener and what is spoken there.
type endpoint struct {
	scheme string
	ln     net.Listener
}

func (p *gearmandProcess) listen() (list []endpoint, err error) {
	defer func() {
		if err != nil {
			for _, l := range list {
				l.ln.Close()
			}
		}
	}()
	conf, err := p.g.tlsConfig()
	if err != nil {
		return nil, err
	}
	addrs := p.g.listen
	if len(addrs) == 0 {
		addrs = []string{"127.0.0.1"}
	}
	for _, a := range addrs {
		ln, err := p.g.open(a, p.g.port)
		if err != nil {
			return list, err
		}
		scheme := "gearman"
		if conf != nil {
			ln, scheme = tls.NewListener(rawio.Listener(ln), conf), "gearmans"
		}
		list = append(list, endpoint{scheme, ln})
	}
	if p.g.http || p.g.httpListen != "" {
		addr := cmp.Or(p.g.httpListen, addrs[0])
		if _, _, err := net.SplitHostPort(addr); err == nil && p.g.httpListen == "" {
			addr, _, _ = net.SplitHostPort(addr) // its port is the other protocol's
		}
		ln, err := p.g.open(addr, p.g.httpPort)
		if err != nil {
			return list, err
		}
		list = append(list, endpoint{"http", ln})
	}
	return list, nil
}

// open listens on HOST, HOST:PORT, unix:FILE or an absolute path.
func (g *gearmandConfig) open(addr, port string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: g.keepalive.or(g.keepalive.idle, 60), Interval: g.keepalive.or(g.keepalive.interval, 15),
		Count: max(g.keepalive.count, 0),
	}}
	network := "tcp"
	if file, ok := strings.CutPrefix(addr, "unix:"); ok || strings.HasPrefix(addr, "/") {
		network, addr = "unix", file
		if err := removeStale(addr); err != nil {
			return nil, err
		}
	} else if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), port)
	}
	ln, err := lc.Listen(context.Background(), network, addr)
	if err != nil {
		return nil, err
	}
	return ln, setBacklog(ln, g.backlog)
}

func (keepalive) or(seconds, otherwise int) time.Duration {
	if seconds <= 0 {
		seconds = otherwise
	}
	return time.Duration(seconds) * time.Second
}

// removeStale removes a socket that nobody listens on any more.
func removeStale(file string) error {
	if st, err := os.Stat(file); err != nil || st.Mode()&os.ModeSocket == 0 {
		return nil // there is nothing, or something that listening will name
	}
	if c, err := net.Dial("unix", file); err == nil {
		c.Close()
		return fmt.Errorf("another process listens on %s", file)
	}
	return os.Remove(file)
}

// setBacklog changes the length of the queue of a listener: asking again is how the kernel is told.
func setBacklog(ln net.Listener, n int) error {
	sc, ok := ln.(syscall.Conn)
	if n <= 0 || !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var lerr error
	if err := raw.Control(func(fd uintptr) { lerr = unix.Listen(int(fd), n) }); err != nil {
		return err
	}
	return lerr
}

func (g *gearmandConfig) tlsConfig() (*tls.Config, error) {
	if !g.tls {
		if g.certFile+g.keyFile+g.caFile != "" || g.clientAuth != "off" {
			return nil, usagef("--ssl-… flags are given without --ssl")
		}
		return nil, nil
	}
	if g.certFile == "" || g.keyFile == "" {
		return nil, usagef("--ssl wants --ssl-certificate and --ssl-key")
	}
	cert, err := tls.LoadX509KeyPair(g.certFile, g.keyFile)
	if err != nil {
		return nil, fmt.Errorf("--ssl-certificate, --ssl-key: %w", err)
	}
	modes := map[string]tls.ClientAuthType{
		"off": tls.NoClientCert, "optional": tls.VerifyClientCertIfGiven, "demand": tls.RequireAndVerifyClientCert,
	}
	mode, ok := modes[g.clientAuth]
	if !ok {
		return nil, usagef("--ssl-client-auth: %q is not off, optional or demand", g.clientAuth)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: mode, MinVersion: tls.VersionTLS12}
	if g.caFile != "" {
		if conf.ClientCAs, err = authorities(g.caFile); err != nil {
			return nil, fmt.Errorf("--ssl-ca-file: %w", err)
		}
	} else if mode != tls.NoClientCert {
		return nil, usagef("--ssl-client-auth %s wants --ssl-ca-file", g.clientAuth)
	}
	return conf, nil
}

// serve starts everything.
func (p *gearmandProcess) serve(list []endpoint) {
	for _, l := range list {
		serve := p.srv.Serve
		if l.scheme == "http" {
			p.web = daemonWeb(gearmandWeb(p.srv), p.log)
			serve = p.web.Serve
		}
		p.serving.Go(func() {
			if err := serve(l.ln); !errors.Is(err, gearmand.ErrServerClosed) && !errors.Is(err, http.ErrServerClosed) {
				p.failed <- err
			}
		})
	}
}

// announce prints the line that scripts wait for.
func (p *gearmandProcess) announce(list []endpoint) {
	line := "ready"
	for _, l := range list {
		addr := l.ln.Addr().String()
		line += " " + l.scheme + "=" + l.scheme + "://" + addr
	}
	stderrIsLog := !p.g.syslog && (p.g.logFile == "" || p.g.logFile == "stderr")
	announceDaemon(p.out, p.log, line, gearmand.Version, stderrIsLog)
}

// wait waits until the server is to end, and returns whether gracefully, and why if it must.
func (p *gearmandProcess) wait(ctx context.Context, signals <-chan os.Signal) (graceful bool, failure error) {
	select {
	case sig := <-signals:
		p.log.Info("stopping", "signal", sig.String())
		return sig == syscall.SIGUSR1, nil
	case graceful = <-p.stop:
		p.log.Info("stopping: an administrator asked for it", "graceful", graceful)
		return graceful, nil
	case failure = <-p.failed:
		p.log.Error("stopping: a part has failed", "err", failure)
	case <-ctx.Done():
	}
	return false, failure
}

// end ends the server; while it waits for running jobs, another signal makes it quick.
func (p *gearmandProcess) end(ctx context.Context, graceful bool, signals <-chan os.Signal) error {
	defer p.serving.Wait()
	var err error
	if graceful {
		ctx, stop := drainContext(ctx, p.g.drain, signals, func(sig os.Signal) bool { return sig != syscall.SIGUSR1 })
		defer stop()
		err = p.srv.Shutdown(ctx)
	} else {
		err = p.srv.Close()
	}
	if p.web != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second) // its calls have been answered
		defer cancel()
		if p.web.Shutdown(ctx) != nil {
			p.web.Close()
		}
	}
	return err
}

// gearmandWeb is the HTTP front with what operators look at.
func gearmandWeb(s *gearmand.Server) http.Handler {
	m := newMetrics()
	m.gearmand(s)
	mux := http.NewServeMux()
	mux.Handle("/", s.HTTPHandler())
	mux.Handle("GET /metrics", m.web())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	return mux
}

// logger opens the log.
func (g *gearmandConfig) logger(stderr io.Writer) (log *slog.Logger, closeLog func(), err error) {
	var w io.Writer = stderr
	closeLog = func() {}
	switch {
	case g.syslog:
		sys, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "gearmand")
		if err != nil {
			return nil, nil, fmt.Errorf("--syslog: %w", err)
		}
		w, closeLog = sys, func() { sys.Close() }
	case g.logFile == "none":
		w = io.Discard
	case g.logFile != "" && g.logFile != "stderr":
		f, err := os.OpenFile(g.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, nil, fmt.Errorf("--log-file: %w", err)
		}
		w, closeLog = f, func() { f.Close() }
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: gearmandLevels[g.level]})), closeLog, nil
}

// setFiles sets how many files the process may have open.
func (g *gearmandConfig) setFiles() error {
	if g.files <= 0 {
		return nil
	}
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("--file-descriptors: %w", err)
	}
	lim.Cur = uint64(g.files)
	lim.Max = max(lim.Max, lim.Cur)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("--file-descriptors %d: %w", g.files, err)
	}
	return nil
}
