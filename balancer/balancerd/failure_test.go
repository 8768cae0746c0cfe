package balancerd_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"wheelhouse/balancer"
	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/http1"
)

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
	var made atomic.Int64
	hasty := balancertest.Raw(t, func(net.Conn) { made.Add(1) })
	greets := balancertest.Raw(t, func(nc net.Conn) {
		made.Add(1)
		io.WriteString(nc, "220 at your service\r\n")
		io.Copy(io.Discard, nc)
	})
	for _, tt := range []struct {
		name, node, conf string
		status           int
		reason           string
	}{
		{"closes at once", hasty, "", 502, "backend " + hasty + " failed: "},
		{"speaks first", greets, "SET connect_ahead = 3", 502, "backend " + greets + " failed: "},
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
	if n := made.Load(); n > 20 {
		t.Errorf("two requests made %d connections to backends that are of no use", n)
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

// A backend is not blamed for an answer that its client did not wait for.
func TestClientGoesDuringTheResponse(t *testing.T) {
	for head, status := range map[string]int{"Content-Length: 100000000\r\n": 200, "Content-Length: 5000\r\n": 0, "Transfer-Encoding: chunked\r\n": 200} {
		for _, reproxied := range []bool{false, true} {
			sent := make(chan struct{}, 9)
			back := balancertest.Raw(t, func(nc net.Conn) {
				bufio.NewReader(nc).ReadString('\n')
				fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\n%s\r\nfffff\r\nsome", head)
				sent <- struct{}{}
				io.Copy(io.Discard, nc)
			})
			if reproxied {
				back = app(t, 200, "", "X-REPROXY-URL", "http://"+back+"/ http://"+back+"/")
			}
			type end struct {
				status int
				reason string
			}
			ended := make(chan end, 1)
			b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET enable_reproxy = on"), balancerd.Options{Finished: func(r *balancer.Request) {
				ended <- end{r.Status, r.Reason}
			}})
			nc, err := net.Dial("tcp", b.Addr("rp"))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			<-sent
			if status != 0 {
				nc.Read(make([]byte, 4096)) // the head has come through
			}
			nc.Close()
			if e := <-ended; !strings.HasPrefix(e.reason, "the client is gone") || e.status != status && !reproxied {
				t.Errorf("%s, reproxied %v: status %d, reason %q", head, reproxied, e.status, e.reason)
			}
			if log := b.Log.String(); strings.Contains(log, "broke off") {
				t.Errorf("%s, reproxied %v: %s", head, reproxied, log)
			}
		}
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
