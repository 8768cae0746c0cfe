package main

import (
	"context"
	"errors"
	"net"

	"wheelhouse/internal/http1"
	"wheelhouse/internal/service"
	"wheelhouse/store"
)

// role is one of the parts as a process of its own.
type role struct {
	name      string
	endpoint  service.Endpoint
	shortcuts map[string]string
	open      func(a *app, ctx context.Context) (http1.Handler, error)
}

// runRole runs one part as a process of its own. Parts that share a catalog file share its data directory's lock; a
// process that runs everything (up) has it to itself.
func runRole(ctx context.Context, env *environment, args []string, r role) error {
	cfg, rest, err := loadConfig(r.name, args, env.stderr, r.shortcuts)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usagef("unexpected argument: %s", rest[0])
	}
	switch r.name {
	case "dispatcher":
		r.endpoint.Addr = cfg.Dispatcher.Listen
	case "storaged":
		r.endpoint.Addr = cfg.Storaged.Listen
		if len(cfg.Storage) == 0 {
			return errors.New("configuration: storage: no storage is given; see: wheelhouse config describe")
		}
	case "worker":
		r.endpoint.Addr = cfg.Worker.Listen
	}
	log := cfg.logger(env.stderr).With("role", r.name)
	open := func(ctx context.Context, _ map[string]net.Addr) (*service.Opened, error) {
		a := newApp(cfg, env, log)
		h, err := r.open(a, ctx)
		if err != nil {
			return nil, errors.Join(err, a.close())
		}
		return a.opened(map[string]http1.Handler{r.endpoint.Name: h}), nil
	}
	return service.Run(ctx, serveOptions(cfg, env, log, []service.Endpoint{r.endpoint}, open))
}

// runDispatcher serves the HTTP API; the storages are processes of their own.
func runDispatcher(ctx context.Context, env *environment, args []string) error {
	return runRole(ctx, env, args, role{
		name: "dispatcher", endpoint: service.Endpoint{Name: endpointHTTP},
		shortcuts: map[string]string{"data": "data", "listen": "dispatcher.listen", "auth": "dispatcher.auth"},
		open: func(a *app, ctx context.Context) (http1.Handler, error) {
			cat, err := a.openShared(ctx, "dispatcher")
			if err != nil {
				return nil, err
			}
			if err := a.ensureRoot(ctx, cat); err != nil {
				return nil, err
			}
			h, err := a.dispatcherHandler(cat, "dispatcher")
			if err != nil {
				return nil, err
			}
			return h, a.register(cat, "dispatcher")
		},
	})
}

// runWorker does background work; its only endpoint is for /healthz and /metrics.
func runWorker(ctx context.Context, env *environment, args []string) error {
	return runRole(ctx, env, args, role{
		name: "worker", endpoint: service.Endpoint{Name: endpointHealth},
		shortcuts: map[string]string{"data": "data", "listen": "worker.listen"},
		open: func(a *app, ctx context.Context) (http1.Handler, error) {
			cat, err := a.openShared(ctx, "worker")
			if err != nil {
				return nil, err
			}
			if err := a.startWorker(cat); err != nil {
				return nil, err
			}
			if err := a.register(cat, "worker"); err != nil {
				return nil, err
			}
			return a.withHealth(http1.HandlerFunc(func(x http1.Exchange) {
				reply(x, 404, "a worker serves /healthz and /metrics\n")
			})), nil
		},
	})
}

// openShared opens a catalog that other processes may have open too.
func (a *app) openShared(ctx context.Context, role string) (store.Catalog, error) {
	if err := a.lock(role, true); err != nil {
		return nil, err
	}
	if err := a.ensureSecret(); err != nil {
		return nil, err
	}
	if err := a.openCatalog(ctx); err != nil {
		return nil, err
	}
	cat, err := a.openMetacache(role)
	if err != nil {
		return nil, err
	}
	a.openFleet()
	return cat, nil
}

// runStoraged serves storages to dispatchers and workers elsewhere.
func runStoraged(ctx context.Context, env *environment, args []string) error {
	return runRole(ctx, env, args, role{
		name: "storaged", endpoint: service.Endpoint{Name: endpointStoraged},
		shortcuts: map[string]string{"data": "data", "listen": "storaged.listen"},
		open: func(a *app, _ context.Context) (http1.Handler, error) {
			if a.cfg.Storaged.Auth != "none" {
				var err error
				if a.secret, err = a.cfg.readSecret(); err != nil {
					return nil, err
				}
			}
			notes := a.storageNotes()
			if err := a.openDisks(a.cfg.Storage, notes.known); err != nil {
				return nil, err
			}
			a.takeNotes(notes)
			return a.nodeHandler()
		},
	})
}
