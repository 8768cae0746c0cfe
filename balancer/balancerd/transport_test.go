package balancerd_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/transport"
	"wheelhouse/internal/http1"
	"wheelhouse/internal/testcert"
)

// serialOf is that of the certificate which a server shows for a name.
func serialOf(t *testing.T, addr, name string, protos ...string) (int64, string) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: protos})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), c.ConnectionState().NegotiatedProtocol
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	c1, k1 := testcert.Pair(t, dir, "one", 1, "one.test")
	c2, k2 := testcert.Pair(t, dir, "two", 2, "*.two.test")
	back := balancertest.Backend(t, echo)
	conf := balancertest.Proxy([]string{back}, fmt.Sprintf("SET enable_ssl = on\nSET ssl_cert_file = %s,%s\nSET ssl_key_file = %s,%s", c1, c2, k1, k2))
	file := filepath.Join(dir, "conf")
	os.WriteFile(file, []byte(conf), 0o600)
	b := balancertest.Start(t, "", balancerd.Options{})
	if err := b.LoadFile(file); err != nil {
		t.Fatal(err)
	}
	addr := b.Addr("rp")
	for name, want := range map[string]int64{"one.test": 1, "a.two.test": 2, "unknown.test": 1, "": 1} {
		if got, _ := serialOf(t, addr, name); got != want {
			t.Errorf("%q: certificate %d; want %d", name, got, want)
		}
	}
	if _, proto := serialOf(t, addr, "one.test", "h2", "http/1.1"); proto != "h2" {
		t.Errorf("a client of HTTP/2 got %q", proto)
	}
	for _, h2 := range []bool{false, true} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: h2}
		body := strings.Repeat("x", 200<<10)
		req, _ := http.NewRequestWithContext(t.Context(), "POST", "https://"+addr+"/path", strings.NewReader(body))
		req.Header.Set("Te", "trailers")
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if want := map[bool]int{false: 1, true: 2}[h2]; res.ProtoMajor != want || !strings.Contains(string(got), "len=204800") || !strings.HasSuffix(string(got), body) || strings.Contains(string(got), "Te:") {
			t.Errorf("HTTP/%d: %d, %d bytes", res.ProtoMajor, res.StatusCode, len(got))
		}
		tr.CloseIdleConnections()
	}
	// New keys are read with the file; connections that exist live on.
	testcert.Pair(t, dir, "one", 11, "one.test")
	if err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	if got, _ := serialOf(t, b.Addr("rp"), "one.test"); got != 11 {
		t.Errorf("after the reload: certificate %d; want 11", got)
	}
	os.WriteFile(k1, []byte("nonsense"), 0o600)
	if err := b.Reload(); err == nil {
		t.Error("a key that does not fit was taken")
	}
	if got, _ := serialOf(t, b.Addr("rp"), "one.test"); got != 11 {
		t.Errorf("after the bad reload: certificate %d; want 11", got)
	}
}

func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Pair(t, dir, "server", 1, "server.test")
	ccert, ckey := testcert.Pair(t, dir, "client", 2, "client.test")
	other, okey := testcert.Pair(t, dir, "other", 3, "other.test")
	b := balancertest.Start(t, balancertest.Proxy(names(t, 1), fmt.Sprintf(
		"SET enable_ssl = on\nSET ssl_cert_file = %s\nSET ssl_key_file = %s\nSET ssl_verify_mode = 3\nSET ssl_ca_path = %s", cert, key, ccert)), balancerd.Options{})
	for _, tt := range []struct {
		cert, key string
		ok        bool
	}{{ccert, ckey, true}, {other, okey, false}, {"", "", false}} {
		c := &tls.Config{InsecureSkipVerify: true}
		if tt.cert != "" {
			p, err := tls.LoadX509KeyPair(tt.cert, tt.key)
			if err != nil {
				t.Fatal(err)
			}
			c.Certificates = []tls.Certificate{p}
		}
		tr := &http.Transport{TLSClientConfig: c}
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://"+b.Addr("rp")+"/", nil)
		res, err := tr.RoundTrip(req)
		if (err == nil) != tt.ok {
			t.Errorf("%q: %v", tt.cert, err)
		}
		if err == nil {
			res.Body.Close()
		}
		tr.CloseIdleConnections()
	}
}

// A reload reads the authorities of clients' certificates, too: whom they do not know any more is not let in, with a session of before
// neither. A file that is wrong changes nothing.
func TestAuthoritiesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Pair(t, dir, "server", 1, "server.test")
	authorities, file := filepath.Join(dir, "authorities"), filepath.Join(dir, "conf")
	trust := func(pem []byte) {
		if err := os.WriteFile(authorities, pem, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	client := func(name string, serial int64) ([]byte, *tls.Config) {
		cert, key := testcert.Pair(t, dir, name, serial, name+".test")
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		pem, err := os.ReadFile(cert)
		if err != nil {
			t.Fatal(err)
		}
		return pem, &tls.Config{
			InsecureSkipVerify: true, ServerName: "server.test", Certificates: []tls.Certificate{pair}, ClientSessionCache: tls.NewLRUClientSessionCache(1),
		}
	}
	oldPEM, old := client("old", 2)
	newPEM, fresh := client("new", 3)
	trust(oldPEM)
	os.WriteFile(file, []byte(balancertest.Proxy([]string{balancertest.Backend(t, echo)}, fmt.Sprintf(
		"SET enable_ssl = on\nSET ssl_cert_file = %s\nSET ssl_key_file = %s\nSET ssl_verify_mode = 3\nSET ssl_ca_path = %s", cert, key, authorities))), 0o600)
	b := balancertest.Start(t, "", balancerd.Options{})
	if err := b.LoadFile(file); err != nil {
		t.Fatal(err)
	}
	check := func(when string, c *tls.Config, in, resumed bool) {
		t.Helper()
		tr := &http.Transport{TLSClientConfig: c}
		defer tr.CloseIdleConnections()
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://"+b.Addr("rp")+"/", nil)
		res, err := tr.RoundTrip(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		if (err == nil) != in {
			t.Errorf("%s: %v", when, err)
		} else if in && res.TLS.DidResume != resumed {
			t.Errorf("%s: resumed is %v", when, res.TLS.DidResume)
		}
	}
	check("at first", old, true, false)
	check("again", old, true, true)
	check("one that is not known", fresh, false, false)
	if err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	check("after a reload that changes nothing", old, true, true)
	trust(newPEM)
	if err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	check("one that is not known any more", old, false, false)
	check("one that is known now", fresh, true, false)
	trust([]byte("nonsense"))
	if err := b.Reload(); err == nil || !strings.Contains(err.Error(), authorities) {
		t.Errorf("a file without certificates: %v", err)
	}
	check("after a reload that failed", fresh, true, true)
}

func TestProxyProtocolIn(t *testing.T) {
	back := balancertest.Backend(t, echo)
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET proxy_protocol = on"), balancerd.Options{})
	from, to := netip.MustParseAddrPort("203.0.113.9:4711"), netip.MustParseAddrPort("198.51.100.1:80")
	from6 := netip.MustParseAddrPort("[2001:db8::9]:4711")
	request := "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	for _, tt := range []struct{ head, want string }{
		{string(transport.AppendProxyHeader(nil, 1, from, to)), "203.0.113.9"},
		{string(transport.AppendProxyHeader(nil, 2, from, to)), "203.0.113.9"},
		{string(transport.AppendProxyHeader(nil, 1, from6, to)), "2001:db8::9"},
		{string(transport.AppendProxyHeader(nil, 2, from6, to)), "2001:db8::9"},
		{"PROXY UNKNOWN\r\n", "127.0.0.1"},
		{"PROXY UNKNOWN ffff:f:f 1 2 3\r\n", "127.0.0.1"},
		{"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "127.0.0.1"},
		{"", ""},
		{"PROXY TCP4 x y 1 2\r\n", ""},
		{"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999999999999999999\r\n", ""},
		{"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", ""},
		{"PROXY " + strings.Repeat("x", 200), ""},
	} {
		got := balancertest.Send(t, b.Addr("rp"), tt.head+request, 20*time.Second)
		if tt.want == "" && got != "" || tt.want != "" && !strings.Contains(got, "X-Forwarded-For: "+tt.want+"\n") {
			t.Errorf("%q: %s", tt.head, got)
		}
	}
}

func TestProxyProtocolOut(t *testing.T) {
	for _, version := range []int{1, 2} {
		back := balancertest.Raw(t, func(nc net.Conn) {
			from, err := transport.ReadProxyHeader(nc)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(nc)); err == nil {
				fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(from.String()), from)
			}
		})
		b := balancertest.Start(t, balancertest.Proxy([]string{back}, fmt.Sprint("SET send_proxy_protocol = ", version)), balancerd.Options{})
		for range 2 {
			nc, err := net.Dial("tcp", b.Addr("rp"))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			got, _ := io.ReadAll(nc)
			nc.Close()
			if !strings.HasSuffix(string(got), "\r\n\r\n"+nc.LocalAddr().String()) {
				t.Errorf("version %d: the backend was told %q; the client is %s", version, got, nc.LocalAddr())
			}
		}
	}
}

func TestBackendTLSAndUnix(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Pair(t, dir, "b", 1, "b.test")
	p, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{p}})
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(ln, http.HandlerFunc(echo))
	defer ln.Close()
	b := balancertest.Start(t, balancertest.Proxy([]string{ln.Addr().String()}, "SET backend_ssl = on\nSET queue_timeout = .2"), balancerd.Options{})
	if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 503 {
		t.Errorf("a certificate that nobody vouches for: %d; want 503", res.StatusCode)
	}
	b.Do("SET rp.backend_ssl_verify = off\nSET rp.queue_timeout = 30")
	if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 200 {
		t.Errorf("unverified: %d", res.StatusCode)
	}
	sock := filepath.Join(dir, "s")
	uln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(uln, http.HandlerFunc(echo))
	defer uln.Close()
	b = balancertest.Start(t, balancertest.Proxy([]string{"unix:" + sock}, ""), balancerd.Options{})
	if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 200 {
		t.Errorf("unix socket: %d", res.StatusCode)
	}
	front := filepath.Join(dir, "front")
	b.Do("SET rp.listen = unix:" + front)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", front)
	}}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://a/", nil)
	res, err := tr.RoundTrip(req)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("over a unix socket: %v %v", res, err)
	}
	res.Body.Close()
	tr.CloseIdleConnections()
}

// Debian's own clients of HTTP/2 and of load get what they ask for.
func TestRealClients(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Pair(t, dir, "s", 1, "s.test")
	body := letters(10240)
	back := balancertest.Engine(t, func(x http1.Exchange) { x.Reply(200, []byte(body)) })
	conf := balancertest.Proxy([]string{back}, "SET backend_persist_cache = 20") + "CREATE SERVICE tls\nSET role = reverse_proxy\nSET listen = 127.0.0.1:0\nSET pool = p\nSET persist_client = on\nSET persist_backend = on\n" +
		fmt.Sprintf("SET enable_ssl = on\nSET ssl_cert_file = %s\nSET ssl_key_file = %s\nENABLE tls\n", cert, key)
	b := balancertest.Start(t, conf, balancerd.Options{})
	plain, secure := b.URL("rp", "/"), "https://"+b.Addr("tls")+"/"
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"h2load", "-n", "500", "-c", "10", "-m", "10", secure}, "500 succeeded, 0 failed, 0 errored"},
		{[]string{"ab", "-q", "-n", "500", "-c", "10", "-k", plain}, "Failed requests:        0"},
		{[]string{"wrk", "-d", "1s", "-c", "10", "-t", "1", plain}, "Requests/sec"},
		{[]string{"curl", "-sk", "--http2", "-w", "%{http_version} %{http_code} %{size_download}", "-o", "/dev/null", secure}, "2 200 10240"},
		{[]string{"curl", "-s", "--http1.0", "-w", "%{http_version} %{http_code} %{size_download}", "-o", "/dev/null", plain}, " 200 10240"},
		{[]string{"nghttp", "-nv", secure}, ":status: 200"},
	} {
		out, err := exec.CommandContext(t.Context(), tt.args[0], tt.args[1:]...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), tt.want) || strings.Contains(string(out), "Non-2xx") {
			t.Errorf("%v: %v\n%s", tt.args, err, out)
		}
	}
}

// A client that comes again does not shake hands from the beginning, also after new certificates were read, and with a listener that was
// made anew: with HTTP/2 and without.
func TestSessionResumption(t *testing.T) {
	for _, h2 := range []string{"on", "off"} {
		dir := t.TempDir()
		cert, key := testcert.Pair(t, dir, "one", 1, "one.test")
		file := filepath.Join(dir, "conf")
		conf := balancertest.Proxy([]string{balancertest.Backend(t, echo)}, fmt.Sprintf("SET enable_ssl = on\nSET enable_http2 = %s\nSET ssl_cert_file = %s\nSET ssl_key_file = %s", h2, cert, key))
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		b := balancertest.Start(t, "", balancerd.Options{})
		if err := b.LoadFile(file); err != nil {
			t.Fatal(err)
		}
		client := &tls.Config{ServerName: "one.test", InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		resumed := func() bool {
			c, err := tls.Dial("tcp", b.Addr("rp"), client)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: one.test\r\nConnection: close\r\n\r\n")
			if _, err := io.Copy(io.Discard, c); err != nil { // tickets come with the answer
				t.Fatal(err)
			}
			return c.ConnectionState().DidResume
		}
		if resumed() {
			t.Fatal("the first handshake was one that was resumed")
		}
		if !resumed() {
			t.Errorf("enable_http2 = %s: the second handshake was whole", h2)
		}
		if err := b.Reload(); err != nil {
			t.Fatal(err)
		}
		if !resumed() {
			t.Errorf("enable_http2 = %s: the handshake after a reload was whole", h2)
		}
		b.Do("SET rp.ssl_min_version = 1.3")
		if !resumed() {
			t.Errorf("enable_http2 = %s: the handshake after ssl_min_version was set was whole", h2)
		}
		b.Do("SET rp.ssl_ca_path = " + cert + "\nSET rp.ssl_verify_mode = 1")
		if resumed() {
			t.Errorf("enable_http2 = %s: a session of a time without ssl_verify_mode was resumed with it", h2)
		}
	}
}
