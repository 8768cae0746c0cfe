package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"wheelhouse/balancer"
)

// Dump prints a state as lines which, read again, make the same state.
func (l *Language) Dump(s *State) []string {
	var d dumper
	d.server(s)
	for _, name := range s.Loaded {
		d.line("LOAD %s", name)
	}
	for _, ext := range slices.Sorted(maps.Keys(s.MIME)) {
		if s.MIME[ext] == "" {
			d.line("MIME remove %s", ext)
		} else {
			d.line("MIME set %s %s", ext, s.MIME[ext])
		}
	}
	d.gap()
	for _, name := range s.PoolNames() {
		d.pool(s.Pools[name])
	}
	for _, svc := range s.Ordered() {
		d.service(l, s, svc)
	}
	// Last, since it concerns services that get their role later; what it has set in those above stands there.
	for _, name := range slices.Sorted(maps.Keys(s.Defaults)) {
		d.line("DEFAULT %s = %s", name, s.Defaults[name])
	}
	return d.lines
}

type dumper struct{ lines []string }

func (d *dumper) line(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *dumper) gap() {
	if n := len(d.lines); n > 0 && d.lines[n-1] != "" {
		d.lines = append(d.lines, "")
	}
}

func (d *dumper) server(s *State) {
	v := &s.Server
	number := func(name string, n int) {
		if n != 0 {
			d.line("SERVER %s = %d", name, n)
		}
	}
	text := func(name, t string) {
		if t != "" {
			d.line("SERVER %s = %s", name, t)
		}
	}
	number("max_reproxy_connections", v.MaxReproxy)
	for _, addr := range slices.Sorted(maps.Keys(v.MaxReproxyTo)) {
		d.line("SERVER max_reproxy_connections(%s) = %d", addr, v.MaxReproxyTo[addr])
	}
	number("max_connections", v.MaxConnections)
	number("nice_level", v.NiceLevel)
	text("pidfile", v.PIDFile)
	text("metrics_listen", v.MetricsListen)
	text("console_networks", v.ConsoleNetworks)
	text("shutdown_timeout", v.ShutdownTimeout)
	text("handover_timeout", v.HandoverTimeout)
	for _, name := range slices.Sorted(maps.Keys(v.Others)) {
		text(name, v.Others[name])
	}
}

func (d *dumper) pool(p *Pool) {
	d.line("CREATE POOL %s", p.Name)
	for _, name := range slices.Sorted(maps.Keys(p.Params)) {
		d.line("  SET %s = %s", name, p.Params[name])
	}
	added := p.Nodes
	for _, n := range p.fromFile {
		switch {
		case len(added) > 0 && added[0] == n:
			added = added[1:]
		case !slices.ContainsFunc(p.Nodes, func(have balancer.Node) bool { return have.Addr == n.Addr }):
			d.line("  POOL REMOVE %s %s", p.Name, n.Addr)
		}
	}
	for _, n := range added {
		if n.Weight > 1 {
			d.line("  POOL ADD %s %s weight=%d", p.Name, n.Addr, n.Weight)
		} else {
			d.line("  POOL ADD %s %s", p.Name, n.Addr)
		}
	}
	d.gap()
}

func (d *dumper) service(l *Language, s *State, svc *Service) {
	d.line("CREATE SERVICE %s", svc.Name)
	first := []string{"role", "listen", "pool"}
	for _, name := range first {
		if v, ok := svc.Params[name]; ok {
			d.line("  SET %s = %s", name, v)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(svc.Params)) {
		if !slices.Contains(first, name) {
			d.param(l, s, svc, name, svc.Params[name])
		}
	}
	if len(svc.Plugins) > 0 {
		d.line("  SET plugins = %s", strings.Join(svc.Plugins, ", "))
	}
	for _, plugin := range slices.Sorted(maps.Keys(svc.Confs)) {
		conf := svc.Confs[plugin]
		for _, line := range conf.Lines {
			d.line("  %s", line)
		}
		for _, key := range slices.Sorted(maps.Keys(conf.Params)) {
			d.line("  SET %s.%s.%s = %s", svc.Name, plugin, key, conf.Params[key])
		}
	}
	for _, h := range svc.Headers {
		if h.Remove {
			d.line("  HEADER %s REMOVE %s", svc.Name, h.Name)
		} else {
			d.line("  HEADER %s INSERT %s: %s", svc.Name, h.Name, h.Value)
		}
	}
	switch {
	case svc.Enabled:
		d.line("ENABLE %s", svc.Name)
	default:
		d.line("DISABLE %s", svc.Name)
	}
	d.gap()
}

// param prints a parameter, unless it is at its default.
func (d *dumper) param(l *Language, s *State, svc *Service, name, v string) {
	t := l.tunable(s, name)
	if t == nil {
		d.line("  SET %s.%s = %s", svc.Name, name, v) // extra.NAME alone would be taken for a service's name
		return
	}
	same := v == t.Default
	if t.bool {
		on, _ := ParseBool(v) // it was accepted
		def, _ := ParseBool(t.Default)
		same = on == def
		if v = "off"; on {
			v = "on"
		}
	}
	if _, isDefault := s.Defaults[name]; !same || isDefault {
		d.line("  SET %s = %s", name, v)
	}
}
