package gearmand_test

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/gearman/gearmantest"
)

// server is a job server on a port of its own.
type server struct {
	*gearmand.Server
	addr string
}

func serve(t testing.TB, opts gearmand.Options) *server {
	t.Helper()
	s, err := gearmand.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ln); !errors.Is(err, gearmand.ErrServerClosed) {
			t.Errorf("Serve = %v; want ErrServerClosed", err)
		}
	})
	t.Cleanup(func() {
		s.Close()
		serving.Wait()
		if m := s.Stats().Memory; m < 0 {
			t.Errorf("the server counts %d bytes of memory after its end", m)
		}
	})
	return &server{s, ln.Addr().String()}
}

func (s *server) dial(t testing.TB) *gearmantest.Conn { return gearmantest.Dial(t, s.addr) }

// eventually polls until ok reports true, for what happens by itself.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(gearmantest.Wait); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not after %v: %s", gearmantest.Wait, what)
		}
	}
}
