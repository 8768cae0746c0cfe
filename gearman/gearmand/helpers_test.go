package gearmand_test

import (
	"errors"
	"net"
	"os/exec"
	"sync"
	"syscall"
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

// debian starts Debian's gearmand and returns its address.
func debian(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("gearmand"); err != nil {
		t.Skip("gearmand is not installed (make tools)")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	host, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command("gearmand", "-L", host, "-p", port, "-l", "none")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
	})
	eventually(t, "gearmand answers", func() bool {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	return addr
}
