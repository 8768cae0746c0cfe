package balancerd_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/transport"
	"wheelhouse/internal/http1"
	"wheelhouse/internal/testcert"
)

// stepped is a backend whose health checks are answered one after the other, as the test says.
type stepped struct {
	asked chan *http1.Request
	reply chan int
	done  chan struct{}
}

func (s *stepped) ServeExchange(x http1.Exchange) {
	if string(x.Request().Path) != "/health" {
		x.Reply(200, []byte("ok"))
		return
	}
	select {
	case s.asked <- x.Request():
	case <-s.done:
	}
	select {
	case status := <-s.reply:
		x.Reply(status, nil)
	case <-s.done:
		x.Abort()
	}
}

// Checks ask for health_path at health_host; health_fall answers other than health_status make a node sick, health_rise make it well; and a
// node that nobody checks any more is not sick.
func TestHealthParameters(t *testing.T) {
	s := &stepped{make(chan *http1.Request), make(chan int), make(chan struct{})}
	back := balancertest.Engine(t, s.ServeExchange)
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET queue_timeout = .2")+"SET p.health_host = www.test\nSET p.health_interval = .01\nSET p.health_timeout = 3600\n"+
		"SET p.health_fall = 2\nSET p.health_rise = 4\nSET p.health_status = 204\nSET p.health_path = /health\n", balancerd.Options{})
	defer close(s.done)
	node := b.Pools()[0].Nodes()[0]
	if q := <-s.asked; string(q.Host) != "www.test" || q.Method != "GET" {
		t.Errorf("asked with %s for host %q", q.Method, q.Host)
	}
	for i, tt := range []struct {
		status int
		want   string
	}{
		{204, "up"}, {200, "up"}, {204, "up"}, {200, "up"}, {500, "sick"}, // two in a row
		{204, "sick"}, {204, "sick"}, {204, "sick"}, {200, "sick"}, {204, "sick"}, {204, "sick"}, {204, "sick"}, {204, "up"}, // four
		{404, "up"}, {302, "sick"},
	} {
		s.reply <- tt.status
		<-s.asked // so that the one before has been noted
		if got := node.Status(time.Now()).State; got != tt.want {
			t.Fatalf("after answer %d, %d: the node is %s; want %s", i, tt.status, got, tt.want)
		}
	}
	if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 503 {
		t.Errorf("of a sick node: %d", res.StatusCode)
	}
	b.Do("SET p.health_path = none")
	if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 200 {
		t.Errorf("without checks: %d", res.StatusCode)
	}
	if err := b.Try("SET p.health_timeout = 0"); err == nil {
		t.Error("health_timeout = 0 was taken, with which each node is sick")
	}
}

// A check that is not answered ends after health_timeout, and the next comes health_interval later.
func TestHealthTimes(t *testing.T) {
	var checks atomic.Int64
	silent := balancertest.Raw(t, func(nc net.Conn) { checks.Add(1); io.Copy(io.Discard, nc) })
	b := balancertest.Start(t, balancertest.Proxy([]string{silent}, "")+"SET p.health_interval = 3600\nSET p.health_timeout = .01\nSET p.health_path = /\n", balancerd.Options{})
	balancertest.Eventually(t, "the first check", func() bool { return checks.Load() == 1 })
	b.Do("SET p.health_interval = .01")
	balancertest.Eventually(t, "25 checks", func() bool { return checks.Load() >= 25 }) // half a minute would do for 15 of two seconds each
}

// Checks take the way that requests take: with TLS, and with the PROXY header of a connection that nobody is behind.
func TestHealthTakesTheServicesWay(t *testing.T) {
	cert, key := testcert.Pair(t, t.TempDir(), "b", 1, "b.test")
	p, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, conf := range []string{"SET backend_ssl = on\nSET backend_ssl_verify = off", "SET send_proxy_protocol = 1", "SET send_proxy_protocol = 2"} {
		var mu sync.Mutex
		var faults []string
		var checks atomic.Int64
		back := balancertest.Raw(t, func(nc net.Conn) {
			bad := func(err error) {
				mu.Lock()
				faults = append(faults, err.Error())
				mu.Unlock()
			}
			if strings.Contains(conf, "proxy") {
				if from, err := transport.ReadProxyHeader(nc); err != nil || from != nil {
					bad(fmt.Errorf("PROXY header of %v: %w", from, err))
					return
				}
			} else {
				nc = tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{p}})
			}
			if _, err := http.ReadRequest(bufio.NewReader(nc)); err != nil {
				bad(err)
				return
			}
			fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			checks.Add(1)
		})
		b := balancertest.Start(t, balancertest.Proxy([]string{back}, conf)+"SET p.health_interval = .01\nSET p.health_fall = 1\nSET p.health_path = /\n", balancerd.Options{})
		balancertest.Eventually(t, conf+": three checks", func() bool { return checks.Load() >= 3 })
		if st := b.Pools()[0].Nodes()[0].Status(time.Now()); st.State != "up" {
			t.Errorf("%s: %s, %s", conf, st.State, st.Error)
		}
		mu.Lock()
		if len(faults) > 0 {
			t.Errorf("%s: %v", conf, faults)
		}
		mu.Unlock()
	}
}

// Idle connections to backends that were made without TLS are not used when it is switched on.
func TestBackendTLSIsSwitchedOn(t *testing.T) {
	b := balancertest.Start(t, balancertest.Proxy(names(t, 1), "SET queue_timeout = .3"), balancerd.Options{})
	if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	b.Do("SET rp.backend_ssl = on")
	if res, _ := get(t, b.URL("rp", "/")); res.StatusCode != 503 {
		t.Errorf("with backend_ssl a backend without TLS has answered: %d", res.StatusCode)
	}
}
