package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/memcache/memcached"
	"wheelhouse/memcache/segcache"
)

func runMemcached(ctx context.Context, env *environment, args []string) error {
	m, err := parseMemcached(args)
	if err != nil {
		return err
	}
	switch {
	case m.help:
		m.printHelp(env.stdout)
		return nil
	case m.version:
		fmt.Fprintln(env.stdout, "memcached", memcached.Version)
		return nil
	case m.license:
		fmt.Fprintln(env.stdout, "wheelhouse memcached is a part of Wheelhouse, and under its license. It has no code of memcached.")
		return nil
	case m.conflict() != "":
		return &exitError{exUsage, m.conflict()}
	case m.daemon && os.Getenv(daemonVariable) == "":
		return daemonize(env, "memcached", args)
	}
	log := m.logger(env.stderr)
	// Half of the processors by default: most of a request is the kernel's work, which goes on beside, and with a thread for each processor the
	// two would be in each other's way (bench: memcached-get-50).
	m.opts.Threads = min(cmp.Or(m.opts.Threads, max(runtime.NumCPU()/2, 1)), runtime.NumCPU())
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(m.opts.Threads)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(memcachedGC)
	}
	if os.Getenv("GOMEMLIMIT") == "" { // what is not collected yet counts, too: see -m
		debug.SetMemoryLimit(heapLimit)
	}
	p := &memcachedProcess{m: m, log: log, out: env.stdout, stop: make(chan bool, 1), failed: make(chan error, 16)}
	return p.run(ctx)
}

// logger logs as much as -v says, and then as the command verbosity does.
func (m *memcachedConfig) logger(w io.Writer) *slog.Logger {
	var level slog.LevelVar
	m.opts.OnVerbosity = func(n int) {
		level.Set([]slog.Level{slog.LevelWarn, slog.LevelInfo, slog.LevelDebug}[n])
	}
	m.opts.Verbose = min(m.verbose, 2)
	m.opts.OnVerbosity(m.opts.Verbose)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: &level}))
}

// memcachedGC trades memory for time: the heap that is collected has no items in it, and is small.
const memcachedGC = 400

// Beyond these the collector runs more often, rather than let memory grow. Items are not in that heap.
const (
	heapLimit = 41 << 20
	heapConns = 6 << 20 // of what the connections take, is within it
	heapStep  = 3 << 19
)

// limitHeap lets the heap grow with the connections, until ctx ends: what they need is no garbage, and to look for it there again and again would
// find nothing.
func (p *memcachedProcess) limitHeap(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for last := int64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if n := max(p.srv.ConnectionMemory()-heapConns, 0); max(n-last, last-n) > heapStep || n == 0 && last != 0 {
			debug.SetMemoryLimit(heapLimit + n)
			last = n
		}
	}
}

// memcachedProcess is a running cache server.
type memcachedProcess struct {
	m       *memcachedConfig
	log     *slog.Logger
	out     io.Writer
	srv     *memcached.Server
	web     *http.Server
	certs   *certificates
	stop    chan bool
	failed  chan error
	serving sync.WaitGroup
}

// memcachedEndpoint is an address that is served.
type memcachedEndpoint struct {
	scheme string
	ln     net.Listener
	udp    *net.UDPConn
}

func (e *memcachedEndpoint) close() {
	if e.udp != nil {
		e.udp.Close()
	} else {
		e.ln.Close()
	}
}

func (e *memcachedEndpoint) addr() string {
	if e.udp != nil {
		return e.udp.LocalAddr().String()
	}
	return e.ln.Addr().String()
}

func (p *memcachedProcess) run(ctx context.Context) (err error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGHUP)
	defer signal.Stop(signals)
	signal.Ignore(syscall.SIGPIPE)
	if err := p.prepare(); err != nil {
		return err
	}
	list, err := p.listen()
	if err != nil {
		return err
	}
	defer func() {
		for _, e := range list {
			e.close() // closed already, unless the start failed
		}
	}()
	files := p.m.daemonFiles
	if os.Geteuid() != 0 {
		files.user = "" // as memcached: only root can
	}
	if err := files.writePID(); err != nil {
		return err
	}
	defer files.removePID()
	if err := files.changeUser(); err != nil {
		return err
	}
	if err := p.takeItems(); err != nil {
		return err
	}
	if p.srv, err = memcached.Open(p.m.opts); err != nil {
		return err
	}
	p.serve(list)
	limiting, endLimit := context.WithCancel(ctx)
	if os.Getenv("GOMEMLIMIT") == "" {
		p.serving.Go(func() { p.limitHeap(limiting) })
	}
	trimProgram()
	failure := p.announce(list)
	if failure == nil {
		failure = p.wait(ctx, signals)
	}
	endLimit() // end waits for it
	return errors.Join(failure, p.end())
}

// prepare reads the files that the flags name.
func (p *memcachedProcess) prepare() (err error) {
	m := p.m
	o := &m.opts
	o.Log = p.log
	if m.shutdown {
		o.OnShutdown = func(graceful bool) { p.stop <- graceful }
	}
	if err := p.readUsers(o); err != nil {
		return err
	}
	if m.sasl {
		file := cmp.Or(m.saslFile, os.Getenv("MEMCACHED_SASL_PWDB"))
		if file == "" {
			return usagef("-S wants a file of users: --sasl-file, or MEMCACHED_SASL_PWDB")
		}
		if o.SASL, err = readUsers(file); err != nil {
			return err
		}
	}
	if m.ssl {
		if m.tls.cert == "" {
			return usagef("-Z wants -o ssl_chain_cert=FILE")
		}
		p.certs = &certificates{conf: m.tls}
		if err := p.certs.load(); err != nil {
			return err
		}
		o.RefreshCerts = p.certs.load
	}
	if (m.authFile != "" || m.sasl) && m.udpPort != 0 {
		return usagef("-Y and -S exclude -U: UDP has no connections that could be authenticated")
	}
	o.File = m.memoryFile
	o.Settings = m.settings()
	if err := o.Validate(); err != nil {
		return err
	}
	p.warn()
	return nil
}

// warn tells of flags that will not do what they are there for.
func (p *memcachedProcess) warn() {
	var files syscall.Rlimit
	want := cmp.Or(p.m.opts.MaxConns, 1024)
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil && uint64(want) > files.Cur {
		p.log.Warn("-c is more than the descriptors that the process may have (ulimit -n, LimitNOFILE=): beyond, clients wait", "conns", want, "descriptors", files.Cur)
	}
	if p.m.tls.cert != "" && !p.m.ssl {
		p.log.Warn("-o ssl_chain_cert is given, and not -Z: TLS is not spoken")
	}
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// settings are those lines of "stats settings" that the server itself does not know.
func (m *memcachedConfig) settings() map[string]string {
	s := map[string]string{
		"tcpport": strconv.Itoa(m.port), "udpport": strconv.Itoa(m.udpPort), "umask": m.mask,
		"ssl_enabled": map[bool]string{true: "yes", false: "no"}[m.ssl],
		"inter":       cmp.Or(strings.Join(m.listen, ","), "127.0.0.1"), "ssl_verify_mode": strconv.Itoa(m.tls.verify),
		"ssl_min_version": []string{"tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3"}[m.tls.minVersion],
	}
	for name, v := range map[string]string{
		"domain_socket": m.socket, "memory_file": m.memoryFile, "ssl_chain_cert": m.tls.cert, "ssl_key": m.tls.key, "ssl_ca_cert": m.tls.ca,
		"ssl_ciphers": m.tls.ciphers,
	} {
		if v != "" {
			s[name] = v
		}
	}
	if m.backlog > 0 {
		s["tcp_backlog"] = strconv.Itoa(m.backlog)
	}
	return s
}

// readUsers reads what can be read again on SIGHUP.
func (p *memcachedProcess) readUsers(o *memcached.Options) (err error) {
	if p.m.authFile != "" {
		if o.Users, err = readUsers(p.m.authFile); err != nil {
			return err
		}
	}
	if p.m.aclFile != "" {
		f, err := os.Open(p.m.aclFile)
		if err != nil {
			return err
		}
		defer f.Close()
		if o.ACL, err = memcached.ParseACL(f); err != nil {
			return fmt.Errorf("%s: %w", p.m.aclFile, err)
		}
	}
	return nil
}

func readUsers(file string) (map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	users, err := memcached.ParseUsers(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return users, nil
}

// takeItems goes on with the items of the last process, if it has left any that can be used. A start that has failed before has not touched them.
func (p *memcachedProcess) takeItems() error {
	o := &p.m.opts
	if o.File == "" {
		return nil
	}
	text, err := takeFile(o.File + ".meta")
	if err != nil {
		return fmt.Errorf("what the last process left cannot be taken away: %w", err) // a later one would believe it
	}
	if text == nil {
		return nil
	}
	var meta segcache.Meta
	if err := gob.NewDecoder(bytes.NewReader(text)).Decode(&meta); err != nil {
		p.log.Warn("the items of the last process are lost", "err", err)
		return nil
	}
	if meta.Limit != max(o.Limit, 64<<20*b2i(o.Limit == 0)) {
		p.log.Warn("the items of the last process are lost: it had another memory limit")
		return nil
	}
	o.Meta = &meta
	return nil
}

// takeFile reads a file and removes it, durably: a process that is killed leaves nothing that could be believed. nil: there is none.
func takeFile(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file); err != nil {
		return nil, err
	}
	return text, faultfs.OS{}.SyncDir(filepath.Dir(file))
}

func (p *memcachedProcess) serve(list []memcachedEndpoint) {
	for _, e := range list {
		serve := func() error { return p.srv.Serve(e.ln) }
		switch e.scheme {
		case "udp":
			serve = func() error { return p.srv.ServeUDP(e.udp) }
		case "http":
			p.web = daemonWeb(memcachedWeb(p.srv), p.log)
			serve = func() error { return p.web.Serve(e.ln) }
		}
		p.serving.Go(func() {
			if err := serve(); !errors.Is(err, memcached.ErrServerClosed) && !errors.Is(err, http.ErrServerClosed) {
				p.failed <- err
			}
		})
	}
}

// announce prints the line that scripts wait for.
func (p *memcachedProcess) announce(list []memcachedEndpoint) error {
	line, ports := "ready", ""
	for _, e := range list {
		line += " " + e.scheme + "=" + e.scheme + "://" + e.addr()
		if _, port, err := net.SplitHostPort(e.addr()); err == nil && e.scheme != "http" {
			kind := "TCP"
			if e.udp != nil {
				kind = "UDP"
			}
			ports += kind + " INET: " + port + "\n"
		}
	}
	if file := os.Getenv("MEMCACHED_PORT_FILENAME"); file != "" { // as memcached's own tests want it
		if err := atomicfile.Write(faultfs.OS{}, file, 0o644, []byte(ports)); err != nil {
			return err
		}
	}
	announceDaemon(p.out, p.log, line, memcached.Version, p.m.verbose > 0) // as memcached, whose -d keeps standard error with -v alone
	return nil
}

// wait waits until the server is to end, and returns why if it must.
func (p *memcachedProcess) wait(ctx context.Context, signals <-chan os.Signal) (failure error) {
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				p.reload()
				continue
			}
			p.log.Info("stopping", "signal", sig.String())
			return nil
		case graceful := <-p.stop:
			p.log.Info("stopping: a client asked for it", "graceful", graceful)
			return nil
		case failure = <-p.failed:
			p.log.Error("stopping: a part has failed", "err", failure)
			return failure
		case <-ctx.Done():
			return nil
		}
	}
}

// reload reads the users, the access list and the certificates again. With one that is wrong all stays as it was.
func (p *memcachedProcess) reload() {
	var o memcached.Options
	if err := p.readUsers(&o); err != nil {
		p.log.Error("the users were not read again", "err", err)
		return
	}
	if p.m.authFile != "" {
		p.srv.SetUsers(o.Users)
	}
	if p.m.aclFile != "" {
		p.srv.SetACL(o.ACL)
	}
	if err := p.srv.RefreshCerts(); err != nil {
		p.log.Error("the certificates were not read again", "err", err)
	}
	p.log.Info("read again: users, access list, certificates")
}

// end ends the server, and leaves the items to the next one where that was asked for.
func (p *memcachedProcess) end() error {
	defer p.serving.Wait()
	var errs []error
	meta, err := p.srv.Shutdown()
	errs = append(errs, err)
	if p.m.memoryFile != "" && meta != nil {
		var text bytes.Buffer
		err := gob.NewEncoder(&text).Encode(meta)
		if err == nil {
			err = atomicfile.Write(faultfs.OS{}, p.m.memoryFile+".meta", 0o600, text.Bytes())
		}
		errs = append(errs, err)
	}
	if p.web != nil {
		p.web.Close()
	}
	return errors.Join(errs...)
}

// openMemcached serves a cache inside up.
func (a *app) openMemcached(_ context.Context) error {
	c := &a.cfg.Memcached
	if c.Listen == "" {
		return nil
	}
	network := "tcp"
	if strings.HasPrefix(c.Listen, "/") {
		network = "unix"
	}
	ln, err := listenFor(network, c.Listen)
	if err != nil {
		return fmt.Errorf("memcached.listen: %w", err)
	}
	return a.serveCache(ln, int64(c.Limit), a.metrics.memcached)
}
