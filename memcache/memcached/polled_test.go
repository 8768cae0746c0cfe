package memcached

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/memcache/memcachetest"
)

// What a client has sent before it closes its side is answered, in the poller as by a goroutine, and then the connection is at its end.
func TestAnswersAfterTheEnd(t *testing.T) {
	t.Parallel()
	for _, threads := range []int{1, -1} {
		s := serve(t, Options{Threads: threads})
		for i := range 50 {
			c := s.dial(t)
			c.Raw(fmt.Sprintf("set k%d 0 0 2\r\nab\r\nget k%d\r\n", i, i))
			if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			c.Expect("STORED", fmt.Sprintf("VALUE k%d 0 2", i), "ab", "END")
			c.Closed()
		}
		eventually(t, "all are gone", func() bool { return s.open.Load() == 0 })
	}
}

// Clients that never stop asking have their turns, and so has one that asks now and then.
func TestTurnsInThePoller(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Threads: 1})
	var hogs sync.WaitGroup
	stop := make(chan struct{})
	line := bytes.Repeat([]byte("get nothing\r\n"), 5000)
	for range batchConns + 8 {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		hogs.Go(func() { _, _ = io.Copy(io.Discard, nc) })
		hogs.Go(func() {
			defer nc.Close()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := nc.Write(line); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer hogs.Wait()
	defer close(stop)
	c := s.dial(t)
	yields := s.count(connYields)
	for i := range 20 {
		if got := c.Ask(fmt.Sprintf("set k%d 0 0 1\r\nx", i)); got != "STORED" {
			t.Fatal(got)
		}
	}
	if s.count(connYields) == yields {
		t.Error("nobody had to wait for his turn: this shows nothing")
	}
}

// A connection may panic, whether it has the lead then or not: it is closed, and the others are served.
func TestPanicInThePoller(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Threads: 1, RefreshCerts: func() error { panic("no certificates") }})
	control := s.dial(t)
	alone := s.dial(t)
	alone.Raw("refresh_certs\r\n")
	alone.Closed()
	leading := s.dial(t)
	leading.Ask("mn")
	for _, c := range s.connections() {
		if c.peer.String() == leading.Conn.LocalAddr().String() {
			eventually(t, "it rests", func() bool { return c.state.CompareAndSwap(idle, busy) })
			c.w = &work{in: make([]byte, readBuffer), r: readBuffer} // which cannot be
			c.state.Store(idle)
		}
	}
	leading.Raw("mn\r\n")
	leading.Closed()
	if got := control.Ask("mn"); got != "MN" {
		t.Error(got)
	}
	if n := s.count(panics); n != 2 {
		t.Errorf("%d panics are counted; want 2", n)
	}
}

// All that a connection has is given back, however it ends, and in whatever it is doing.
func TestDescriptorsAreGivenBack(t *testing.T) {
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := count()
	for _, threads := range []int{1, 3} {
		s, err := Open(Options{Threads: threads, MaxItem: 8 << 20, WriteTimeout: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var serving sync.WaitGroup
		serving.Go(func() { _ = s.Serve(ln) })
		var list []net.Conn
		dial := func(text string) {
			nc, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, nc)
			if _, err := io.WriteString(nc, text); err != nil {
				t.Fatal(err)
			}
		}
		dial("set big 0 0 5000000\r\n" + strings.Repeat("x", 5_000_000) + "\r\n")
		eventually(t, "the value is there", func() bool { return s.Counts().Items == 1 })
		for range 5 {
			dial("")
			dial("get a\r\n")
			dial("get half of a li")
			dial("set large 0 0 1000000\r\nthat does not come")
			dial(strings.Repeat("get big\r\n", 20)) // and nothing is read
			dial("watch fetchers\r\n")
			dial("lru_crawler metadump all\r\n")
		}
		eventually(t, "all are at work", func() bool {
			writing := 0
			for _, c := range s.connections() {
				if c.writing.Load() != 0 {
					writing++
				}
			}
			return writing == 5 && s.watch.number() == 5
		})
		for _, nc := range list[:len(list)/2] {
			nc.Close()
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
		for _, nc := range list {
			nc.Close()
		}
	}
	eventually(t, "no descriptor is left", func() bool { return count() <= before })
}

// Many clients, with requests of all sizes that come in pieces of any size, have the answers they should have.
func TestManyInThePoller(t *testing.T) {
	t.Parallel()
	for _, threads := range []int{1, 3, -1} {
		t.Run(fmt.Sprint(threads), func(t *testing.T) {
			t.Parallel()
			s := serve(t, Options{Threads: threads, Limit: 256 << 20})
			var clients sync.WaitGroup
			defer clients.Wait()
			for i := range 24 {
				clients.Go(func() { client(t, s.addr, rand.New(rand.NewPCG(uint64(i), uint64(threads)))) })
			}
		})
	}
}

// client sends batches of requests about keys of its own in pieces, and compares the answers. Now and then it is another connection.
func client(t *testing.T, addr string, rng *rand.Rand) {
	values := map[string]string{}
	var nc net.Conn
	var err error
	rounds := 60
	if raceEnabled { // which makes it slow
		rounds = 10
	}
	for round := range rounds {
		if nc == nil || rng.IntN(10) == 0 {
			if nc != nil {
				nc.Close()
			}
			if nc, err = net.Dial("tcp", addr); err != nil {
				t.Error(err)
				return
			}
		}
		_ = nc.SetDeadline(time.Now().Add(memcachetest.Wait))
		var out, want strings.Builder
		for range 1 + rng.IntN(60) {
			key := fmt.Sprintf("%p-%d", rng, rng.IntN(40))
			switch v, ok := values[key]; {
			case rng.IntN(3) == 0:
				v = strings.Repeat(string(rune('a'+rng.IntN(26))), []int{0, 1, 100, 9000, 40_000, 200_000}[rng.IntN(6)])
				fmt.Fprintf(&out, "set %s 0 0 %d\r\n%s\r\n", key, len(v), v)
				want.WriteString("STORED\r\n")
				values[key] = v
			case !ok:
				fmt.Fprintf(&out, "get %s\r\n", key)
				want.WriteString("END\r\n")
			case rng.IntN(2) == 0:
				fmt.Fprintf(&out, "mg %s v\r\n", key)
				fmt.Fprintf(&want, "VA %d\r\n%s\r\n", len(v), v)
			default:
				fmt.Fprintf(&out, "get none %s none\r\n", key)
				fmt.Fprintf(&want, "VALUE %s 0 %d\r\n%s\r\nEND\r\n", key, len(v), v)
			}
		}
		var sending sync.WaitGroup
		sending.Go(func() {
			for text := out.String(); text != ""; {
				n := min(1+rng.IntN(1<<rng.IntN(18)), len(text))
				if _, err := io.WriteString(nc, text[:n]); err != nil {
					t.Error(err)
					return
				}
				text = text[n:]
			}
		})
		got := make([]byte, want.Len())
		n, err := io.ReadFull(nc, got)
		sending.Wait()
		if err != nil || string(got) != want.String() {
			i := 0
			for i < n && got[i] == want.String()[i] {
				i++
			}
			t.Errorf("round %d: %v; of %d bytes, %d are as they should be: %.80q; want %.80q", round, err, len(got), i, got[i:n], want.String()[i:])
			nc.Close()
			return
		}
	}
	nc.Close()
}
