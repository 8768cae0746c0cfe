package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"wheelhouse/balancer"
)

// Context is what a file or a console connection remembers from line to line.
type Context struct {
	Last    string // service or pool that was named last
	Verbose bool   // say OK
	File    bool   // it is a file: to disable what is disabled is no error there, so that what Dump prints can be read
	Warn    func(text string)

	at  place             // of the line that is read
	Say func(text string) // what some commands answer in place of OK
}

func (c *Context) say(format string, args ...any) {
	if c.Say != nil {
		c.Say(fmt.Sprintf(format, args...))
	}
}

func (c *Context) warn(format string, args ...any) {
	if c.Warn != nil {
		c.Warn(string(fault(format, args...)))
	}
}

// handler executes one command on a state.
type handler func(l *Language, s *State, c *Context, cmd Command) error

func verbs() map[string]handler {
	return map[string]handler{
		"create": (*Language).create, "use": (*Language).use, "set": (*Language).set, "default": (*Language).setDefault,
		"enable": (*Language).enable, "disable": (*Language).disable, "pool": (*Language).pool, "header": (*Language).header,
		"load": (*Language).load, "unload": (*Language).unload, "reload": (*Language).load, "server": (*Language).server,
		"mime": (*Language).mime, "verbose": (*Language).verbose, "remove": (*Language).remove,
	}
}

// Changes reports whether a command is one that changes the state; those that only show something are others' to answer.
func (l *Language) Changes(s *State, cmd Command) bool {
	if cmd.Verb == "mime" {
		return !strings.EqualFold(cmd.Args, "list") && cmd.Args != ""
	}
	return verbs()[cmd.Verb] != nil || l.verbOf(s, cmd.Verb) != ""
}

// Exec executes a command that changes the state. After an error the state may be half changed: it is for the caller to work on
// a clone.
func (l *Language) Exec(s *State, c *Context, cmd Command) error {
	if h := verbs()[cmd.Verb]; h != nil {
		return h(l, s, c, cmd)
	}
	if plugin := l.verbOf(s, cmd.Verb); plugin != "" {
		return l.pluginCommand(s, c, plugin, cmd)
	}
	return fault("unknown command: %s", cmd.Verb)
}

// verbOf is the loaded plugin that has a verb.
func (l *Language) verbOf(s *State, verb string) string {
	for _, name := range s.Loaded {
		if slices.Contains(l.Plugin(name).Verbs(), verb) {
			return name
		}
	}
	return ""
}

// usage is the text for a command that makes no sense, where Perlbal has one; syntax that where it has none.
func usage(text string) error { return fault("usage: %s", text) }

func syntax(verb string) error { return fault("Invalid syntax to '%s' command", verb) }

func (l *Language) create(s *State, c *Context, cmd Command) error {
	kind, name, _ := strings.Cut(cmd.Args, " ")
	name = strings.ToLower(name)
	kind = strings.ToLower(kind)
	if !isWord(name) || kind != "service" && kind != "pool" {
		return Fault("usage: CREATE {service|pool} <name>")
	}
	if s.Services[name] != nil {
		return fault("service '%s' already exists", name)
	}
	if s.Pools[name] != nil {
		return fault("pool '%s' already exists", name)
	}
	c.Last = name
	if kind == "pool" {
		s.Pools[name] = &Pool{Name: name, Params: map[string]string{}, at: c.at}
		s.byHand = true
		return nil
	}
	s.Services[name] = newService(name)
	s.Services[name].at = c.at
	s.order = append(s.order, name)
	return nil
}

// remove is an addition: REMOVE SERVICE|POOL name.
func (l *Language) remove(s *State, c *Context, cmd Command) error {
	kind, name, _ := strings.Cut(strings.ToLower(cmd.Args), " ")
	switch {
	case kind == "service" && s.Services[name] != nil:
		delete(s.Services, name)
		s.order = slices.DeleteFunc(s.order, func(n string) bool { return n == name })
	case kind == "pool" && s.Pools[name] != nil:
		for _, svc := range s.Ordered() {
			if svc.Params["pool"] == name {
				return fault("pool '%s' is used by service '%s'", name, svc.Name)
			}
		}
		delete(s.Pools, name)
	case kind == "service" || kind == "pool":
		return fault("%s '%s' does not exist", kind, name)
	default:
		return Fault("usage: REMOVE {service|pool} <name>")
	}
	if c.Last == name {
		c.Last = ""
	}
	return nil
}

func (l *Language) use(s *State, c *Context, cmd Command) error {
	name := strings.ToLower(cmd.Args)
	if !isWord(name) {
		return usage("USE <service_or_pool_name>")
	}
	if s.Services[name] == nil && s.Pools[name] == nil {
		return fault("Non-existent pool or service '%s'", name)
	}
	c.Last = name
	return nil
}

var setForm = regexp.MustCompile(`^(?:(\w+)[. ])?([\w.]+) ?= ?(.+)$`)

func (l *Language) set(s *State, c *Context, cmd Command) error {
	m := setForm.FindStringSubmatch(cmd.Args)
	if m == nil {
		return usage("SET [<service>] <param> = <value>")
	}
	name, param, value := strings.ToLower(m[1]), strings.ToLower(m[2]), m[3]
	if name == "" {
		if name = c.Last; name == "" {
			return Fault("omitted service/pool name not implied from context")
		}
	}
	if svc := s.Services[name]; svc != nil {
		return l.setService(s, c, svc, param, value)
	}
	if p := s.Pools[name]; p != nil {
		return l.setPool(c, p, param, value)
	}
	return fault("service/pool '%s' does not exist", name)
}

func (l *Language) setDefault(s *State, _ *Context, cmd Command) error {
	param, value, ok := strings.Cut(cmd.Args, "=")
	param, value = strings.ToLower(strings.TrimSpace(param)), strings.TrimSpace(value)
	if !ok || value == "" || !isWord(strings.ReplaceAll(param, ".", "_")) {
		return usage("DEFAULT <param> = <value>")
	}
	s.Defaults[param] = value
	return nil
}

const errEnable = Fault("Usage: {ENABLE|DISABLE} <service>")

func (l *Language) enable(s *State, _ *Context, cmd Command) error {
	if !isWord(cmd.Args) {
		return errEnable
	}
	svc, err := s.named(cmd.Args)
	switch {
	case err != nil:
		return err
	case svc.Enabled:
		return fault("service %s is already enabled", svc.Name)
	case svc.Role() == "":
		return fault("service %s has no role", svc.Name)
	}
	svc.Enabled = true
	return nil
}

func (l *Language) disable(s *State, c *Context, cmd Command) error {
	if !isWord(cmd.Args) {
		return errEnable
	}
	svc, err := s.named(cmd.Args)
	switch {
	case err != nil:
		return err
	case !svc.Enabled && c.File:
		return nil
	case !svc.Enabled:
		return fault("service %s is already disabled", svc.Name)
	case svc.Role() == Management:
		return Fault("can't disable management service")
	}
	svc.Enabled = false
	return nil
}

// named finds a service that a command names.
func (s *State) named(name string) (*Service, error) {
	name = strings.ToLower(name)
	if svc := s.Services[name]; svc != nil {
		return svc, nil
	}
	return nil, fault("service '%s' does not exist", name)
}

func (l *Language) verbose(_ *State, c *Context, cmd Command) error {
	on, err := ParseBool(cmd.Args)
	if err != nil {
		return usage("VERBOSE {on|off}")
	}
	c.Verbose = on
	return nil
}

// mime is MIME set ext type, MIME remove ext.
func (l *Language) mime(s *State, c *Context, cmd Command) error {
	words := strings.Fields(cmd.Args)
	verb, ext := "", ""
	if len(words) > 0 {
		verb = strings.ToLower(words[0])
	}
	if len(words) > 1 {
		ext = strings.ToLower(strings.TrimPrefix(words[1], "."))
	}
	switch {
	case verb == "set" && len(words) == 3 && ext != "":
		s.MIME[ext] = words[2]
		c.say("%s set to %s.", ext, words[2])
	case verb == "set":
		return Fault("Usage: set <ext> <mime>")
	case verb == "remove" && len(words) == 2 && ext != "":
		if balancer.MIMETypes(s.MIME)[ext] == "" {
			return fault("%s not a defined extension.", ext)
		}
		if delete(s.MIME, ext); balancer.MIMETypes(nil)[ext] != "" {
			s.MIME[ext] = ""
		}
		c.say("%s removed.", ext)
	default:
		return Fault("Usage: list, remove <ext>, set <ext> <mime>")
	}
	return nil
}
