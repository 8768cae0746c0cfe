package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wheelhouse/internal/freeport"
	"wheelhouse/store"
)

// balancerConf is a reverse_proxy before a node; more are further lines.
func balancerConf(listen, node, more string) string {
	return "CREATE POOL p\n  POOL p ADD " + node + "\nCREATE SERVICE rp\n  SET role = reverse_proxy\n  SET listen = " + listen + "\n  SET pool = p\n" +
		"  SET persist_client = on\n  SET persist_backend = on\n  SET backend_persist_cache = 50\n" + more + "ENABLE rp\n"
}

// tenK is a backend with one answer.
func tenK(t *testing.T) (node string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("0123456789", 1024)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		io.WriteString(w, body)
	})}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return ln.Addr().String()
}

// Reloads and new processes under load: none of a hundred thousand requests fails, and no client's connection is cut.
func TestBalancerReloadsAndUpgradesUnderLoad(t *testing.T) {
	node, dir := tenK(t), t.TempDir()
	addr := freeport.ForTest(t)
	file := writeFile(t, filepath.Join(dir, "perlbal.conf"), balancerConf(addr, node, "")+"SERVER pidfile = "+dir+"/pid\n")
	p := start(t, "balancer", "--config", file)
	pid := p.cmd.Process.Pid
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
	const clients, total = 16, 100_000
	var asked atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			r := bufio.NewReaderSize(nc, 16<<10)
			for asked.Add(1) <= total {
				if err := askTenK(nc, r); err != nil {
					t.Errorf("request %d: %v", asked.Load(), err)
					return
				}
			}
		})
	}
	for i := range 6 {
		after := int64(total * (i + 1) / 8)
		eventually(t, "requests go on", func() bool { return asked.Load() > after || t.Failed() })
		if t.Failed() {
			break
		}
		if i%2 == 0 {
			writeFile(t, file, balancerConf(addr, node, fmt.Sprintf("  SET connect_ahead = %d\n", i))+"SERVER pidfile = "+dir+"/pid\n")
			if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		old := pid
		eventually(t, "a new process has taken over", func() bool {
			text, err := os.ReadFile(dir + "/pid")
			if err != nil {
				return false
			}
			n, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err == nil && n != old {
				pid = n
			}
			return pid != old && (i > 1 || exited(p))
		})
	}
	all.Wait()
	if n := asked.Load(); n < total {
		t.Errorf("%d of %d requests were made", n, total)
	}
	if t.Failed() {
		t.Log(p.output())
	}
	stopPID(t, pid)
}

func exited(p *process) bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// askTenK makes one request on a connection that must live on.
func askTenK(nc net.Conn, r *bufio.Reader) error {
	if err := nc.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return fmt.Errorf("read head: %w", err)
	}
	n, err := io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if err != nil || n != 10240 || res.StatusCode != 200 || res.Close {
		return fmt.Errorf("status %d, %d bytes, close %v: %w", res.StatusCode, n, res.Close, err)
	}
	return nil
}

// Fifteen thousand clients that are silent, or that trickle their heads, cost little memory and nobody else's service.
func TestBalancerSlowClients(t *testing.T) {
	const n, perClient = 15_000, raceMemory * 10 << 10
	addr := freeport.ForTest(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "perlbal.conf"), balancerConf(addr, tenK(t), "  SET idle_timeout = 600\n  SET client_header_timeout = 600\n  SET persist_client_idle_timeout = 600\n"))
	p := start(t, "balancer", "--config", file)
	ask := func() {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		r := bufio.NewReader(nc)
		for range 50 {
			if err := askTenK(nc, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask()
	before := residentSize(t, p.cmd.Process.Pid)
	conns := make([]net.Conn, n)
	for i := range conns {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		defer nc.Close()
		conns[i] = nc
		if i%2 == 0 {
			io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
		}
	}
	for i := 0; i < n; i += 2 {
		io.WriteString(conns[i], "x")
	}
	ask()
	grown := (residentSize(t, p.cmd.Process.Pid) - before) / n
	t.Logf("%d bytes for each of %d clients", grown, n)
	if grown > perClient {
		t.Errorf("a silent or trickling client costs %d bytes; want at most %d", grown, perClient)
	}
	// One of those that trickle may come to its end at last.
	io.WriteString(conns[0], "\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(conns[0]), nil); err != nil || res.StatusCode != 200 {
		t.Errorf("the head that was complete at last: %v %v", res, err)
	}
}

// residentSize is VmRSS in bytes.
func residentSize(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// The balancer before dispatchers of their own processes fetches from the storages itself, and goes on with another when one dies.
func TestBalancerBeforeTheStore(t *testing.T) {
	s := startParts(t)
	s.configs["dispatcher"] += "proxies = [\"127.0.0.0/8\"]\n"
	s.running["dispatcher"].stop()
	s.start("dispatcher")
	addr := freeport.ForTest(t)
	file := writeFile(t, filepath.Join(s.dir, "perlbal.conf"), balancerConf(addr, s.addrs["dispatcher"], "  SET enable_reproxy = on\n  SET access_log = "+s.dir+"/access\n  SET access_log_format = json\n"))
	start(t, "balancer", "--config", file)
	url := "http://" + addr
	bodies := putSome(t, url, 20, 300_000)
	wantBodies(t, url, bodies)
	eventually(t, "the log says that storages answered", func() bool {
		text, err := os.ReadFile(s.dir + "/access")
		return err == nil && strings.Contains(string(text), s.addrs["storaged1"])
	})
	s.running["storaged1"].kill()
	wantBodies(t, url, bodies)
	for name, body := range bodies {
		req, err := http.NewRequest("GET", url+"/b/"+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", "bytes=1000-1999")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 206 || string(got) != string(body[1000:2000]) || err != nil {
			t.Fatalf("%s: a range: %d, %d bytes, %v", name, res.StatusCode, len(got), err)
		}
	}
}

// What is private is asked about each time, also when the balancer inside up keeps it.
func TestPrivateObjectsInTheCache(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "up", "--data", dir, "--listen", "127.0.0.1:0", "--auth", "keys", "--set", "balancer.cache=16MiB", "--set", "log.level=warn")
	url := p.ready["http"]
	text, err := os.ReadFile(dir + "/root.key")
	if err != nil {
		t.Fatal(err)
	}
	key, err := store.ParseKey(string(text))
	if err != nil {
		t.Fatal(err)
	}
	api, err := store.NewClient(url, store.ClientOptions{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	credentials := []string{"--server", url, "--key", key.ID + ":" + key.Secret}
	for _, args := range [][]string{
		append(append([]string{"bucket", "create"}, credentials...), "closed"),
		append(append([]string{"put"}, credentials...), "--name", "o", "closed", writeFile(t, dir+"/file", "secret words")),
	} {
		if status, out, errOut := runOnce(t, args...); status != 0 {
			t.Fatal(args, out, errOut)
		}
	}
	anonymous := func(u string) (status int, body, cache string) {
		t.Helper()
		res, err := http.Get(u)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		for name := range res.Header {
			if strings.HasPrefix(name, "X-Reproxy") {
				t.Errorf("%s: the client was told %s: %s", u, name, res.Header.Get(name))
			}
		}
		return res.StatusCode, string(text), res.Header.Get("Cache-Status")
	}
	// Who has the key gets it, twice, by the very URL that who has none is refused.
	for range 2 {
		r, _, err := api.Get(t.Context(), "closed", "o", 0)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		r.Close()
		if err != nil || string(text) != "secret words" {
			t.Fatalf("%q %v", text, err)
		}
		if status, body, _ := anonymous(url + "/closed/o"); status != 401 || strings.Contains(body, "secret") {
			t.Fatalf("without a key: %d %q", status, body)
		}
	}
	// What everybody could have is nobody's as soon as the bucket is closed, though the cache still has it.
	if err := api.UpdateBucket(t.Context(), "closed", store.BucketAttributes{Access: "public-read"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the open bucket's object comes out of the cache", func() bool {
		status, body, cache := anonymous(url + "/closed/o")
		return status == 200 && body == "secret words" && strings.Contains(cache, "hit")
	})
	if err := api.UpdateBucket(t.Context(), "closed", store.BucketAttributes{Access: "private"}); err != nil {
		t.Fatal(err)
	}
	if status, body, _ := anonymous(url + "/closed/o"); status != 401 || strings.Contains(body, "secret") {
		t.Fatalf("the bucket is closed: %d %q", status, body)
	}
	signed := api.SignedURL("GET", "closed", "o", time.Now().Add(time.Hour))
	for range 3 {
		res, err := http.Get(signed)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 || string(body) != "secret words" || !strings.HasPrefix(res.Header.Get("Cache-Control"), "private") {
			t.Fatalf("signed: %d %q %v", res.StatusCode, body, res.Header)
		}
		for _, other := range []string{url + "/closed/o", strings.Replace(signed, "closed/o", "closed/o2", 1), signed[:len(signed)-2] + "xx"} {
			res, err := http.Get(other)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode == 200 || strings.Contains(string(body), "secret") {
				t.Fatalf("%s: %d %q", other, res.StatusCode, body)
			}
		}
	}
	if status, body, cache := anonymous(signed); status != 200 || body != "secret words" || !strings.Contains(cache, "fwd-status=304") {
		t.Errorf("it was not asked about, or never kept: %d %q, Cache-Status %q", status, body, cache)
	}
	if err := api.Delete(t.Context(), "closed", "o"); err != nil {
		t.Fatal(err)
	}
	if status, body, _ := anonymous(signed); status != 404 || strings.Contains(body, "secret") {
		t.Errorf("it was deleted: %d %q", status, body)
	}
}
