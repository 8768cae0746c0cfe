package balancerd_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/config"
	"wheelhouse/internal/testcert"
)

// operator types lines, and returns what a line is answered in place of OK, or its error.
func operator(t *testing.T, b *balancertest.Balancer) func(line string) string {
	said := ""
	c := &config.Context{Say: func(text string) { said = text }}
	return func(line string) string {
		t.Helper()
		cmd, ok, err := config.ParseLine(line, config.Expander{})
		if err != nil || !ok {
			t.Fatal(line, err)
		}
		said = ""
		if err := b.Exec(c, cmd); err != nil {
			return "ERROR: " + err.Error()
		}
		return said
	}
}

// TLS is configured line by line, in any order: what ENABLE wants need not be there before. On a service that listens the keys that it has are
// in force until those that are configured go together.
func TestTLSLineByLine(t *testing.T) {
	dir := t.TempDir()
	c1, k1 := testcert.Pair(t, dir, "one", 1, "one.test")
	c2, k2 := testcert.Pair(t, dir, "two", 2, "two.test")
	b := balancertest.Start(t, "", balancerd.Options{})
	say := operator(t, b)
	const goesOn = "OK; service s goes on with the TLS that it has: "
	for _, step := range []struct {
		line, want string
		one, two   int64 // serial numbers of the certificates for two names, if it listens with TLS
	}{
		{line: "CREATE SERVICE s"},
		{line: "SET role = selector"},
		{line: "SET listen = 127.0.0.1:0"},
		{line: "SET enable_ssl = on"},
		{line: "ENABLE s", want: "ERROR: service s: enable_ssl needs ssl_cert_file and ssl_key_file, or acme_domains"},
		{line: "SET s.ssl_key_file = " + k1},
		{line: "ENABLE s", want: "ERROR: service s: ssl_cert_file names 0 files and ssl_key_file 1"},
		{line: "SET s.ssl_cert_file = " + c2},
		{line: "ENABLE s", want: "ERROR: service s: certificate " + c2 + " with key " + k1 + ": tls: private key does not match public key"},
		{line: "SET s.ssl_cert_file = " + c1},
		{line: "ENABLE s", one: 1, two: 1},
		{line: "SET s.ssl_cert_file = " + c1 + "," + c2, want: goesOn + "ssl_cert_file names 2 files and ssl_key_file 1", one: 1, two: 1},
		{line: "SET s.persist_client = on", want: goesOn + "ssl_cert_file names 2 files and ssl_key_file 1", one: 1, two: 1},
		{line: "CREATE POOL p", one: 1, two: 1},
		{line: "SET s.ssl_key_file = " + k1 + "," + k2, one: 1, two: 2},
		{line: "SET s.ssl_key_file = " + k2, want: goesOn + "ssl_cert_file names 2 files and ssl_key_file 1", one: 1, two: 2},
		{line: "SET s.ssl_cert_file = " + c2, one: 2, two: 2},
		{line: "SET s.ssl_cert_file = " + c1, want: goesOn + "certificate " + c1 + " with key " + k2 + ": tls: private key does not match public key", one: 2, two: 2},
		{line: "SET s.ssl_key_file = " + k1, one: 1, two: 1},
		{line: "SET s.ssl_verify_mode = 3", want: goesOn + "ssl_verify_mode needs ssl_ca_path", one: 1, two: 1},
		{line: "DISABLE s"},
		{line: "ENABLE s", want: "ERROR: service s: ssl_verify_mode needs ssl_ca_path"},
		{line: "SET s.ssl_verify_mode = 0"},
		{line: "ENABLE s", one: 1, two: 1},
	} {
		if got := say(step.line); got != step.want {
			t.Errorf("%s: %q; want %q", step.line, got, step.want)
		}
		if step.one == 0 {
			continue
		}
		one, _ := serialOf(t, b.Addr("s"), "one.test")
		two, _ := serialOf(t, b.Addr("s"), "two.test")
		if one != step.one || two != step.two {
			t.Errorf("after %s the certificates are %d and %d; want %d and %d", step.line, one, two, step.one, step.two)
		}
	}
	if set := b.Service("s").Settings(); !set.PersistClient {
		t.Error("what was set while TLS lacked something is not in force")
	}
}

// A service that listens without TLS does so until everything for TLS is there.
func TestTLSOnARunningService(t *testing.T) {
	cert, key := testcert.Pair(t, t.TempDir(), "one", 1, "one.test")
	b := balancertest.Start(t, balancertest.Proxy(names(t, 1), ""), balancerd.Options{})
	say := operator(t, b)
	for _, line := range []string{"SET rp.enable_ssl = on", "SET rp.ssl_cert_file = " + cert} {
		if got := say(line); !strings.HasPrefix(got, "OK; service rp goes on with the TLS that it has: ") {
			t.Errorf("%s: %q", line, got)
		}
		if res, got := get(t, b.URL("rp", "/")); res.StatusCode != 200 || got != "0" {
			t.Errorf("after %s: %d %q", line, res.StatusCode, got)
		}
	}
	if got := say("SET rp.ssl_key_file = " + key); got != "" {
		t.Errorf("%q", got)
	}
	if serial, _ := serialOf(t, b.Addr("rp"), "one.test"); serial != 1 {
		t.Errorf("certificate %d", serial)
	}
}

// What dumpconfig prints can be typed on the console, line by line.
func TestDumpIsTyped(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Pair(t, dir, "one", 1, "one.test")
	b := balancertest.Start(t, balancertest.Proxy(names(t, 1), fmt.Sprintf("SET enable_ssl = on\nSET ssl_cert_file = %s\nSET ssl_key_file = %s\n"+
		"SET buffer_uploads = on\nSET buffer_uploads_path = %s", cert, key, dir)), balancerd.Options{})
	lines := b.Language().Dump(b.Current())
	again := balancertest.Start(t, "", balancerd.Options{})
	for _, line := range lines {
		again.Do(line)
	}
	if got := again.Language().Dump(again.Current()); strings.Join(got, "\n") != strings.Join(lines, "\n") {
		t.Errorf("%s\nwas typed, and is\n%s", strings.Join(lines, "\n"), strings.Join(got, "\n"))
	}
	if serial, _ := serialOf(t, again.Addr("rp"), "one.test"); serial != 1 {
		t.Errorf("certificate %d", serial)
	}
}

// A console has TLS, and its certificates are read again, where its service says so. Who is connected goes on meanwhile.
func TestConsoleWithTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Pair(t, dir, "one", 1, "one.test")
	file := filepath.Join(dir, "conf")
	text := fmt.Sprintf("CREATE SERVICE m\nSET role = management\nSET listen = 127.0.0.1:0\nSET enable_ssl = on\nSET ssl_cert_file = %s\nSET ssl_key_file = %s\nENABLE m\n", cert, key)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := balancertest.Start(t, "", balancerd.Options{Console: func(_ *balancerd.Balancer, nc net.Conn) { io.Copy(nc, nc) }})
	if err := b.LoadFile(file); err != nil {
		t.Fatal(err)
	}
	dial := func() *tls.Conn {
		t.Helper()
		c, err := tls.Dial("tcp", b.Addr("m"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(30 * time.Second))
		return c
	}
	speak := func(c net.Conn) {
		t.Helper()
		fmt.Fprint(c, "hello\n")
		if got, err := io.ReadAll(io.LimitReader(c, 6)); string(got) != "hello\n" {
			t.Errorf("%q, %v", got, err)
		}
	}
	first := dial()
	speak(first)
	plain, err := net.Dial("tcp", b.Addr("m"))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	fmt.Fprint(plain, "version is what I want to know\n")
	if got, _ := io.ReadAll(plain); strings.Contains(string(got), "version") {
		t.Errorf("without TLS the console says %q", got)
	}
	testcert.Pair(t, dir, "one", 2, "one.test")
	if err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	second := dial()
	if n := second.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); n != 2 {
		t.Errorf("after a reload the certificate is number %d", n)
	}
	speak(second)
	b.Do("SET m.ssl_min_version = 1.3") // a listener of its own
	for _, c := range []net.Conn{first, second, dial()} {
		speak(c)
	}
}

// A console that a proxy stands before has to do with the proxy's client.
func TestConsoleBehindAProxy(t *testing.T) {
	b := balancertest.Start(t, "CREATE SERVICE m\nSET role = management\nSET listen = 127.0.0.1:0\nSET proxy_protocol = on\nENABLE m\n",
		balancerd.Options{Console: func(_ *balancerd.Balancer, nc net.Conn) { fmt.Fprint(nc, nc.RemoteAddr()) }})
	nc, err := net.Dial("tcp", b.Addr("m"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprint(nc, "PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n")
	if got, _ := io.ReadAll(nc); string(got) != "192.0.2.1:1234" {
		t.Errorf("its client is %q", got)
	}
}

// shortListener is out of descriptors at first.
type shortListener struct {
	net.Listener
	failed atomic.Bool
}

func (l *shortListener) Accept() (net.Conn, error) {
	if !l.failed.Swap(true) {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// A console outlives a lack of descriptors: then it is needed most.
func TestConsoleWithoutDescriptors(t *testing.T) {
	b := balancertest.Start(t, "CREATE SERVICE m\nSET role = management\nSET listen = 127.0.0.1:0\nENABLE m\n", balancerd.Options{
		Console: func(_ *balancerd.Balancer, nc net.Conn) { fmt.Fprint(nc, "here") },
		Listen: func(_, addr string) (net.Listener, error) {
			ln, err := net.Listen("tcp", addr)
			return &shortListener{Listener: ln}, err
		},
	})
	nc, err := net.Dial("tcp", b.Addr("m"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	if got, err := io.ReadAll(nc); string(got) != "here" {
		t.Errorf("%q, %v; %s", got, err, b.Log)
	}
}
