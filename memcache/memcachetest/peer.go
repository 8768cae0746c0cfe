package memcachetest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// StartDebian runs Debian's memcached on a port of the loopback interface that it chooses, until the test ends, and returns its address.
func StartDebian(t testing.TB, flags ...string) string {
	t.Helper()
	args := append([]string{"-l", "127.0.0.1", "-p", "-1", "-U", "0"}, flags...)
	dir, err := os.MkdirTemp("", "memcached")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Geteuid() == 0 { // it refuses to be root by accident, and writes its port as the other user
		args = append(args, "-u", "nobody")
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	ports := filepath.Join(dir, "ports") // it is put there when it is complete
	cmd := exec.Command("memcached", args...)
	cmd.Env = append(os.Environ(), "MEMCACHED_PORT_FILENAME="+ports)
	var log syncBuffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (make tools)", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(Wait); ; <-tick.C {
		if text, err := os.ReadFile(ports); err == nil {
			_, port, ok := strings.Cut(strings.TrimSpace(string(text)), "TCP INET: ")
			if !ok {
				t.Fatalf("memcached listens on %q", text)
			}
			return "127.0.0.1:" + port
		}
		if time.Now().After(end) {
			t.Fatalf("memcached does not tell its port\n%s", log.String())
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
