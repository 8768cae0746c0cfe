package balancerd_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/http1"
)

func get(t *testing.T, url string, edit ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	return do(t, http.MethodGet, url, nil, edit...)
}

func do(t *testing.T, method, url string, body io.Reader, edit ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range edit {
		f(req)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: body: %v after %d bytes", method, url, err, len(b))
	}
	return res, string(b)
}

func with(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		if name == "Host" {
			r.Host = value
			return
		}
		r.Header.Set(name, value)
	}
}

// echo answers with what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Echo", "yes")
	fmt.Fprintf(w, "%s %s %s len=%d te=%v\n", r.Method, r.Host, r.RequestURI, r.ContentLength, r.TransferEncoding)
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range r.Header {
			if !yield(n) {
				return
			}
		}
	}) {
		fmt.Fprintf(w, "%s: %s\n", name, strings.Join(r.Header[name], " | "))
	}
	fmt.Fprintf(w, "\n%s", b)
}

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

// A request goes to whoever is free: a backend whose kernel accepts and whose process does not answer gets none.
func TestVerifyPassesOverAStuckBackend(t *testing.T) {
	stuck := balancertest.Raw(t, func(nc net.Conn) { io.Copy(io.Discard, nc) })
	good := balancertest.Backend(t, echo)
	b := balancertest.Start(t, balancertest.Proxy([]string{stuck, good}, "SET verify_backend = on\nSET backend_persist_cache = 5"), balancerd.Options{})
	for range 50 {
		if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 200 {
			t.Fatalf("status %d", res.StatusCode)
		}
	}
}

func TestQueuesAndRelief(t *testing.T) {
	release := make(chan struct{})
	var order []string
	var mu sync.Mutex
	back := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		order = append(order, r.URL.Path)
		mu.Unlock()
		<-release
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back},
		"SET high_priority_cookie = fast\nSET high_priority_cookie_contents = yes\nSET queue_timeout = 60\nSET idle_timeout = 60")+"SET p.max_connections = 1\n", balancerd.Options{})
	var all sync.WaitGroup
	ask := func(path, cookie string) {
		all.Go(func() {
			req, _ := http.NewRequestWithContext(context.WithoutCancel(t.Context()), "GET", b.URL("rp", path), nil)
			req.Header.Set("Cookie", cookie)
			if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
				res.Body.Close()
			}
		})
	}
	waiting := func(n int) {
		balancertest.Eventually(t, fmt.Sprint(n, " waiting"), func() bool {
			sum := 0
			for _, p := range []int8{0, 1, 2} {
				c, _ := b.Service("rp").Queues(balancerPriority(p))
				sum += c
			}
			return sum == n
		})
	}
	ask("/first", "")
	balancertest.Eventually(t, "the first is there", func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == 1 })
	ask("/normal1", "")
	waiting(1)
	ask("/normal2", "")
	waiting(2)
	ask("/high", "a=b; fast=oh%20yes")
	waiting(3)
	close(release)
	all.Wait()
	if want := []string{"/first", "/high", "/normal1", "/normal2"}; !slices.Equal(order, want) {
		t.Errorf("order %v; want %v", order, want)
	}
}

// A client that goes away while it waits is no longer in the queue.
func TestClientLeavesTheQueue(t *testing.T) {
	release := make(chan struct{})
	back := balancertest.Backend(t, func(http.ResponseWriter, *http.Request) { <-release })
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "")+"SET p.max_connections = 1\n", balancerd.Options{})
	defer close(release)
	var conns [2]net.Conn
	for i := range conns {
		var err error
		if conns[i], err = net.Dial("tcp", b.Addr("rp")); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
		fmt.Fprint(conns[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	waiting := func() int { n, _ := b.Service("rp").Queues(1); return n }
	balancertest.Eventually(t, "one waits", func() bool { return waiting() == 1 })
	conns[0].Close()
	conns[1].Close()
	balancertest.Eventually(t, "nobody waits", func() bool { return waiting() == 0 })
}

func TestErrorRetries(t *testing.T) {
	var asked atomic.Int64
	back := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < 4 {
			w.WriteHeader(500)
		}
		fmt.Fprint(w, r.Method)
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET enable_error_retries = on\nSET error_retry_schedule = 0, .01 .01"), balancerd.Options{})
	if res, body := get(t, b.URL("rp", "/")); res.StatusCode != 200 || body != "GET" || asked.Load() != 4 {
		t.Errorf("GET: %d %q after %d attempts", res.StatusCode, body, asked.Load())
	}
	asked.Store(0)
	if res, _ := do(t, "POST", b.URL("rp", "/"), strings.NewReader("x")); res.StatusCode != 500 || asked.Load() != 1 {
		t.Errorf("POST: %d after %d attempts", res.StatusCode, asked.Load())
	}
	asked.Store(-1000)
	if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 500 || asked.Load() != -996 {
		t.Errorf("GET that never succeeds: %d after %d attempts", res.StatusCode, asked.Load()+1000)
	}
}

func TestBackendFailures(t *testing.T) {
	broken := balancertest.Raw(t, func(nc net.Conn) { bufio.NewReader(nc).ReadString('\n') })
	silent := balancertest.Raw(t, func(nc net.Conn) { io.Copy(io.Discard, nc) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := ln.Addr().String()
	ln.Close()
	for _, tt := range []struct {
		name, node, conf string
		status           int
		reason           string
	}{
		{"closes before it answers", broken, "", 502, "unexpected EOF"},
		{"never answers", silent, "SET response_timeout = .1", 504, "did not answer in time"},
		{"cannot be reached", refused, "SET queue_timeout = .3", 503, "connection refused"},
	} {
		var reason atomic.Value
		b := balancertest.Start(t, balancertest.Proxy([]string{tt.node}, tt.conf), balancerd.Options{Finished: func(r *request) { reason.Store(r.Reason) }})
		res, body := get(t, b.URL("rp", "/"))
		if res.StatusCode != tt.status || !strings.Contains(body, fmt.Sprintf("<h1>%d - ", tt.status)) {
			t.Errorf("%s: %d %q; want %d", tt.name, res.StatusCode, body, tt.status)
		}
		balancertest.Eventually(t, "the request has ended", func() bool { return reason.Load() != nil })
		if got := reason.Load().(string); !strings.Contains(got, tt.reason) {
			t.Errorf("%s: the log says %q; want %q", tt.name, got, tt.reason)
		}
	}
	b := balancertest.Start(t, balancertest.Proxy(nil, ""), balancerd.Options{})
	if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 503 {
		t.Errorf("an empty pool: %d; want 503", res.StatusCode)
	}
}

// A response that breaks off is seen as broken by the client, however it is framed.
func TestResponseBreaksOff(t *testing.T) {
	for _, head := range []string{"Content-Length: 100000000\r\n", "Transfer-Encoding: chunked\r\n"} {
		back := balancertest.Raw(t, func(nc net.Conn) {
			bufio.NewReader(nc).ReadString('\n')
			fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\n%s\r\nfffff\r\nsome", head)
		})
		b := balancertest.Start(t, balancertest.Proxy([]string{back}, ""), balancerd.Options{})
		res, err := http.Get(b.URL("rp", "/"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.ReadAll(res.Body); err == nil {
			t.Errorf("%s: the body ended as if it were whole", head)
		}
		res.Body.Close()
	}
}

// Killed backends cost no idempotent request.
func TestBackendsDieUnderLoad(t *testing.T) {
	var servers [2]*http1.Server
	var nodes []string
	h := http1.HandlerFunc(func(x http1.Exchange) { x.Reply(200, bytes.Repeat([]byte("x"), 10240)) })
	start := func(i int, addr string) {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		servers[i] = http1.NewServer(h, http1.Options{})
		go servers[i].Serve(ln)
		nodes = append(nodes, ln.Addr().String())
	}
	start(0, "127.0.0.1:0")
	start(1, "127.0.0.1:0")
	b := balancertest.Start(t, balancertest.Proxy(nodes, "SET backend_persist_cache = 50\nSET retry_budget = 100"), balancerd.Options{})
	stop := make(chan struct{})
	var asked, failed atomic.Int64
	var all sync.WaitGroup
	tr := &http.Transport{MaxIdleConnsPerHost: 20}
	defer tr.CloseIdleConnections()
	for range 10 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				req, _ := http.NewRequestWithContext(context.WithoutCancel(t.Context()), "GET", b.URL("rp", "/"), nil)
				res, err := tr.RoundTrip(req)
				asked.Add(1)
				if err != nil {
					failed.Add(1)
					t.Logf("%v", err)
					continue
				}
				n, err := io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != 200 || n != 10240 || err != nil {
					failed.Add(1)
					t.Logf("%d %d %v", res.StatusCode, n, err)
				}
			}
		})
	}
	for i := range 6 {
		at := asked.Load()
		balancertest.Eventually(t, "requests go on", func() bool { return asked.Load() > at+200 })
		servers[i%2].Close() // as a kill: connections are cut in mid-answer
		at = asked.Load()
		balancertest.Eventually(t, "requests go on with one", func() bool { return asked.Load() > at+200 })
		start(i%2, nodes[i%2])
	}
	close(stop)
	all.Wait()
	servers[0].Close()
	servers[1].Close()
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed\n%s", failed.Load(), asked.Load(), b.Log)
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
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, ""), balancerd.Options{})
	nc, err := net.Dial("tcp", b.Addr("rp"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	// The first bytes of the new protocol come with the request.
	fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\nearly ")
	r := bufio.NewReader(nc)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "echo" {
		t.Fatalf("%v %v", res, err)
	}
	fmt.Fprint(nc, "late")
	if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if string(got) != "early late" || err != nil {
		t.Errorf("echo: %q, %v", got, err)
	}
	if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 426 {
		t.Errorf("without upgrade: %d", res.StatusCode)
	}
}

// A slow upload is taken in before a backend is asked for, for the reason that the settings name.
func TestUploadsAreTakenIn(t *testing.T) {
	back := balancertest.Backend(t, echo)
	dir := t.TempDir()
	for _, tt := range []struct {
		conf, request string
		want          string
	}{
		{"SET buffer_upload_threshold_size = 10", "Content-Length: 20\r\n\r\n01234567890123456789", "size"},
		{"SET buffer_upload_threshold_size = 0\nSET buffer_backend_connect = 5\nSET buffer_upload_threshold_time = 0\nSET buffer_upload_threshold_rate = 1000000000", "Content-Length: 20\r\n\r\n01234567890123456789", "rate"},
		{"SET buffer_upload_threshold_size = 0\nSET buffer_backend_connect = 5\nSET buffer_upload_threshold_time = .000000001", "Content-Length: 20\r\n\r\n01234567890123456789", "time"},
		{"SET buffer_upload_threshold_size = 0\nSET buffer_backend_connect = 5\nSET buffer_upload_threshold_time = 0", "Content-Length: 20\r\n\r\n01234567890123456789", ""},
		{"", "Transfer-Encoding: chunked\r\n\r\n14;x=y\r\n01234567890123456789\r\n0\r\n\r\n", "chunked"},
	} {
		b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET buffer_uploads = on\nSET buffer_uploads_path = "+dir+"\n"+tt.conf), balancerd.Options{})
		b.Service("rp").Proxy().DebugUploads = true
		got := balancertest.Send(t, b.Addr("rp"), "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+tt.request, 20*time.Second)
		line := "X-Perlbal-Buffered-Upload-Reason: " + tt.want + "\n"
		if tt.want == "" && strings.Contains(got, "Buffered-Upload") || tt.want != "" && !strings.Contains(got, line) ||
			!strings.Contains(got, "POST a / len=20 te=[]") || !strings.Contains(got, "\n\n01234567890123456789") {
			t.Errorf("%s: want reason %q, got\n%s", tt.conf, tt.want, got)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// When the client of a spooled upload goes away, so does the file.
func TestSpooledUploadOfAClientThatGoes(t *testing.T) {
	dir := t.TempDir()
	b := balancertest.Start(t, balancertest.Proxy([]string{balancertest.Backend(t, echo)}, "SET buffer_uploads = on\nSET buffer_uploads_path = "+dir+"\nSET buffer_upload_threshold_size = 1"), balancerd.Options{})
	nc, err := net.Dial("tcp", b.Addr("rp"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 200000))
	files := func() int { l, _ := os.ReadDir(dir); return len(l) }
	balancertest.Eventually(t, "the upload is in a file", func() bool { return files() == 1 })
	nc.Close()
	balancertest.Eventually(t, "the file is gone", func() bool { return files() == 0 })
}

func TestTooLargeUploads(t *testing.T) {
	back := balancertest.Backend(t, echo)
	for _, spool := range []string{"", "\nSET buffer_uploads = on\nSET buffer_uploads_path = " + t.TempDir()} {
		b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET max_chunked_request_size = 1000\nSET max_request_size = 2000"+spool), balancerd.Options{})
		if res, _ := do(t, "PUT", b.URL("rp", "/"), struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 1001))}); res.StatusCode != 413 {
			t.Errorf("%q: chunked body of 1001: %d; want 413", spool, res.StatusCode)
		}
		if res, _ := do(t, "PUT", b.URL("rp", "/"), strings.NewReader(strings.Repeat("x", 2001))); res.StatusCode != 413 {
			t.Errorf("%q: body of 2001: %d; want 413", spool, res.StatusCode)
		}
		if res, _ := do(t, "PUT", b.URL("rp", "/"), struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 1000))}); res.StatusCode != 200 {
			t.Errorf("%q: chunked body of 1000: %d; want 200", spool, res.StatusCode)
		}
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
	nc, err := net.Dial("tcp", b.Addr("rp"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.(*net.TCPConn).SetReadBuffer(64 << 10)
	fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	balancertest.Eventually(t, "the backend has begun and is free again", func() bool {
		q := b.Service("rp").Queue()
		return busy.Load() == 0 && b.Requests() == 1 && q.Idle() == 1
	})
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
