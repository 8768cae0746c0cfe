package metacache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/memcache"
	"wheelhouse/store"
)

// Defaults and limits of [Options].
const (
	DefaultTimeout = 100 * time.Millisecond
	DefaultTTL     = time.Minute
	// leaseTime is T: how long a process believes what it has read of the record. A write waits 1.1 times this when a server does not answer.
	leaseTime = 500 * time.Millisecond
	// fillWait is how long others leave it to the one who has won, and how long a change may take while readers leave caches alone.
	fillWait = 10 * time.Second
	// settleTime is how long a write waits for caches and catalog, at the most, after it was committed.
	settleTime = 20 * time.Second
)

// Options of a [Cache].
type Options struct {
	// Servers are asked for look-ups. All processes with the same catalog should have the same list, in the same order: the list of the one that was
	// started last is used, and those with another one read from the catalog alone. None: so does this one. It still deletes
	// where others read.
	Servers []memcache.Server
	// Timeout is how long a server may take for an answer, and to be connected to; 0: DefaultTimeout.
	Timeout time.Duration
	// TTL is how long what was looked up is kept; 0: DefaultTTL, at least a second. It should be less than the catalog's grace time, after which the bytes
	// of an old version are gone: a process that dies between a commit and the delete leaves an old entry that long.
	TTL time.Duration
	Log *slog.Logger // nil: none

	lease time.Duration // T; 0: leaseTime
	now   func() time.Time
	sleep func(context.Context, time.Duration) error
	dial  memcache.DialFunc
	rest  time.Duration // how long a server that does not answer is left alone, at first; 0: minRest
	// What tests leave out, to see that it is missed.
	noDelete, noWait bool
}

func (o Options) withDefaults() Options {
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.TTL = cmp.Or(o.TTL, DefaultTTL)
	o.lease = cmp.Or(o.lease, leaseTime)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.now == nil {
		o.now = time.Now
	}
	o.rest = cmp.Or(o.rest, minRest)
	if o.sleep == nil {
		o.sleep = sleep
	}
	if o.dial == nil {
		o.dial = (&net.Dialer{}).DialContext
	}
	return o
}

// Validate reports all that is wrong.
func (o Options) Validate() error {
	var errs []error
	if o.Timeout < 0 || o.Timeout > 10*time.Second {
		errs = append(errs, fmt.Errorf("timeout %s: want up to 10s; 0 is %s", o.Timeout, DefaultTimeout))
	}
	if o.TTL != 0 && (o.TTL < time.Second || o.TTL > 24*time.Hour) {
		errs = append(errs, fmt.Errorf("ttl %s: want 1s to 24h; 0 is %s", o.TTL, DefaultTTL))
	}
	if len(o.Servers) > MaxServers {
		errs = append(errs, fmt.Errorf("%d servers; the limit is %d", len(o.Servers), MaxServers))
	} else if len(o.Servers) > 0 {
		_, err := memcache.NewRing(o.Servers, memcache.Rendezvous)
		errs = append(errs, err)
	}
	for _, s := range o.Servers {
		if strings.ContainsAny(s.Host, "\r\n") {
			errs = append(errs, fmt.Errorf("server %q: an end of line in a path", s.Host))
		}
	}
	return errors.Join(errs...)
}

// Cache is a catalog with cache servers before it. All changes of the catalog, in all processes, must go through one: also in processes that have
// no servers configured. Safe for concurrent use. [Cache.Run] must run for servers to be used at all.
type Cache struct {
	store.Catalog
	opts  Options
	stats counters

	held   atomic.Pointer[lease] // the newest; may have expired
	asking chan struct{}         // holds one token while the record is read or swapped
	kick   chan struct{}         // wakes Run; holds one
	joined bool                  // the own list was the record's; Run's alone
	warned atomic.Bool           // that the lists differ

	ids bucketIDs

	mu      sync.Mutex // guards servers and closed
	servers map[string]*server
	closed  bool
	work    sync.WaitGroup // fills and probes under way
}

var _ store.Catalog = (*Cache)(nil)

// New puts servers before a catalog. Close closes the catalog too.
func New(catalog store.Catalog, opts Options) (*Cache, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	c := &Cache{
		Catalog: catalog, opts: opts.withDefaults(), asking: make(chan struct{}, 1), kick: make(chan struct{}, 1),
		servers: make(map[string]*server),
	}
	c.ids.init()
	c.kick <- struct{}{} // Run looks at the record when it begins
	return c, nil
}

// Close waits for what is under way and closes connections, and then the catalog. Run must have returned.
func (c *Cache) Close() error { return errors.Join(c.CloseServers(), c.Catalog.Close()) }

// CloseServers is Close without the catalog.
func (c *Cache) CloseServers() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.work.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, s := range c.servers {
		errs = append(errs, s.client.Close())
	}
	return errors.Join(errs...)
}

// background runs f beside the caller, unless the cache is being closed.
func (c *Cache) background(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.work.Go(f)
	return true
}

// server is how this process reaches a server.
type server struct {
	name   string
	client *memcache.Client
	// Readers leave it alone until this time, in nanoseconds since 1970, after it has not answered; and how long that was.
	restUntil, rest atomic.Int64
	probing         atomic.Bool
	refused         atomic.Bool // it was logged that it is not one to be used
}

// serverOf returns the server of a member, which may be of a list that is not ours.
func (c *Cache) serverOf(s memcache.Server) (*server, error) {
	name := s.String()
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.servers[name]; have != nil {
		return have, nil
	}
	if c.closed {
		return nil, memcache.ErrClosed
	}
	client, err := memcache.New([]memcache.Server{s}, memcache.WithTimeout(c.opts.Timeout, c.opts.Timeout), memcache.WithConns(16, 256),
		memcache.WithEject(0, time.Second, time.Second), memcache.WithMaxValue(maxValue),
		memcache.WithDialer(c.opts.dial))
	if err != nil {
		return nil, err
	}
	have := &server{name: name, client: client}
	c.servers[name] = have
	return have, nil
}

// How long a server that does not answer is left alone at first, and how many times that at most.
const (
	minRest  = time.Second
	maxRests = 30
)

// ready reports whether a reader may ask the server. Of those who come when it has been left alone for long enough one may.
func (s *server) ready(now time.Time, rest time.Duration) bool {
	until := s.restUntil.Load()
	return until == 0 || now.UnixNano() >= until && s.restUntil.CompareAndSwap(until, now.Add(rest).UnixNano())
}

func (s *server) works() {
	if s.restUntil.Load() != 0 {
		s.rest.Store(0)
		s.restUntil.Store(0)
	}
}

// bucketIDs remembers which id a bucket's name had: a guess, which what it leads to confirms.
type bucketIDs struct {
	mu     sync.RWMutex // guards byName
	byName map[string]store.BucketID
}

// maxBuckets bounds the guesses; when there are more, all are forgotten.
const maxBuckets = 1 << 14

func (b *bucketIDs) init() { b.byName = make(map[string]store.BucketID) }

func (b *bucketIDs) get(name string) store.BucketID {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byName[name]
}

func (b *bucketIDs) put(name string, id store.BucketID) {
	if b.get(name) == id {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.byName) >= maxBuckets {
		clear(b.byName)
	}
	b.byName[strings.Clone(name)] = id
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Forget removes what processes have agreed on from a catalog that no other process has open: for one that is about to change it without a Cache. Whatever
// caches hold then is never read again.
func Forget(ctx context.Context, catalog store.Administration) error {
	all, err := catalog.Settings(ctx)
	if err != nil || all[recordKey] == "" {
		return err
	}
	return catalog.SetSetting(ctx, recordKey, "")
}
