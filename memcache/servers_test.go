package memcache_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"wheelhouse/memcache"
	"wheelhouse/memcache/memcached"
	"wheelhouse/memcache/memcachetest"
)

// serve runs our server on ln until the test ends.
func serve(t testing.TB, ln net.Listener, opts memcached.Options) *memcached.Server {
	t.Helper()
	s, err := memcached.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
	return s
}

func listen(t testing.TB, network, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func TestWithOurServer(t *testing.T) {
	memcachetest.Client(t, func(t *testing.T) string {
		ln := listen(t, "tcp", "127.0.0.1:0")
		serve(t, ln, memcached.Options{})
		return ln.Addr().String()
	})
}

func TestWithOurServerOnASocket(t *testing.T) {
	memcachetest.Client(t, func(t *testing.T) string {
		dir, err := os.MkdirTemp("", "s") // a socket's path must be short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		path := filepath.Join(dir, "s")
		serve(t, listen(t, "unix", path), memcached.Options{})
		return path
	})
}

func TestWithDebiansServer(t *testing.T) {
	memcachetest.Client(t, func(t *testing.T) string { return memcachetest.StartDebian(t) })
}

// Whatever statistics are asked for, no server is set aside for what it answers.
func TestStatsOfEveryGroup(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	s := serve(t, ln, memcached.Options{SlowAfter: 1})
	addr := ln.Addr().String()
	c := memcachetest.NewClient(t, []string{addr})
	raw := memcachetest.Dial(t, addr)
	if got := raw.Ask("set a:b 0 0 1\r\nx"); got != "STORED" {
		t.Fatal(got)
	}
	for range 600 {
		raw.Ask("mg a:b")
	}
	group := func(name string) map[string]string {
		t.Helper()
		all, err := c.Stats(t.Context(), name)
		if err != nil || len(all) != 1 {
			t.Fatalf("stats %s: %v, %v", name, all, err)
		}
		return all[c.Servers()[0].Server]
	}
	if hot := group("hotkeys"); len(hot) != 1 || hot["a:b"] != "100.00" {
		t.Errorf("hot keys: %v", hot)
	}
	slow := group("slow")
	if f := strings.Fields(slow["3"]); len(slow) != 128 || len(f) != 5 || f[3] != "mg" || f[4] != "a:b" {
		t.Errorf("slow commands: %v", slow)
	}
	for _, name := range []string{"items", "slabs", "sizes", "conns", "settings", "extstore"} {
		group(name)
	}
	if n := s.Counts().Gets; n != 600 {
		t.Fatalf("%d gets", n)
	}
	if list := group("reset"); len(list) != 0 || s.Counts().Gets != 0 {
		t.Errorf("reset: %v, then %d gets", list, s.Counts().Gets)
	}
	for range 3 {
		if _, err := c.Stats(t.Context(), "nonsense"); err == nil {
			t.Error("statistics of nonsense")
		}
	}
	if st := c.Servers()[0]; st.Failures != 0 || st.Ejections != 0 {
		t.Errorf("%+v", st)
	}
}

func TestAuth(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	serve(t, ln, memcached.Options{Users: map[string]string{"web": "a word"}})
	addr := []string{ln.Addr().String()}
	good := memcachetest.NewClient(t, addr, memcache.WithAuth("web", "a word"))
	if err := good.Set(t.Context(), &memcache.Item{Key: "a"}); err != nil {
		t.Error(err)
	}
	for _, password := range []string{"wrong", ""} {
		bad := memcachetest.NewClient(t, addr, memcache.WithAuth("web", password))
		if err := bad.Set(t.Context(), &memcache.Item{Key: "a"}); err == nil || !strings.Contains(err.Error(), "authentication failure") {
			t.Errorf("with the password %q: %v", password, err)
		}
	}
}

// TLS is a matter of the dialer; connections are kept as others are.
func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(http.NotFoundHandler()) // has a certificate, and a client that trusts it
	defer web.Close()
	config := web.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName = "example.com"
	ln := listen(t, "tcp", "127.0.0.1:0")
	serve(t, tls.NewListener(ln, &tls.Config{Certificates: web.TLS.Certificates}), memcached.Options{})
	dials := 0
	c := memcachetest.NewClient(t, []string{ln.Addr().String()}, memcache.WithDialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
	}))
	for range 3 {
		if err := c.Set(t.Context(), &memcache.Item{Key: "a", Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		if i, err := c.Get(t.Context(), "a"); err != nil || string(i.Value) != "v" {
			t.Fatalf("%v, %v", i, err)
		}
	}
	if dials != 1 {
		t.Errorf("%d connections for requests one after the other; want 1", dials)
	}
}

// What pylibmc stores is where this client looks, under each of its names for the ways of libmemcached.
func TestPylibmcFindsTheSameServers(t *testing.T) {
	var addrs []string
	for range 3 {
		addrs = append(addrs, memcachetest.StartDebian(t))
	}
	const script = `
import sys, pylibmc
mode, servers = sys.argv[1], sys.argv[2:]
b = {"ketama": {"ketama": True}, "ketama_md5": {"ketama": True, "hash": "md5"}, "ketama_weighted": {"ketama_weighted": True}}[mode]
c = pylibmc.Client(servers, behaviors=b)
for i in range(10000):
    assert c.set("%s:%d" % (mode, i), str(i))
`
	for _, kind := range []memcache.Distribution{memcache.Ketama, memcache.KetamaMD5, memcache.KetamaWeighted} {
		t.Run(kind.String(), func(t *testing.T) {
			cmd := exec.Command("/usr/bin/python3", append([]string{"-c", script, kind.String()}, addrs...)...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v (make tools)\n%s", err, out)
			}
			c := memcachetest.NewClient(t, addrs, memcache.WithDistribution(kind))
			var keys []string
			for i := range 10000 {
				keys = append(keys, kind.String()+":"+strconv.Itoa(i))
			}
			got, err := c.GetMulti(t.Context(), keys)
			if err != nil || len(got) != len(keys) {
				t.Fatalf("%d of %d keys are where they are looked for; %v", len(got), len(keys), err)
			}
			for i, k := range keys {
				if string(got[k].Value) != strconv.Itoa(i) {
					t.Fatalf("%s is %q", k, got[k].Value)
				}
			}
		})
	}
}
