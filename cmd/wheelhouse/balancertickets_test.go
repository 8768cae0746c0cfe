package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wheelhouse/internal/service"
	"wheelhouse/internal/testcert"
)

// tlsVisitors are clients of TLS 1.2 and 1.3 that keep their sessions.
type tlsVisitors map[uint16]*tls.Config

func newTLSVisitors() tlsVisitors {
	v := tlsVisitors{}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		v[version] = &tls.Config{ServerName: "a.test", InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	}
	return v
}

// visit has each of them make a request, and demands that their sessions are resumed, or not.
func (v tlsVisitors) visit(t *testing.T, addr, when string, resumed bool) {
	t.Helper()
	for version, conf := range v {
		nc, err := net.DialTimeout("tcp", addr, wait)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if err := nc.SetDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		c := tls.Client(nc, conf)
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
		if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 ") { // tickets come with the answer
			t.Fatalf("%s: %q, %v", when, got, err)
		}
		if got := c.ConnectionState().DidResume; got != resumed {
			t.Errorf("%s, %s: the session was resumed: %v; want %v", tls.VersionName(version), when, got, resumed)
		}
	}
}

// Clients go on with their TLS sessions after the program was replaced, twice.
func TestBalancerUpgradeKeepsTLSSessions(t *testing.T) {
	cert, key := testcert.Pair(t, t.TempDir(), "a", 1, "a.test")
	file := balancerFile(t, httpNode(t, "one"), "SET rp.enable_ssl = on\nSET rp.enable_http2 = on\nSET rp.ssl_cert_file = "+cert+"\nSET rp.ssl_key_file = "+key)
	p := start(t, "balancer", "-c", file)
	addr := strings.TrimPrefix(p.ready["rp"], "https://")
	visitors := newTLSVisitors()
	visitors.visit(t, addr, "at first", false)
	pid := p.cmd.Process.Pid
	for i := range 2 {
		old := pid
		if err := syscall.Kill(old, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a new process serves, and the old one has ended", func() bool {
			text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "pid"))
			if err == nil {
				pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
			}
			return err == nil && pid != old && syscall.Kill(old, 0) != nil
		})
		visitors.visit(t, addr, fmt.Sprintf("after upgrade %d", i+1), true)
	}
	stopPID(t, pid)
}

// The same inside up.
func TestUpRestartKeepsTLSSessions(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Pair(t, dir, "a", 1, "a.test")
	addr := unusedAddr(t)
	file := writeFile(t, filepath.Join(dir, "more.conf"), fmt.Sprintf(`CREATE SERVICE side
  SET role = reverse_proxy
  SET listen = %s
  SET pool = store_pool
  SET enable_ssl = on
  SET ssl_cert_file = %s
  SET ssl_key_file = %s
ENABLE side
`, addr, cert, key))
	data := filepath.Join(dir, "data")
	p := start(t, "up", "--data", data, "--listen", "127.0.0.1:0", "--auth", "none", "--set", "balancer.config="+file)
	visitors := newTLSVisitors()
	visitors.visit(t, addr, "at first", false)
	if status, out, errOut := runOnce(t, "restart", "--data", data, "--timeout", wait.String()); status != 0 {
		t.Fatalf("restart = %d %s %s\n%s", status, out, errOut, p.output())
	}
	visitors.visit(t, addr, "after a restart", true)
	<-p.done
	now, err := service.ReadHolder(data)
	if err != nil || now.PID == p.cmd.Process.Pid {
		t.Fatalf("holder %+v, %v", now, err)
	}
	stopPID(t, now.PID)
}
