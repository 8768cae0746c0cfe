package balancerd_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/http1"
)

// A connection to a backend is used max_backend_uses times, and not once more.
func TestMaxBackendUses(t *testing.T) {
	var mu sync.Mutex
	uses := map[string]int{}
	back := balancertest.Engine(t, func(x http1.Exchange) {
		mu.Lock()
		uses[x.RemoteAddr().String()]++
		mu.Unlock()
		x.Reply(200, nil)
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET max_backend_uses = 3"), balancerd.Options{})
	for range 7 {
		get(t, b.URL("rp", "/"))
	}
	mu.Lock()
	defer mu.Unlock()
	if got := slices.Sorted(maps.Values(uses)); !slices.Equal(got, []int{1, 3, 3}) {
		t.Errorf("connections were used %v times; want 3, 3, 1", got)
	}
}

// Of the connections that were used backend_persist_cache are kept, and connect_ahead has spare ones made.
func TestIdleConnections(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	back := balancertest.Engine(t, func(x http1.Exchange) {
		begun <- struct{}{}
		<-release
		x.Reply(200, nil)
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET backend_persist_cache = 3"), balancerd.Options{})
	queue := b.Service("rp").Queue()
	var asking sync.WaitGroup
	for range 6 {
		asking.Go(func() {
			if res, err := http.Get(b.URL("rp", "/")); err == nil {
				res.Body.Close()
			}
		})
	}
	for range 6 {
		<-begun
	}
	close(release)
	asking.Wait()
	balancertest.Eventually(t, "three of six are kept", func() bool { return queue.Idle() == 3 && len(queue.Conns()) == 3 })
	b.Do("SET rp.connect_ahead = 5")
	balancertest.Eventually(t, "five are ready", func() bool { return queue.Idle() == 5 })
}

// A fresh connection is proved by OPTIONS for verify_backend_path before it gets work, once.
func TestVerifyBackendPath(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	back := balancertest.Engine(t, func(x http1.Exchange) {
		mu.Lock()
		asked = append(asked, x.Request().Method+" "+string(x.Request().Target))
		mu.Unlock()
		x.Reply(200, nil)
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET verify_backend = on\nSET verify_backend_path = /check"), balancerd.Options{})
	get(t, b.URL("rp", "/a"))
	get(t, b.URL("rp", "/b"))
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"OPTIONS /check", "GET /a", "GET /b"}; !slices.Equal(asked, want) {
		t.Errorf("the backend was asked %q; want %q", asked, want)
	}
}

// A backend that takes longer than idle_timeout is waited for; a client that is silent for longer between requests is not.
func TestIdleTimeouts(t *testing.T) {
	back := balancertest.Engine(t, func(x http1.Exchange) {
		timer := time.NewTimer(500 * time.Millisecond)
		<-timer.C
		x.Reply(200, []byte("late"))
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET idle_timeout = .1\nSET queue_timeout = 60\nSET persist_client_idle_timeout = .2"), balancerd.Options{})
	nc, err := net.Dial("tcp", b.Addr("rp"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	r := bufio.NewReader(nc)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%v %v", res, err)
	}
	if body, err := io.ReadAll(res.Body); string(body) != "late" || err != nil {
		t.Errorf("%q %v", body, err)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after silence: %v; want the end", err)
	}
	nc2, err := net.Dial("tcp", b.Addr("rp"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc2.Close()
	nc2.SetDeadline(time.Now().Add(20 * time.Second)) // below client_header_timeout's and idle_timeout's defaults together
	fmt.Fprint(nc2, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx")
	if _, err := io.ReadAll(nc2); err != nil {
		t.Errorf("a body that does not come: %v; want the end after idle_timeout", err)
	}
}

// latency is added by a selector, and server_tokens = off leaves answers of the balancer's own without a Server.
func TestLatencyAndServerTokens(t *testing.T) {
	b := balancertest.Start(t, "CREATE SERVICE s\nSET role = selector\nSET listen = 127.0.0.1:0\nSET latency = 300\nENABLE s\n", balancerd.Options{})
	began := time.Now()
	if res, _ := get(t, b.URL("s", "/")); res.Header.Get("Server") != "Perlbal" {
		t.Errorf("Server: %q", res.Header.Get("Server"))
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("it took %v; want 300 ms at least", took)
	}
	b.Do("SET s.server_tokens = off")
	if res, _ := get(t, b.URL("s", "/")); res.Header.Get("Server") != "" {
		t.Errorf("server_tokens = off: Server: %q", res.Header.Get("Server"))
	}
}

// A client that does not read holds no storage when the body fits buffer_size_reproxy_url.
func TestSlowClientFreesItsStorage(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 12<<20)
	store := balancertest.Engine(t, func(x http1.Exchange) { x.Reply(200, body) })
	b := balancertest.Start(t, balancertest.Proxy([]string{app(t, 200, "", "X-REPROXY-URL", "http://"+store+"/")},
		"SET enable_reproxy = on\nSET buffer_size_reproxy_url = 16m\nSET client_sndbuf_size = 64k"), balancerd.Options{})
	getSlowly(t, b.Addr("rp"), body, func() {
		balancertest.Eventually(t, "the connection to the storage is free", func() bool {
			st := b.Fetcher().State()
			return len(st) == 1 && st[0].Bored == 1
		})
	})
}

// A backend that falls silent in mid-body is given up after backend_body_timeout; more requests than max_queue do not wait.
func TestBackendBodyTimeoutAndMaxQueue(t *testing.T) {
	half := balancertest.Raw(t, func(nc net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(nc)); err == nil {
			fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
			io.Copy(io.Discard, nc)
		}
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{half}, "SET backend_body_timeout = .1"), balancerd.Options{})
	nc, err := net.Dial("tcp", b.Addr("rp"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(40 * time.Second)) // the default is 60 s
	fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil || res.StatusCode != 502 {
		t.Errorf("half a body: %v %v; want 502", res, err)
	}

	begun, release := make(chan struct{}), make(chan struct{})
	back := balancertest.Engine(t, func(x http1.Exchange) {
		begun <- struct{}{}
		<-release
		x.Reply(200, nil)
	})
	b = balancertest.Start(t, balancertest.Proxy([]string{back}, "SET max_queue = 1")+"SET p.max_connections = 1\n", balancerd.Options{})
	status := make(chan int, 3)
	ask := func() { status <- b.Status("rp", "/") }
	go ask()
	<-begun
	go ask()
	balancertest.Eventually(t, "one waits", func() bool { n, _ := b.Service("rp").Queues(1); return n == 1 })
	ask()
	if got := <-status; got != 503 {
		t.Errorf("the second that would wait: %d; want 503", got)
	}
	close(release)
	<-begun
	for range 2 {
		if got := <-status; got != 200 {
			t.Errorf("those before it: %d; want 200", got)
		}
	}
}

// A head that does not come to its end is given up after client_header_timeout, and an upgraded connection on which nobody says anything
// after upgrade_timeout.
func TestSilentClients(t *testing.T) {
	back := balancertest.Engine(t, func(x http1.Exchange) {
		nc, err := x.(http1.Switcher).Switch("echo")
		if err != nil {
			t.Error(err)
			return
		}
		io.Copy(nc, nc)
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET idle_timeout = 600\nSET client_header_timeout = .1\nSET upgrade_timeout = .1"), balancerd.Options{})
	for _, said := range []string{"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"} {
		nc, err := net.Dial("tcp", b.Addr("rp"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(9 * time.Second)) // the first's default is 10 s, the second's none
		fmt.Fprint(nc, said)
		if got, err := io.ReadAll(nc); err != nil {
			t.Errorf("%q: %q, %v; want the end", said, got, err)
		}
	}
}
