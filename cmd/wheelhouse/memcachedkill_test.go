package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"wheelhouse/memcache/memcachetest"
)

// cacheClient writes and deletes keys of its own, and remembers what the server has acknowledged.
type cacheClient struct {
	number  int
	acked   map[string]string // "": deleted
	key     string            // of the request that is not answered; "": there is none
	pending string            // what it stores
}

const cacheKeys = 500

// run sends requests until the connection breaks. It says so for each answer.
func (c *cacheClient) run(nc net.Conn, answered chan<- struct{}) error {
	defer nc.Close()
	rng := rand.New(rand.NewPCG(uint64(c.number), 1))
	r := bufio.NewReader(nc)
	for n := 0; ; n++ {
		c.key, c.pending = fmt.Sprintf("k%d-%d", c.number, rng.IntN(cacheKeys)), ""
		request := "delete " + c.key + "\r\n"
		if rng.IntN(5) > 0 {
			c.pending = fmt.Sprintf("%d %s.", n, strings.Repeat("v", rng.IntN(2000)))
			request = fmt.Sprintf("ms %s %d Gall,c%d\r\n%s\r\n", c.key, len(c.pending), c.number, c.pending)
		}
		if _, err := nc.Write([]byte(request)); err != nil {
			return nil
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return nil
		}
		want := "HD"
		switch {
		case c.pending == "" && c.acked[c.key] == "":
			want = "NOT_FOUND"
		case c.pending == "":
			want = "DELETED"
		}
		if got := strings.TrimSpace(line); got != want {
			return fmt.Errorf("%.40q: the server answers %q; want %s", request, got, want)
		}
		c.acked[c.key] = c.pending
		c.key = ""
		select {
		case answered <- struct{}{}:
		default:
		}
	}
}

// loaded ends a server by a signal while clients write, and returns what they know. Each of them has had some thousand answers by then.
func loaded(t *testing.T, p *process, clients []*cacheClient, sig syscall.Signal) {
	t.Helper()
	answered := make(chan struct{}, 1<<12)
	var running sync.WaitGroup
	for _, c := range clients {
		nc, err := net.Dial("tcp", p.memcached())
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if err := c.run(nc, answered); err != nil {
				t.Error(err)
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		running.Wait()
		close(ended)
	}()
	for range 8000 {
		select {
		case <-answered:
		case <-ended:
			t.Fatal("no client goes on")
		}
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	<-p.done
	<-ended
}

// compare looks whether the server has what a client was told, no more and no less. Of the request that was under way nobody knows; what
// became of it is noted.
func (c *cacheClient) compare(t *testing.T, conn *memcachetest.Conn) {
	t.Helper()
	for n := range cacheKeys {
		key := fmt.Sprintf("k%d-%d", c.number, n)
		got := ""
		if l := conn.Ask("mg " + key + " v"); l != "EN" {
			got = conn.Line()
		}
		want := c.acked[key]
		if got != want && !(key == c.key && got == c.pending) {
			t.Errorf("%s is %.30q (%d bytes); want %.30q (%d)", key, got, len(got), want, len(want))
		}
		c.acked[key] = got
	}
	c.key = ""
}

// Ended under load in an orderly way, the next process has exactly what was acknowledged, tags included. Killed under load, it has nothing: not
// even what an earlier orderly end had left.
func TestMemcachedRestartUnderLoad(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "items")
	run := func() (*process, *memcachetest.Conn) {
		p := start(t, "memcached", "-p", "0", "-m", "16", "-M", "-e", file)
		return p, memcachetest.Dial(t, p.memcached())
	}
	var clients []*cacheClient
	for i := range 4 {
		clients = append(clients, &cacheClient{number: i, acked: map[string]string{}})
	}
	p, conn := run()
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGKILL, syscall.SIGKILL, syscall.SIGTERM} {
		loaded(t, p, clients, sig)
		if sig == syscall.SIGKILL {
			for _, c := range clients {
				clear(c.acked)
				c.key = ""
			}
		}
		p, conn = run()
		for _, c := range clients {
			c.compare(t, conn)
		}
		if t.Failed() {
			t.Fatalf("after %v", sig)
		}
	}
	if got := conn.Ask("flush_tag c2"); got != "OK" {
		t.Fatal(got)
	}
	clear(clients[2].acked)
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.waitEnd()
	_, conn = run()
	for _, c := range clients {
		c.compare(t, conn)
	}
	if got := conn.Ask("flush_tag all"); got != "OK" {
		t.Fatal(got)
	}
	if got := conn.Stats("")["cmd_get"]; got != fmt.Sprint(len(clients)*cacheKeys) {
		t.Errorf("%s gets", got)
	}
	for _, c := range clients {
		clear(c.acked)
		c.compare(t, conn)
	}
}

// Ended under load in an orderly way, a process with a snapshot has at its next start exactly what was acknowledged. Killed under load, while snapshots
// are written, it has a whole one at its next start, and of each key what was stored there at some time.
func TestMemcachedSnapshotUnderLoad(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "snapshot")
	run := func() (*process, *memcachetest.Conn) {
		p := start(t, "memcached", "-p", "0", "-m", "16", "-M", "--snapshot", file)
		return p, memcachetest.Dial(t, p.memcached())
	}
	var clients []*cacheClient
	for i := range 4 {
		clients = append(clients, &cacheClient{number: i, acked: map[string]string{}})
	}
	p, _ := run()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		var writing sync.WaitGroup
		if sig == syscall.SIGKILL {
			writer := memcachetest.Dial(t, p.memcached())
			writing.Go(func() {
				for line, err := "OK", error(nil); err == nil; line, err = writer.TryLine() {
					if !strings.HasPrefix(line, "OK") {
						t.Errorf("snapshot: %s", line)
					}
					if _, err := io.WriteString(writer, "snapshot\r\n"); err != nil {
						return
					}
				}
			})
		}
		loaded(t, p, clients, sig)
		writing.Wait()
		var conn *memcachetest.Conn
		p, conn = run()
		for _, c := range clients {
			if sig == syscall.SIGKILL {
				c.adopt(t, conn)
			} else {
				c.compare(t, conn)
			}
		}
		if t.Failed() {
			t.Fatalf("after %v", sig)
		}
	}
}

// adopt takes for acknowledged what the server has, which must be values of these keys.
func (c *cacheClient) adopt(t *testing.T, conn *memcachetest.Conn) {
	t.Helper()
	c.key = ""
	clear(c.acked)
	for n := range cacheKeys {
		key := fmt.Sprintf("k%d-%d", c.number, n)
		if l := conn.Ask("mg " + key + " v"); l != "EN" {
			c.acked[key] = conn.Line()
			if number, rest, ok := strings.Cut(c.acked[key], " "); !ok || number == "" || strings.Trim(rest, "v") != "." {
				t.Errorf("%s is %.30q", key, c.acked[key])
			}
		}
	}
}

// A start that fails for another reason leaves what the last process left; one that cannot take it away fails.
func TestMemcachedFailedStart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "items")
	p := start(t, "memcached", "-p", "0", "-e", file)
	if got := memcachetest.Dial(t, p.memcached()).Ask("set a 0 0 1\r\nx"); got != "STORED" {
		t.Fatal(got)
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.waitEnd()
	other := start(t, "memcached", "-p", "0")
	if status, _, errOut := runOnce(t, "memcached", "-l", other.memcached(), "-e", file); status == 0 || !strings.Contains(errOut, "address already in use") {
		t.Fatalf("%d %q", status, errOut)
	}
	p = start(t, "memcached", "-p", "0", "-e", file)
	if got := memcachetest.Dial(t, p.memcached()).Ask("mg a"); got != "HD" {
		t.Errorf("after a start that failed: %s", got)
	}
	p.kill()
	if err := os.MkdirAll(filepath.Join(file+".meta", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if status, _, errOut := runOnce(t, "memcached", "-p", "0", "-e", file); status == 0 || !strings.Contains(errOut, "cannot be taken away") {
		t.Errorf("%d %q", status, errOut)
	}
}
