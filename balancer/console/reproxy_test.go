package console_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"wheelhouse/balancer/balancertest"
)

// reproxy_state shows what there is of each server that X-REPROXY-URL has named.
func TestReproxyState(t *testing.T) {
	entered, release := make(chan struct{}, 3), make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	storage := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-release
		io.WriteString(w, "bytes")
	})
	stuck := stuckListener(t)
	app := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-REPROXY-URL", "http://"+map[string]string{"/stuck": stuck, "/": storage}[r.URL.Path]+"/")
	})
	b, _, _ := start(t, "SERVER max_reproxy_connections = 2\n"+balancertest.Proxy([]string{app}, "SET enable_reproxy = on\nSET backend_persist_cache = 9")+consoleOnly)
	ctx, cancel := context.WithCancel(t.Context())
	defer let()
	defer cancel()
	var asking sync.WaitGroup
	fetch := func(path string) {
		asking.Go(func() {
			req, err := http.NewRequestWithContext(ctx, "GET", b.URL("rp", path), nil)
			if err != nil {
				t.Error(err)
				return
			}
			if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		})
	}
	for range 3 {
		fetch("/")
	}
	<-entered
	<-entered
	says := func(want ...string) func() bool {
		want = slices.Sorted(slices.Values(append(want, "SERVER max_reproxy_connections = 2", ".", "")))
		return func() bool {
			return slices.Equal(slices.Sorted(strings.SplitSeq(ask(t, b.Addr("mgmt"), "reproxy_state"), "\r\n")), want)
		}
	}
	balancertest.Eventually(t, "two are fetched, and one waits", says("clients_queued "+storage+" 1", "backends "+storage+" 2"))
	fetch("/stuck")
	balancertest.Eventually(t, "a connection is being made", says("connecting "+stuck+" 1", "clients_queued "+storage+" 1", "backends "+stuck+" 1", "backends "+storage+" 2"))
	let()
	balancertest.Eventually(t, "all are answered, and the connections wait", says("connecting "+stuck+" 1", "bored "+storage+" 2", "backends "+stuck+" 1"))
	cancel()
	asking.Wait()
}

// stuckListener is an address where connections are neither accepted nor refused: its queue is full.
func stuckListener(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in := sa.(*syscall.SockaddrInet4)
	addr := (&net.TCPAddr{IP: in.Addr[:], Port: in.Port}).String()
	nc, err := net.Dial("tcp", addr) // the one that a queue of 0 takes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return addr
}
