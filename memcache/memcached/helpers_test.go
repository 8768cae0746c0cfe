package memcached

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"wheelhouse/memcache/memcachetest"
)

// testServer is a server on a port of its own.
type testServer struct {
	*Server
	addr string
}

func serve(t testing.TB, opts Options) *testServer {
	t.Helper()
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ln); !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve = %v; want ErrServerClosed", err)
		}
	})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
		if n := s.open.Load(); n != 0 {
			t.Errorf("%d connections are counted after the end", n)
		}
	})
	return &testServer{s, ln.Addr().String()}
}

func (s *testServer) dial(t testing.TB) *memcachetest.Conn { return memcachetest.Dial(t, s.addr) }

// eventually polls until ok reports true, for what happens by itself.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(memcachetest.Wait); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not after %v: %s", memcachetest.Wait, what)
		}
	}
}
