package balancerd_test

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/freeport"
	"wheelhouse/internal/http1"
)

// daemon starts a server of Debian's that ends with the test, and waits until it listens.
func daemon(t *testing.T, addr, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	balancertest.Eventually(t, name+" listens", func() bool {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
}

// startNginx and startApache serve the files of a directory.
func startNginx(t *testing.T, root string) string {
	addr, dir := freeport.ForTest(t), t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	text := "daemon off; pid DIR/pid; error_log stderr; events {} http { access_log off; client_body_temp_path DIR/b; proxy_temp_path DIR/p;\n" +
		"fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s; gzip on; gzip_types *; gzip_http_version 1.1;\n" +
		"server { listen " + addr + "; root " + root + "; } }"
	if os.Geteuid() == 0 {
		text = "user root; " + text
	}
	if err := os.WriteFile(conf, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon(t, addr, "nginx", "-c", conf, "-p", dir, "-e", "stderr")
	return addr
}

func startApache(t *testing.T, root string) string {
	addr, dir := freeport.ForTest(t), t.TempDir()
	conf := filepath.Join(dir, "apache.conf")
	text := "ServerRoot DIR\nPidFile DIR/pid\nServerName localhost\nListen " + addr + "\nErrorLog DIR/error.log\nMutex file:DIR default\n" +
		"LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\nLoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n" +
		"DocumentRoot " + root + "\nKeepAlive On\n<Directory />\nRequire all granted\n</Directory>\n"
	if os.Geteuid() == 0 {
		text += "User www-data\nGroup www-data\n"
	}
	if err := os.WriteFile(conf, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	daemon(t, addr, "apache2", "-f", conf, "-DFOREGROUND")
	return addr
}

// Debian's nginx and Apache are backends like any other.
func TestRealBackends(t *testing.T) {
	root := t.TempDir()
	for d := root; d != "/" && d != "/tmp"; d = filepath.Dir(d) { // Apache's workers are another user
		os.Chmod(d, 0o755)
	}
	files := map[string]string{"small.txt": letters(500), "page.html": letters(40000), "big.bin": letters(3 << 20)}
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for who, node := range map[string]string{"nginx": startNginx(t, root), "Apache": startApache(t, root)} {
		b := balancertest.Start(t, balancertest.Proxy([]string{node}, "SET verify_backend = on\nSET verify_backend_path = /small.txt"), balancerd.Options{})
		for name, body := range files {
			for range 3 {
				res, got := get(t, b.URL("rp", "/"+name), with("Accept-Encoding", "identity"))
				if res.StatusCode != 200 || got != body {
					t.Errorf("%s: %s: %d, %d bytes", who, name, res.StatusCode, len(got))
				}
			}
			res, got := get(t, b.URL("rp", "/"+name), with("Range", "bytes=100-199"))
			if res.StatusCode != 206 || got != body[100:200] {
				t.Errorf("%s: %s: a range: %d, %d bytes", who, name, res.StatusCode, len(got))
			}
			if res, _ := get(t, b.URL("rp", "/"+name), with("If-None-Match", res.Header.Get("ETag"))); res.StatusCode != 304 {
				t.Errorf("%s: %s: conditional: %d", who, name, res.StatusCode)
			}
			if res, got := do(t, "HEAD", b.URL("rp", "/"+name), nil); res.StatusCode != 200 || res.ContentLength != int64(len(body)) || got != "" {
				t.Errorf("%s: %s: HEAD: %d %d", who, name, res.StatusCode, res.ContentLength)
			}
			out, err := exec.CommandContext(t.Context(), "curl", "-sf", "--compressed", b.URL("rp", "/"+name)).Output()
			if err != nil || string(out) != body {
				t.Errorf("%s: %s: curl --compressed: %v, %d bytes", who, name, err, len(out))
			}
		}
		if res, _ := get(t, b.URL("rp", "/none")); res.StatusCode != 404 {
			t.Errorf("%s: a file that is not there: %d", who, res.StatusCode)
		}
		if n := b.Pools()[0].Nodes()[0]; n.Connects.Load() > 4 {
			t.Errorf("%s: %d connections for %d requests one after the other", who, n.Connects.Load(), n.Requests.Load())
		}
	}
}

// A browser's WebSocket goes through.
func TestWebSocketOfABrowser(t *testing.T) {
	page := `<!doctype html><title>t</title><body>waiting<script>
let s = new WebSocket("ws://" + location.host + "/ws"), got = [];
s.onopen = () => { s.send("one"); s.send("two"); };
s.onmessage = e => { got.push(e.data); if (got.length == 2) { document.title = "got " + got.join("+"); fetch("/done"); } };
s.onerror = () => { document.title = "failed"; fetch("/done"); };
</script><img src=/slow>`
	done := make(chan struct{}) // the page is complete, and its DOM printed, when /slow is answered
	var once sync.Once
	back := balancertest.Engine(t, func(x http1.Exchange) {
		q := x.Request()
		switch string(q.Path) {
		case "/done":
			once.Do(func() { close(done) })
			x.Reply(204, nil)
			return
		case "/slow":
			select {
			case <-done:
			case <-x.Context().Done():
			}
			x.Reply(404, nil)
			return
		case "/":
			x.Header().Set("Content-Type", "text/html")
			x.Reply(200, []byte(page))
			return
		}
		sum := sha1.Sum([]byte(q.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 §4.2.2
		x.Header().Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
		nc, err := x.(http1.Switcher).Switch("websocket")
		if err != nil {
			t.Error(err)
			return
		}
		echoFrames(nc)
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, ""), balancerd.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--user-data-dir="+t.TempDir(), "--dump-dom", b.URL("rp", "/")).Output()
	if err != nil || !strings.Contains(string(out), "<title>got one+two</title>") {
		t.Errorf("%v: %s", err, out)
	}
}

// echoFrames sends short masked frames back without their masks (RFC 6455 §5.2).
func echoFrames(nc net.Conn) {
	var h [6]byte
	for {
		if _, err := io.ReadFull(nc, h[:]); err != nil || h[0] != 0x81 || h[1]&0x80 == 0 {
			return
		}
		p := make([]byte, h[1]&0x7f)
		if _, err := io.ReadFull(nc, p); err != nil {
			return
		}
		for i := range p {
			p[i] ^= h[2+i%4]
		}
		if _, err := nc.Write(append([]byte{0x81, byte(len(p))}, p...)); err != nil {
			return
		}
	}
}
