package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"wheelhouse/balancer/transport"
	"wheelhouse/gearman"
	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/bridge/jobsgearman"
	"wheelhouse/internal/bridge/metacache"
	"wheelhouse/internal/bridge/storeimages"
	"wheelhouse/internal/bridge/storejobs"
	"wheelhouse/internal/faultfs"
	"wheelhouse/internal/http1"
	"wheelhouse/internal/imaging"
	"wheelhouse/internal/service"
	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/control"
	"wheelhouse/store/disk"
	"wheelhouse/store/dispatcher"
	"wheelhouse/store/health"
	"wheelhouse/store/idguard"
	"wheelhouse/store/storaged"
	"wheelhouse/store/worker"
)

// app is what one process owns while it serves. The roles assemble their parts with its methods; close lets go of
// everything in the reverse order.
type app struct {
	cfg     *Config
	env     *environment
	log     *slog.Logger
	secret  storaged.Secret
	metrics *metrics
	phase   atomic.Value // string: what /healthz says

	cat        *catalog.SQLite
	queue      *sqlqueue.Queue
	local      map[store.StorageID]store.Device
	disks      []storaged.Disk
	fleet      *storaged.Fleet
	guard      *idguard.Guard
	foreground func(time.Time) store.Foreground // how long clients of this process wait; nil: it has none
	background []func(context.Context) error
	closers    []func() error
	tickets    *transport.Tickets // of the balancer inside up

	reload, reopen func() // at SIGHUP and SIGUSR1; may be nil
}

func newApp(cfg *Config, env *environment, log *slog.Logger) *app {
	a := &app{cfg: cfg, env: env, log: log, metrics: newMetrics(), local: map[store.StorageID]store.Device{}}
	a.phase.Store("starting")
	return a
}

// onClose registers what close is to do, last first.
func (a *app) onClose(f func() error) { a.closers = append(a.closers, f) }

func (a *app) close() error {
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		errs = append(errs, a.closers[i]())
	}
	a.closers = nil
	return errors.Join(errs...)
}

// lock takes the data directory, which is made if it is not there.
func (a *app) lock(role string, shared bool) error {
	if err := os.MkdirAll(a.cfg.Data, 0o755); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	l, err := service.LockDir(a.cfg.Data, role, shared)
	if err != nil {
		return err
	}
	a.onClose(l.Release)
	return nil
}

// ensureSecret reads the installation's secret, and makes it on the first start.
func (a *app) ensureSecret() error {
	if _, err := os.Stat(a.cfg.secretFile()); errors.Is(err, fs.ErrNotExist) {
		b := make([]byte, 32)
		_, _ = rand.Read(b) // never fails
		if err := atomicfile.Write(faultfs.OS{}, a.cfg.secretFile(), 0o600, []byte(hex.EncodeToString(b)+"\n")); err != nil {
			return fmt.Errorf("write the installation's secret: %w", err)
		}
	}
	var err error
	a.secret, err = a.cfg.readSecret()
	return err
}

// nodeSecret is what requests to storages are signed with.
func (a *app) nodeSecret() storaged.Secret {
	if a.cfg.Storaged.Auth == "none" {
		return nil
	}
	return a.secret
}

// openCatalog opens the catalog and the jobs in the same database.
func (a *app) openCatalog(ctx context.Context) error {
	o := catalog.Options{Grace: time.Duration(a.cfg.Catalog.Grace)}
	o.DB.Logger = a.log
	announce, err := a.announcer()
	if err != nil {
		return err
	}
	opened, err := storejobs.Open(ctx, a.cfg.catalogFile(), o, sqlqueue.Options{Announce: announce})
	if err != nil {
		return err
	}
	a.onClose(opened.Close)
	a.cat, a.queue = opened.Catalog, opened.Queue
	a.metrics.catalog(a.cat.Totals)
	return nil
}

// announcer calls other processes when there is work for them, if they can be called.
func (a *app) announcer() (announce func(funcs []string), err error) {
	if len(a.cfg.Jobs.WakeServers) == 0 {
		return nil, nil
	}
	client, err := gearman.NewClient(a.cfg.Jobs.WakeServers, gearman.ClientOptions{})
	if err != nil {
		return nil, err
	}
	a.onClose(client.Close)
	an := jobsgearman.NewAnnouncer(client, a.cfg.Jobs.WakeName, a.log)
	a.background = append(a.background, an.Run)
	return an.Announce, nil
}

// beCalled lets other processes call the worker that is made with o.
func (a *app) beCalled(o *jobs.Options) error {
	if len(a.cfg.Jobs.WakeServers) == 0 {
		return nil
	}
	l, err := jobsgearman.NewListener(a.cfg.Jobs.WakeServers, a.cfg.Jobs.WakeName, a.log)
	if err != nil {
		return err
	}
	l.Wake(o)
	a.background = append(a.background, l.Run)
	return nil
}

// queueStats counts the jobs that wait, by kind.
func (a *app) queueStats(ctx context.Context) (map[string]store.QueueStats, error) {
	list, err := a.queue.Stats(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]store.QueueStats, len(list))
	for _, f := range list {
		out[f.Func] = store.QueueStats{Ready: f.Ready, Running: f.Running, Delayed: f.Delayed, Failed: f.Dead}
	}
	return out, nil
}

// openDisks opens the storages of this process. known says which of them have been there before: their directories are not made
// anew. It goes on without those whose disk is not there, as long as one is or their disks may yet appear.
func (a *app) openDisks(list []StorageConfig, known func(store.StorageID) bool) error {
	var problems []error
	hopeless := true
	for _, s := range list {
		id := store.StorageID(s.ID)
		o := a.cfg.diskOptions(s, a.log)
		if o.MustExist = known(id); !o.MustExist {
			_ = os.MkdirAll(s.Dir, 0o755) // opening it says why it is not there
		}
		b, err := disk.OpenBay(s.Dir, o)
		if b == nil {
			return fmt.Errorf("storage %d: %w", s.ID, err)
		}
		a.onClose(b.Close)
		if err != nil {
			problems = append(problems, fmt.Errorf("storage %d: %w", s.ID, err))
			a.log.Error("a storage cannot be opened; the others are served", "storage", s.ID, "dir", s.Dir, "err", err)
		}
		hopeless = hopeless && err != nil && !disk.Gone(err)
		a.background = append(a.background, b.Run)
		a.local[id] = b
		a.disks = append(a.disks, storaged.Disk{ID: id, Device: b, Packs: packs{b}, Bulk: b.Bulk(), Plain: b.Plain})
		a.metrics.disk(id, b)
	}
	if hopeless {
		return errors.Join(problems...)
	}
	return nil
}

// packs shows a disk's packs to the storage node.
type packs struct{ d *disk.Bay }

func (p packs) Packs() []storaged.PackInfo {
	list := p.d.Packs()
	out := make([]storaged.PackInfo, len(list))
	for i, k := range list {
		out[i] = storaged.PackInfo{Name: k.Name, Size: k.Size, Sealed: k.Sealed, MinID: k.MinID, MaxID: k.MaxID, Entities: k.Entities}
	}
	return out
}

func (p packs) Files(ctx context.Context, from store.ObjectID, limit int) ([]store.ManifestEntry, error) {
	return p.d.Files(ctx, from, limit)
}

func (p packs) OpenPack(name string) (storaged.PackReader, error) {
	r, err := p.d.OpenPack(name)
	if err != nil {
		return nil, err // and not a nil *disk.PackReader
	}
	return r, nil
}

// openFleet reaches all storages: this process's own directly, the others over HTTP. The catalog is open.
func (a *app) openFleet() {
	client := http1.NewClient(http1.ClientOptions{
		MaxIdlePerHost: 256, DialTimeout: 2 * time.Second, HeadTimeout: time.Duration(a.cfg.Dispatcher.PutTimeout),
		BodyTimeout: time.Duration(a.cfg.Dispatcher.PutTimeout),
	})
	a.onClose(func() error { client.Close(); return nil })
	a.fleet = storaged.NewFleet(client, a.nodeSecret(), a.local)
	long := http1.NewClient(http1.ClientOptions{DialTimeout: 2 * time.Second, HeadTimeout: 2 * time.Minute, BodyTimeout: 30 * time.Second, WriteTimeout: 2 * time.Minute})
	a.onClose(func() error { long.Close(); return nil })
	a.fleet.LongRequests(long)
	a.guard = idguard.New(a.cat, a.fleet, a.log)
}

// dispatcherHandler makes the HTTP API over a catalog, which may be the app's own with a cache around it.
func (a *app) dispatcherHandler(cat store.Catalog, role string) (http1.Handler, error) {
	auth, err := dispatcher.ParseAuth(a.cfg.Dispatcher.Auth)
	if err != nil {
		return nil, err
	}
	reproxy, err := dispatcher.ParseReproxy(a.cfg.Dispatcher.Reproxy)
	if err != nil {
		return nil, err
	}
	proxies, err := a.cfg.proxies()
	if err != nil {
		return nil, err
	}
	owner, err := processName()
	if err != nil {
		return nil, err
	}
	deriver, err := a.deriver()
	if err != nil {
		return nil, err
	}
	c := &a.cfg.Dispatcher
	authenticator := dispatcher.NewAuthenticator(auth, cat, time.Now)
	d := dispatcher.New(cat, a.fleet, authenticator, dispatcher.Options{
		Owner: owner, Proxies: proxies, Reproxy: reproxy, AccelRedirect: c.AccelRedirect, TailWait: time.Duration(c.TailWait),
		PutTimeout: time.Duration(c.PutTimeout), BufferLimit: int64(c.BufferLimit), MemoryLimit: int64(c.MemoryLimit),
		RenewEvery: min(10*time.Second, time.Duration(a.cfg.Catalog.Grace)/4), HotBytes: int64(c.HotCache), SpoolDir: c.SpoolDir, Log: a.log, Guard: a.guard,
		Deriver: deriver, DeriveTimeout: time.Duration(min(a.cfg.Images.Timeout, a.cfg.Catalog.Grace/2)), DeriveMost: int64(a.cfg.Images.MaxBytes),
		DeriveVariants: a.cfg.Images.MaxVariants,
	})
	a.background = append(a.background, d.Run)
	a.foreground = d.Foreground
	a.metrics.dispatcher(d.Metrics())
	a.metrics.health("dispatcher", d.Health())
	operation := control.Options{BackupEvery: time.Duration(a.cfg.Catalog.Every), Worker: role == "up", Changes: a.cat.Unchanged}
	if lookups, ok := cat.(*metacache.Cache); ok {
		operation.Lookups = lookups.Status
	}
	api := control.WithJobs(control.Handler(cat, a.fleet, a.queueStats, operation), guardedJobs{localJobs{a.queue}})
	operator := dispatcher.AdminOnly(authenticator, http1.FromHandler(api))
	front := a.withHealth(d)
	return http1.HandlerFunc(func(x http1.Exchange) {
		if bytes.HasPrefix(x.Request().Path, []byte("/-/")) {
			operator.ServeExchange(x)
			return
		}
		front.ServeExchange(x)
	}), nil
}

// processName is unique among the processes that run.
func processName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:6]), nil
}

// deriver makes photos in other sizes, here or by the workers of job servers; nil where that is not wanted.
func (a *app) deriver() (dispatcher.Deriver, error) {
	c := &a.cfg.Images
	switch {
	case !c.Enabled:
		return nil, nil
	case len(c.Servers) == 0:
		return storeimages.NewLocal(c.Concurrency, imaging.Limits{MaxPixels: c.MaxPixels}), nil
	}
	client, err := gearman.NewClient(c.Servers, gearman.ClientOptions{})
	if err != nil {
		return nil, err
	}
	a.onClose(client.Close)
	return storeimages.NewRemote(client), nil
}

// withHealth answers /healthz and /metrics and passes everything else to h. Metrics are for the machine itself, and not for whom a proxy on it
// speaks for.
func (a *app) withHealth(h http1.Handler) http1.Handler {
	return http1.HandlerFunc(func(x http1.Exchange) {
		r := x.Request()
		if len(r.Path) > len("/healthz") || r.Query != nil || r.Method != "GET" && r.Method != "HEAD" {
			h.ServeExchange(x)
			return
		}
		switch string(r.Path) {
		case "/healthz":
			a.health(x)
		case "/metrics":
			if !fromLoopback(x.RemoteAddr()) || forElsewhere(&r.Header) {
				reply(x, 403, "metrics are for this machine alone\n")
				return
			}
			a.metrics.handler.ServeExchange(x)
		default:
			h.ServeExchange(x)
		}
	})
}

func fromLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// forElsewhere reports whether a proxy says that a request is another machine's.
func forElsewhere(h *http1.Header) bool {
	if h.Has("Forwarded") { // RFC 7239: who sends it is a proxy; nobody on this machine needs one for this
		return true
	}
	for _, name := range []string{"X-Forwarded-For", "X-Real-IP"} {
		for addr := range strings.SplitSeq(h.Joined(name), ",") {
			addr = strings.TrimSpace(addr)
			if ip := net.ParseIP(addr); addr != "" && (ip == nil || !ip.IsLoopback()) {
				return true
			}
		}
	}
	return false
}

func (a *app) health(x http1.Exchange) {
	x.Header().Set(versionHeader, buildVersion())
	phase, _ := a.phase.Load().(string)
	if phase == "serving" {
		reply(x, 200, "ok\n")
		return
	}
	reply(x, 503, phase+"\n")
}

func reply(x http1.Exchange, status int, text string) {
	x.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_ = x.Reply(status, []byte(text)) // a client that is gone needs no answer
}

// nodeHandler serves the process's storages over HTTP.
func (a *app) nodeHandler() (http1.Handler, error) {
	n, err := storaged.NewNode(a.disks, storaged.Options{Secret: a.nodeSecret(), Log: a.log})
	if err != nil {
		return nil, err
	}
	a.metrics.node(n.Metrics())
	return a.withHealth(n), nil
}

// startWorker does background work over a catalog.
func (a *app) startWorker(cat store.Catalog) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	var foreground func(context.Context) ([]store.Process, error) // of other processes: the catalog knows
	if own := a.foreground; own != nil {
		foreground = func(context.Context) ([]store.Process, error) {
			return []store.Process{{Name: "this process", Foreground: own(time.Now())}}, nil
		}
	}
	w := worker.New(cat, a.fleet, worker.Options{
		Foreground: foreground,
		Owner:      fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:6]), Bulk: a.fleet.Bulk, ScrubRate: int64(a.cfg.Worker.ScrubRate),
		Grace: time.Duration(a.cfg.Catalog.Grace), Interval: time.Duration(a.cfg.Worker.Interval), Log: a.log, Guard: a.guard,
		Snapshots: a.cat, BackupEvery: time.Duration(a.cfg.Catalog.Every), BackupKeep: a.cfg.Catalog.Keep,
		BackupDir: filepath.Dir(a.cfg.catalogFile()),
	})
	a.metrics.worker(w.Metrics())
	name, err := processName()
	if err != nil {
		return err
	}
	watch := health.New(cat, a.fleet, health.Options{
		Reporter: name + "/worker", Every: time.Duration(a.cfg.Worker.ProbeInterval), Log: a.log,
	})
	a.metrics.health("worker", watch.Metrics())
	concurrency := map[string]int{}
	for _, kind := range store.TaskKinds {
		concurrency[kind] = a.cfg.Worker.Concurrency
	}
	opts := jobs.Options{StopTimeout: time.Duration(a.cfg.Drain), Logger: a.log}
	if err := a.beCalled(&opts); err != nil {
		return err
	}
	j := jobs.New(a.queue, opts)
	a.metrics.registry.MustRegister(jobsCollector{j.Stats})
	a.background = append(a.background, w.Run, w.Operate, watch.Run, j.Run)
	return storejobs.Handle(j, storejobs.Handlers{One: w.Handlers(), Many: w.BatchHandlers(), Concurrency: concurrency})
}

// opened is the app as the service runs it.
func (a *app) opened(handlers map[string]http1.Handler) *service.Opened {
	return &service.Opened{
		Handlers: handlers, Background: a.background, Close: a.close,
		Status: func(phase string) { a.phase.Store(phase) }, Reload: a.reload, Reopen: a.reopen,
	}
}

// serveOptions are what all roles have in common.
func serveOptions(cfg *Config, env *environment, log *slog.Logger, endpoints []service.Endpoint,
	open func(context.Context, map[string]net.Addr) (*service.Opened, error),
) service.Options {
	h := &cfg.HTTP
	return service.Options{
		Endpoints: endpoints, Drain: time.Duration(cfg.Drain), Log: log, Out: env.stdout, Open: open,
		HTTP: http1.Options{Log: log, Server: "wheelhouse", Limits: http1.Limits{
			Body: store.MaxObjectSize, MaxConns: h.MaxConns, IdleTimeout: time.Duration(h.IdleTimeout),
			HeadTimeout: time.Duration(h.HeadTimeout), BodyTimeout: time.Duration(h.BodyTimeout), WriteTimeout: time.Duration(h.BodyTimeout),
		}},
	}
}
