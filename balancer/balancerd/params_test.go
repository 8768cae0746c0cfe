package balancerd_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/http1"
	"wheelhouse/internal/testcert"
)

// accepted is a listener that tells of the sockets which it accepts.
type accepted struct {
	net.Listener
	conns chan *os.File
}

func (l accepted) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		f, err := nc.(*net.TCPConn).File()
		if err != nil {
			return nil, err
		}
		l.conns <- f
	}
	return nc, err
}

// client_sndbuf_size is the size of clients' sockets' buffers, with TLS and without; 0 leaves the kernel's.
func TestClientSndbufSize(t *testing.T) {
	cert, key := testcert.Pair(t, t.TempDir(), "s", 1, "s.test")
	secure := fmt.Sprintf("\nSET enable_ssl = on\nSET ssl_cert_file = %s\nSET ssl_key_file = %s", cert, key)
	conns := make(chan *os.File, 10)
	back := balancertest.Backend(t, echo)
	buffer := func(conf string) (size int) {
		b := balancertest.Start(t, balancertest.Proxy([]string{back}, conf), balancerd.Options{Listen: func(_, addr string) (net.Listener, error) {
			ln, err := balancerd.Listen(addr)
			return accepted{ln, conns}, err
		}})
		nc, err := net.Dial("tcp", b.Addr("rp"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if strings.Contains(conf, "enable_ssl") {
			nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
		}
		fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(nc), nil); err != nil { // then it is set
			t.Fatal(err)
		}
		f := <-conns
		defer f.Close()
		raw, err := f.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if cerr := raw.Control(func(fd uintptr) { size, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF) }); cerr != nil || err != nil {
			t.Fatal(cerr, err)
		}
		return size
	}
	for _, more := range []string{"", secure} {
		if got := buffer("SET client_sndbuf_size = 24k" + more); got != 2*24<<10 { // the kernel doubles it (socket(7))
			t.Errorf("%q: %d bytes; want %d", more, got, 2*24<<10)
		}
		if got := buffer(more); got == 2*24<<10 {
			t.Errorf("%q: %d bytes though nothing is set", more, got)
		}
	}
}

// Of more clients than max_client_connections one that idles has to go.
func TestMaxClientConnections(t *testing.T) {
	b := balancertest.Start(t, balancertest.Proxy(names(t, 1), "SET max_client_connections = 2\nSET persist_client_idle_timeout = 3600"), balancerd.Options{})
	ended := make(chan error, 3)
	for i := range 3 {
		nc, err := net.Dial("tcp", b.Addr("rp"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(30 * time.Second))
		fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		r := bufio.NewReader(nc)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("client %d: %v %v", i, res, err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := r.ReadByte()
			ended <- err
		}()
	}
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("of three clients the first to end: %v; want the end of the connection", err)
	}
}

// persist_client_timeout is both timeouts.
func TestPersistClientTimeout(t *testing.T) {
	b := balancertest.Start(t, balancertest.Proxy(names(t, 1), "SET persist_client_timeout = 7"), balancerd.Options{})
	if set := b.Service("rp").Settings(); set.IdleTimeout != 7*time.Second || set.ClientIdleTimeout != 7*time.Second {
		t.Errorf("idle_timeout %v, persist_client_idle_timeout %v; want 7 s", set.IdleTimeout, set.ClientIdleTimeout)
	}
}

// retry_budget is the percentage of requests that may be tried again, with ten beforehand; 0 is none.
func TestRetryBudget(t *testing.T) {
	const requests = 50
	broken := balancertest.Raw(t, func(nc net.Conn) { bufio.NewReader(nc).ReadString('\n') })
	for percent, want := range map[int]int64{0: requests, 20: requests + 10 + requests/5, 50: requests + 10 + requests/2, 100: 2 * requests} {
		var attempts atomic.Int64
		ended := make(chan struct{}, 1)
		b := balancertest.Start(t, balancertest.Proxy([]string{broken}, fmt.Sprint("SET retry_attempts = 1\nSET retry_budget = ", percent))+"SET p.eject_errors = 0\n",
			balancerd.Options{Finished: func(r *request) { attempts.Add(int64(r.Attempts)); ended <- struct{}{} }})
		for range requests {
			if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 502 {
				t.Fatalf("%d", res.StatusCode)
			}
			<-ended
		}
		if got := attempts.Load(); got != want {
			t.Errorf("retry_budget = %d: %d requests were %d attempts; want %d", percent, requests, got, want)
		}
	}
}

// What TLS is spoken with which clients is as the parameters say.
func TestTLSParameters(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Pair(t, dir, "server", 1, "server.test")
	ccert, ckey := testcert.Pair(t, dir, "client", 2, "client.test")
	other, okey := testcert.Pair(t, dir, "other", 3, "other.test")
	if err := os.Mkdir(filepath.Join(dir, "java"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := balancertest.Start(t, balancertest.Proxy(names(t, 1), fmt.Sprintf("SET enable_ssl = on\nSET ssl_cert_file = %s\nSET ssl_key_file = %s", cert, key)), balancerd.Options{})
	by := func(c, k string) *tls.Config { // shows its certificate whether the server would have it or not
		p, err := tls.LoadX509KeyPair(c, k)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &p, nil }}
	}
	shake := func(c *tls.Config) (tls.ConnectionState, error) {
		c.InsecureSkipVerify, c.ServerName = true, "server.test"
		nc, err := tls.Dial("tcp", b.Addr("rp"), c)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(30 * time.Second))
		st := nc.ConnectionState()
		if st.NegotiatedProtocol != "h2" { // with TLS 1.3 a client learns later that its certificate is not wanted
			fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			_, err = http.ReadResponse(bufio.NewReader(nc), nil)
		}
		return st, err
	}
	old := &tls.Config{MaxVersion: tls.VersionTLS12}
	const gcm, cbc = tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA
	for _, tt := range []struct {
		conf   string
		client *tls.Config
		want   string // of the handshake, "" for one that fails
	}{
		{"SET rp.ssl_min_version = 1.2", old, "303 "},
		{"SET rp.ssl_min_version = 1.3", old, ""},
		{"SET rp.ssl_min_version = 1.3", &tls.Config{}, "304 "},
		{"SET rp.ssl_min_version = 1.2\nSET rp.ssl_cipher_list = ECDHE-ECDSA-AES256-GCM-SHA384", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{gcm, cbc}}, "303  c02c"},
		{"", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{cbc}}, ""},
		{"SET rp.ssl_cipher_list = ECDHE-ECDSA-AES128-SHA:UNKNOWN", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{gcm, cbc}}, "303  c009"},
		{"", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{gcm}}, ""},
		{"SET rp.ssl_cipher_list = ALL:!LOW", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{gcm}}, "303  c02c"},
		{"SET rp.enable_http2 = off", &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, "304  "},
		{"SET rp.enable_http2 = on", &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, "304 h2"},
		{"", by(other, okey), "304 "},
		{"SET rp.ssl_ca_path = " + ccert + "\nSET rp.ssl_verify_mode = 1", &tls.Config{}, "304 "},
		{"", by(ccert, ckey), "304 "},
		{"", by(other, okey), ""},
		{"SET rp.ssl_verify_mode = 3", &tls.Config{}, ""},
		{"", by(ccert, ckey), "304 "},
		{"SET rp.ssl_verify_mode = 0", by(other, okey), "304 "},
		{"SET rp.ssl_ca_path = " + dir + "\nSET rp.ssl_verify_mode = 3", by(other, okey), "304 "}, // it has a directory in it
		{"", &tls.Config{}, ""},
	} {
		b.Do(tt.conf)
		st, err := shake(tt.client)
		got := fmt.Sprintf("%x %s %x", st.Version, st.NegotiatedProtocol, st.CipherSuite)
		if (err == nil) != (tt.want != "") || err == nil && !strings.HasPrefix(got, tt.want) {
			t.Errorf("%q: %q, %v; want %q", tt.conf, got, err, tt.want)
		}
	}
}

// A connect ends after connect_timeout, TLS included.
func TestConnectTimeout(t *testing.T) {
	silent := balancertest.Raw(t, func(nc net.Conn) { io.Copy(io.Discard, nc) })
	b := balancertest.Start(t, balancertest.Proxy([]string{silent}, "SET backend_ssl = on\nSET queue_timeout = 4\nSET connect_timeout = .05")+"SET p.circuit_errors = 1\nSET p.circuit_time = 3600\n", balancerd.Options{})
	if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" { // the default is 5 s
		t.Errorf("%d, Retry-After %q; want the circuit's refusal", res.StatusCode, res.Header.Get("Retry-After"))
	}
}

// A node is left alone for eject_time.
func TestEjectTime(t *testing.T) {
	broken := balancertest.Raw(t, func(nc net.Conn) { bufio.NewReader(nc).ReadString('\n') })
	b := balancertest.Start(t, balancertest.Proxy([]string{broken}, "SET retry_attempts = 0")+"SET p.eject_errors = 2\nSET p.eject_max = 100\nSET p.eject_time = 3600\n", balancerd.Options{})
	for range 2 {
		get(t, b.URL("rp", "/"))
	}
	if !strings.Contains(b.Log.String(), "dur=1h0m0s") {
		t.Errorf("not left alone for an hour:\n%s", b.Log)
	}
}

// closing is a connection that tells of its end.
type closing struct {
	net.Conn
	once  sync.Once
	ended chan struct{}
}

func (c *closing) Close() error {
	c.once.Do(func() { close(c.ended) })
	return c.Conn.Close()
}

// idleHTTP2 is a client of HTTP/2 that has asked once and idles until the test ends. What it returns is closed when its connection has
// ended before that.
func idleHTTP2(t *testing.T, addr string) (ended chan struct{}) {
	t.Helper()
	ended = make(chan struct{})
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &closing{Conn: nc, ended: ended}, err
	}}
	t.Cleanup(tr.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if res.Body.Close(); res.ProtoMajor != 2 {
		t.Fatalf("HTTP/%d", res.ProtoMajor)
	}
	return ended
}

// A timeout that is changed while the service runs holds for clients of HTTP/2 too.
func TestIdleTimeoutOfHTTP2(t *testing.T) {
	cert, key := testcert.Pair(t, t.TempDir(), "s", 1, "s.test")
	b := balancertest.Start(t, balancertest.Proxy(names(t, 1), fmt.Sprintf("SET enable_ssl = on\nSET ssl_cert_file = %s\nSET ssl_key_file = %s", cert, key)), balancerd.Options{})
	b.Do("SET rp.persist_client_idle_timeout = .1")
	select {
	case <-idleHTTP2(t, b.Addr("rp")):
	case <-time.After(20 * time.Second): // the default is 30 s
		t.Error("an idle client is still there")
	}
}

// Clients of HTTP/2 count towards max_client_connections, and one of them that idles has to go.
func TestMaxClientConnectionsOfHTTP2(t *testing.T) {
	cert, key := testcert.Pair(t, t.TempDir(), "s", 1, "s.test")
	conf := fmt.Sprintf("SET enable_ssl = on\nSET ssl_cert_file = %s\nSET ssl_key_file = %s\nSET max_client_connections = 2\nSET persist_client_idle_timeout = 3600", cert, key)
	b := balancertest.Start(t, balancertest.Proxy(names(t, 1), conf), balancerd.Options{})
	ended := make(chan int, 3)
	for i := range 3 {
		gone := idleHTTP2(t, b.Addr("rp"))
		go func() {
			select {
			case <-gone:
				ended <- i
			case <-t.Context().Done():
			}
		}()
	}
	select {
	case i := <-ended:
		if i == 2 {
			t.Error("the newest client was sent away")
		}
	case <-time.After(20 * time.Second):
		t.Error("of three clients none was sent away")
	}
}

// idle_timeout ends a request over HTTP/2 whose body does not come, and an answer that is not taken, though its connection lives.
func TestStalledHTTP2(t *testing.T) {
	cert, key := testcert.Pair(t, t.TempDir(), "s", 1, "s.test")
	var busy atomic.Int64
	for _, size := range []int{100_000, 5000} { // the latter is net/http's own to send when the request's handler has ended
		back := balancertest.Engine(t, func(x http1.Exchange) {
			busy.Add(1)
			defer busy.Add(-1)
			if _, err := io.Copy(io.Discard, x.Body()); err == nil {
				x.Reply(200, make([]byte, size))
			}
		})
		conf := fmt.Sprintf("SET enable_ssl = on\nSET ssl_cert_file = %s\nSET ssl_key_file = %s\nSET idle_timeout = .3\nSET buffer_backend_connect = 0", cert, key)
		b := balancertest.Start(t, balancertest.Proxy([]string{back}, conf), balancerd.Options{})
		if status, _ := stallHTTP2(t, b.Addr("rp"), h2Request("POST", "/", "content-length", "100"), []byte("some")); status != "other" {
			t.Errorf("a body that does not come: %q; want 408", status)
		}
		if status, reset := stallHTTP2(t, b.Addr("rp"), h2Request("GET", "/"), nil); status != "200" || !reset {
			t.Errorf("%d bytes that are not taken: %q, reset: %v", size, status, reset)
		}
		balancertest.Eventually(t, "the backend is free", func() bool { return busy.Load() == 0 })
	}
	// What goes on, slowly, is not ended.
	back := balancertest.Engine(t, func(x http1.Exchange) {
		n, err := io.Copy(io.Discard, x.Body())
		x.Reply(200, fmt.Appendf(nil, "%d %v", n, err))
	})
	conf := fmt.Sprintf("SET enable_ssl = on\nSET ssl_cert_file = %s\nSET ssl_key_file = %s\nSET idle_timeout = 1\nSET buffer_backend_connect = 0", cert, key)
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, conf), balancerd.Options{})
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	r, w := io.Pipe()
	go func() {
		for range 20 {
			time.Sleep(100 * time.Millisecond)
			w.Write([]byte("some"))
		}
		w.Close()
	}()
	res, err := (&http.Client{Transport: tr}).Post("https://"+b.Addr("rp")+"/", "", r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); string(got) != "80 <nil>" || err != nil {
		t.Errorf("a slow body: %q, %v", got, err)
	}
}
