package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"wheelhouse/memcache/memcachetest"
)

// The process's memory stays within 1.05 of -m and 64 MB with very many connections, too: items give up what these take.
func TestMemcachedConnectionsAreWithinTheLimit(t *testing.T) {
	t.Parallel()
	const limit = 64
	many := 10_000
	if raceMemory > 1 {
		many /= 4
	}
	sock := t.TempDir() + "/sock" // ports of TCP are few
	p := start(t, "memcached", "-s", sock, "-m", strconv.Itoa(limit), "-c", strconv.Itoa(many+10))
	c := memcachetest.Dial(t, sock)
	for i := range 2 * limit << 20 / 1000 {
		c.Send(fmt.Sprintf("set k%d 0 0 1000 noreply", i), strings.Repeat("x", 1000))
	}
	c.Nothing()
	allowed := raceMemory * int64(limit<<20*105/100+64<<20)
	ask := []byte("get nothing\r\n")
	for i := range many {
		nc, err := net.Dial("unix", sock)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer nc.Close()
		if _, err := nc.Write(ask); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 * limit << 20 / 1000 {
		c.Send(fmt.Sprintf("set l%d 0 0 1000 noreply", i), strings.Repeat("x", 1000))
	}
	c.Nothing()
	given, _ := strconv.Atoi(c.Stats("")["limit_given_up"])
	if given != 0 {
		t.Errorf("with %d connections, items give up %d bytes; want none", many, given)
	}
	eventually(t, "memory is within the limit", func() bool { return residentBytes(t, p.cmd.Process.Pid) <= allowed })
	t.Logf("%d connections: %d bytes of %d", many, residentBytes(t, p.cmd.Process.Pid), allowed)
}
