package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"wheelhouse/internal/bridge/metacache"
	"wheelhouse/memcache"
	"wheelhouse/memcache/memcached"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// localCache is the word in metacache.servers for a cache server in the process itself, and localSocket where in the data directory it listens.
const (
	localCache  = "local"
	localSocket = "metacache.sock"
)

// metacacheOptions are what the section metacache says.
func (c *Config) metacacheOptions() (metacache.Options, error) {
	m := &c.Metacache
	o := metacache.Options{Timeout: time.Duration(m.Timeout)}
	// An entry that a writer could not delete must be gone before the bytes that it leads to are.
	o.TTL = min(metacache.DefaultTTL, max(time.Second, time.Duration(c.Catalog.Grace)/2))
	var errs []error
	for _, s := range m.Servers {
		addr := strings.TrimPrefix(s, "unix:")
		if s == localCache {
			path, err := filepath.Abs(filepath.Join(c.Data, localSocket))
			if err != nil {
				return o, err
			}
			addr = path
		} else if addr != s && !strings.HasPrefix(addr, "/") {
			errs = append(errs, fmt.Errorf("server %q: want the whole path of a socket, unix:/PATH", s))
			continue
		}
		server, err := memcache.ParseServer(addr)
		if err != nil {
			if s == localCache {
				err = fmt.Errorf("%w; the data directory's name is too long for %s", err, localCache)
			}
			errs = append(errs, err)
			continue
		}
		o.Servers = append(o.Servers, server)
	}
	if m.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout %s: want more than 0s", m.Timeout))
	}
	if m.Memory < 1<<20 {
		errs = append(errs, fmt.Errorf("memory %s: want at least 1 MiB", m.Memory))
	}
	return o, errors.Join(append(errs, o.Validate())...)
}

// openMetacache puts the configured cache servers before the catalog, in a process that shares the catalog with others. Without any it deletes where others
// read.
func (a *app) openMetacache(role string) (store.Catalog, error) {
	if role != "up" && slices.Contains(a.cfg.Metacache.Servers, localCache) {
		return nil, fmt.Errorf("configuration: metacache.servers: %s is for wheelhouse up alone; a %s wants a server that all processes reach", localCache, role)
	}
	o, err := a.cfg.metacacheOptions()
	if err != nil {
		return nil, err
	}
	o.Log = a.log
	c, err := metacache.New(a.cat, o)
	if err != nil {
		return nil, err
	}
	a.onClose(c.CloseServers)
	a.background = append(a.background, c.Run)
	a.metrics.metacache(c)
	return c, nil
}

// openLookups is the catalog as up uses it, which has it for itself: with a cache in this process, which is the fastest there is, unless others are configured.
func (a *app) openLookups(ctx context.Context) (store.Catalog, error) {
	if len(a.cfg.Metacache.Servers) == 0 {
		// What is done now no cache server will hear of.
		if err := metacache.Forget(ctx, a.cat); err != nil {
			return nil, err
		}
		return catalog.Cached(a.cat, int64(a.cfg.Catalog.Cache)), nil
	}
	if slices.Contains(a.cfg.Metacache.Servers, localCache) {
		if err := a.openLocalCache(); err != nil {
			return nil, err
		}
	}
	return a.openMetacache("up")
}

// openLocalCache serves look-ups on a socket in the data directory, until close, which removes it.
func (a *app) openLocalCache() error {
	path, err := filepath.Abs(filepath.Join(a.cfg.Data, localSocket))
	if err != nil {
		return err
	}
	ln, err := listenFor("unix", path)
	if err != nil {
		return fmt.Errorf("metacache.servers: %s: %w", localCache, err)
	}
	if err := os.Chmod(path, 0o600); err != nil { // who may write there decides what the store says
		return errors.Join(err, ln.Close())
	}
	return a.serveCache(ln, int64(a.cfg.Metacache.Memory), nil)
}

// serveCache runs a cache server inside up.
func (a *app) serveCache(ln net.Listener, limit int64, opened func(*memcached.Server)) error {
	s, err := memcached.Open(memcached.Options{Limit: limit, Threads: -1, Log: a.log})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ln); !errors.Is(err, memcached.ErrServerClosed) {
			a.log.Error("memcached ended", "err", err)
		}
	})
	a.onClose(func() error {
		err := s.Close()
		serving.Wait()
		return err
	})
	if opened != nil {
		opened(s)
	}
	a.log.Info("memcached serves", "addr", ln.Addr())
	return nil
}

// metacache registers what became of look-ups through cache servers.
func (m *metrics) metacache(c *metacache.Cache) {
	for result, read := range map[string]func(metacache.Stats) int64{
		"hit":     func(s metacache.Stats) int64 { return s.Hits },
		"miss":    func(s metacache.Stats) int64 { return s.Misses },
		"avoided": func(s metacache.Stats) int64 { return s.Avoided },
		"failure": func(s metacache.Stats) int64 { return s.Failures },
	} {
		m.counter("metacache_lookups_total", "Look-ups at cache servers, by result; all but hits went to the catalog.",
			func() int64 { return read(c.Stats()) }, prometheus.Labels{"result": result})
	}
	for result, read := range map[string]func(metacache.Stats) int64{
		"stored": func(s metacache.Stats) int64 { return s.Fills },
		"lost":   func(s metacache.Stats) int64 { return s.Lost },
	} {
		m.counter("metacache_fills_total", "What was looked up in the catalog and offered to a cache server.",
			func() int64 { return read(c.Stats()) }, prometheus.Labels{"result": result})
	}
	count := func(name, help string, read func(metacache.Stats) int64) {
		m.counter("metacache_"+name, help, func() int64 { return read(c.Stats()) }, nil)
	}
	count("deletes_total", "Changes that a cache server was told of.", func(s metacache.Stats) int64 { return s.Deletes })
	count("timeouts_total", "Changes that a cache server did not take; it is put out of use.", func(s metacache.Stats) int64 { return s.Timeouts })
	count("waits_total", "Changes that waited until nobody reads from a cache server any more.", func(s metacache.Stats) int64 { return s.Waits })
	count("changes_total", "Cache servers taken into use or out of it by this process, and lists replaced.", func(s metacache.Stats) int64 { return s.Swaps })
	m.gauge("metacache_servers", "Cache servers configured for look-ups.", func() int64 { n, _ := c.States(); return int64(n) }, nil)
	m.gauge("metacache_servers_used", "Of these, those that are read from.", func() int64 { _, n := c.States(); return int64(n) }, nil)
}
