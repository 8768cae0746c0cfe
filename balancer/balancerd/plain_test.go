package balancerd_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/testcert"
)

// A client that speaks plain HTTP to a port of TLS is told so, and it is told of for the log; one that speaks neither is told nothing.
func TestPlainHTTPToTLS(t *testing.T) {
	cert, key := testcert.Pair(t, t.TempDir(), "one", 1, "one.test")
	refused := make(chan string, 10)
	o := balancerd.Options{Refused: func(r *balancer.Refusal) {
		refused <- fmt.Sprintf("%s %d %s tls=%v: %s", r.Client.Addr(), r.Status, r.Service.Name(), r.TLS, r.Line)
	}}
	b := balancertest.Start(t, balancertest.Proxy([]string{balancertest.Backend(t, echo)}, "SET enable_ssl = on\nSET ssl_cert_file = "+cert+"\nSET ssl_key_file = "+key), o)
	told := func() string {
		t.Helper()
		select {
		case s := <-refused:
			return s
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was told")
			return ""
		}
	}
	for _, tt := range []struct{ raw, line string }{
		{"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n", "GET / HTTP/1.1"},
		{"OPTIONS * HTTP/1.1\r\nHost: one.test\r\n\r\n", "OPTIONS * HTTP/1.1"},
		{"PUT /a HTTP/1.1\r\nHost: one.test\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1000000), "PUT /a HTTP/1.1"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0"},
		{"GET /", "GET /"},
		{"\x16\x04", ""},
		{"SSH-2.0-OpenSSH_9.2\r\n", ""},
		{"\x80\x2e\x01\x00\x02", ""}, // SSL 2
	} {
		c, err := net.Dial("tcp", b.Addr("rp"))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			io.WriteString(c, tt.raw)
			c.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		c.Close()
		<-sent
		if tt.line == "" {
			if strings.Contains(string(got), "HTTP") {
				t.Errorf("%.20q is answered %q", tt.raw, got)
			}
			continue
		}
		if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 400 ") || !strings.Contains(string(got), "plain HTTP was sent to a port that speaks TLS") {
			t.Errorf("%.20q is answered %q, %v", tt.raw, got, err)
			continue
		}
		if s, want := told(), "127.0.0.1 400 rp tls=false: "+tt.line; s != want {
			t.Errorf("told of %q; want %q", s, want)
		}
	}
	// Clients that speak TLS are served as before; of HTTP/2, what is refused is told of too.
	if got, _ := serialOf(t, b.Addr("rp"), "one.test"); got != 1 {
		t.Errorf("certificate %d", got)
	}
	fields := [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "one.test"}, {":path", "/a#b"}}
	if got := rawHTTP2(t, b.Addr("rp"), fields, nil); got != "400" {
		t.Errorf("a fragment over HTTP/2: %q", got)
	}
	if s, want := told(), "127.0.0.1 400 rp tls=true: GET /a#b HTTP/2.0"; s != want {
		t.Errorf("told of %q; want %q", s, want)
	}
	if len(refused) != 0 {
		t.Errorf("also told of %q", <-refused)
	}
}
