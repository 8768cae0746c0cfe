package balancerd

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/config"
)

// Check finds why a configuration that was made anew could not be put in force, beside what its reading has found: all that can be seen
// without listening, and without changing a file. Of Options it needs Language and Local. What is wrong with a service or a pool of a file has
// the line that creates it.
func (o Options) Check(s *config.State) error {
	var errs []error
	for _, name := range s.PoolNames() {
		p := s.Pools[name]
		errs = append(errs, p.Where(o.checkLocal(name, p.Nodes)))
	}
	for _, svc := range s.Ordered() {
		if err := o.checkService(s, svc); err != nil {
			errs = append(errs, svc.Where(fmt.Errorf("service %s: %w", svc.Name, err)))
		}
	}
	return errors.Join(errs...)
}

// checkLocal finds nodes that stand for a handler which this process does not have.
func (o Options) checkLocal(pool string, nodes []balancer.Node) error {
	for _, n := range nodes {
		if local, ok := strings.CutPrefix(n.Addr, "local:"); ok && o.Local[local] == nil {
			return fmt.Errorf("pool %s: there is no local handler '%s'", pool, local)
		}
	}
	return nil
}

func (o Options) checkService(s *config.State, svc *config.Service) error {
	set, err := o.Language.Settings(s, svc)
	if err != nil {
		return err
	}
	chain, err := newChain(o.Language, unstarted(svc.Name), svc, set, nil)
	if err != nil {
		return err
	}
	chain.Close()
	if set.Cache.Enabled && set.Cache.Disk != "" && !writable(set.Cache.Disk) {
		return fmt.Errorf("cache_disk: %s cannot be written to", set.Cache.Disk)
	}
	if !svc.Enabled || set.Listen == "" {
		return nil
	}
	if _, err := loadKeys(set.TLS); err != nil {
		return err
	}
	return checkACME(set.TLS)
}

// checkACME finds why certificates could not be fetched and kept.
func checkACME(t balancer.TLS) error {
	if !t.Enabled || len(t.ACMEDomains) == 0 {
		return nil
	}
	if !makeable(t.ACMEStorage) {
		return fmt.Errorf("acme_storage: %s cannot be made", t.ACMEStorage)
	}
	if t.ACMETrust == "" {
		return nil
	}
	pem, err := os.ReadFile(t.ACMETrust)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		err = errors.New("there are no certificates in " + t.ACMETrust)
	}
	if err != nil {
		return fmt.Errorf("acme_trust: %w", err)
	}
	return nil
}

// makeable reports whether a directory is there or could be made.
func makeable(dir string) bool {
	fi, err := os.Stat(dir)
	if err == nil {
		return fi.IsDir()
	}
	for errors.Is(err, os.ErrNotExist) {
		dir = filepath.Dir(dir)
		fi, err = os.Stat(dir)
	}
	return err == nil && fi.IsDir() && writable(dir)
}

// writable reports whether the process may make files in a directory.
func writable(dir string) bool {
	const mayWrite, maySearch = 2, 1 // of access(2)
	return syscall.Access(dir, mayWrite|maySearch) == nil
}

// unstarted is a service that nobody has started, for plugins that are only tried.
type unstarted string

var _ balancer.Service = unstarted("")

// Name implements balancer.Service.
func (u unstarted) Name() string { return string(u) }

// Log implements balancer.Service.
func (u unstarted) Log() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Queues implements balancer.Service.
func (u unstarted) Queues(balancer.Priority) (int, time.Duration) { return 0, 0 }

// newChain makes the instances of a service's plugins. One whose configuration has changed takes over the state of the one in before, which may
// be nil.
func newChain(lang *config.Language, svc balancer.Service, conf *config.Service, set *balancer.Settings, before *balancer.Chain) (*balancer.Chain, error) {
	var names []string
	var instances []any
	plugins := slices.Clone(conf.Plugins)
	if !slices.Contains(config.BuiltinRoles, set.Role) { // the plugin that has brought the role
		for _, name := range lang.PluginNames() {
			if (strings.EqualFold(name, set.Role) || strings.EqualFold(name, set.Role+"service")) && !slices.Contains(plugins, name) {
				plugins = append(plugins, name)
			}
		}
	}
	for _, name := range plugins {
		var prev any
		if before != nil {
			if i := slices.Index(before.Names, name); i >= 0 {
				prev = before.Instances[i]
			}
		}
		inst, err := lang.Plugin(name).New(svc, set, conf.Conf(name), prev)
		if err != nil {
			return nil, fmt.Errorf("plugin %s: %w", name, err)
		}
		names, instances = append(names, name), append(instances, inst)
	}
	return balancer.NewChain(names, instances), nil
}
