// Package console is the role management: Perlbal's line protocol, and on the same port what a browser or a metrics collector wants.
//
// A connection whose first bytes are those of an HTTP request is HTTP, any other is a console. A command that is wrong changes
// nothing.
package console

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/config"
)

const (
	idleLimit  = time.Hour        // without a command
	writeLimit = 30 * time.Second // for a client to take in an answer
)

// Options of a Console.
type Options struct {
	Log *slog.Logger // default: nothing is logged
	// Version is shown by uptime and version, after the version of Perlbal whose formats these are.
	Version string
	// Metrics answers GET /metrics; nil: there is no such page.
	Metrics http.Handler
}

// Console serves the management services of one balancer. Its methods are safe for concurrent use.
type Console struct {
	o     Options
	log   *slog.Logger
	stats *Stats

	mu      sync.Mutex // guards all below
	clients map[net.Conn]time.Time
	proc    procFigures // of the last "proc"
	prof    *procFigures
}

// New makes a console. stats may be shared with others that show it.
func New(o Options, stats *Stats) *Console {
	return &Console{o: o, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), stats: stats, clients: map[net.Conn]time.Time{}}
}

// Serve serves a connection, and closes it. It is what balancerd.Options.Console wants.
func (c *Console) Serve(b *balancerd.Balancer, nc net.Conn) {
	defer nc.Close()
	if !allowed(b, nc.RemoteAddr()) {
		c.log.Warn("console refused", "addr", nc.RemoteAddr())
		nc.SetWriteDeadline(time.Now().Add(writeLimit))
		io.WriteString(nc, "ERROR: this address may not use the console (SERVER console_networks)\r\n")
		return
	}
	c.mu.Lock()
	c.clients[nc] = time.Now()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.clients, nc)
	}()
	r := bufio.NewReaderSize(nc, config.MaxLine)
	nc.SetReadDeadline(time.Now().Add(idleLimit))
	web, err := isHTTP(r)
	switch {
	case err != nil:
	case web:
		c.serveHTTP(b, nc, r)
	default:
		s := &session{c: c, b: b, nc: nc, r: r, w: bufio.NewWriter(nc)}
		s.ctx = config.Context{Verbose: true, Say: func(text string) { s.out(text); s.said = true }, Warn: func(text string) { s.out("ERROR: " + text) }}
		s.run()
	}
}

// allowed reports whether a client may use the console: those of this machine, and of the networks that are set.
func allowed(b *balancerd.Balancer, a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return true // a unix socket: its file's mode decides
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	nets := b.State().Server.ConsoleNetworks
	if nets == "" || ip.IsLoopback() {
		return ip.IsLoopback()
	}
	list, err := config.ParsePrefixes(nets)
	return err == nil && contains(list, ip)
}

func contains(list []netip.Prefix, ip netip.Addr) bool {
	for _, p := range list {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// httpStarts are what HTTP begins with here.
var httpStarts = []string{"GET ", "HEAD ", "POST "}

// isHTTP looks at the first bytes, and at no more of them than are needed: a client may wait for its answer after three.
func isHTTP(r *bufio.Reader) (bool, error) {
	for n := 1; ; n++ {
		p, err := r.Peek(n)
		if err != nil {
			return false, err
		}
		may := false
		for _, s := range httpStarts {
			if s == string(p) {
				return true, nil
			}
			may = may || strings.HasPrefix(s, string(p))
		}
		if !may {
			return false, nil
		}
	}
}

// session is one connection that speaks lines.
type session struct {
	c    *Console
	b    *balancerd.Balancer
	nc   net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	ctx  config.Context
	said bool // the command has said something in place of OK
}

func (s *session) run() {
	for {
		s.nc.SetReadDeadline(time.Now().Add(idleLimit))
		line, err := s.r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			s.fail(fmt.Errorf("line is over %d bytes", config.MaxLine))
			s.flush()
			return
		case err == io.EOF && len(line) > 0: // a last line without its end
		case err != nil:
			return
		}
		text := strings.TrimRight(string(line), "\r\n")
		if isRequestLine(text) {
			s.fail(errors.New("this is a console; over HTTP it answers GET and HEAD"))
			s.flush()
			return
		}
		if end := s.line(text); end || err != nil {
			s.flush()
			return
		}
		if s.r.Buffered() == 0 && !s.flush() {
			return
		}
	}
}

// isRequestLine recognises an HTTP request of another method: what a browser can be made to send is not taken for commands.
func isRequestLine(text string) bool {
	return strings.HasSuffix(text, " HTTP/1.1") || strings.HasSuffix(text, " HTTP/1.0")
}

func (s *session) flush() bool {
	s.nc.SetWriteDeadline(time.Now().Add(writeLimit))
	return s.w.Flush() == nil
}

// out writes a line. What it says is in no position to end it.
func (s *session) out(text string) {
	s.nc.SetWriteDeadline(time.Now().Add(writeLimit))
	s.w.WriteString(strings.NewReplacer("\r", " ", "\n", " ").Replace(text))
	s.w.WriteString("\r\n")
}

func (s *session) fail(err error) { s.out("ERROR: " + err.Error()) }

// line executes one line, and reports whether it was the last.
func (s *session) line(text string) (end bool) {
	cmd, ok, err := config.ParseLine(text, config.Expander{Env: os.LookupEnv})
	switch {
	case err != nil:
		s.fail(err)
		return false
	case !ok:
		return false
	case cmd.Verb == "quit" || cmd.Verb == "exit":
		return true
	}
	lines, known, err := s.c.query(s.b, cmd)
	switch {
	case err != nil:
		s.fail(err)
	case known:
		for _, l := range lines {
			s.out(l)
		}
		if cmd.Verb == "dumpconfig" {
			s.ok()
		} else {
			s.out(".")
		}
	default:
		return s.act(cmd)
	}
	return false
}

func (s *session) ok() {
	if s.ctx.Verbose {
		s.out("OK")
	}
}

// act executes a command that does something.
func (s *session) act(cmd config.Command) (end bool) {
	s.said = false
	var err error
	switch lang := s.b.Language(); {
	case cmd.Verb == "shutdown":
		return s.shutdown(cmd.Args)
	case cmd.Verb == "prof":
		err = s.c.setProf(s.b, strings.ToLower(cmd.Args))
	case cmd.Verb == "reload":
		err = s.reload(cmd)
	case lang.Changes(s.b.State(), cmd):
		err = s.b.Exec(&s.ctx, cmd)
	default:
		err = fmt.Errorf("unknown command: %s", cmd.Verb)
	}
	switch {
	case err != nil:
		s.fail(err)
	case !s.said:
		s.ok()
	}
	return false
}

// reload is RELOAD, RELOAD file, or Perlbal's RELOAD plugin.
func (s *session) reload(cmd config.Command) error {
	switch {
	case cmd.Args == "":
		return s.b.Reload()
	case strings.Contains(cmd.Args, "/"):
		return s.b.LoadFile(cmd.Args)
	}
	for _, name := range s.b.State().Loaded {
		if strings.EqualFold(name, cmd.Args) {
			return s.b.Exec(&s.ctx, cmd)
		}
	}
	return config.Fault(fmt.Sprintf("Unknown/unloaded plugin '%s'", cmd.Args))
}
