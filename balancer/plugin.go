package balancer

import (
	"net"
	"os"

	"wheelhouse/internal/http1"
)

// Plugin is a kind of plugin that LOAD names. It holds no state: that is in the instances which New makes, one for each service
// that lists the plugin. Methods may be called by several goroutines at once.
type Plugin interface {
	// Name is the plugin's name in its usual spelling.
	Name() string
	// Verbs are the configuration commands that the plugin adds, in lower case.
	Verbs() []string
	// Tunables are the service parameters that it adds; their values arrive in Settings.Extra.
	Tunables() []Tunable
	// Command takes one of the verbs' commands into the plugin's configuration in a service. Errors are shown to the operator.
	Command(conf *PluginConf, verb, text string) error
	// Set takes SET service.plugin.key = value into it.
	Set(conf *PluginConf, key, value string) error
	// New makes the plugin's part in a service: a value with some of the hooks' interfaces. It is called whenever the service's
	// configuration changes; prev is the instance before, nil for the first, whose state it may take over. An error leaves
	// everything as it was. It neither starts nor connects to anything: configurations are also tried, with a service that nobody
	// starts, and what New has made is closed and dropped.
	New(svc Service, set *Settings, conf *PluginConf, prev any) (any, error)
}

// PluginConf is what a service's configuration says to one plugin. It is data alone: copied, printed, and read back.
type PluginConf struct {
	Lines  []string          // commands in the order given, verb included, as dumpconfig prints them
	Params map[string]string // of SET service.plugin.key, by lower-case key
}

// Base is a Plugin's methods for what it does not have.
type Base struct{}

// Verbs are none.
func (Base) Verbs() []string { return nil }

// Tunables are none.
func (Base) Tunables() []Tunable { return nil }

// Command is never called where there are no verbs.
func (Base) Command(*PluginConf, string, string) error { return ErrNoCommand }

// Set refuses.
func (Base) Set(_ *PluginConf, key, _ string) error { return unknownKey(key) }

// Kind is how a tunable's value is written.
type Kind uint8

// The kinds.
const (
	Text     Kind = iota
	Bool          // 1/true/on/yes, 0/false/off/no
	Int           // digits
	Size          // bytes, with b, k or m behind
	Seconds       // a number, decimals allowed
	Duration      // seconds, or Go's form with a unit
	File          // must exist
	Dir           // must exist
)

// Tunable is a parameter that a plugin adds to services.
type Tunable struct {
	Name    string
	Roles   []string // none: any
	Kind    Kind
	Default string
	Doc     string
}

// The hooks. An instance has those of them that it needs; they run in the order of the service's plugins. A true result of a
// hook that can answer means that it has, and ends the chain.
type (
	// Starter sees each request of a service first.
	Starter interface {
		Start(r *Request) (handled bool)
	}
	// Selector finds the service for a request to a selector: name is empty when it has none to say.
	Selector interface {
		Select(r *Request) (name string, handled bool)
	}
	// Prioritizer puts a request into a queue: ok is false when it has no opinion.
	Prioritizer interface {
		Prioritize(r *Request) (p Priority, ok bool)
	}
	// Placer says which node of the pool a request is best given to: one of those that may be used, by address, or "" when it has no
	// opinion. It is asked again for each attempt; a node that has failed the request is not among them any more.
	Placer interface {
		Place(r *Request, nodes []string) (addr string)
	}
	// Forwarder changes what goes to the backend, after the balancer's own fields were set and before HEADER's rules.
	Forwarder interface {
		Forward(r *Request, out *http1.OutRequest)
	}
	// Answerer sees the head of each answer before it is sent, those of web_server and the balancer's own included.
	Answerer interface {
		Answer(r *Request, a *Answer) (handled bool)
	}
	// Rewriter maps the path of a request to a web_server, decoded, to that which is served.
	Rewriter interface {
		Rewrite(r *Request, path string) string
	}
	// FileFinder sees what a web_server has found: all the files of the request, or for those that are missing a nil info.
	FileFinder interface {
		Found(r *Request, paths []string, infos []os.FileInfo) (handled bool)
	}
	// FileSender can change a file on its way: it returns the bytes that take the place of the file's first bytes, or nil. An
	// error is answered with 404.
	FileSender interface {
		Alter(r *Request, path string, f *os.File) (prefix []byte, err error)
	}
	// Ender is told of the end of each request that its service has seen, whichever service has answered.
	Ender interface{ End(r *Request) }
	// Informer adds to the console: lines for a verb of its own, ok false when the verb is not its.
	Informer interface {
		Info(verb, args string) (lines []string, ok bool)
	}
	// Role serves raw connections of services whose role is the plugin's name; it closes them.
	Role interface{ ServeConn(nc net.Conn) }
	// Closer is told when the instance is no longer used, and nothing has taken its state over.
	Closer interface{ Close() }
)

// Chain is a service's instances, sorted by hook. It is never changed.
type Chain struct {
	Names     []string
	Instances []any

	start    []Starter
	sel      []Selector
	priority []Prioritizer
	place    []Placer
	forward  []Forwarder
	answer   []Answerer
	rewrite  []Rewriter
	found    []FileFinder
	alter    []FileSender
	end      []Ender
}

// NewChain sorts instances; names are their plugins'.
func NewChain(names []string, instances []any) *Chain {
	c := &Chain{Names: names, Instances: instances}
	for _, i := range instances {
		c.start = appendIf(c.start, i)
		c.sel = appendIf(c.sel, i)
		c.priority = appendIf(c.priority, i)
		c.place = appendIf(c.place, i)
		c.forward = appendIf(c.forward, i)
		c.answer = appendIf(c.answer, i)
		c.rewrite = appendIf(c.rewrite, i)
		c.found = appendIf(c.found, i)
		c.alter = appendIf(c.alter, i)
		c.end = appendIf(c.end, i)
	}
	return c
}

// CloseInstance closes an instance, if it is a Closer.
func CloseInstance(v any) {
	if c, ok := v.(Closer); ok {
		c.Close()
	}
}

// Close closes the instances.
func (c *Chain) Close() {
	for _, i := range c.Instances {
		CloseInstance(i)
	}
}

func appendIf[T any](list []T, v any) []T {
	if t, ok := v.(T); ok {
		return append(list, t)
	}
	return list
}

// Start runs the Starters.
func (c *Chain) Start(r *Request) bool {
	for _, h := range c.start {
		if h.Start(r) {
			return true
		}
	}
	return false
}

// Select runs the Selectors.
func (c *Chain) Select(r *Request) (name string, handled bool) {
	for _, h := range c.sel {
		if name, handled = h.Select(r); name != "" || handled {
			return name, handled
		}
	}
	return "", false
}

// Selects reports whether there is a Selector.
func (c *Chain) Selects() bool { return len(c.sel) > 0 }

// Prioritize runs the Prioritizers until one has an opinion.
func (c *Chain) Prioritize(r *Request) (Priority, bool) {
	for _, h := range c.priority {
		if p, ok := h.Prioritize(r); ok {
			return p, true
		}
	}
	return Normal, false
}

// Places reports whether there is a Placer.
func (c *Chain) Places() bool { return len(c.place) > 0 }

// Place runs the Placers until one has an opinion.
func (c *Chain) Place(r *Request, nodes []string) string {
	for _, h := range c.place {
		if addr := h.Place(r, nodes); addr != "" {
			return addr
		}
	}
	return ""
}

// Forward runs the Forwarders.
func (c *Chain) Forward(r *Request, out *http1.OutRequest) {
	for _, h := range c.forward {
		h.Forward(r, out)
	}
}

// Rewrite runs the Rewriters.
func (c *Chain) Rewrite(r *Request, path string) string {
	for _, h := range c.rewrite {
		path = h.Rewrite(r, path)
	}
	return path
}

// Finds reports whether there is a FileFinder.
func (c *Chain) Finds() bool { return len(c.found) > 0 }

// Found runs the FileFinders.
func (c *Chain) Found(r *Request, paths []string, infos []os.FileInfo) bool {
	for _, h := range c.found {
		if h.Found(r, paths, infos) {
			return true
		}
	}
	return false
}

// Alter runs the FileSenders until one changes the file.
func (c *Chain) Alter(r *Request, path string, f *os.File) ([]byte, error) {
	for _, h := range c.alter {
		if p, err := h.Alter(r, path, f); p != nil || err != nil {
			return p, err
		}
	}
	return nil, nil
}

// End runs the Enders.
func (c *Chain) End(r *Request) {
	for _, h := range c.end {
		h.End(r)
	}
}
