package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"wheelhouse/balancer"
)

func newService(name string) *Service {
	return &Service{Name: name, Params: map[string]string{}, Confs: map[string]*balancer.PluginConf{}}
}

func (l *Language) setService(s *State, c *Context, svc *Service, param, value string) error {
	switch {
	case param == "role":
		return l.setRole(s, svc, strings.ToLower(value))
	case param == "plugins":
		return l.setPlugins(s, c, svc, value)
	case param == "nodefile" || param == "balance_method":
		return l.setLegacy(s, c, svc, param, value)
	case strings.HasPrefix(param, "extra."):
		svc.Params[param] = value
		return nil
	}
	if plugin, key, ok := strings.Cut(param, "."); ok {
		return l.setPluginParam(s, svc, plugin, key, value)
	}
	t := l.tunable(s, param)
	if t == nil {
		return fault("Unknown service parameter '%s'", param)
	}
	if svc.Role() == "" && len(t.Roles) > 0 || !t.forRole(svc.Role()) {
		return fault("The '%s' option can only be set on a '%s' service", param, strings.Join(t.Roles, "' or '"))
	}
	if err := t.apply(&balancer.Settings{Extra: map[string]string{}}, value); err != nil {
		return named(err, param, svc.Name)
	}
	if param == "pool" {
		if value = strings.ToLower(value); s.Pools[value] == nil {
			return fault("Pool '%s' not found", value)
		}
	}
	svc.put(param, value)
	return nil
}

// put notes a parameter that was found good.
func (s *Service) put(param, value string) {
	if param == "persist_client_timeout" { // an old name of two
		s.Params["persist_client_idle_timeout"], s.Params["idle_timeout"] = value, value
		return
	}
	s.Params[param] = value
}

// setRole gives a service its role, and all its parameters their defaults.
func (l *Language) setRole(s *State, svc *Service, role string) error {
	known := slices.Contains(BuiltinRoles, role)
	for _, p := range s.Loaded {
		known = known || strings.EqualFold(p, role) || strings.EqualFold(p, role+"service")
	}
	if !known {
		return fault("Role not valid for service %s", svc.Name)
	}
	listen, listens := svc.Params["listen"]
	svc.Params = map[string]string{"role": role}
	if listens {
		svc.Params["listen"] = listen
	}
	for _, param := range slices.Backward(slices.Sorted(maps.Keys(s.Defaults))) { // the old name before those that it stands for
		v := s.Defaults[param]
		if t := l.tunable(s, param); t != nil && t.forRole(role) {
			if err := t.apply(&balancer.Settings{Extra: map[string]string{}}, v); err != nil {
				return fmt.Errorf("DEFAULT: %w", named(err, param, svc.Name))
			}
			svc.put(param, v)
		}
	}
	return nil
}

// setPlugins lists the plugins of a service. One that is not loaded is told of, and left out.
func (l *Language) setPlugins(s *State, c *Context, svc *Service, value string) error {
	svc.Plugins = nil
	var missing []string
	for _, w := range ParseList(value) {
		if strings.EqualFold(w, "none") || strings.EqualFold(w, "undef") {
			continue
		}
		i := slices.IndexFunc(s.Loaded, func(n string) bool { return strings.EqualFold(n, w) })
		if i < 0 {
			missing = append(missing, w)
			continue
		}
		if !slices.Contains(svc.Plugins, s.Loaded[i]) {
			svc.Plugins = append(svc.Plugins, s.Loaded[i])
		}
	}
	if len(missing) > 0 {
		c.warn("Plugin %s not loaded; not registered for %s.", strings.Join(missing, ", "), svc.Name)
	}
	return nil
}

// setLegacy gives a service that has no pool one of its own.
func (l *Language) setLegacy(s *State, c *Context, svc *Service, param, value string) error {
	if svc.Role() != ReverseProxy {
		return fault("The '%s' option can only be set on a '%s' service", param, ReverseProxy)
	}
	if s.byHand {
		return fault("Unknown service parameter '%s'", param)
	}
	name := svc.Name + "_pool"
	p := s.Pools[name]
	if p == nil {
		p = &Pool{Name: name, Params: map[string]string{}, at: c.at}
		s.Pools[name] = p
	}
	svc.Params["pool"] = name
	return l.setPool(c, p, param, value)
}

func (l *Language) setPool(c *Context, p *Pool, param, value string) error {
	for _, t := range l.pools {
		if t.Name != param {
			continue
		}
		switch strings.ToLower(value) {
		case "none", "undef", "null", `""`, `''`:
			delete(p.Params, param)
			if param == "nodefile" { // its nodes stay
				p.fromFile, p.fileTime = nil, time.Time{}
			}
			return nil
		}
		if err := t.apply(&balancer.PoolSettings{}, value); err != nil {
			if param == "nodefile" {
				return Fault("File not found")
			}
			return named(err, param, p.Name)
		}
		if param == "nodefile" {
			nodes, at, err := ReadNodeFile(value)
			if err != nil {
				return err
			}
			p.Nodes, p.fromFile, p.fileTime = nodes, slices.Clone(nodes), at
		}
		p.Params[param] = value
		return nil
	}
	if !c.File {
		return fault("Unknown pool parameter '%s'", param)
	}
	c.warn("unknown pool parameter '%s' ignored", param) // Perlbal says nothing at all; files with such lines must go on working
	return nil
}

func (l *Language) setPluginParam(s *State, svc *Service, plugin, key, value string) error {
	i := slices.IndexFunc(s.Loaded, func(n string) bool { return strings.EqualFold(n, plugin) })
	if i < 0 {
		return fault("Unknown service parameter '%s.%s'", plugin, key)
	}
	return l.Plugin(plugin).Set(svc.Conf(plugin), key, value)
}

// pluginCommand gives a command to the plugin whose verb it has.
func (l *Language) pluginCommand(s *State, c *Context, plugin string, cmd Command) error {
	name, text := c.Last, cmd.Args
	// The name of a service may stand in front; a pattern or regular expression is no service's name.
	if first, rest, ok := strings.Cut(cmd.Args, " "); ok && s.Services[strings.ToLower(first)] != nil && !strings.HasPrefix(rest, "=") {
		name, text = strings.ToLower(first), rest
	}
	svc := s.Services[name]
	if svc == nil {
		return Fault("omitted service name not implied from context")
	}
	return l.Plugin(plugin).Command(svc.Conf(plugin), cmd.Verb, text)
}

func (l *Language) pool(s *State, _ *Context, cmd Command) error {
	form := syntax("pool")
	words := strings.Fields(cmd.Args)
	if len(words) < 3 {
		return form
	}
	name, verb := strings.ToLower(words[0]), strings.ToLower(words[1])
	if name == "add" || name == "remove" {
		name, verb = verb, name
	}
	p := s.Pools[name]
	if p == nil {
		return fault("Pool '%s' not found", name)
	}
	addr, err := ParseNode(words[2])
	if err != nil {
		return err
	}
	weight := 1
	for _, w := range words[3:] {
		v, ok := strings.CutPrefix(strings.ToLower(w), "weight=")
		if !ok || verb != "add" {
			return form
		}
		if weight, err = ParseInt(v); err != nil || weight < 1 || weight > 1000 {
			return Fault("Expecting a weight from 1 to 1000")
		}
	}
	p.Nodes = slices.DeleteFunc(p.Nodes, func(n balancer.Node) bool { return n.Addr == addr })
	switch verb {
	case "add":
		p.Nodes = append(p.Nodes, balancer.Node{Addr: addr, Weight: weight})
	case "remove":
	default:
		return Fault("Invalid command:  must be 'add' or 'remove'")
	}
	return nil
}

const errHeader = Fault("Usage: HEADER <service> {INSERT|REMOVE} <header>[: <value>]")

func (l *Language) header(s *State, _ *Context, cmd Command) error {
	words := strings.SplitN(cmd.Args, " ", 3)
	if len(words) < 3 {
		return errHeader
	}
	name, verb := words[0], words[1]
	if v := strings.ToLower(name); v == "insert" || v == "remove" {
		name, verb = verb, name
	}
	svc, err := s.named(name)
	if err != nil {
		return err
	}
	field, value, colon := strings.Cut(words[2], ":")
	field, value = strings.TrimSpace(field), strings.TrimSpace(value)
	if !IsToken(field) {
		return fault("'%s' is not a header's name", field)
	}
	svc.Headers = slices.DeleteFunc(svc.Headers, func(h HeaderCommand) bool { return strings.EqualFold(h.Name, field) })
	switch strings.ToLower(verb) {
	case "insert":
		if !colon {
			return Fault("no value provided")
		}
		if err := canInsert(field, value); err != nil {
			return err
		}
		svc.Headers = append(svc.Headers, HeaderCommand{Name: field, Value: value})
	case "remove":
		svc.Headers = append(svc.Headers, HeaderCommand{Remove: true, Name: field})
	default:
		return errHeader
	}
	return nil
}

// ownFields are those of a request to a backend that are made from what the request is: framing, and what is about one connection alone.
var ownFields = []string{"Connection", "Content-Length", "Expect", "Keep-Alive", "Transfer-Encoding", "Upgrade"}

// canInsert finds why a field could not be sent to a backend, or nothing could with it.
func canInsert(field, value string) error {
	if slices.ContainsFunc(ownFields, func(own string) bool { return strings.EqualFold(own, field) }) {
		return fault("%s cannot be inserted: the balancer sends its own", field)
	}
	if strings.EqualFold(field, "Host") && !hostForm.MatchString(value) {
		return fault("'%s' is not a host", value)
	}
	return nil
}

func (l *Language) load(s *State, _ *Context, cmd Command) error {
	p := l.Plugin(cmd.Args)
	if p == nil {
		return fault("plugin '%s' is not compiled in; there are %s", cmd.Args, strings.Join(l.PluginNames(), ", "))
	}
	if !slices.Contains(s.Loaded, p.Name()) {
		s.Loaded = append(s.Loaded, p.Name())
	}
	return nil
}

func (l *Language) unload(s *State, _ *Context, cmd Command) error {
	p := l.Plugin(cmd.Args)
	if p == nil || !slices.Contains(s.Loaded, p.Name()) {
		return fault("plugin '%s' is not loaded", cmd.Args)
	}
	s.Loaded = slices.DeleteFunc(s.Loaded, func(n string) bool { return n == p.Name() })
	for _, svc := range s.Services {
		svc.Plugins = slices.DeleteFunc(svc.Plugins, func(n string) bool { return n == p.Name() })
		delete(svc.Confs, strings.ToLower(p.Name()))
	}
	return nil
}
