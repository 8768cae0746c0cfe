package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/gearman/gearmantest"
	"wheelhouse/gearman/packet"
)

func (p *process) gearman() string { return strings.TrimPrefix(p.ready["gearman"], "gearman://") }

func TestGearmandFlags(t *testing.T) {
	t.Setenv("GEARMAND_PORT", "1234")
	file := writeFile(t, t.TempDir()+"/gearmand.conf", "# as gearmand's\nport=99\nround-robin\nlisten = 10.0.0.1\nexceptions=true\ndaemon=0\n\njob-retries=3\n")
	for _, tt := range []struct {
		args []string
		want func(*gearmandConfig)
	}{
		{nil, func(*gearmandConfig) {}},
		{[]string{"-p4731", "-L", "::1", "--listen=localhost:99", "-dR", "-j", "2", "--verbose", "debug"}, func(g *gearmandConfig) {
			g.port, g.listen, g.daemon, g.opts.RoundRobin, g.opts.Retries, g.level = "4731", []string{"::1", "localhost:99"}, true, true, 2, "DEBUG"
		}},
		{[]string{"--config-file", file, "-L", "::1"}, func(g *gearmandConfig) {
			g.configFile, g.port, g.opts.RoundRobin, g.opts.Exceptions, g.opts.Retries, g.listen = file, "99", true, true, 3, []string{"::1"}
		}},
		{[]string{"-t", "8", "--hashtable-buckets=99", "-q", "builtin", "--coredump"}, func(g *gearmandConfig) {
			g.unused = []string{"threads", "hashtable-buckets", "coredump"}
			g.queue.kind = "builtin"
		}},
	} {
		got, err := parseGearmand(tt.args)
		if err != nil {
			t.Errorf("%q: %v", tt.args, err)
			continue
		}
		want := &gearmandConfig{port: "1234", level: "NOTICE", httpPort: "8080", clientAuth: "off", keepalive: keepalive{-1, -1, -1}}
		tt.want(want)
		if d := cmp.Diff(want, got, cmp.AllowUnexported(gearmandConfig{}, daemonFiles{}, gearmandQueue{}, keepalive{})); d != "" {
			t.Errorf("%q:\n%s", tt.args, d)
		}
	}
}

func TestGearmandBadFlags(t *testing.T) {
	t.Parallel()
	file := writeFile(t, t.TempDir()+"/gearmand.conf", "port=99\nporridge=1\n")
	for args, want := range map[string]string{
		"--porridge":                  "there is no flag --porridge",
		"-z":                          "there is no flag -z",
		"-p":                          "-p wants a value",
		"-j many":                     `-j: "many" is not a number`,
		"-R=1":                        "there is no flag -=",
		"--round-robin=1":             "--round-robin takes no value",
		"extra":                       "unexpected argument: extra",
		"-q libdrizzle":               `-q: there is no queue type "libdrizzle" here`,
		"--verbose LOUD":              `"LOUD" is no level`,
		"-r ftp":                      `there is no protocol "ftp"`,
		"--ssl-key x":                 "--ssl-… flags are given without --ssl",
		"--ssl":                       "--ssl wants --ssl-certificate and --ssl-key",
		"--max-connections -1 -p 0":   "MaxConns (--max-connections) is -1",
		"--config-file " + file:       file + ":2: there is no flag porridge",
		"--config-file /no/such/file": "no such file",
		"-p 0 -u no-such-user-here":   "no-such-user-here",
		"-L 300.1.1.1":                "300.1.1.1",
	} {
		status, out, errOut := runOnce(t, append([]string{"gearmand"}, strings.Fields(args)...)...)
		if status == 0 || out != "" || !strings.Contains(errOut, want) {
			t.Errorf("gearmand %s = %d %q %q; want %q", args, status, out, errOut, want)
		}
	}
}

func TestGearmandHelp(t *testing.T) {
	t.Parallel()
	status, out, _ := runOnce(t, "gearmand", "-h")
	for _, f := range (&gearmandConfig{}).flags() {
		if status != 0 || !strings.Contains(out, "--"+f.long) {
			t.Errorf("-h does not list --%s", f.long)
		}
	}
	if _, out, _ := runOnce(t, "gearmand", "-V"); out != "gearmand "+gearmand.Version+"\n" {
		t.Errorf("-V: %q", out)
	}
}

func TestGearmandProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, "gearmand", "-p", "0", "-L", "127.0.0.1", "-L", "unix:"+dir+"/sock", "-r", "http", "--http-port", "0", "-t", "4",
		"-P", dir+"/pid", "--keepalive", "-b", "64")
	text, err := os.ReadFile(dir + "/pid")
	if err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(p.cmd.Process.Pid) {
		t.Errorf("pid file: %q %v", text, err)
	}
	w := gearmantest.Dial(t, dir+"/sock").Worker("f")
	w.Send(packet.PreSleep)
	c := gearmantest.Dial(t, p.firstGearman())
	h := c.Submit(packet.SubmitJob, "f", "", "x")
	w.Expect(packet.Noop)
	w.Grab()
	w.Send(packet.WorkComplete, h, "r")
	c.Expect(packet.WorkComplete, h, "r")
	for path, want := range map[string]string{"/healthz": "ok\n", "/metrics": `wheelhouse_gearmand_jobs_total{what="completed"} 1`} {
		resp, err := http.Get(p.ready["http"] + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("GET %s = %d %.200q; want %q", path, resp.StatusCode, body, want)
		}
	}
	if !strings.Contains(p.output(), "flags without a meaning here") || !strings.Contains(p.output(), "threads") {
		t.Errorf("the log does not say that -t means nothing:\n%s", p.output())
	}
	p.stop()
	if _, err := os.Stat(dir + "/pid"); err == nil {
		t.Error("the pid file is left")
	}
	c.Closed()
}

// firstGearman is the first address: the ready line names one for each listener, and the map keeps the last.
func (p *process) firstGearman() string {
	text, err := os.ReadFile(p.out)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range strings.Fields(string(text)) {
		if addr, ok := strings.CutPrefix(f, "gearman=gearman://"); ok {
			return addr
		}
	}
	p.t.Fatalf("no address in %q", text)
	return ""
}

// SIGUSR1 lets running jobs finish.
func TestGearmandGraceful(t *testing.T) {
	t.Parallel()
	p := start(t, "gearmand", "-p", "0")
	c, w := gearmantest.Dial(t, p.gearman()), gearmantest.Dial(t, p.gearman()).Worker("f")
	h := c.Submit(packet.SubmitJob, "f", "", "x")
	w.Grab()
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no more connections", func() bool {
		nc, err := net.Dial("tcp", p.gearman())
		if err == nil {
			nc.Close()
		}
		return err != nil
	})
	w.Send(packet.WorkComplete, h, "r")
	c.Expect(packet.WorkComplete, h, "r")
	select {
	case <-p.done:
	case <-time.After(wait):
		t.Fatal("the process does not end")
	}
	if p.err != nil {
		t.Errorf("%v\n%s", p.err, p.output())
	}
}

func TestGearmandShutdownCommand(t *testing.T) {
	t.Parallel()
	p := start(t, "gearmand", "-p", "0", "--allow-shutdown")
	c := gearmantest.Dial(t, p.gearman())
	c.Raw("shutdown\n")
	if l := c.Line(); l != "OK\r" {
		t.Errorf("shutdown: %q", l)
	}
	select {
	case <-p.done:
	case <-time.After(wait):
		t.Fatal("the process does not end")
	}
}

// -d ends when the process in the background is ready.
func TestGearmandDaemon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := program("gearmand", "-d", "-p", "0", "-P", dir+"/pid", "-l", dir+"/log")
	out, err := cmd.Output()
	if err != nil || !strings.HasPrefix(string(out), "ready gearman=gearman://") {
		t.Fatalf("-d: %q %v", out, err)
	}
	text, err := os.ReadFile(dir + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimSpace(strings.TrimPrefix(string(out), "ready gearman=gearman://"))
	gearmantest.Dial(t, addr).Nothing()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has ended", func() bool { _, err := os.Stat(dir + "/pid"); return err != nil })
	status, _, errOut := runOnce(t, "gearmand", "-d", "-L", "300.1.1.1")
	if status != 1 || !strings.Contains(errOut, "did not get ready") {
		t.Errorf("-d that fails = %d %q", status, errOut)
	}
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func pemFile(t *testing.T, name, kind string, der []byte) string {
	return writeFile(t, name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

func newAuthority(t *testing.T, dir string) *authority {
	a := &authority{}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.file = pemFile(t, dir+"/ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) issue(t *testing.T, name string) (certFile, keyFile string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemFile(t, name+".pem", "CERTIFICATE", der), pemFile(t, name+".key", "PRIVATE KEY", keyDER)
}

func TestGearmandTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	cert, key := ca.issue(t, dir+"/server")
	clientCert, clientKey := ca.issue(t, dir+"/client")
	pair, err := tls.LoadX509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(mustParse(t, ca.file))
	for mode, want := range map[string]struct{ without, with bool }{"off": {true, true}, "optional": {true, true}, "demand": {false, true}} {
		p := start(t, "gearmand", "-p", "0", "--ssl", "--ssl-ca-file", ca.file, "--ssl-certificate", cert, "--ssl-key", key, "--ssl-client-auth", mode)
		addr := strings.TrimPrefix(p.ready["gearmans"], "gearmans://")
		try := func(certs ...tls.Certificate) bool {
			c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: certs})
			if err != nil {
				return false
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(wait))
			io.WriteString(c, "version\n")
			answer := make([]byte, 64)
			n, _ := c.Read(answer) // with TLS 1.3 a refusal comes here
			return strings.HasPrefix(string(answer[:n]), "OK ")
		}
		if got := try(); got != want.without {
			t.Errorf("%s: without a certificate: %v; want %v", mode, got, want.without)
		}
		if got := try(pair); got != want.with {
			t.Errorf("%s: with a certificate: %v; want %v", mode, got, want.with)
		}
		p.stop()
	}
}

func mustParse(t *testing.T, file string) *x509.Certificate {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
