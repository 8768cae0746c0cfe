package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/config"
	"wheelhouse/balancer/plugin"
	"wheelhouse/internal/bridge/throttlememcache"
	"wheelhouse/internal/http1"
)

// frontService is the service that stands before the store inside up, and storeHandler the node that the store is to it.
const (
	frontService = "store"
	storeHandler = "dispatcher"
)

// frontConf is that service's configuration. The dispatcher decides who may see what and is asked about each answer, also about
// those that are in the cache.
const frontConf = `CREATE POOL store_pool
  POOL ADD store_pool local:dispatcher
CREATE SERVICE store
  SET role = reverse_proxy
  SET pool = store_pool
  SET persist_client = on
  SET enable_reproxy = on
  SET max_request_size = 0
  SET max_chunked_request_size = 0
  SET cache_ask_always = on
ENABLE store
`

// openFront puts the balancer before the store's handler: what the handler names in X-Reproxy-URL is fetched from the storages, and
// what operators want besides, further services or a console, stands in a file of the balancer's own language.
func (a *app) openFront(ctx context.Context, store http1.Handler) (http1.Handler, error) {
	if d := &a.cfg.Dispatcher; d.AccelRedirect != "" || d.Reproxy != defaultConfig().Dispatcher.Reproxy {
		a.log.Warn("dispatcher.reproxy and dispatcher.accel_redirect have no effect inside up: its own balancer gets the bytes from the storages")
	}
	c := &a.cfg.Balancer
	lang := config.NewLanguage(config.NewPlugins(balancerPlugins()...))
	read := func() (*config.State, error) {
		return frontState(lang, c.Config, int64(c.Cache), func(text string) { a.log.Warn(text) })
	}
	state, err := read()
	if err != nil {
		return nil, fmt.Errorf("balancer: %w", err)
	}
	parts := newBalancerParts(a.log)
	o := parts.options(lang, a.log, map[string]http1.Handler{storeHandler: store})
	o.Stop = func(bool, time.Duration) { a.log.Warn("the balancer inside up ends with it; SHUTDOWN was ignored") }
	o.Reread, o.Tickets = read, a.tickets
	o.Prepare = func(next *config.State) (func(), error) { return nil, a.cfg.admitFront(next) }
	b := balancerd.New(context.WithoutCancel(ctx), o)
	a.metrics.registry.MustRegister(parts.collector(b))
	a.onClose(func() error {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(a.cfg.Drain))
		defer cancel()
		err := b.Shutdown(end)
		parts.files.Close()
		return err
	})
	if err := b.LoadState(state); err != nil {
		return nil, fmt.Errorf("balancer: %w", err)
	}
	a.reopen = parts.logs.Reopen
	if c.Config != "" {
		a.reload = func() {
			if err := b.Reload(); err != nil {
				a.log.Error("reload of balancer.config failed; nothing has changed", "err", err)
				return
			}
			a.log.Info("reloaded", "file", c.Config)
		}
	}
	a.background = append(a.background, func(ctx context.Context) error {
		b.Tick(ctx)
		return nil
	}, func(ctx context.Context) error {
		parts.logs.Run(ctx)
		return nil
	})
	return b.Service(frontService), nil
}

// checkFront finds what is wrong with balancer.config, as far as that can be seen without opening anything.
func checkFront(c *Config, warn func(string)) error {
	lang := config.NewLanguage(config.NewPlugins(balancerPlugins()...))
	state, err := frontState(lang, c.Balancer.Config, int64(c.Balancer.Cache), warn)
	if err != nil {
		return fmt.Errorf("balancer: %w", err)
	}
	o := balancerd.Options{Language: lang, Local: map[string]http1.Handler{storeHandler: http1.HandlerFunc(nil)}}
	if err := errors.Join(o.Check(state), c.admitFront(state)); err != nil {
		return fmt.Errorf("balancer: %w", err)
	}
	return nil
}

// admitFront reports what the balancer inside up must not be told. Where dispatcher.auth asks nobody for a key, whoever reaches the store may
// delete everything: services are held to what that demands of dispatcher.listen.
func (c *Config) admitFront(s *config.State) error {
	if s.Server.MetricsListen != "" {
		return errors.New("SERVER metrics_listen: inside up the balancer's metrics are among those of the process")
	}
	if c.Dispatcher.Auth != "none" {
		return nil
	}
	for _, svc := range s.Ordered() {
		listen, role := svc.Params["listen"], svc.Role()
		if !svc.Enabled || listen == "" || role != config.ReverseProxy && role != config.SelectorRole {
			continue
		}
		addr, err := config.ParseListen(listen)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(addr, "unix:") && !isLoopback(addr) {
			return svc.Where(fmt.Errorf("service %s listens on %s: dispatcher.auth is none, which is for loopback addresses", svc.Name, addr))
		}
	}
	return nil
}

// frontState is the configuration of the balancer inside up: the store's service, and what a file adds.
func frontState(lang *config.Language, file string, cache int64, warn func(string)) (*config.State, error) {
	text := frontConf
	if cache > 0 {
		text += fmt.Sprintf("SET store.cache = on\nSET store.cache_memory = %d\n", cache)
	}
	if file != "" {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("balancer.config: %w", err)
		}
		text += "INCLUDE = " + file + "\n"
	}
	return lang.Read(strings.NewReader(text), "wheelhouse up", config.Expander{Env: os.LookupEnv}, warn)
}

// balancerPlugins are the plugins that are compiled in.
func balancerPlugins() []balancer.Plugin {
	// Its connections end with the process.
	return plugin.New(plugin.Options{ThrottleStore: new(throttlememcache.Clients).Open})
}
