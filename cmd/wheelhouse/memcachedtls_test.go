package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wheelhouse/internal/freeport"
	"wheelhouse/memcache/memcachetest"
)

func TestMemcachedTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority := newAuthority(t, dir)
	cert, key := authority.issue(t, dir+"/server")
	p := start(t, "memcached", "-p", "0", "-Z", "-l", "127.0.0.1", "-o", "ssl_chain_cert="+cert+",ssl_key="+key)
	addr := strings.TrimPrefix(p.ready["memcacheds"], "memcacheds://")
	pem, err := os.ReadFile(authority.file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(addr string, conf *tls.Config) *memcachetest.Conn {
		conf.RootCAs, conf.ServerName = pool, "localhost"
		nc, err := tls.Dial("tcp", addr, conf)
		if err != nil {
			t.Fatal(err)
		}
		return memcachetest.New(t, nc)
	}
	c := dial(addr, &tls.Config{})
	big := strings.Repeat("tls!", 200_000)
	go c.Raw("set a 0 0 800000\r\n" + big + "\r\n")
	c.Expect("STORED")
	c.Send("get a")
	c.Expect("VALUE a 0 800000", big, "END")
	if got := c.Ask("refresh_certs"); got != "OK" {
		t.Error(got)
	}
	mutual := start(t, "memcached", "-p", "0", "-Z", "-o", "ssl_chain_cert="+cert+",ssl_key="+key+",ssl_ca_cert="+authority.file+",ssl_verify_mode=2")
	addr = strings.TrimPrefix(mutual.ready["memcacheds"], "memcacheds://")
	if got := dial(addr, &tls.Config{Certificates: []tls.Certificate{pair}}).Ask("mn"); got != "MN" {
		t.Error(got)
	}
	none := dial(addr, &tls.Config{})
	if _, err := none.TryLine(); err == nil {
		t.Error("a client without a certificate was let in")
	}
	plain := memcachetest.Dial(t, addr)
	plain.Raw("get a\r\n")
	if l, err := plain.TryLine(); err == nil && strings.Contains(l, "END") {
		t.Errorf("a client without TLS was answered %q", l)
	}
}

// tlsClient is one who asks a cache server for nothing, and is answered or not.
type tlsClient struct {
	conf *tls.Config // nil: without TLS
}

// answered reports whether the server answers, and closes the connection.
func (c tlsClient) answered(t *testing.T, addr string) bool {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if c.conf != nil {
		nc = tls.Client(nc, c.conf)
	}
	nc.SetDeadline(time.Now().Add(wait))
	// Twice, as a server that waits for TLS wants five bytes to see that this is none.
	if _, err := io.WriteString(nc, "mn\r\nmn\r\n"); err != nil {
		return false
	}
	var got [4]byte
	_, err = io.ReadFull(nc, got[:])
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Fatalf("%s says nothing", addr)
	}
	return err == nil && string(got[:]) == "MN\r\n"
}

// tlsSite is a cache server's certificate, and clients with and without those of its authority and of another.
type tlsSite struct {
	ca, cert, key                string
	otherCA                      string
	plain, none, member, foreign tlsClient
}

func newTLSSite(t *testing.T) *tlsSite {
	t.Helper()
	dir := t.TempDir()
	ours, other := newAuthority(t, dir), newAuthority(t, t.TempDir())
	s := &tlsSite{ca: ours.file, otherCA: other.file}
	s.cert, s.key = ours.issue(t, dir+"/server")
	pool := x509.NewCertPool()
	pool.AddCert(mustParse(t, ours.file))
	client := func(a *authority, name string) tlsClient {
		conf := &tls.Config{RootCAs: pool, ServerName: "localhost"}
		if a != nil {
			cert, key := a.issue(t, dir+"/"+name)
			pair, err := tls.LoadX509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			// Also to a server that names other authorities.
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		return tlsClient{conf}
	}
	s.none, s.member, s.foreign = client(nil, ""), client(ours, "member"), client(other, "foreign")
	return s
}

func (s *tlsSite) options(verify string) string {
	return "ssl_chain_cert=" + s.cert + ",ssl_key=" + s.key + ",ssl_ca_cert=" + s.ca + ",ssl_verify_mode=" + verify
}

// check tries all clients and returns how many handshakes have failed; who must be answered is said by the letters p(lain), n(one), m(ember), f(oreign).
func (s *tlsSite) check(t *testing.T, what, addr, answered string) (failures int) {
	t.Helper()
	for who, c := range map[string]tlsClient{"p": s.plain, "n": s.none, "m": s.member, "f": s.foreign} {
		if c.conf != nil && answered == "p" {
			continue // neither side would know what the other one waits for
		}
		want := strings.Contains(answered, who)
		if got := c.answered(t, addr); got != want {
			t.Errorf("%s: client %q is answered: %v; want %v", what, who, got, want)
		}
		if !want {
			failures++
		}
	}
	return failures
}

// Who is let in by -o ssl_verify_mode, and what the words before an address change of that.
func TestMemcachedTLSWho(t *testing.T) {
	t.Parallel()
	s := newTLSSite(t)
	for verify, answered := range map[string]string{"0": "nmf", "1": "nm", "2": "m", "3": "m"} {
		plain, open, mutual, normal := freeport.ForTest(t), freeport.ForTest(t), freeport.ForTest(t), freeport.ForTest(t)
		start(t, "memcached", "-Z", "-l", "notls:"+plain+",btls:"+open+",mtls:"+mutual, "-l", normal, "-o", s.options(verify))
		failures := s.check(t, verify+" normal", normal, answered) + s.check(t, verify+" notls", plain, "p") +
			s.check(t, verify+" btls", open, "nmf") + s.check(t, verify+" mtls", mutual, "m")
		c := memcachetest.Dial(t, plain)
		eventually(t, "failed handshakes are counted", func() bool { return c.Stats("")["ssl_handshake_errors"] == strconv.Itoa(failures) })
	}
	c := memcachetest.Dial(t, start(t, "memcached", "-p", "0").memcached())
	for _, name := range []string{"ssl_handshake_errors", "time_since_server_cert_refresh"} {
		if v, ok := c.Stats("")[name]; ok {
			t.Errorf("without TLS %s is %q", name, v)
		}
	}
}

// refresh_certs and SIGHUP read certificate, key and authorities; with a file that is wrong all stays.
func TestMemcachedTLSRefresh(t *testing.T) {
	t.Parallel()
	s := newTLSSite(t)
	plain, mutual := freeport.ForTest(t), freeport.ForTest(t)
	p := start(t, "memcached", "-Z", "-l", "notls:"+plain+",mtls:"+mutual, "-o", s.options("0")+",relaxed_privileges")
	c := memcachetest.Dial(t, plain)
	age := func() int {
		t.Helper()
		n, err := strconv.Atoi(c.Stats("")["time_since_server_cert_refresh"])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	command := func(want string) {
		t.Helper()
		if got := c.Ask("debugtime 1000"); got != "OK" {
			t.Fatal(got)
		}
		if got := c.Ask("refresh_certs"); !strings.HasPrefix(got, want) {
			t.Errorf("refresh_certs: %s; want %s…", got, want)
		}
	}
	take := func(from string) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(s.ca); err != nil {
			t.Fatal(err)
		}
		writeFile(t, s.ca, string(text))
	}
	first := filepath.Join(t.TempDir(), "ca")
	if err := os.Link(s.ca, first); err != nil {
		t.Fatal(err)
	}
	take(s.otherCA)
	s.check(t, "not read yet", mutual, "m")
	command("OK")
	if n := age(); n >= 1000 {
		t.Errorf("the certificates are %d s old; they have just been read", n)
	}
	s.check(t, "the other authority", mutual, "f")
	take(s.key)
	command("SERVER_ERROR ssl_ca_cert: ")
	if n := age(); n < 1000 {
		t.Errorf("the certificates are %d s old; they were not read", n)
	}
	s.check(t, "a file that is wrong", mutual, "f")
	take(first)
	p.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, "SIGHUP reads the files", func() bool { return age() < 1000 })
	s.check(t, "the first authority again", mutual, "m")
}
