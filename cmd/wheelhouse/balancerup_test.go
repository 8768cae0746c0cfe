package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"wheelhouse/internal/testcert"
)

// Where there is no file to read again, SIGHUP ends up as SIGTERM does, and cuts nothing.
func TestHangUpStops(t *testing.T) {
	p := start(t, "up", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--auth", "none", "--set", "log.level=info")
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if <-p.done; p.err != nil || !strings.Contains(p.output(), "stopping") {
		t.Errorf("it ended with %v\n%s", p.err, p.output())
	}
}

// Inside up a file adds a console and services to the balancer: the console answers, the store is served through a further service, RELOAD
// reads the file again, and a wrong one changes nothing.
func TestUpWithBalancerConfig(t *testing.T) {
	dir := t.TempDir()
	console, side, third := unusedAddr(t), unusedAddr(t), unusedAddr(t)
	file := filepath.Join(dir, "more.conf")
	text := fmt.Sprintf(`CREATE SERVICE mgmt
  SET role = management
  SET listen = %s
ENABLE mgmt
CREATE SERVICE side
  SET role = reverse_proxy
  SET listen = %s
  SET pool = store_pool
  SET enable_reproxy = on
  SET persist_client = on
ENABLE side
`, console, side)
	writeFile(t, file, text)
	first := side
	p := start(t, "up", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--auth", "none", "--set", "balancer.config="+file, "--set", "log.level=error")
	says := func(command string) string {
		t.Helper()
		return consoleSays(t, "http://"+console, command)
	}
	if got := says("show service side"); got != "SERVICE side" {
		t.Errorf("the console answers %q", got)
	}
	for _, args := range [][]string{
		{"bucket", "create", "--server", p.ready["http"], "b"},
		{"put", "--server", p.ready["http"], "--name", "o", "b", writeFile(t, filepath.Join(dir, "o"), "words")},
	} {
		if status, out, errOut := runOnce(t, args...); status != 0 {
			t.Fatal(args, out, errOut)
		}
	}
	served := func() {
		t.Helper()
		for _, url := range []string{p.ready["http"], "http://" + side} {
			if got := webText(t, url+"/b/o"); got != "words" {
				t.Errorf("%s serves %q", url, got)
			}
		}
	}
	served()
	for _, wrong := range []string{"SET side.nonsense = 1\n", "CREATE SERVICE x\nSET role = web_server\nSET listen = " + p.ready["http"][len("http://"):] + "\nENABLE x\n", "SERVER metrics_listen = 127.0.0.1:0\n"} {
		writeFile(t, file, text+wrong)
		if got := says("reload"); !strings.HasPrefix(got, "ERROR: ") {
			t.Errorf("reload with %q: %q", wrong, got)
		}
		served()
	}
	if got := says("reload " + file); !strings.HasPrefix(got, "ERROR: ") {
		t.Errorf("reload of a file, which would take the store away: %q", got)
	}
	served()
	writeFile(t, file, strings.Replace(text, side, third, 1))
	if got := says("reload"); got != "OK" {
		t.Errorf("reload: %q", got)
	}
	eventually(t, "the old address is no longer listened on", func() bool {
		nc, err := net.Dial("tcp", side)
		if err == nil {
			nc.Close()
		}
		return err != nil
	})
	side = third
	served()
	hup := func() {
		t.Helper()
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, file, text+"SET side.nonsense = 1\n")
	hup()
	eventually(t, "the log says that the file is wrong", func() bool { return strings.Contains(p.output(), "nothing has changed") })
	served()
	side = unusedAddr(t)
	writeFile(t, file, strings.Replace(text, first, side, 1))
	hup()
	eventually(t, "the service has moved", func() bool {
		nc, err := net.Dial("tcp", side)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	served()
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil { // access logs are opened anew
		t.Fatal(err)
	}
	served()
	if res, err := http.Get("http://" + console + "/status.json"); err != nil || res.StatusCode != 200 {
		t.Errorf("the status page: %v", err)
	} else {
		res.Body.Close()
	}
}

// The store over TLS and HTTP/2, with the file that docs/ops/running.md gives.
func TestUpOverTLS(t *testing.T) {
	doc, err := os.ReadFile("../../docs/ops/running.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "# /etc/wheelhouse-front.conf\n")
	conf, _, end := strings.Cut(rest, "ENABLE https")
	if !ok || !end {
		t.Fatal("running.md has no such file any more")
	}
	dir := t.TempDir()
	cert, key := testcert.Pair(t, dir, "store", 1, "localhost")
	addr := unusedAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	conf = strings.NewReplacer("0.0.0.0:443", addr, "/etc/ssl/store.pem", cert, "/etc/ssl/store.key", key).Replace(conf) + "ENABLE https\n"
	file := writeFile(t, filepath.Join(dir, "front.conf"), conf)
	p := start(t, "up", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--set", "balancer.config="+file, "--set", "log.level=error")
	root, err := os.ReadFile(filepath.Join(dir, "data", "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	photo := filepath.Join(dir, "photo")
	if err := os.WriteFile(photo, bytes.Repeat([]byte("photo"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	curl := fmt.Sprintf("curl -sS --fail --cacert %s -u %s", cert, strings.TrimSpace(string(root)))
	script := fmt.Sprintf(`set -e
%[1]s -X PUT https://%[2]s/b >/dev/null
%[1]s -T %[3]s https://%[2]s/b/photo -o /dev/null -w 'HTTP/%%{http_version} '
%[1]s https://%[2]s/b/photo | cmp - %[3]s
curl -sS --cacert %[4]s https://%[2]s/b/photo -o /dev/null -w '%%{http_code}'`, curl, "localhost:"+port, photo, cert)
	if out, err := shell(script); err != nil || out != "HTTP/2 401" {
		t.Errorf("%q, %v\n%s", out, err, p.output())
	}
}

// Where nobody is asked for a key, no service of the file opens the store to other machines.
func TestUpWithoutKeysStaysOnLoopback(t *testing.T) {
	for _, tt := range []struct {
		service string
		refused bool
	}{
		{"CREATE SERVICE x\nSET role = reverse_proxy\nSET pool = store_pool\nSET listen = 0.0.0.0:%d\nENABLE x\n", true},
		{"CREATE SERVICE x\nSET role = reverse_proxy\nSET pool = store_pool\nSET listen = %d\nENABLE x\n", true},
		{"LOAD vhosts\nCREATE SERVICE x\nSET role = selector\nSET plugins = vhosts\nSET listen = [::]:%d\nVHOST * = store\nENABLE x\n", true},
		{"CREATE SERVICE x\nSET role = reverse_proxy\nSET pool = store_pool\nSET listen = 127.0.0.1:%d\nENABLE x\n", false},
		{"CREATE SERVICE x\nSET role = web_server\nSET docroot = /tmp\nSET listen = 0.0.0.0:%d\nENABLE x\n", false},
	} {
		dir := t.TempDir()
		_, port, _ := net.SplitHostPort(unusedAddr(t))
		file := writeFile(t, filepath.Join(dir, "front.conf"), strings.ReplaceAll(tt.service, "%d", port))
		args := []string{"up", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--auth", "none", "--set", "balancer.config=" + file, "--set", "log.level=error"}
		if !tt.refused {
			start(t, args...).stop()
			continue
		}
		if status, _, errOut := runOnce(t, args...); status == 0 || !strings.Contains(errOut, "dispatcher.auth is none") || !strings.Contains(errOut, "service x") {
			t.Errorf("%s: status %d, %s", tt.service, status, errOut)
		}
	}
}
