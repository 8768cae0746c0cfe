package metacache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"wheelhouse/memcache"
	"wheelhouse/memcache/memcached"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// clock is moved by hand, and by those who sleep by it.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Unix(1_800_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func (c *clock) sleep(ctx context.Context, d time.Duration) error {
	c.add(d)
	return ctx.Err()
}

// hooked is a catalog whose calls can be held up, and can fail.
type hooked struct {
	*catalog.SQLite
	afterFind    func(name string)
	beforeCommit func()
	afterCommit  func()
	settings     func() error
}

func (h *hooked) Find(ctx context.Context, bucket, name string) (store.Bucket, store.Object, error) {
	b, o, err := h.SQLite.Find(ctx, bucket, name)
	if f := h.afterFind; f != nil {
		h.afterFind = nil
		f(name)
	}
	return b, o, err
}

func (h *hooked) Commit(ctx context.Context, c store.Commit) (store.Object, error) {
	if f := h.beforeCommit; f != nil {
		h.beforeCommit = nil
		f()
	}
	o, err := h.SQLite.Commit(ctx, c)
	if f := h.afterCommit; f != nil {
		h.afterCommit = nil
		f()
	}
	return o, err
}

func (h *hooked) Settings(ctx context.Context) (map[string]string, error) {
	if h.settings != nil {
		if err := h.settings(); err != nil {
			return nil, err
		}
	}
	return h.SQLite.Settings(ctx)
}

// site is a catalog file that several processes have open.
type site struct {
	testing.TB
	file    string
	bucket  store.Bucket
	next    store.ObjectID
	members []memcache.Server
}

func newSite(t testing.TB, servers ...string) *site {
	t.Helper()
	s := &site{TB: t, file: filepath.Join(t.TempDir(), "catalog.db")}
	var err error
	if s.members, err = memcache.ParseServers(servers...); err != nil {
		t.Fatal(err)
	}
	c := s.open()
	if s.bucket, err = c.CreateBucket(t.Context(), store.Bucket{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	if s.next, err = c.LeaseIDs(t.Context(), "test", 1_000_000); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) open() *catalog.SQLite {
	s.Helper()
	c, err := catalog.OpenSQLite(s.Context(), s.file, catalog.Options{})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := c.Close(); err != nil {
			s.Error(err)
		}
	})
	return c
}

// setIn makes all servers in use, without the time that it takes.
func (s *site) setIn(lease time.Duration) {
	s.Helper()
	c := s.open()
	r := newRecord(s.members)
	for i := range r {
		r[i].state = in
	}
	if err := c.SetSetting(s.Context(), recordKey, r.format(lease.String())); err != nil {
		s.Fatal(err)
	}
}

// process is one of the processes that use the catalog.
type process struct {
	*Cache
	*site
	cat   *hooked
	clock *clock
}

// process opens the catalog once more, with the clock that is moved by hand. Run does not run: renew does what it would.
func (s *site) process(c *clock, o Options) *process {
	s.Helper()
	p := &process{site: s, cat: &hooked{SQLite: s.open()}, clock: c}
	if o.Servers == nil {
		o.Servers = s.members
	}
	o.now, o.sleep = c.now, c.sleep
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second // nobody is to be late by chance
	}
	var err error
	if p.Cache, err = New(p.cat, o); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := p.CloseServers(); err != nil {
			s.Error(err)
		}
	})
	return p
}

// renew gets a new lease, and changes the record where that is due.
func (p *process) renew() *lease {
	p.site.Helper()
	l, err := p.need(p.Context(), p.opts.lease*3/4)
	if err == nil {
		err = p.advance(p.Context(), l)
	}
	if err != nil {
		p.Fatal(err)
	}
	p.work.Wait()
	return p.held.Load()
}

func (s *site) id() store.ObjectID {
	s.next++
	return s.next
}

// commit stores a version of an object: a number, which is its size.
func (p *process) commit(name string, version int) {
	p.site.Helper()
	if err := p.tryCommit(name, version); err != nil {
		p.Fatal(err)
	}
}

func (p *process) tryCommit(name string, version int) error {
	_, err := p.Commit(p.Context(), store.Commit{Object: store.Object{ID: p.id(), Bucket: p.bucket.ID, Name: name, Cluster: 1, Size: int64(version)}})
	return err
}

// find returns an object's version, or -1, and whether a cache knew it.
func (p *process) find(name string) (version int, hit bool) {
	p.site.Helper()
	before := p.Stats().Hits
	b, o, err := p.Find(p.Context(), "b", name)
	p.work.Wait() // for what is filled
	hit = p.Stats().Hits > before
	if errors.Is(err, store.ErrNoObject) {
		return -1, hit
	}
	if err != nil {
		p.Fatal(err)
	}
	if b.Name != "b" || o.Name != name || o.Bucket != b.ID {
		p.Fatalf("found %+v in %+v", o, b)
	}
	return int(o.Size), hit
}

func (p *process) want(name string, version int, hit bool) {
	p.site.Helper()
	if v, h := p.find(name); v != version || h != hit {
		p.Errorf("%s: version %d, cached %v; want %d, %v", name, v, h, version, hit)
	}
}

// warm reads until a cache knows a name.
func (p *process) warm(name string, version int) {
	p.site.Helper()
	for range 3 { // which id the bucket has; fill; hit
		if v, _ := p.find(name); v != version {
			p.Fatalf("%s: version %d; want %d", name, v, version)
		}
	}
	p.want(name, version, true)
}

// startOurs runs our server in this process until the test ends.
func startOurs(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOurs(t, ln, memcached.Options{})
	return ln.Addr().String()
}

func serveOurs(t testing.TB, ln net.Listener, o memcached.Options) *memcached.Server {
	t.Helper()
	s, err := memcached.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-served
	})
	return s
}

// link is the way from one process to one server, which can be cut, and held or slow in each direction.
type link struct {
	t      testing.TB
	server string
	ln     net.Listener
	wait   sync.WaitGroup

	mu    sync.Mutex // guards all below
	cond  *sync.Cond
	cut   bool
	held  [2]bool       // requests, replies
	slow  time.Duration // what passes takes up to so long
	ended bool
	end   chan struct{} // closed with it
	conns map[net.Conn]bool
}

const (
	requests = 0
	replies  = 1
)

func newLink(t testing.TB, server string) *link {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{t: t, server: server, ln: ln, conns: map[net.Conn]bool{}, end: make(chan struct{})}
	l.cond = sync.NewCond(&l.mu)
	l.wait.Go(l.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		l.set(func() {
			l.ended = true
			close(l.end)
			l.closeAll()
		})
		l.wait.Wait()
	})
	return l
}

func (l *link) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	l.cond.Broadcast()
}

func (l *link) closeAll() {
	for nc := range l.conns {
		_ = nc.Close()
	}
	clear(l.conns)
}

func (l *link) setCut(cut bool) {
	l.set(func() {
		if l.cut = cut; cut {
			l.closeAll()
		}
	})
}

func (l *link) hold(direction int, held bool) { l.set(func() { l.held[direction] = held }) }

func (l *link) delay(most time.Duration) { l.set(func() { l.slow = most }) }

func (l *link) heal() { l.set(func() { l.cut, l.held, l.slow = false, [2]bool{}, 0 }) }

func (l *link) accept() {
	for {
		client, err := l.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", l.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		refused := false
		l.set(func() {
			if refused = l.cut || l.ended; !refused {
				l.conns[client], l.conns[server] = true, true
			}
		})
		if refused {
			_, _ = client.Close(), server.Close()
			continue
		}
		l.wait.Go(func() { l.pump(server, client, requests) })
		l.wait.Go(func() { l.pump(client, server, replies) })
	}
}

func (l *link) pump(to, from net.Conn, direction int) {
	defer func() {
		l.set(func() { delete(l.conns, to); delete(l.conns, from) })
		_, _ = to.Close(), from.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			l.mu.Lock()
			for l.held[direction] && !l.ended {
				l.cond.Wait()
			}
			slow := l.slow
			l.mu.Unlock()
			if slow > 0 {
				late := time.NewTimer(rand.N(slow))
				select {
				case <-late.C:
				case <-l.end:
				}
				late.Stop()
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// through dials by way of links, by the servers' addresses.
func through(links ...*link) memcache.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		for _, l := range links {
			if l.server == addr {
				return (&net.Dialer{}).DialContext(ctx, network, l.ln.Addr().String())
			}
		}
		return nil, fmt.Errorf("no way to %s", addr)
	}
}

// eventually waits until ok, looking again whenever something may have changed.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it did not come to pass that %s", what)
		}
	}
}
