package plugin_test

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"wheelhouse/balancer/balancertest"
)

// name is a backend that answers with its number.
func name(t *testing.T, n int) string {
	return balancertest.Backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, n) })
}

// serverID is what the cookie calls a node, as the CPAN module does.
func serverID(salt, addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	sum := sha1.Sum([]byte(salt + host + port))
	return hex.EncodeToString(sum[:])
}

// cookieOf is the cookie that an answer sets, as a client sends it, "" for none.
func cookieOf(a answer) string {
	c, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
	return c
}

// A client stays with its node, whatever the method would have chosen, until the node goes; then it stays with another.
func TestSessionAffinity(t *testing.T) {
	for _, method := range []string{"random", "round_robin", "least_conn", "power_of_two", "consistent_hash"} {
		t.Run(method, func(t *testing.T) {
			var nodes []string
			for i := range 4 {
				nodes = append(nodes, name(t, i))
			}
			b := start(t, balancertest.Proxy(nodes, "SET plugins = sessionaffinity\nSET backend_persist_cache = 20")+"SET p.balance_method = "+method+"\nSET p.hash_key = header:X-Any\n")
			url := b.URL("rp", "/")
			seen := map[string]bool{}
			for i, addr := range nodes {
				first := get(t, url, "Cookie: a=b; X-SERVERID="+serverID("", addr))
				if first.body != fmt.Sprint(i) || first.header.Get("Set-Cookie") != "" {
					t.Errorf("with the cookie of node %d: %q, sets %q", i, first.body, first.header.Get("Set-Cookie"))
				}
			}
			for i := range 40 {
				first := get(t, url, fmt.Sprint("X-Any: ", i))
				cookie := cookieOf(first)
				if !strings.HasPrefix(cookie, "X-SERVERID=") || !strings.Contains(first.header.Get("Set-Cookie"), "; HttpOnly") {
					t.Fatalf("Set-Cookie: %q", first.header.Get("Set-Cookie"))
				}
				seen[first.body] = true
				for range 3 {
					if again := get(t, url, "Cookie: "+cookie); again.body != first.body || again.header.Get("Set-Cookie") != "" {
						t.Fatalf("node %s, and then %s", first.body, again.body)
					}
				}
			}
			if method != "random" && method != "least_conn" && len(seen) < 2 { // those give all to the one that is free
				t.Errorf("new clients went to %v", seen)
			}
			mine := "X-SERVERID=" + serverID("", nodes[2])
			b.Do("POOL p REMOVE " + nodes[2])
			moved := get(t, url, "Cookie: "+mine)
			if moved.status != 200 || moved.body == "2" || cookieOf(moved) == "" || cookieOf(moved) == mine {
				t.Fatalf("after its node has gone: %d %q, sets %q", moved.status, moved.body, cookieOf(moved))
			}
			if again := get(t, url, "Cookie: "+cookieOf(moved)); again.body != moved.body {
				t.Errorf("it did not stay with the other: %q, then %q", moved.body, again.body)
			}
			if odd := get(t, url, "Cookie: X-SERVERID=nonsense"); odd.status != 200 || cookieOf(odd) == "" {
				t.Errorf("with a cookie of nobody's: %d, sets %q", odd.status, cookieOf(odd))
			}
		})
	}
}

// A node that fails the request, or is ejected, is left for another; the client's cookie follows.
func TestSessionAffinityFallsBack(t *testing.T) {
	broken := balancertest.Raw(t, func(nc net.Conn) { nc.Read(make([]byte, 1000)) })
	good := name(t, 1)
	b := start(t, balancertest.Proxy([]string{broken, good}, "SET plugins = sessionaffinity")+"SET p.eject_errors = 2\nSET p.eject_time = 3600\n")
	cookie := "Cookie: X-SERVERID=" + serverID("", broken)
	for range 5 {
		if a := get(t, b.URL("rp", "/"), cookie); a.status != 200 || a.body != "1" || cookieOf(a) != "X-SERVERID="+serverID("", good) {
			t.Errorf("%d %q, sets %q", a.status, a.body, cookieOf(a))
		}
	}
	if n := b.Pools()[0].Nodes()[0].Requests.Load(); n != 2 {
		t.Errorf("the broken node was asked %d times; want 2, until it was ejected", n)
	}
}

// The commands of the CPAN module, and ours; the salt hides addresses.
func TestSessionAffinityConfiguration(t *testing.T) {
	back := name(t, 0)
	b := start(t, balancertest.Proxy([]string{back}, "SET plugins = sessionaffinity"))
	url := b.URL("rp", "/")
	b.Do("USE rp\nAFFINITY_COOKIE_HEADER = Node\nAFFINITY_SALT = pepper")
	if got := cookieOf(get(t, url)); got != "Node="+serverID("", back) {
		t.Errorf("AFFINITY_SALT alone: %q", got)
	}
	b.Do("USE rp\nAFFINITY_USE_SALT = yes")
	if got := cookieOf(get(t, url)); got != "Node="+serverID("pepper", back) {
		t.Errorf("AFFINITY_USE_SALT: %q", got)
	}
	b.Do("SET rp.affinity_salt = other\nUSE rp\nAFFINITY_USE_SALT = 0\nAFFINITY_COOKIE_HEADER = N2")
	if got := cookieOf(get(t, url)); got != "N2="+serverID("other", back) {
		t.Errorf("affinity_salt: %q", got)
	}
	for _, bad := range []string{"AFFINITY_SALT pepper", "AFFINITY_SALT =", "AFFINITY_USE_SALT = perhaps", "AFFINITY_COOKIE_HEADER = a;b", "SET rp.affinity_cookie = a;b"} {
		if b.Try(bad) == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	dump := strings.Join(b.Language().Dump(b.State()), "\n")
	if strings.Count(dump, "AFFINITY_COOKIE_HEADER") != 1 || !strings.Contains(dump, "AFFINITY_COOKIE_HEADER = N2") {
		t.Errorf("dumpconfig:\n%s", dump)
	}
}

// An answer that sets somebody's cookie is not kept for others; one that does not is.
func TestSessionAffinityWithCache(t *testing.T) {
	back := balancertest.Backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "body")
	})
	b := start(t, balancertest.Proxy([]string{back}, "SET plugins = sessionaffinity\nSET cache = on"))
	for range 2 {
		if a := get(t, b.URL("rp", "/")); cookieOf(a) == "" || strings.Contains(a.header.Get("Cache-Status"), "hit") {
			t.Errorf("a new client: %v", a.header)
		}
	}
	for i := range 2 {
		a := get(t, b.URL("rp", "/"), "Cookie: X-SERVERID="+serverID("", back))
		if hit := strings.Contains(a.header.Get("Cache-Status"), "hit"); hit != (i == 1) || cookieOf(a) != "" {
			t.Errorf("%d: %v", i, a.header)
		}
	}
	if a := get(t, b.URL("rp", "/")); a.body != "body" || cookieOf(a) != "" {
		t.Errorf("from the cache: %v", a.header)
	}
}
