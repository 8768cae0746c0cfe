package plugin

import (
	"bytes"
	"errors"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/config"
)

// include is there for LOAD: INCLUDE is a command of the configuration's own.
type include struct{ balancer.Base }

func (include) Name() string { return "Include" }

func (include) New(balancer.Service, *balancer.Settings, *balancer.PluginConf, any) (any, error) {
	return struct{}{}, nil
}

// echoService is the role echo: each line comes back.
type echoService struct{ balancer.Base }

func (echoService) Name() string { return "EchoService" }

func (echoService) Tunables() []balancer.Tunable {
	return []balancer.Tunable{{
		Name: "echo_delay", Roles: []string{"echo"}, Kind: balancer.Seconds, Default: "0", Doc: "seconds before a line comes back",
	}}
}

func (echoService) New(_ balancer.Service, set *balancer.Settings, _ *balancer.PluginConf, _ any) (any, error) {
	if set.Role != "echo" {
		return struct{}{}, nil
	}
	d, err := config.ParseTime(set.Extra["echo_delay"])
	return echo{d}, err
}

type echo struct{ delay time.Duration }

var _ balancer.Role = echo{}

// Limits of one connection: a line, in bytes, and lines that wait.
const (
	echoLine    = 64 << 10
	echoWaiting = 1000
)

// echoed is a line that waits to go back.
type echoed struct {
	line []byte
	due  time.Time
}

// ServeConn implements balancer.Role. The wait is the read's deadline, so that a connection that is closed meanwhile is seen.
func (e echo) ServeConn(nc net.Conn) {
	defer nc.Close()
	var waiting []echoed
	var in []byte
	buf := make([]byte, 1024)
	for {
		now := time.Now()
		for len(waiting) > 0 && !waiting[0].due.After(now) {
			if _, err := nc.Write(waiting[0].line); err != nil {
				return
			}
			waiting = waiting[1:]
		}
		var deadline time.Time
		if len(waiting) > 0 {
			deadline = waiting[0].due
		}
		if nc.SetReadDeadline(deadline) != nil {
			return
		}
		n, err := nc.Read(buf)
		in = append(in, buf[:n]...)
		for {
			line, rest, ok := bytes.Cut(in, []byte{'\n'})
			if !ok {
				break
			}
			line = append(slices.Clip(bytes.TrimSuffix(line, []byte{'\r'})), "\r\n"...)
			waiting = append(waiting, echoed{line, time.Now().Add(e.delay)})
			in = rest
		}
		if len(in) > echoLine || len(waiting) > echoWaiting || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// Handlers are Cgilike's, by the name that PERLHANDLER gives them. A handler answers, or returns false for the service to go on.
type Handlers map[string]func(r *balancer.Request) (handled bool)

// cgilike has handlers of this process answer: PERLHANDLER = name.
type cgilike struct {
	balancer.Base
	handlers Handlers
}

func (cgilike) Name() string    { return "Cgilike" }
func (cgilike) Verbs() []string { return []string{"perlrequire", "perlhandler"} }

var cgilikeForm = regexp.MustCompile(`^= ?([\w:]+)$`)

func (c cgilike) Command(conf *balancer.PluginConf, verb, args string) error {
	m := cgilikeForm.FindStringSubmatch(args)
	if m == nil && verb == "perlrequire" {
		return usage("PERLREQUIRE=<module>")
	}
	if m == nil {
		return usage("PERLHANDLER=<package::subroutine>")
	}
	if verb == "perlrequire" {
		for name := range c.handlers {
			if strings.HasPrefix(name, m[1]+"::") {
				return nil // it is compiled in, and there is nothing to load
			}
		}
		return config.Fault("Failed to load " + m[1] + ": no handler of that module is compiled in")
	}
	if c.handlers[m[1]] == nil {
		return config.Fault("no handler '" + m[1] + "' is compiled in")
	}
	conf.Lines = nil
	keep(conf, verb, "= "+m[1])
	return nil
}

func (c cgilike) New(_ balancer.Service, _ *balancer.Settings, conf *balancer.PluginConf, _ any) (any, error) {
	for _, line := range conf.Lines {
		return handlerOf{c.handlers[strings.TrimPrefix(text(line), "= ")]}, nil
	}
	return handlerOf{}, nil
}

type handlerOf struct{ f func(*balancer.Request) bool }

// Start implements balancer.Starter.
func (h handlerOf) Start(r *balancer.Request) bool {
	if h.f == nil {
		r.Error(500, "No perlhandler is configured for this service", "")
		return true
	}
	return h.f(r)
}
