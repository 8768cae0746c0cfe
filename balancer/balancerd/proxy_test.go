package balancerd_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/http1"
	"wheelhouse/internal/testcert"
)

func TestForwarding(t *testing.T) {
	back := balancertest.Backend(t, echo)
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "HEADER rp INSERT X-Ins: Mixed Case=Kept\nHEADER rp REMOVE X-Gone"), balancerd.Options{})
	res, body := do(t, "POST", b.URL("rp", "/a/b?c=%20d"), strings.NewReader("hello"),
		with("Host", "Some.Host"), with("X-Gone", "1"), with("X-Forwarded-For", "6.6.6.6"), with("X-Host", "evil"), with("X-Stays", "yes"),
		with("Connection", "X-Hop"), with("X-Hop", "1"), with("Te", "trailers"))
	if res.StatusCode != 200 || res.Header.Get("X-Echo") != "yes" {
		t.Errorf("status %d, header %v", res.StatusCode, res.Header)
	}
	for _, want := range []string{
		"POST Some.Host /a/b?c=%20d len=5 te=[]\n", "X-Ins: Mixed Case=Kept\n", "X-Forwarded-For: 127.0.0.1\n", "X-Stays: yes\n", "\n\nhello",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the backend got no %q:\n%s", want, body)
		}
	}
	for _, name := range []string{"X-Gone", "X-Hop", "Te:", "X-Host"} {
		if strings.Contains(body, name) {
			t.Errorf("the backend got %s:\n%s", name, body)
		}
	}
}

// What an untrusted client says of itself, in whichever field, no application gets to see; what a trusted one says, it does.
func TestClaimsOfClients(t *testing.T) {
	back := balancertest.Backend(t, echo)
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET access_log = "+t.TempDir()+"/log"), balancerd.Options{})
	claims := []string{
		"X-Forwarded-For", "6.6.6.6", "X-Host", "evil", "X-Forwarded-Host", "evil", "Forwarded", "for=6.6.6.6", "X-Real-Ip", "6.6.6.6",
		"X-Proxy-Capabilities", "reproxy-file", "X-Request-Id", "mine", "X-Forwarded-Proto", "https", "X-Forwarded-Port", "443",
		"X-Forwarded-Server", "evil", "X-Forwarded-Prefix", "/evil", "X-Forwarded-Ssl", "on", "X-Forwarded-Client-Cert", "evil", "Front-End-Https", "on",
		"X_forwarded_for", "6.6.6.6", "X-Forwarded_proto", "https", "X_host", "evil",
	}
	ask := func() string {
		var fields []func(*http.Request)
		for i := 0; i < len(claims); i += 2 {
			fields = append(fields, func(r *http.Request) { r.Header[claims[i]] = []string{claims[i+1]} })
		}
		_, got := get(t, b.URL("rp", "/"), append(fields, with("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), with("Tracestate", "a=b"), with("X-Forward", "stays"))...)
		return got
	}
	got := ask()
	for i := 0; i < len(claims); i += 2 {
		if strings.Contains(got, claims[i]+": "+claims[i+1]+"\n") {
			t.Errorf("an untrusted client's %s reached the backend", claims[i])
		}
	}
	for _, want := range []string{"X-Request-Id: ", "X-Forwarded-For: 127.0.0.1\n", "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n", "Tracestate: a=b\n", "X-Forward: stays\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the backend got no %q:\n%s", want, got)
		}
	}
	b.Do("SET rp.always_trusted = on\nSET rp.blind_proxy = on")
	got = ask()
	for i := 0; i < len(claims); i += 2 {
		if !strings.Contains(got, claims[i]+": "+claims[i+1]+"\n") {
			t.Errorf("a trusted client's %s is lost:\n%s", claims[i], got)
		}
	}
}

func TestTrustedUpstream(t *testing.T) {
	back := balancertest.Backend(t, echo)
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET trusted_upstream_proxies = 127.0.0.0/8"), balancerd.Options{})
	_, body := get(t, b.URL("rp", "/"), with("X-Forwarded-For", "6.6.6.6"), with("X-Forwarded-Host", "h"))
	if !strings.Contains(body, "X-Forwarded-For: 6.6.6.6, 127.0.0.1\n") || !strings.Contains(body, "X-Forwarded-Host: h\n") {
		t.Errorf("trusted: %s", body)
	}
	b.Do("SET rp.blind_proxy = on")
	if _, body = get(t, b.URL("rp", "/"), with("X-Forwarded-For", "6.6.6.6")); !strings.Contains(body, "X-Forwarded-For: 6.6.6.6\n") {
		t.Errorf("blind: %s", body)
	}
}

// The client behind proxies is the last address that is not a trusted one's: what stands before it, the client may have written itself,
// to get round limits and access rules.
func TestObservedClient(t *testing.T) {
	seen := make(chan string, 1)
	b := balancertest.Start(t, balancertest.Proxy(names(t, 1), "SET trusted_upstream_proxies = 127.0.0.0/8, 10.0.0.0/8"),
		balancerd.Options{Finished: func(r *request) { seen <- r.Observed.String() }})
	for _, tt := range []struct{ list, want string }{
		{"", "127.0.0.1"},
		{"9.9.9.9", "9.9.9.9"},
		{"6.6.6.6, 9.9.9.9", "9.9.9.9"},
		{"6.6.6.6, 9.9.9.9, 10.0.0.5", "9.9.9.9"},
		{"10.0.0.6, 10.0.0.5", "10.0.0.6"},
		{"6.6.6.6, nonsense", "127.0.0.1"},
		{"nonsense, 9.9.9.9", "9.9.9.9"},
		{"2001:db8::1", "2001:db8::1"},
	} {
		get(t, b.URL("rp", "/"), with("X-Forwarded-For", tt.list))
		if got := <-seen; got != tt.want {
			t.Errorf("X-Forwarded-For %q: %s; want %s", tt.list, got, tt.want)
		}
	}
	b.Do("SET rp.trusted_upstream_proxies = 10.0.0.0/8")
	get(t, b.URL("rp", "/"), with("X-Forwarded-For", "6.6.6.6"))
	if got := <-seen; got != "127.0.0.1" {
		t.Errorf("an untrusted client is taken for %s", got)
	}
}

// Bodies of all sizes, framed both ways, up and down, arrive as they were sent.
func TestBodies(t *testing.T) {
	back := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Query().Get("length") != "" {
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		}
		for len(b) > 0 {
			n := min(len(b), 50000)
			if _, err := w.Write(b[:n]); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			b = b[n:]
		}
	})
	spool := t.TempDir()
	for _, conf := range []string{"", "SET buffer_backend_connect = 0", "SET buffer_uploads = on\nSET buffer_uploads_path = " + spool} {
		b := balancertest.Start(t, balancertest.Proxy([]string{back}, conf), balancerd.Options{})
		for _, size := range []int{0, 1, 1000, 60 << 10, 64 << 10, 64<<10 + 1, 100 << 10, 300 << 10, 3 << 20} {
			sent := make([]byte, size)
			rand.Read(sent)
			for _, chunkedUp := range []bool{false, true} {
				for _, query := range []string{"", "?length=1"} {
					var body io.Reader = bytes.NewReader(sent)
					if chunkedUp {
						body = struct{ io.Reader }{body}
					}
					_, got := do(t, "PUT", b.URL("rp", "/"+query), body)
					if got != string(sent) {
						t.Errorf("%q: %d bytes, chunked up %v, %q: came back as %d other ones", conf, size, chunkedUp, query, len(got))
					}
				}
			}
		}
	}
	if left, _ := filepath.Glob(spool + "/*"); len(left) > 0 {
		t.Errorf("spooled uploads were left: %v", left)
	}
}

func TestClientsConnectionPersists(t *testing.T) {
	back := balancertest.Backend(t, echo)
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, ""), balancerd.Options{})
	two := "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	if got := balancertest.Send(t, b.Addr("rp"), two, 10*time.Second); !strings.Contains(got, "GET a /1") || !strings.Contains(got, "GET a /2") {
		t.Errorf("two requests on one connection: %s", got)
	}
	old := "GET /1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\nHost: a\r\n\r\n"
	if got := balancertest.Send(t, b.Addr("rp"), old, 10*time.Second); !strings.Contains(got, "Connection: keep-alive") || !strings.Contains(got, "GET a /2") {
		t.Errorf("HTTP/1.0 with keep-alive: %s", got)
	}
	b.Do("SET rp.persist_client = off")
	if got := balancertest.Send(t, b.Addr("rp"), two, 10*time.Second); !strings.Contains(got, "Connection: close") || strings.Contains(got, "/2") {
		t.Errorf("persist_client = off: %s", got)
	}
}

func TestUpgrade(t *testing.T) {
	back := balancertest.Engine(t, func(x http1.Exchange) {
		if x.Request().Header.Get("Upgrade") != "echo" {
			x.Reply(426, nil)
			return
		}
		nc, err := x.(http1.Switcher).Switch("echo")
		if err != nil {
			t.Error(err)
			return
		}
		io.Copy(nc, nc)
	})
	for _, set := range []string{"", "SET compress = gzip", "SET cache = on", "SET compress = zstd\nSET cache = on\nSET rate_limit = 100"} {
		b := balancertest.Start(t, balancertest.Proxy([]string{back}, set), balancerd.Options{})
		nc, err := net.Dial("tcp", b.Addr("rp"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		converse(t, nc, nc.(*net.TCPConn).CloseWrite)
		if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 426 {
			t.Errorf("%s: without upgrade: %d", set, res.StatusCode)
		}
	}
	cert, key := testcert.Pair(t, t.TempDir(), "s", 1, "s.test")
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, fmt.Sprintf("SET enable_ssl = on\nSET ssl_cert_file = %s\nSET ssl_key_file = %s", cert, key)), balancerd.Options{})
	tc, err := tls.Dial("tcp", b.Addr("rp"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tc.Close()
	converse(t, tc, tc.CloseWrite)
}

// converse upgrades a connection to one that echoes, and has it echo.
func converse(t *testing.T, nc net.Conn, closeWrite func() error) {
	t.Helper()
	nc.SetDeadline(time.Now().Add(time.Minute))
	// The first bytes of the new protocol come with the request.
	fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\nearly ")
	r := bufio.NewReader(nc)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "echo" {
		t.Fatalf("%v %v", res, err)
	}
	fmt.Fprint(nc, "late")
	if err := closeWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if string(got) != "early late" || err != nil {
		t.Errorf("echo: %q, %v", got, err)
	}
}

// A client that does not read holds no backend when the response fits buffer_size.
func TestSlowClientFreesItsBackend(t *testing.T) {
	var busy atomic.Int64
	body := bytes.Repeat([]byte("x"), 12<<20)
	back := balancertest.Engine(t, func(x http1.Exchange) {
		busy.Add(1)
		defer busy.Add(-1)
		x.Reply(200, body)
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET buffer_size = 16m\nSET client_sndbuf_size = 64k"), balancerd.Options{})
	getSlowly(t, b.Addr("rp"), body, func() {
		balancertest.Eventually(t, "the backend has begun and is free again", func() bool {
			q := b.Service("rp").Queue()
			return busy.Load() == 0 && b.Requests() == 1 && q.Idle() == 1
		})
	})
}

// getSlowly asks for a body, and reads it only after meanwhile has returned.
func getSlowly(t *testing.T, addr string, body []byte, meanwhile func()) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.(*net.TCPConn).SetReadBuffer(64 << 10)
	fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	meanwhile()
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	if !bytes.Equal(got, body) || err != nil {
		t.Errorf("the slow client got %d bytes, %v", len(got), err)
	}
}

// What a backend says piece by piece reaches the client piece by piece.
func TestStreaming(t *testing.T) {
	next := make(chan struct{})
	back := balancertest.Backend(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "event %d\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, ""), balancerd.Options{})
	res, err := http.Get(b.URL("rp", "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := r.ReadString('\n')
		if line != fmt.Sprintf("event %d\n", i) || err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		next <- struct{}{}
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last event: %v", err)
	}
}

// A program that speaks HTTP on its standard input and output is a backend.
func TestServerProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server")
	script := `#!/bin/sh
cr=$(printf '\r')
while read -r method target version; do
	while read -r line && [ "$line" != "$cr" ]; do :; done
	body="$$ $method $target"
	printf 'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s' ${#body} "$body"
done
`
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	b := balancertest.Start(t, "CREATE SERVICE rp\nSET role = reverse_proxy\nSET listen = 127.0.0.1:0\nSET server_process = "+path+
		"\nSET persist_backend = on\nENABLE rp\n", balancerd.Options{})
	_, first := get(t, b.URL("rp", "/a"))
	_, second := get(t, b.URL("rp", "/b"))
	pid, rest, _ := strings.Cut(first, " ")
	if rest != "GET /a" || second != pid+" GET /b" {
		t.Errorf("%q, %q; want one process for both", first, second)
	}
	b.Do("SET rp.persist_backend = off")
	if get(t, b.URL("rp", "/")); !strings.HasPrefix(first, pid) {
		t.Error("no process")
	}
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	balancertest.Eventually(t, "the process has ended", func() bool {
		_, err := os.Stat(fmt.Sprint("/proc/", n))
		return err != nil
	})
}

// HEAD, and a 304 that says how long its 200 would be, have no body to wait for, however long they say it is.
func TestAnswersWithoutBodies(t *testing.T) {
	back := balancertest.Engine(t, func(x http1.Exchange) {
		status := 200
		if x.Request().Header.Has("If-None-Match") {
			status = 304
		}
		x.Start(status, 5<<20)
		if status == 200 {
			x.Write(bytes.Repeat([]byte("x"), 5<<20))
		}
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, ""), balancerd.Options{})
	for range 5 {
		if res, _ := do(t, "HEAD", b.URL("rp", "/"), nil); res.StatusCode != 200 || res.ContentLength != 5<<20 {
			t.Errorf("HEAD: %d, %d bytes", res.StatusCode, res.ContentLength)
		}
		if res, _ := get(t, b.URL("rp", "/"), with("If-None-Match", "x")); res.StatusCode != 304 {
			t.Errorf("conditional: %d", res.StatusCode)
		}
		if _, body := get(t, b.URL("rp", "/")); len(body) != 5<<20 {
			t.Errorf("GET: %d bytes", len(body))
		}
	}
}
