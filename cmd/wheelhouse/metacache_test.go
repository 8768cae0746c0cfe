package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"wheelhouse/internal/freeport"
	"wheelhouse/memcache/memcachetest"
	"wheelhouse/store"
)

// getText returns the status and the body of a GET.
func getText(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func putText(t *testing.T, url, body string) {
	t.Helper()
	if status, err := request(http.DefaultClient, "PUT", url, []byte(body)); err != nil || status/100 != 2 {
		t.Fatal(status, err)
	}
}

// hitsGrow reads an object until the cache answers.
func hitsGrow(t *testing.T, url, object, want string) {
	t.Helper()
	const hits = `wheelhouse_metacache_lookups_total{result="hit"}`
	before := metric(t, url, hits)
	eventually(t, "look-ups are answered by the cache server", func() bool {
		if status, text := getText(t, url+object); status != 200 || text != want {
			t.Fatalf("%s: %d %q; want %q", object, status, text, want)
		}
		return metric(t, url, hits) > before
	})
}

// up with a cache server of its own: put, get, delete, get; and an operator does not see what processes agree on.
func TestUpWithLocalCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := upArgs(dir, "--set", "metacache.servers=local", "--set", "metacache.memory=8MiB", "--set", "dispatcher.hot_cache=0")
	p := start(t, args...)
	url := p.ready["http"]
	putText(t, url+"/b", "")
	putText(t, url+"/b/x", "one")
	hitsGrow(t, url, "/b/x", "one")
	putText(t, url+"/b/x", "two")
	hitsGrow(t, url, "/b/x", "two")
	sock := filepath.Join(dir, localSocket)
	c := memcachetest.Dial(t, sock)
	if n, err := strconv.Atoi(c.Stats("")["get_hits"]); err != nil || n == 0 {
		t.Errorf("the server counts %d hits, %v", n, err)
	}
	if got := c.Stats("settings")["maxbytes"]; got != "8388608" {
		t.Errorf("maxbytes %s", got)
	}
	if st, err := os.Stat(sock); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v; want mode 0600", st.Mode(), err)
	}
	if status, err := request(http.DefaultClient, "DELETE", url+"/b/x", nil); err != nil || status != 204 {
		t.Fatal(status, err)
	}
	for range 3 {
		if status, _ := getText(t, url+"/b/x"); status != 404 {
			t.Errorf("after the delete: %d", status)
		}
	}
	if _, text := getText(t, url+"/-/settings"); strings.Contains(text, "metacache") {
		t.Errorf("settings: %s", text)
	}
	if status, _, errOut := runOnce(t, "operation", "limit", "metacache.servers", "x", "--server", url); status == 0 {
		t.Errorf("an operator has set what processes agree on: %s", errOut)
	}
	putText(t, url+"/b/x", "three")
	hitsGrow(t, url, "/b/x", "three")
	p.stop()
	if _, err := os.Stat(sock); !os.IsNotExist(err) {
		t.Errorf("after the end the socket is there: %v", err)
	}

	// Without a cache server for a while: what is written then is seen afterwards.
	p = start(t, upArgs(dir)...)
	putText(t, p.ready["http"]+"/b/x", "four")
	p.stop()
	p = start(t, args...)
	hitsGrow(t, p.ready["http"], "/b/x", "four")
}

// up with a server elsewhere, which dies: all goes on, and what is read is right.
func TestCacheServerDies(t *testing.T) {
	t.Parallel()
	addr := freeport.ForTest(t)
	cache := start(t, "memcached", "-l", addr)
	p := start(t, upArgs(t.TempDir(), "--set", "metacache.servers="+addr, "--set", "dispatcher.hot_cache=0")...)
	url := p.ready["http"]
	putText(t, url+"/b", "")
	putText(t, url+"/b/x", "one")
	hitsGrow(t, url, "/b/x", "one")
	cache.kill()
	putText(t, url+"/b/x", "two")
	for range 5 {
		if status, text := getText(t, url+"/b/x"); status != 200 || text != "two" {
			t.Errorf("without the cache: %d %q", status, text)
		}
	}
	putText(t, url+"/b/x", "three")
	if n := metric(t, url, "wheelhouse_metacache_servers_used"); n != 0 {
		t.Errorf("%g servers are used; the only one is dead", n)
	}
	if _, screen, _ := runOnce(t, "status", "--server", url); !strings.Contains(screen, "CACHES 0 of 1 in use, ") || !strings.Contains(screen, addr+" out") {
		t.Errorf("status does not show that the cache server is out:\n%s", screen)
	}
	start(t, "memcached", "-l", addr)
	hitsGrow(t, url, "/b/x", "three")
	var s store.Status
	if _, text, _ := runOnce(t, "status", "--json", "--server", url); json.Unmarshal([]byte(text), &s) != nil || s.Lookups == nil ||
		!slices.Equal(s.Lookups.Servers, []store.LookupServer{{Addr: addr, State: "in"}}) || s.Lookups.Hits == 0 || s.Lookups.Failures == 0 {
		t.Errorf("status: %+v", s.Lookups)
	}
}

// A server that could have after a crash what was deleted before it is not used, and the log says why.
func TestCacheServerWithSnapshot(t *testing.T) {
	t.Parallel()
	addr := freeport.ForTest(t)
	cache := start(t, "memcached", "-l", addr, "--snapshot", filepath.Join(t.TempDir(), "snapshot"))
	p := start(t, upArgs(t.TempDir(), "--set", "metacache.servers="+addr, "--set", "dispatcher.hot_cache=0")...)
	url := p.ready["http"]
	putText(t, url+"/b", "")
	putText(t, url+"/b/x", "one")
	eventually(t, "it is logged that the server is not used", func() bool {
		getText(t, url+"/b/x")
		text, err := os.ReadFile(p.log)
		return err == nil && strings.Contains(string(text), "start it without --snapshot")
	})
	cache.stop()
	start(t, "memcached", "-l", addr)
	hitsGrow(t, url, "/b/x", "one")
}

// A dispatcher and workers as processes of their own share a cache server.
func TestPartsShareCache(t *testing.T) {
	t.Parallel()
	s := startParts(t)
	addr := freeport.ForTest(t)
	start(t, "memcached", "-l", addr)
	putText(t, s.url+"/b/x", "one")
	s.running["dispatcher"].stop()
	plain := s.configs["dispatcher"]
	s.configs["dispatcher"] += "hot_cache = 0\n[metacache]\nservers = [\"" + addr + "\"]\n"
	s.start("dispatcher")
	hitsGrow(t, s.url, "/b/x", "one")
	// A second one without the section: what it writes the first one sees.
	s.configs["dispatcher2"] = strings.Replace(plain, s.addrs["dispatcher"], freeport.ForTest(t), 1)
	file := writeFile(t, filepath.Join(s.dir, "dispatcher2.toml"), s.configs["dispatcher2"])
	other := start(t, "dispatcher", "--config", file).ready["http"]
	for _, text := range []string{"two", "three", "four"} {
		putText(t, other+"/b/x", text)
		hitsGrow(t, s.url, "/b/x", text)
	}
}

func TestMetacacheConfiguration(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ set, want string }{
		{"metacache.servers=a b", "metacache: memcache: server"},
		{"metacache.servers=unix:x.sock", "want the whole path of a socket"},
		{"metacache.servers=127.0.0.1,127.0.0.1:11211", "stands there twice"},
		{"metacache.timeout=0s", "metacache: timeout 0s: want more than 0s"},
		{"metacache.timeout=1m", "metacache: timeout 1m0s: want up to 10s"},
		{"metacache.memory=1 KiB", "want at least 1 MiB"},
	} {
		status, _, errOut := runOnce(t, upArgs(t.TempDir(), "--set", tt.set)...)
		if status == 0 || !strings.Contains(errOut, tt.want) {
			t.Errorf("%s: %d %q; want %q", tt.set, status, errOut, tt.want)
		}
	}
	status, _, errOut := runOnce(t, "dispatcher", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--auth", "none", "--set", "metacache.servers=local")
	if status == 0 || !strings.Contains(errOut, "local is for wheelhouse up alone") {
		t.Errorf("local in a dispatcher: %d %q", status, errOut)
	}
}
