// Package dispatcher is the store's front: buckets and objects over plain HTTP, with STF's protocol and what HTTP clients
// expect beside it. It keeps no state of its own that matters: any number of dispatchers may run side by side.
//
// docs/protocol/http.md describes the protocol; put.go, get.go, delete.go, move.go, post.go, bucket.go and list.go hold
// one verb each.
package dispatcher

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
	"wheelhouse/store/foreground"
	"wheelhouse/store/health"
	"wheelhouse/store/idguard"
)

// Catalog is what the dispatcher asks of the catalog.
type Catalog interface {
	store.Objects
	store.Buckets
	Topology(ctx context.Context) (*store.Topology, error)
	TopologyNow(ctx context.Context) (*store.Topology, error)
	Key(ctx context.Context, id string) (store.AccessKey, store.Account, error)
	Accounts(ctx context.Context) ([]store.Account, error)
	EnqueueRepair(ctx context.Context, id store.ObjectID, storage store.StorageID) error
	store.Health
	store.Witnesses
}

// Finder is what a catalog may offer besides: a look-up in memory, without allocation. ok is false when the answer is not
// known there. What it returns is shared and must not be changed.
type Finder interface {
	Lookup(bucket, name []byte) (b *store.Bucket, o *store.Object, ok bool)
}

// Devices are the storages as this process reaches them.
type Devices interface {
	// Device returns the means to reach a storage: its disk, where it is in this process.
	Device(s *store.Storage) store.Device
	// URL is where a proxy can fetch an entity until expires.
	URL(s *store.Storage, id store.ObjectID, expires time.Time) string
}

// Reproxy says when a GET is answered with the URLs of the entities instead of their bytes.
type Reproxy uint8

// The ways to hand off.
const (
	ReproxyAsked  Reproxy = iota // to a proxy in Options.Proxies that says X-Proxy-Capabilities: reproxy-file
	ReproxyAlways                // to every proxy in Options.Proxies
	ReproxyNever
)

// ParseReproxy reads "asked", "always" or "never".
func ParseReproxy(s string) (Reproxy, error) {
	switch s {
	case "asked":
		return ReproxyAsked, nil
	case "always":
		return ReproxyAlways, nil
	case "never":
		return ReproxyNever, nil
	}
	return 0, errors.New(`reproxy: want "asked", "always" or "never"`)
}

// Options tune a Dispatcher. The zero value serves with keys.
type Options struct {
	Owner         string         // names this process in leases of ids; must be unique among running processes
	Proxies       []netip.Prefix // addresses of proxies that may be given storages' URLs; default none
	Reproxy       Reproxy
	AccelRedirect string        // location for X-Accel-Redirect (nginx); "" sends X-Reproxy-URL with all URLs alone
	URLLifetime   time.Duration // how long a storage's URL is good for; default 5 min
	TailWait      time.Duration // how long a write that is durable enough waits for the other storages; default 100 ms
	PutTimeout    time.Duration // how long a storage may take for a small entity, or be silent in a large one; default 10 s
	BufferLimit   int64         // bodies up to this are held in memory while they are stored; default 1 MiB
	MemoryLimit   int64         // all bodies held at once, in bytes; more are answered 503; default 256 MiB
	// RenewEvery is how often the process says that it still uses its blocks of ids. Workers take a block that has not
	// been renewed for the catalog's grace time, which must be several times this, for abandoned. Default 10 s.
	RenewEvery time.Duration
	// ProbeRetry is the time between two probes of a storage that has failed a request. Default 1 s.
	ProbeRetry time.Duration
	// HotBytes is how much memory keeps small objects (up to 64 KiB) that are read often. 0: none.
	HotBytes int64
	// Guard asks the storages which ids they hold before any are leased; one serves all of a process. nil: one of its own.
	Guard *idguard.Guard
	// Deriver makes photos in other sizes (GET with a query). nil: queries are ignored.
	Deriver        Deriver
	DeriveTimeout  time.Duration // how long that may take; default 30 s. Must be shorter than the catalog's grace time
	DeriveMost     int64         // bytes that an original may have; default 64 MiB
	DeriveVariants int           // forms of one object that are kept; default 64

	SpoolDir string       // where larger bodies are kept for a second try in another cluster; "" is os.TempDir
	Log      *slog.Logger // default: discarded
	Now      func() time.Time
}

func (o Options) withDefaults() Options {
	o.Owner = cmp.Or(o.Owner, "dispatcher")
	o.URLLifetime = cmp.Or(o.URLLifetime, 5*time.Minute)
	o.TailWait = cmp.Or(o.TailWait, 100*time.Millisecond)
	o.PutTimeout = cmp.Or(o.PutTimeout, 10*time.Second)
	o.BufferLimit = cmp.Or(o.BufferLimit, 1<<20)
	o.MemoryLimit = cmp.Or(o.MemoryLimit, 256<<20)
	o.DeriveTimeout = cmp.Or(o.DeriveTimeout, 30*time.Second)
	o.DeriveMost = cmp.Or(o.DeriveMost, 64<<20)
	o.DeriveVariants = cmp.Or(o.DeriveVariants, 64)
	o.ProbeRetry = cmp.Or(o.ProbeRetry, time.Second)
	o.RenewEvery = cmp.Or(o.RenewEvery, 10*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Dispatcher serves the store's HTTP API. Safe for concurrent use.
type Dispatcher struct {
	cat     Catalog
	finder  Finder // nil where the catalog has none
	devices Devices
	auth    *Authenticator
	opt     Options
	ids     *idSource
	buffers *bufferPool
	views   viewCache
	watch   *health.Watcher
	hedges  hedgeBudget
	metrics *Metrics
	late    lateWork
	waits   foreground.Meter

	deriving derivations
	hot      *hotCache // nil: none
}

// New makes a Dispatcher. [Dispatcher.Run] must run while it serves writes.
func New(cat Catalog, devices Devices, auth *Authenticator, o Options) *Dispatcher {
	o = o.withDefaults()
	if o.Guard == nil {
		o.Guard = idguard.New(cat, devices, o.Log)
	}
	d := &Dispatcher{
		cat: cat, devices: devices, auth: auth, opt: o,
		ids:     newIDSource(o.Guard, cat, o.Owner),
		buffers: newBufferPool(o.MemoryLimit),
		metrics: &Metrics{},
		hot:     newHotCache(o.HotBytes),
	}
	d.finder, _ = cat.(Finder)
	d.views.devices = devices
	d.watch = health.New(cat, devices, health.Options{
		Reporter: o.Owner, Seen: d.seen, Probed: d.probed, Log: o.Log, Now: o.Now, Retry: o.ProbeRetry,
	})
	d.views.alarm = d.watch.Wake
	return d
}

// Run keeps the leases of ids alive and watches the storages until ctx ends, then waits for writes to storages that outlived their requests.
func (d *Dispatcher) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	watching.Go(func() { _ = d.watch.Run(ctx) })
	watching.Go(func() { d.watchDisks(ctx) })
	d.ids.run(ctx, d.opt.RenewEvery, d.opt.Log)
	watching.Wait()
	d.late.wait()
	return nil
}

// Metrics counts what a Dispatcher has done.
type Metrics struct {
	Gets, Puts, Deletes, Others  atomic.Int64 // requests
	BytesIn, BytesOut            atomic.Int64 // of object bodies
	Failures                     atomic.Int64 // answers of 500 and above
	Degraded                     atomic.Int64 // writes acknowledged while a storage was still owed its entity
	Failovers                    atomic.Int64 // reads that a second storage had to be asked for
	Hedges                       atomic.Int64 // second storages that were asked because the first took long
	HedgeWins                    atomic.Int64 // of those, the ones that answered first
	Stalls                       atomic.Int64 // bodies that broke off because their storage became slow
	HotReads                     atomic.Int64 // reads answered from memory
	Reproxied                    atomic.Int64 // reads handed to a proxy
	Derived                      atomic.Int64 // derivations begun: photos in other sizes
	Repairs                      atomic.Int64 // repairs enqueued after a failed read
	BufferedBytes, SpooledBodies atomic.Int64
}

// Health counts what has been done to watch the storages.
func (d *Dispatcher) Health() *health.Metrics { return d.watch.Metrics() }

// Metrics returns the counters, which go on counting.
func (d *Dispatcher) Metrics() *Metrics {
	d.metrics.BufferedBytes.Store(d.buffers.used.Load())
	return d.metrics
}

// ServeExchange answers one request.
func (d *Dispatcher) ServeExchange(x http1.Exchange) {
	r := x.Request()
	t, f := parsePath(r.Path)
	if f != nil {
		d.refuse(x, f)
		return
	}
	if len(t.bucket) == 0 && len(t.name) == 0 {
		d.refuse(x, d.serveRoot(x))
		return
	}
	if f := t.check(); f != nil {
		d.refuse(x, f)
		return
	}
	if len(t.name) == 0 {
		d.metrics.Others.Add(1)
		bucket := t
		d.refuse(x, d.serveBucket(x, &bucket))
		return
	}
	d.refuse(x, d.serveObject(x, &t))
}

func (d *Dispatcher) serveObject(x http1.Exchange, t *target) *failure {
	if m := x.Request().Method; m == http.MethodGet || m == http.MethodHead {
		d.metrics.Gets.Add(1)
		return d.get(x, t)
	}
	kept := *t // reads need no copy on the heap
	return d.changeObject(x, &kept)
}

func (d *Dispatcher) changeObject(x http1.Exchange, t *target) *failure {
	switch x.Request().Method {
	case http.MethodPut:
		d.metrics.Puts.Add(1)
		return d.put(x, t)
	case http.MethodDelete:
		d.metrics.Deletes.Add(1)
		return d.delete(x, t)
	case http.MethodPost:
		d.metrics.Others.Add(1)
		return d.post(x, t)
	case methodMove:
		d.metrics.Others.Add(1)
		return d.moveObject(x, t)
	case http.MethodOptions:
		return options(x, "GET, HEAD, PUT, DELETE, POST, MOVE, OPTIONS")
	}
	return notAllowed(x, "GET, HEAD, PUT, DELETE, POST, MOVE, OPTIONS")
}

const methodMove = "MOVE"

func options(x http1.Exchange, allow string) *failure {
	x.Header().Set("Allow", allow)
	_ = x.Reply(http.StatusNoContent, nil)
	return nil
}

func notAllowed(x http1.Exchange, allow string) *failure {
	return failf(http.StatusMethodNotAllowed, "the method %s means nothing here; use one of %s",
		x.Request().Method, allow).with("Allow", allow)
}

// refuse sends f, if there is one and an answer can still be sent, and logs what is our own fault.
func (d *Dispatcher) refuse(x http1.Exchange, f *failure) {
	if f == nil {
		return
	}
	if f.status >= 500 {
		d.metrics.Failures.Add(1)
		if !errors.Is(f.cause, context.Canceled) {
			d.opt.Log.Error("request failed", "method", x.Request().Method, "path", string(x.Request().Path),
				"status", f.status, "reason", f.reason, "err", f.cause)
		}
	}
	if x.Started() {
		x.Abort()
		return
	}
	f.send(x)
}

// who authenticates the request and checks that it may act on b as far as role reaches.
func (d *Dispatcher) who(x http1.Exchange, t *target, b *store.Bucket, role store.Role) *failure {
	p, err := d.auth.Authenticate(x, t.String())
	if err != nil {
		return fail(err, t)
	}
	if !p.May(b, role) {
		return forbid(p, t)
	}
	if role > store.RoleRead && b.Name == store.CatalogBucket {
		return failf(http.StatusForbidden, "the bucket %q holds the catalog's backups: the store alone writes it", b.Name)
	}
	return nil
}
