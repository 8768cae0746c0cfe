package throttlememcache

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wheelhouse/balancer/plugin"
)

// memcached starts Debian's on a socket.
func memcached(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	cmd := exec.Command("memcached", "-u", "root", "-s", path, "-a", "0777", "-m", "16")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if nc, err := net.Dial("unix", path); err == nil {
			nc.Close()
			return path
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("memcached does not listen")
		}
	}
}

// patiently reads until a server that is slow for once has answered.
func patiently(t *testing.T, m plugin.ThrottleMemory, key string) (time.Time, int) {
	t.Helper()
	for range 100 {
		if last, n, ok := m.Get(t.Context(), key); ok {
			return last, n
		}
		m.Set(t.Context(), key, time.Unix(1, 2), 3, time.Hour)
	}
	t.Fatalf("%q: nothing is known", key)
	return time.Time{}, 0
}

// What one balancer sets another reads; what has expired is gone; keys of all shapes are kept apart.
func TestMemory(t *testing.T) {
	path := memcached(t)
	var one, two Clients
	defer one.Close()
	defer two.Close()
	a, err := one.Open([]string{path}, 4)
	if err != nil {
		t.Fatal(err)
	}
	b, err := two.Open([]string{path}, 4)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"Throttle192.0.2.1", "Throttle2001:db8::/64", "with space\r\nflush_all\r\n", strings.Repeat("long", 100), "ü", ""} {
		if _, _, ok := a.Get(t.Context(), key); ok {
			t.Errorf("%q is known before it came", key)
		}
		a.Set(t.Context(), key, time.Unix(1, 2), 3, time.Hour)
		if last, n := patiently(t, b, key); !last.Equal(time.Unix(1, 2)) || n != 3 {
			t.Errorf("%q: %v, %d", key, last, n)
		}
		a.Set(t.Context(), key, time.Unix(1, 2), 3, 0)
		if _, _, ok := b.Get(t.Context(), key); ok {
			t.Errorf("%q did not expire", key)
		}
	}
}

// Without a server nothing is known, and nobody waits long for that; a wrong list is an error.
func TestOpen(t *testing.T) {
	var c Clients
	defer c.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := ln.Addr().String()
	ln.Close()
	m, err := c.Open([]string{dead}, 1)
	if err != nil {
		t.Fatal(err)
	}
	m.Set(t.Context(), "k", time.Now(), 1, time.Hour)
	if _, _, ok := m.Get(t.Context(), "k"); ok {
		t.Error("a dead server knows something")
	}
	again, err := c.Open([]string{dead}, 1)
	if err != nil || again != m || len(c.all) != 1 {
		t.Errorf("the same servers: another client, %v", err)
	}
	for _, bad := range [][]string{{"host:port"}, {"a:99999"}} {
		if _, err := c.Open(bad, 1); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	if _, err := c.Open([]string{dead}, 0); err == nil {
		t.Error("no connections at all were taken")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("1 2")
	f.Add("-5 0")
	f.Add("1 99999999999")
	f.Add("x")
	f.Fuzz(func(t *testing.T, v string) {
		last, n, ok := parse(v)
		if n < 0 || !ok && (n != 0 || !last.IsZero()) {
			t.Errorf("%q: %v, %d, %v", v, last, n, ok)
		}
	})
}
