package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
		nc, err := dialUnix(sock)
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

// So it does while thousands ask for much and take no answers. Others are served meanwhile, and who reads late gets what he has asked for.
func TestMemcachedReadersAreWithinTheLimit(t *testing.T) {
	const limit = 64
	dir := t.TempDir()
	cert, key := newAuthority(t, dir).issue(t, dir+"/server")
	secure := []string{"-p", "0", "-Z", "-o", "ssl_chain_cert=" + cert + ",ssl_key=" + key}
	for _, tt := range []struct {
		name    string
		many    int
		flags   []string
		request string
		times   int
		value   int // bytes of a value of the answer
		values  int
	}{
		{"large values", 5000, []string{"-s", dir + "/1"}, "get value\r\n", 1800, 8000, 1},
		{"small values", 5000, []string{"-s", dir + "/2"}, "get value\r\n", 1800, 100, 1},
		{"misses", 5000, []string{"-s", dir + "/3"}, "get none\r\n", 2000, 1, 0},
		{"multigets", 3000, []string{"-s", dir + "/4"}, "get" + strings.Repeat(" value", 300) + "\r\n", 10, 100, 300},
		{"huge values", 2000, []string{"-s", dir + "/5"}, "get value\r\n", 20, 500_000, 1},
		{"TCP", 1000, []string{"-p", "0"}, "get value\r\n", 10_000, 8000, 1},
		{"TLS", 900, secure, "get value\r\n", 9_000, 8000, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if raceMemory > 1 {
				tt.many /= 10
			}
			p := start(t, append([]string{"memcached", "-m", strconv.Itoa(limit), "-c", strconv.Itoa(tt.many + 10)}, tt.flags...)...)
			c := memcachetest.New(t, dialMemcached(t, p))
			fillMemcached(c, limit)
			value := strings.Repeat("y", tt.value)
			if got := c.Ask(fmt.Sprintf("set value 0 0 %d\r\n", tt.value) + value); got != "STORED" {
				t.Fatal(got)
			}
			text := strings.Repeat(tt.request, tt.times)
			crowd := make([]net.Conn, tt.many)
			var sending sync.WaitGroup
			defer sending.Wait()
			for i := range crowd {
				nc := dialMemcached(t, p)
				defer nc.Close()
				crowd[i] = nc
				sending.Go(func() { _, _ = io.WriteString(nc, text) }) // till the end of the test
			}
			allowed := raceMemory * int64(limit<<20*105/100+64<<20)
			most, before, settled := int64(0), "", 0
			eventually(t, "all of them are waited for", func() bool {
				most = max(most, residentBytes(t, p.cmd.Process.Pid))
				now := c.Stats("")["cmd_get"]
				if settled++; now != before {
					before, settled = now, 0
				}
				return settled > 50
			})
			t.Logf("%d connections: %d bytes of %d", tt.many, most, allowed)
			if most > allowed {
				t.Errorf("with %d connections that read nothing the process has had %d bytes; at most %d are allowed", tt.many, most, allowed)
			}
			if got := c.Ask("set other 0 0 8000\r\n" + strings.Repeat("z", 8000)); got != "STORED" {
				t.Errorf("of another: %s", got)
			}
			if got := c.Stats("")["curr_connections"]; got != strconv.Itoa(tt.many+1) {
				t.Errorf("%s connections are left of %d", got, tt.many+1)
			}
			last := crowd[tt.many-1]
			last.SetReadDeadline(time.Now().Add(wait))
			answer := strings.Repeat(fmt.Sprintf("VALUE value 0 %d\r\n%s\r\n", tt.value, value), tt.values) + "END\r\n"
			r, got := bufio.NewReader(last), make([]byte, len(answer))
			for i := range min(tt.times, 2000) {
				if _, err := io.ReadFull(r, got); err != nil || string(got) != answer {
					t.Fatalf("answer %d: %.100q, %v", i, got, err)
				}
			}
			for _, nc := range crowd {
				nc.Close()
			}
		})
	}
}

// So it does while thousands ask for statistics all the time, which are made for one after the other.
func TestMemcachedStatisticsAreWithinTheLimit(t *testing.T) {
	const limit = 64
	many := 5000
	if raceMemory > 1 {
		many /= 10
	}
	p := start(t, "memcached", "-m", strconv.Itoa(limit), "-c", strconv.Itoa(many+10), "-s", t.TempDir()+"/sock")
	c := memcachetest.New(t, dialMemcached(t, p))
	fillMemcached(c, limit)
	text := strings.Repeat("stats\r\n", 50)
	for range many {
		nc := dialMemcached(t, p)
		defer nc.Close()
		if _, err := io.WriteString(nc, text); err != nil {
			t.Fatal(err)
		}
	}
	most := int64(0)
	for range 5 {
		if got := c.Stats("")["curr_connections"]; got != strconv.Itoa(many+1) {
			t.Errorf("%s connections are left of %d", got, many+1)
		}
		most = max(most, residentBytes(t, p.cmd.Process.Pid))
	}
	allowed := raceMemory * int64(limit<<20*105/100+64<<20)
	t.Logf("%d connections: %d bytes of %d", many, most, allowed)
	if most > allowed {
		t.Errorf("with %d connections that ask for statistics the process has had %d bytes; at most %d are allowed", many, most, allowed)
	}
}

// fillMemcached stores twice as much as limit, in MB.
func fillMemcached(c *memcachetest.Conn, limit int) {
	for i := range 2 * limit << 20 / 8000 {
		c.Send(fmt.Sprintf("set k%d 0 0 8000 noreply", i), strings.Repeat("x", 8000))
	}
}

// dialUnix connects to a socket, whose queue may be full for a moment: then the kernel lets nobody wait.
func dialUnix(path string) (nc net.Conn, err error) {
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		if nc, err = net.Dial("unix", path); !errors.Is(err, unix.EAGAIN) || time.Since(begun) > wait {
			return nc, err
		}
	}
}

// dialMemcached connects to the first address of a cache server.
func dialMemcached(t *testing.T, p *process) net.Conn {
	t.Helper()
	var nc net.Conn
	var err error
	addr, secure := strings.CutPrefix(p.ready["memcacheds"], "memcacheds://")
	switch {
	case secure:
		nc, err = tls.DialWithDialer(&fromAfar, "tcp", addr, &tls.Config{InsecureSkipVerify: true})
	case strings.HasPrefix(p.memcached(), "/"):
		nc, err = dialUnix(p.memcached())
	default:
		nc, err = fromAfar.Dial("tcp", p.memcached())
	}
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// fromAfar dials as from another machine, with segments as they are on Ethernet. With those of loopback, which are 44 times as large, the kernel
// allows each socket megabytes for answers that nobody reads; a crowd then uses up what it has for TCP, and it resets connections of others, too.
var fromAfar = net.Dialer{Control: tcpOption(unix.TCP_MAXSEG, 1460)}

// The kernel holds no more than maxUnsent, and what is on its way, for a client that reads nothing.
func TestMemcachedUnsentIsLimited(t *testing.T) {
	t.Parallel()
	ln, err := listenFor("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetWriteDeadline(time.Now().Add(time.Second))
	n, err := nc.Write(make([]byte, 16<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n < maxUnsent/2 || n > 2*maxUnsent {
		t.Errorf("a client that reads nothing was sent %d bytes, %v; want about %d, and a deadline", n, err, maxUnsent)
	}
}

// So it is inside up.
func TestMemcachedUnsentIsLimitedInsideUp(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	a := newApp(&Config{}, &environment{}, slog.New(slog.NewTextHandler(&out, nil)))
	a.cfg.Memcached.Listen, a.cfg.Memcached.Limit = "127.0.0.1:0", 8<<20
	if err := a.openMemcached(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer a.close()
	_, addr, _ := strings.Cut(strings.TrimSpace(out.String()), "addr=")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var answer [4]byte
	if _, err := io.WriteString(c, "mn\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, answer[:]); err != nil || string(answer[:]) != "MN\r\n" {
		t.Fatalf("%q, %v", answer, err)
	}
	// The server's end of the connection is in this process, too.
	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	for fd := range 4096 {
		peer, err := unix.Getpeername(fd)
		if in, ok := peer.(*unix.SockaddrInet4); err != nil || !ok || strconv.Itoa(in.Port) != port {
			continue
		}
		if n, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT); err != nil || n != maxUnsent {
			t.Errorf("the kernel holds %d bytes, %v; want %d", n, err, maxUnsent)
		}
		if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || n != unix.IPPROTO_TCP {
			t.Errorf("the protocol is %d, %v; want TCP's", n, err)
		}
		return
	}
	t.Error("there is no such connection")
}
