package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"wheelhouse/balancer/transport"
	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/internal/http1"
	"wheelhouse/internal/service"
	"wheelhouse/store"
	"wheelhouse/store/control"
	"wheelhouse/store/idguard"
	"wheelhouse/store/storaged"
)

// The names of the endpoints, in the line "ready …" and between the processes of a handover.
const (
	endpointHTTP     = "http"
	endpointStoraged = "storaged"
	endpointHealth   = "health"
)

// upStorages is how many storages up makes by itself.
const upStorages = 3

// runUp runs everything in one process: catalog, storages, dispatcher, worker.
func runUp(ctx context.Context, env *environment, args []string) error {
	cfg, rest, err := loadConfig("up", args, env.stderr, map[string]string{
		"data": "data", "listen": "dispatcher.listen", "auth": "dispatcher.auth", "storage-listen": "storaged.listen",
	})
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usagef("unexpected argument: %s", rest[0])
	}
	log := cfg.logger(env.stderr)
	tickets := transport.NewTickets()
	open := func(ctx context.Context, addrs map[string]net.Addr) (*service.Opened, error) {
		a := newApp(cfg, env, log)
		a.tickets = tickets
		opened, err := a.openUp(ctx, addrs)
		if err != nil {
			return nil, errors.Join(err, a.close())
		}
		return opened, nil
	}
	endpoints := []service.Endpoint{
		{Name: endpointHTTP, Addr: cfg.Dispatcher.Listen}, {Name: endpointStoraged, Addr: cfg.Storaged.Listen},
	}
	o := serveOptions(cfg, env, log, endpoints, open)
	o.Leave = func() []byte { return tickets.Append(nil) }
	o.Take = func(secret []byte) { tickets = inheritedTickets(secret, log) }
	return service.Run(ctx, o)
}

func (a *app) openUp(ctx context.Context, addrs map[string]net.Addr) (*service.Opened, error) {
	if err := a.lock("up", false); err != nil {
		return nil, err
	}
	if err := a.ensureSecret(); err != nil {
		return nil, err
	}
	cat, list, err := a.openStores(ctx)
	if err != nil {
		return nil, err
	}
	if err := registerStorages(ctx, cat, list, addrs[endpointStoraged]); err != nil {
		return nil, err
	}
	if err := a.ensureRoot(ctx, cat); err != nil {
		return nil, err
	}
	a.openFleet()
	if err := a.guard.Meet(ctx); err != nil && !errors.Is(err, store.ErrNoWritable) {
		return nil, err
	}
	front, err := a.dispatcherHandler(cat, "up")
	if err != nil {
		return nil, err
	}
	if front, err = a.openFront(ctx, front); err != nil {
		return nil, err
	}
	node, err := a.nodeHandler()
	if err != nil {
		return nil, err
	}
	if err := a.startWorker(cat); err != nil {
		return nil, err
	}
	if err := a.register(cat, "up"); err != nil {
		return nil, err
	}
	if err := a.openMemcached(ctx); err != nil {
		return nil, err
	}
	return a.opened(map[string]http1.Handler{endpointHTTP: front, endpointStoraged: node}), nil
}

// openStores opens the catalog and the disks. A catalog that knows of nothing beside disks that hold something has been lost: it would
// take all of that for the remains of unfinished uploads.
func (a *app) openStores(ctx context.Context) (store.Catalog, []StorageConfig, error) {
	list := a.cfg.Storage
	if len(list) == 0 {
		for i := range upStorages {
			list = append(list, StorageConfig{ID: uint32(i + 1), Dir: filepath.Join(a.cfg.Data, "storage", strconv.Itoa(i+1))})
		}
	}
	notes := a.storageNotes()
	_, err := os.Stat(a.cfg.catalogFile())
	lost := errors.Is(err, fs.ErrNotExist)
	if lost { // the disks first: where it is refused, there must be no empty catalog in the way of another
		if err := errors.Join(a.openDisks(list, notes.known), a.needNoEntities(ctx)); err != nil {
			return nil, nil, err
		}
	}
	if err := a.openCatalog(ctx); err != nil {
		return nil, nil, err
	}
	cat, err := a.openLookups(ctx)
	if err != nil {
		return nil, nil, err
	}
	if !lost {
		known, err := knownStorages(ctx, cat)
		if err != nil {
			return nil, nil, err
		}
		if err := a.openDisks(list, func(id store.StorageID) bool { return known(id) || notes.known(id) }); err != nil {
			return nil, nil, err
		}
		next, err := cat.NextID(ctx)
		if err == nil && next <= 1 {
			err = a.needNoEntities(ctx)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	a.takeNotes(notes)
	return cat, list, nil
}

// needNoEntities refuses disks that hold something. One that is not there is passed over: ids are passed over for it.
func (a *app) needNoEntities(ctx context.Context) error {
	for _, d := range a.disks {
		held, err := idguard.Holds(ctx, d.Device)
		if err != nil && ctx.Err() != nil {
			return err
		}
		if held {
			return fmt.Errorf("the catalog %s is not there, or empty, but storage %d holds objects: \"wheelhouse catalog rebuild\" makes it from the storages, "+
				"\"wheelhouse catalog restore\" from a backup (docs/ops/recovery.md); a new installation needs empty directories", a.cfg.catalogFile(), d.ID)
		}
	}
	return nil
}

// knownStorages says which storages have been in use: the catalog knows how large they are.
func knownStorages(ctx context.Context, cat store.Catalog) (func(store.StorageID) bool, error) {
	top, err := cat.Topology(ctx)
	if err != nil {
		return nil, err
	}
	return func(id store.StorageID) bool {
		for i := range top.Storages {
			if s := &top.Storages[i]; s.ID == id {
				return s.Capacity > 0
			}
		}
		return false
	}, nil
}

// registerStorages makes the catalog know this process's storages, in one cluster, and where they are reached now.
func registerStorages(ctx context.Context, cat store.Catalog, list []StorageConfig, addr net.Addr) error {
	top, err := cat.Topology(ctx)
	if err != nil {
		return err
	}
	cluster := store.ClusterID(0)
	if len(top.Clusters) > 0 {
		cluster = top.Clusters[0].ID
	} else if cluster, err = cat.PutCluster(ctx, store.Cluster{Name: "main"}); err != nil {
		return err
	}
	known := map[store.StorageID]store.Storage{}
	for _, s := range top.Storages {
		known[s.ID] = s
	}
	for _, c := range list {
		s, ok := known[store.StorageID(c.ID)]
		if !ok {
			s = store.Storage{ID: store.StorageID(c.ID), Cluster: cluster}
		}
		if uri := "http://" + addr.String() + "/" + storaged.DeviceName(s.ID); s.URI != uri {
			s.URI = uri
			if _, err := cat.PutStorage(ctx, s); err != nil {
				return fmt.Errorf("register storage %d: %w", c.ID, err)
			}
		}
	}
	return nil
}

// rootAccount is the name of the account that is made on the first start.
const rootAccount = "root"

// ensureRoot makes the root account and its key on the first start, keeps the key in DATA/root.key, and prints it once.
func (a *app) ensureRoot(ctx context.Context, cat store.Catalog) error {
	accounts, err := cat.Accounts(ctx)
	if err != nil {
		return err
	}
	path := filepath.Join(a.cfg.Data, "root.key")
	if len(accounts) > 0 {
		return nil
	}
	// The file first: a key that the catalog has and nobody knows would lock everybody out.
	key, err := readRootKey(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if fresh {
		key = control.NewKey(0)
		err = atomicfile.Write(faultfs.OS{}, path, 0o600, []byte(key.ID+":"+key.Secret+"\n"))
	}
	if err != nil {
		return fmt.Errorf("root key: %w", err)
	}
	root, err := cat.CreateAccount(ctx, store.Account{Name: rootAccount, Role: store.RoleAdmin})
	if err != nil {
		return err
	}
	key.Account = root.ID
	if err := cat.PutKey(ctx, key); err != nil {
		return err
	}
	fmt.Fprintf(a.env.stdout, "root key: %s:%s (kept in %s)\n", key.ID, key.Secret, path)
	return nil
}

func readRootKey(path string) (store.AccessKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return store.AccessKey{}, err
	}
	return store.ParseKey(string(text))
}
