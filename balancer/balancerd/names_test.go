package balancerd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/http1"
)

// nameServer is a name server of one zone whose records change.
type nameServer struct {
	mu      sync.Mutex
	addrs   map[string][]netip.Addr // by name with its last dot
	rcode   int                     // of every answer, if not 0
	queries atomic.Int64
}

func (s *nameServer) set(name string, addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rcode = 0
	s.addrs[name] = nil
	for _, a := range addrs {
		s.addrs[name] = append(s.addrs[name], netip.MustParseAddr(a))
	}
}

func (s *nameServer) fail(rcode int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rcode = rcode
}

func (s *nameServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.queries.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	name, kind := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	list, known := s.addrs[name]
	switch {
	case s.rcode != 0:
		m.Rcode = s.rcode
	case !known:
		m.Rcode = dns.RcodeNameError
	}
	for _, a := range list {
		head := dns.RR_Header{Name: q.Question[0].Name, Class: dns.ClassINET, Ttl: 1}
		switch {
		case m.Rcode != 0:
		case a.Is4() && kind == dns.TypeA:
			head.Rrtype = dns.TypeA
			m.Answer = append(m.Answer, &dns.A{Hdr: head, A: a.AsSlice()})
		case a.Is6() && kind == dns.TypeAAAA:
			head.Rrtype = dns.TypeAAAA
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: head, AAAA: a.AsSlice()})
		}
	}
	_ = w.WriteMsg(m) // who asked asks again
}

// serveNames starts a name server, and returns it with a look-up that asks it alone.
func serveNames(t *testing.T) (*nameServer, balancerd.Options) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{addrs: map[string][]netip.Addr{}}
	srv := &dns.Server{PacketConn: pc, Handler: s}
	var serving sync.WaitGroup
	started := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(started) }
	serving.Go(func() { _ = srv.ActivateAndServe() })
	<-started
	t.Cleanup(func() {
		_ = srv.Shutdown()
		serving.Wait()
	})
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
	return s, balancerd.Options{Lookup: r.LookupNetIP}
}

// samePort starts a server on one port of several addresses, and returns that. Each answers with its own address.
func samePort(t *testing.T, hold func(path string), addrs ...string) string {
	t.Helper()
	for range 20 {
		var list []net.Listener
		port := "0"
		for _, a := range addrs {
			ln, err := net.Listen("tcp", net.JoinHostPort(a, port))
			if err != nil {
				break
			}
			list = append(list, ln)
			_, port, _ = net.SplitHostPort(ln.Addr().String())
		}
		if len(list) < len(addrs) { // somebody has the port on another address
			for _, ln := range list {
				ln.Close()
			}
			continue
		}
		for _, ln := range list {
			host, _, _ := net.SplitHostPort(ln.Addr().String())
			s := http1.NewServer(http1.HandlerFunc(func(x http1.Exchange) {
				hold(string(x.Request().Path))
				x.Reply(200, []byte(host))
			}), http1.Options{})
			var serving sync.WaitGroup
			serving.Go(func() { _ = s.Serve(ln) })
			t.Cleanup(func() {
				_ = s.Close()
				serving.Wait()
			})
		}
		return port
	}
	t.Fatal("no port is free on all addresses")
	return ""
}

// A name stands for all its addresses, of both kinds. When they change, so do the nodes: those that have gone finish what they have, and
// get nothing more; while nothing can be found out, what was known stays.
func TestNodesByName(t *testing.T) {
	held, release := make(chan struct{}), make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	defer let()
	port := samePort(t, func(path string) {
		if path == "/held" {
			held <- struct{}{}
			<-release
		}
	}, "127.0.0.2", "127.0.0.3", "::1")
	zone, o := serveNames(t)
	zone.set("app.test.", "127.0.0.2")
	b := balancertest.Start(t, balancertest.Proxy([]string{"app.test:" + port}, "SET backend_persist_cache = 20\nSET connect_ahead = 3"), o)
	b.Do("SET p.balance_method = round_robin\nSET p.resolve_interval = .02")
	p, queue := b.Pools()[0], b.Service("rp").Queue()
	if res, got := get(t, b.URL("rp", "/")); res.StatusCode != 200 || got != "127.0.0.2" { // at once
		t.Fatalf("%d %q", res.StatusCode, got)
	}
	nodes := func(want ...string) {
		t.Helper()
		for i := range want {
			want[i] = net.JoinHostPort(want[i], port)
		}
		balancertest.Eventually(t, fmt.Sprint("the nodes are ", want), func() bool {
			var got []string
			for _, n := range p.Nodes() {
				got = append(got, n.Addr)
			}
			return slices.Equal(got, want)
		})
	}
	answerers := func(want ...string) {
		t.Helper()
		seen := map[string]int{}
		for range 30 {
			_, got := get(t, b.URL("rp", "/"))
			seen[got]++
		}
		for _, a := range want {
			if seen[a] == 0 {
				t.Errorf("%s was not asked: %v", a, seen)
			}
		}
		if len(seen) != len(want) {
			t.Errorf("%v have answered; want %v", seen, want)
		}
	}
	finished := make(chan string, 1)
	go func() {
		res, err := http.Get(b.URL("rp", "/held"))
		if err != nil {
			finished <- err.Error()
			return
		}
		res.Body.Close()
		finished <- res.Status
	}()
	<-held
	zone.set("app.test.", "127.0.0.2", "127.0.0.3", "::1")
	nodes("127.0.0.2", "127.0.0.3", "::1")
	answerers("127.0.0.2", "127.0.0.3", "::1")
	zone.set("app.test.", "127.0.0.3", "::1")
	nodes("127.0.0.3", "::1")
	answerers("127.0.0.3", "::1")
	gone := func() (n int) {
		for _, c := range queue.Conns() {
			if strings.HasPrefix(c.Addr, "127.0.0.2:") {
				n++
			}
		}
		return n
	}
	balancertest.Eventually(t, "of the one that has gone only the connection with a request is left", func() bool { return gone() == 1 })
	let()
	if got := <-finished; got != "200 OK" {
		t.Errorf("the request that it had: %s", got)
	}
	balancertest.Eventually(t, "that one is closed too", func() bool { return gone() == 0 })
	for _, rcode := range []int{dns.RcodeServerFailure, dns.RcodeNameError} {
		zone.fail(rcode)
		balancertest.Eventually(t, "look-ups fail", func() bool { return len(p.Unresolved()) == 1 })
		before := zone.queries.Load()
		balancertest.Eventually(t, "they go on", func() bool { return zone.queries.Load() >= before+8 })
		nodes("127.0.0.3", "::1")
		answerers("127.0.0.3", "::1")
		zone.set("app.test.", "127.0.0.3", "::1")
		balancertest.Eventually(t, "look-ups succeed", func() bool { return len(p.Unresolved()) == 0 })
	}
	if n := strings.Count(b.Log.String(), "name of a node cannot be resolved"); n != 2 {
		t.Errorf("%d warnings for two failures", n)
	}
	zone.set("app.test.", "127.0.0.2")
	nodes("127.0.0.2")
	answerers("127.0.0.2")
}

// Requests wait for the first look-up of a name, and when it fails they are told why; look-ups go on without the operator.
func TestFirstLookup(t *testing.T) {
	asked, answer := make(chan string, 100), make(chan error)
	back := names(t, 1)[0]
	host, port, err := net.SplitHostPort(back)
	if err != nil {
		t.Fatal(err)
	}
	o := balancerd.Options{Lookup: func(ctx context.Context, network, name string) ([]netip.Addr, error) {
		asked <- network + " " + name
		select {
		case err := <-answer:
			return []netip.Addr{netip.MustParseAddr(host)}, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	reasons := make(chan string, 10)
	o.Finished = func(r *request) { reasons <- r.Reason }
	for _, own := range []string{"", "\nSET send_proxy_protocol = 1"} {
		b := balancertest.Start(t, balancertest.Proxy([]string{"app.test:" + port}, "SET queue_timeout = 60"+own), o)
		if got := <-asked; got != "ip app.test" {
			t.Errorf("asked for %q", got)
		}
		status := make(chan int, 1)
		ask := func() { status <- b.Status("rp", "/") }
		go ask()
		balancertest.Eventually(t, "the request waits", func() bool { return len(b.Service("rp").Live()) == 1 })
		answer <- errors.New("nobody knows")
		if got, reason := <-status, <-reasons; got != 503 || reason != "the pool has no nodes (app.test:"+port+": nobody knows)" {
			t.Errorf("%d %q", got, reason)
		}
		<-asked // a second later, not resolve_interval's thirty
		answer <- nil
		balancertest.Eventually(t, "the name is known", func() bool { return len(b.Pools()[0].Nodes()) == 1 })
		if own == "" {
			ask()
			if got, reason := <-status, <-reasons; got != 200 || reason != "" {
				t.Errorf("%d %q", got, reason)
			}
		}
		b.Do("POOL p REMOVE app.test:" + port + "\nPOOL p ADD other.test:" + port)
		if got := <-asked; got != "ip other.test" {
			t.Errorf("a new name: asked for %q", got)
		}
		answer <- nil
		balancertest.Eventually(t, "it is known", func() bool { n := b.Pools()[0].Nodes(); return len(n) == 1 && n[0].Name == "other.test:"+port })
	}
}

// A nodefile may have names too, and health checks do not keep them from being looked up.
func TestNamesInNodeFile(t *testing.T) {
	port := samePort(t, func(string) {}, "127.0.0.2", "127.0.0.3")
	zone, o := serveNames(t)
	zone.set("app.test.", "127.0.0.2")
	file := filepath.Join(t.TempDir(), "nodes")
	if err := os.WriteFile(file, []byte("app.test:"+port+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := balancertest.Start(t, balancertest.Proxy(nil, "")+"SET p.nodefile = "+file+"\nSET p.health_path = /\nSET p.health_interval = 3600\nSET p.resolve_interval = .02\n", o)
	if res, got := get(t, b.URL("rp", "/")); res.StatusCode != 200 || got != "127.0.0.2" {
		t.Errorf("%d %q", res.StatusCode, got)
	}
	zone.set("app.test.", "127.0.0.3")
	balancertest.Eventually(t, "the other address is used", func() bool { _, got := get(t, b.URL("rp", "/")); return got == "127.0.0.3" })
}
