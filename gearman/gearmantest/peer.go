package gearmantest

import (
	"bytes"
	"context"
	"net"
	"os/exec"
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/freeport"
)

// StartDebian runs Debian's gearmand on a free port of the loopback interface until the test ends, and returns its address.
func StartDebian(t testing.TB, flags ...string) string {
	t.Helper()
	addr := freeport.ForTest(t)
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command("gearmand", append([]string{"--listen=127.0.0.1", "--port=" + port, "--log-file=stderr"}, flags...)...)
	var log syncBuffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (Debian package gearman-job-server)", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = nc.Close()
			time.Sleep(settles) // else the next may see it among the workers
			return addr
		}
		select {
		case <-ctx.Done():
			t.Fatalf("gearmand does not answer: %v\n%s", err, log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// syncBuffer is a bytes.Buffer for a process's output.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
