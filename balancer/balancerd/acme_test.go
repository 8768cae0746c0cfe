package balancerd_test

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/testcert"
)

// resolver answers that every name is this machine.
func resolver(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // Pebble asks over TCP
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	s := &dns.Server{Listener: ln, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1),
			})
		}
		w.WriteMsg(m)
	})}
	go s.ActivateAndServe()
	<-started
	t.Cleanup(func() { s.Shutdown() })
	return ln.Addr().String()
}

// A certificate is had from Let's Encrypt's own test server, by a challenge that is answered on the service's own port. Nobody is asked for an
// address on the terminal where none is configured.
func TestACME(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = out
	defer func() {
		os.Stdout = stdout
		if text, err := os.ReadFile(out.Name()); err != nil || len(text) > 0 {
			t.Errorf("on standard output: %q, %v", text, err)
		}
	}()
	b, dir, addr := startACME(t, "")
	balancertest.Eventually(t, "the certificate is there", func() bool {
		c, err := tls.Dial("tcp", addr, &tls.Config{ServerName: "www.acme.test", InsecureSkipVerify: true})
		if err != nil {
			return false
		}
		defer c.Close()
		names := c.ConnectionState().PeerCertificates[0].DNSNames
		return len(names) == 1 && names[0] == "www.acme.test"
	})
	if !strings.Contains(b.Log.String(), "certificate obtained") {
		t.Error("no word of it in the log")
	}
	for _, name := range []string{"", "other.test"} { // clients that ask for no name, or for one that there is no certificate for, get an answer
		c, err := tls.Dial("tcp", addr, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			t.Errorf("name %q: %v", name, err)
			continue
		}
		c.Close()
	}
	if files, _ := filepath.Glob(dir + "/acme/certificates/*/*/*.crt"); len(files) != 1 {
		t.Errorf("kept: %v", files)
	}
}

// A file's certificate that fits the name is no answer to a challenge for it.
func TestACMEBesideFiles(t *testing.T) {
	cert, key := testcert.Pair(t, t.TempDir(), "wild", 7, "*.acme.test")
	b, _, _ := startACME(t, "SET ssl_cert_file = "+cert+"\nSET ssl_key_file = "+key)
	balancertest.Eventually(t, "the certificate is had, or not", func() bool {
		return strings.Contains(b.Log.String(), "certificate obtained") || strings.Contains(b.Log.String(), "could not be obtained")
	})
	if !strings.Contains(b.Log.String(), "certificate obtained") {
		t.Errorf("it was not obtained: %s", b.Log)
	}
}

// startACME starts a server of ACME, and a balancer with a service that wants a certificate of it; more is said of the service.
func startACME(t *testing.T, more string) (b *balancertest.Balancer, dir, addr string) {
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = ln.Addr().String()
	ln.Close()
	_, port, _ := net.SplitHostPort(addr)
	tlsPort, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "the only one", ValidityPeriod: 90 * 24 * 3600}})
	front := wfe.New(quiet, store, va.New(quiet, 1, tlsPort, false, resolver(t), store), authority, nil, false, false, 0, 0)
	server := httptest.NewTLSServer(front.Handler())
	t.Cleanup(server.Close)
	dir = t.TempDir()
	trust := filepath.Join(dir, "trust.pem")
	if err := os.WriteFile(trust, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := strings.Replace(balancertest.Proxy(names(t, 1), "SET enable_ssl = on\nSET acme_domains = www.acme.test\nSET acme_storage = "+dir+
		"/acme\nSET acme_trust = "+trust+"\nSET acme_directory = "+server.URL+wfe.DirectoryPath+"\n"+more), "127.0.0.1:0", addr, 1)
	return balancertest.Start(t, conf, balancerd.Options{}), dir, addr
}
