package config

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"wheelhouse/balancer"
)

// State is all that the configuration says. It is data alone. The zero value is not ready for use; see [NewState].
type State struct {
	Services map[string]*Service
	Pools    map[string]*Pool
	Server   Server
	Defaults map[string]string // of DEFAULT
	MIME     map[string]string // extension without dot to type, where it differs from the table that is built in
	Loaded   []string          // plugins, by their own names
	order    []string          // services in the order of their creation
	byHand   bool              // a pool was created by CREATE POOL: none is made for services any more
}

// Service is what the configuration says of a service.
type Service struct {
	Name    string
	Enabled bool
	Params  map[string]string // as they were set
	Plugins []string          // as LOAD spells them
	Confs   map[string]*balancer.PluginConf
	Headers []HeaderCommand

	at place // where it was created, if in a file
}

// place is a line of a file.
type place struct {
	file string
	line int
}

// wrap says of an error, or of each of several, where the place is, if it is one.
func (p place) wrap(err error) error {
	if err == nil || p.file == "" {
		return err
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var each []error
		for _, e := range many.Unwrap() {
			each = append(each, p.wrap(e))
		}
		return errors.Join(each...)
	}
	return &FileError{p.file, p.line, err}
}

// Where is an error with the line at which a file creates the service before it; of a service that no file has created, err.
func (s *Service) Where(err error) error { return s.at.wrap(err) }

// Role is the service's role, "" before it is set.
func (s *Service) Role() string { return s.Params["role"] }

// HeaderCommand is one of HEADER's commands.
type HeaderCommand struct {
	Remove      bool
	Name, Value string
}

// Pool is what the configuration says of a pool. What a nodefile names is in Nodes, where POOL changes it until the file is read again.
type Pool struct {
	Name   string
	Params map[string]string
	Nodes  []balancer.Node

	fromFile []balancer.Node // Nodes as the nodefile has them
	fileTime time.Time       // when that was modified
	at       place           // where it was created, if in a file
}

// Where is an error with the line at which a file creates the pool before it; of a pool that no file has created, err.
func (p *Pool) Where(err error) error { return p.at.wrap(err) }

// FileRead takes the nodes of a nodefile, modified at a time, in place of those that there are, unless they are of that time already.
func (p *Pool) FileRead(nodes []balancer.Node, at time.Time) {
	if !p.fileTime.Equal(at) {
		p.Nodes, p.fromFile, p.fileTime = slices.Clone(nodes), slices.Clone(nodes), at
	}
}

// Server is what SERVER sets. Numbers: 0 is none.
type Server struct {
	MaxReproxy      int            // connections to one server for X-REPROXY-URL
	MaxReproxyTo    map[string]int // by ip:port
	MaxConnections  int            // descriptors of the process
	NiceLevel       int
	PIDFile         string
	Others          map[string]string // accepted for old files: aio_mode, aio_threads, track_obj, crash_backtrace
	MetricsListen   string
	ConsoleNetworks string // networks that may use management services, "" for loopback alone
	ShutdownTimeout string
	HandoverTimeout string
}

// NewState is an empty state.
func NewState() *State {
	return &State{
		Services: map[string]*Service{}, Pools: map[string]*Pool{}, Defaults: map[string]string{}, MIME: map[string]string{},
		Server: Server{MaxReproxyTo: map[string]int{}, Others: map[string]string{}},
	}
}

// Clone copies the state.
func (s *State) Clone() *State {
	c := *s
	c.Defaults, c.MIME = maps.Clone(s.Defaults), maps.Clone(s.MIME)
	c.Loaded, c.order = slices.Clone(s.Loaded), slices.Clone(s.order)
	c.Server.MaxReproxyTo, c.Server.Others = maps.Clone(s.Server.MaxReproxyTo), maps.Clone(s.Server.Others)
	c.Services = make(map[string]*Service, len(s.Services))
	for name, v := range s.Services {
		c.Services[name] = v.clone()
	}
	c.Pools = make(map[string]*Pool, len(s.Pools))
	for name, p := range s.Pools {
		c.Pools[name] = p.clone()
	}
	return &c
}

func (p *Pool) clone() *Pool {
	c := *p
	c.Params, c.Nodes, c.fromFile = maps.Clone(p.Params), slices.Clone(p.Nodes), slices.Clone(p.fromFile)
	return &c
}

func (s *Service) clone() *Service {
	c := *s
	c.Params, c.Plugins, c.Headers = maps.Clone(s.Params), slices.Clone(s.Plugins), slices.Clone(s.Headers)
	c.Confs = make(map[string]*balancer.PluginConf, len(s.Confs))
	for name, p := range s.Confs {
		c.Confs[name] = &balancer.PluginConf{Lines: slices.Clone(p.Lines), Params: maps.Clone(p.Params)}
	}
	return &c
}

// Conf is the configuration of a plugin in the service, made if there is none yet.
func (s *Service) Conf(plugin string) *balancer.PluginConf {
	key := strings.ToLower(plugin)
	if s.Confs[key] == nil {
		s.Confs[key] = &balancer.PluginConf{Params: map[string]string{}}
	}
	return s.Confs[key]
}

// Ordered are the services in the order of their creation.
func (s *State) Ordered() []*Service {
	list := make([]*Service, 0, len(s.order))
	for _, name := range s.order {
		list = append(list, s.Services[name])
	}
	return list
}

// PoolNames are the pools' names, sorted.
func (s *State) PoolNames() []string { return slices.Sorted(maps.Keys(s.Pools)) }

// Plugins are the plugins that LOAD can name, by lower-case name.
type Plugins map[string]balancer.Plugin

// NewPlugins makes the table.
func NewPlugins(list ...balancer.Plugin) Plugins {
	p := Plugins{}
	for _, v := range list {
		p[strings.ToLower(v.Name())] = v
	}
	return p
}
