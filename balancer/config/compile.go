package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"wheelhouse/balancer"
)

// Language is the parameters and plugins that there are. It is never changed and safe for concurrent use.
type Language struct {
	plugins Plugins
	table   map[string]*Tunable
	list    []Tunable
	pools   []PoolTunable
}

// NewLanguage makes a language.
func NewLanguage(p Plugins) *Language {
	l := &Language{plugins: p, table: map[string]*Tunable{}, list: tunables(), pools: poolTunables()}
	for i := range l.list {
		l.table[l.list[i].Name] = &l.list[i]
	}
	return l
}

// Tunables are the built-in parameters of services, in the order of their documentation.
func (l *Language) Tunables() []Tunable { return slices.Clone(l.list) }

// PoolTunables are those of pools.
func (l *Language) PoolTunables() []PoolTunable { return slices.Clone(l.pools) }

// Plugin is a plugin by name, in any case.
func (l *Language) Plugin(name string) balancer.Plugin { return l.plugins[strings.ToLower(name)] }

// PluginNames are the names of all plugins that are compiled in, sorted.
func (l *Language) PluginNames() []string {
	var names []string
	for _, p := range l.plugins {
		names = append(names, p.Name())
	}
	slices.Sort(names)
	return names
}

// tunable finds a parameter of the built-in ones and those of loaded plugins.
func (l *Language) tunable(s *State, name string) *Tunable {
	if t := l.table[name]; t != nil {
		return t
	}
	for _, plugin := range s.Loaded {
		for _, p := range l.Plugin(plugin).Tunables() {
			if p.Name == name {
				return fromPlugin(p)
			}
		}
	}
	return nil
}

// fromPlugin makes a Tunable of a plugin's.
func fromPlugin(p balancer.Tunable) *Tunable {
	return &Tunable{
		Name: p.Name, Roles: p.Roles, Default: p.Default, Doc: p.Doc, bool: p.Kind == balancer.Bool,
		apply: func(s *settings, v string) error {
			s.Extra[p.Name] = v
			return checkKind(p.Kind, v)
		},
	}
}

func checkKind(k balancer.Kind, v string) (err error) {
	switch k {
	case balancer.Bool:
		_, err = ParseBool(v)
	case balancer.Int:
		_, err = ParseInt(v)
	case balancer.Size:
		_, err = ParseSize(v)
	case balancer.Seconds, balancer.Duration:
		_, err = ParseTime(v)
	case balancer.File:
		err = checkFile(v)
	case balancer.Dir:
		err = checkDir(v)
	}
	return err
}

// Settings compiles what the configuration says of a service into the form in which it is used. Files and directories were there when they
// were set; one that has gone since is no reason to refuse what has nothing to do with it.
func (l *Language) Settings(st *State, svc *Service) (*balancer.Settings, error) {
	return l.settings(st, svc, false)
}

// settings is Settings; files says that files and directories must be there.
func (l *Language) settings(st *State, svc *Service, files bool) (*balancer.Settings, error) {
	s := &balancer.Settings{Role: svc.Role(), MIME: st.MIME, Extra: map[string]string{}}
	apply := func(t *Tunable) error {
		v, set := svc.Params[t.Name]
		if !set && t.Default == "" || !t.forRole(s.Role) {
			return nil
		}
		if !set {
			v = t.Default
		}
		if err := t.apply(s, v); err != nil && (files || !isMissing(err)) {
			return fmt.Errorf("service %s: %w", svc.Name, named(err, t.Name, svc.Name))
		}
		return nil
	}
	for i := range l.list {
		if err := apply(&l.list[i]); err != nil {
			return nil, err
		}
	}
	for _, plugin := range st.Loaded {
		for _, t := range l.Plugin(plugin).Tunables() {
			if err := apply(fromPlugin(t)); err != nil {
				return nil, err
			}
		}
	}
	for name, v := range svc.Params {
		if extra, ok := strings.CutPrefix(name, "extra."); ok {
			s.Extra[extra] = v
		}
	}
	for _, h := range svc.Headers {
		if h.Remove {
			s.HeaderRemove = append(s.HeaderRemove, h.Name)
		} else {
			s.HeaderInsert = append(s.HeaderInsert, balancer.HeaderRule{Name: h.Name, Value: h.Value})
		}
	}
	return s, nil
}

// CheckTLS finds what TLS lacks to be used on a listener. It is no part of Check: what it wants takes several commands to say.
func CheckTLS(t *balancer.TLS) error {
	switch {
	case !t.Enabled:
		return nil
	case len(t.CertFiles) != len(t.KeyFiles):
		return fault("ssl_cert_file names %d files and ssl_key_file %d", len(t.CertFiles), len(t.KeyFiles))
	case len(t.CertFiles) == 0 && len(t.ACMEDomains) == 0:
		return Fault("enable_ssl needs ssl_cert_file and ssl_key_file, or acme_domains")
	}
	for _, name := range t.ACMEDomains {
		if strings.Contains(name, "*") { // RFC 8737 has it for single names
			return fault("acme_domains: %s: there is no certificate for a wildcard without DNS, which the balancer cannot change", name)
		}
	}
	return nil
}

// Check finds what makes a service's settings unusable as a whole, though each was accepted alone.
func (l *Language) Check(st *State, svc *Service, s *balancer.Settings) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("service %s: "+format, append([]any{svc.Name}, args...)...))
	}
	if s.BufferUploads && s.BufferUploadsPath == "" {
		bad("buffer_uploads needs buffer_uploads_path")
	}
	if s.Pool != "" && st.Pools[s.Pool] == nil {
		bad("Pool '%s' not found", s.Pool)
	}
	if s.DefaultService != "" && st.Services[s.DefaultService] == nil {
		bad("default_service: service '%s' does not exist", s.DefaultService)
	}
	return errors.Join(errs...)
}

// checkFiles finds what a service names and cannot be used, beside what SET looks at.
func checkFiles(name string, s *balancer.Settings) error {
	if dir := filepath.Dir(s.AccessLog); filepath.IsAbs(s.AccessLog) && checkDir(dir) != nil {
		return fmt.Errorf("service %s: access_log: there is no directory %s", name, dir)
	}
	return nil
}

// PoolSettings compiles what the configuration says of a pool. For its nodefile the same holds as for files in Settings.
func (l *Language) PoolSettings(p *Pool) (*balancer.PoolSettings, error) {
	s := &balancer.PoolSettings{Name: p.Name, Nodes: slices.Clone(p.Nodes), NodeFileTime: p.fileTime}
	for _, t := range l.pools {
		v, set := p.Params[t.Name]
		if !set && t.Default == "" {
			continue
		}
		if !set {
			v = t.Default
		}
		if err := t.apply(s, v); err != nil && !isMissing(err) {
			return nil, fmt.Errorf("pool %s: %w", p.Name, named(err, t.Name, p.Name))
		}
	}
	return s, nil
}

// named puts a parameter's name into an error about its value, and the service's where the text wants it.
func named(err error, param, service string) error {
	var k kindFault
	switch {
	case errors.As(err, &k):
		return fault(string(k), param)
	case errors.Is(err, errDir):
		return fault("%s %s", errDir, service)
	}
	return err
}
