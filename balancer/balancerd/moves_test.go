package balancerd_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/testcert"
)

// ask sends a request on a connection, and gives the answer.
func ask(t *testing.T, nc net.Conn, r *bufio.Reader) (*http.Response, string) {
	t.Helper()
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

// A connection that idles while its listener or its process changes still has the client that its PROXY header names.
func TestClientOfAProxyStays(t *testing.T) {
	back := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Forwarded-For")) })
	for _, listen := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "taken for granted")} {
		conf := strings.Replace(balancertest.Proxy([]string{back}, "SET proxy_protocol = on"), "127.0.0.1:0", listen, 1)
		b := balancertest.Start(t, conf, balancerd.Options{})
		nc, err := net.Dial(b.Service("rp").Addr().Network(), b.Service("rp").Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		r := bufio.NewReader(nc)
		stays := func(when string) {
			t.Helper()
			if _, got := ask(t, nc, r); got != "192.0.2.77" {
				t.Errorf("%s: %s: the client is %q", listen, when, got)
			}
		}
		fmt.Fprint(nc, "PROXY TCP4 192.0.2.77 192.0.2.2 1234 80\r\n")
		stays("at first")
		b.Do("SET rp.max_client_connections = 500") // a listener of its own
		stays("after a change")
		next := balancertest.Start(t, strings.Replace(conf, listen, "127.0.0.1:0", 1), balancerd.Options{})
		given := make(chan bool, 1)
		go b.HandOver(t.Context(), func(name string, nc net.Conn) {
			next.Adopt(strings.Replace(name, listen, "127.0.0.1:0", 1), nc)
			given <- true
		})
		<-given
		stays("in the next process")
	}
}

// Clients that have connected, and shaken hands or not, are answered though the listener is another one by then.
func TestHandshakesOutliveChanges(t *testing.T) {
	cert, key := testcert.Pair(t, t.TempDir(), "a", 1, "a.test")
	b := balancertest.Start(t, balancertest.Proxy(names(t, 1), "SET enable_ssl = on\nSET ssl_cert_file = "+cert+"\nSET ssl_key_file = "+key), balancerd.Options{})
	for i := range 10 {
		dial := func() net.Conn {
			nc, err := net.Dial("tcp", b.Addr("rp"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { nc.Close() })
			return nc
		}
		config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
		silent, shaken := tls.Client(dial(), config), tls.Client(dial(), config)
		if err := shaken.Handshake(); err != nil {
			t.Fatal(err)
		}
		b.Do(fmt.Sprintf("SET rp.ssl_min_version = 1.%d", 2+i%2))
		for name, c := range map[string]*tls.Conn{"not shaken": silent, "shaken": shaken} {
			if res, _ := ask(t, c, bufio.NewReader(c)); res.StatusCode != 200 {
				t.Errorf("%s: %d", name, res.StatusCode)
			}
		}
	}
}

// When a balancer stops, clients of HTTP/2 are told at once, not when those of HTTP/1 have their answers.
func TestHTTP2IsToldOfTheEnd(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	let := sync.OnceFunc(func() { close(leave) })
	defer let()
	back := balancertest.Backend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			entered <- true
			<-leave
		}
	})
	cert, key := testcert.Pair(t, t.TempDir(), "a", 1, "a.test")
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET enable_ssl = on\nSET ssl_cert_file = "+cert+"\nSET ssl_key_file = "+key), balancerd.Options{})
	c, err := tls.Dial("tcp", b.Addr("rp"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered
	h2 := openHTTP2(t, b.Addr("rp"), nil, [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a.test"}, {":path", "/"}}, nil, 0)
	defer h2.Close()
	stopped := make(chan error, 1)
	for answered := false; ; {
		kind, flags, _, err := readFrame(h2)
		if err != nil {
			t.Fatalf("answered %v, then %v", answered, err)
		}
		if (kind == h2Headers || kind == h2Data) && flags&h2EndStream != 0 {
			answered = true
			go func() { stopped <- b.Shutdown(t.Context()) }()
		}
		if kind == h2GoAway {
			break
		}
	}
	let()
	if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 200 {
		t.Errorf("what was under way: %+v, %v", res, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
