package memcached

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"wheelhouse/memcache/memcachetest"
)

// Lines that never end have a bounded memory together; who finishes a long one has an answer meanwhile.
func TestLinesWithoutEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	var sending sync.WaitGroup
	defer sending.Wait()
	const hogs = 24
	line := "get " + strings.Repeat("k", maxMultiget-1000)
	for range hogs {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		sending.Go(func() { _, _ = io.WriteString(nc, line) }) // it may be closed meanwhile
	}
	eventually(t, "the oldest are closed", func() bool { return s.count(slowClosed) > 0 })
	c := s.dial(t)
	for range 50 {
		if got := c.Ask("get" + strings.Repeat(" key", 20_000)); got != "END" {
			t.Fatalf("a long multiget: %.100q", got)
		}
	}
	taken := func() int {
		s.pending.mu.Lock()
		defer s.pending.mu.Unlock()
		sum := 0
		for _, in := range s.pending.list {
			sum += in.bytes
		}
		if sum != s.pending.bytes {
			t.Fatalf("%d bytes are counted; there are %d", s.pending.bytes, sum)
		}
		return sum
	}
	eventually(t, "lines have no more than their share", func() bool { return taken() <= maxPending })
	if n := len(s.connections()); n >= hogs+1 {
		t.Errorf("%d connections are open", n)
	}
	for _, c := range s.connections() {
		c.close("test")
	}
	eventually(t, "the memory is given back", func() bool { return taken() == 0 })
}

// A long answer may take as long as it does if the client reads on, and so may a long request: neither is silence.
func TestLargeValuesTakeTheirTime(t *testing.T) {
	t.Parallel()
	const size = 15 << 20
	s := serve(t, Options{MaxItem: size + 1024, Limit: 64 << 20})
	c := s.dial(t)
	if err := c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil { // lest the system take all of an answer
		t.Fatal(err)
	}
	half := strings.Repeat("x", size/2)
	go c.Raw(fmt.Sprintf("set big 0 0 %d\r\n%s", size, half))
	var conn *conn
	eventually(t, "half of the value is there", func() bool {
		if list := s.connections(); len(list) == 1 {
			conn = list[0]
		}
		return s.count(bytesRead) > size/2
	})
	last := conn.last.Load()
	eventually(t, "the clock goes on", func() bool { return s.clock.real.Load() > last })
	go c.Raw(half + "\r\n")
	c.Expect("STORED")
	if now := conn.last.Load(); now <= last {
		t.Errorf("the client was last heard of at %d, and has sent half of a value after %d", now, last)
	}
	c.Send("get big")
	eventually(t, "the client is waited for", func() bool { return conn.writing.Load() != 0 })
	begun := conn.writing.Load()
	last = conn.last.Load()
	eventually(t, "it is not the client who is silent", func() bool { return conn.last.Load() > last })
	eventually(t, "the clock goes on", func() bool { return s.clock.real.Load() > begun })
	c.Line()
	c.ReadN(2 << 20)
	eventually(t, "each piece has its own time", func() bool { return conn.writing.Load() > begun })
	c.ReadN(size - 2<<20 + 2)
	c.Expect("END")
}

// The binary protocol is no way around the authentication of the text protocol.
func TestUsersAreForAllProtocols(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Users: map[string]string{"alice": "secret"}})
	for _, request := range []string{packet(opSet, "a", "12345678", "x"), packet(opGet, "a", "", ""), packet(opFlush, "", "", "")} {
		c := s.dial(t)
		if got := c.Ask(request); got != unauthed {
			t.Errorf("%q: %q", request, got)
		}
	}
	if n := s.count(cmdSet) + s.count(cmdGet) + s.count(cmdFlush); n != 0 {
		t.Errorf("%d commands were done", n)
	}
}

// versioned puts a version into a request of the binary protocol.
func versioned(request string, version uint64) string {
	b := []byte(request)
	binary.BigEndian.PutUint64(b[16:], version)
	return string(b)
}

func TestBinaryCorners(t *testing.T) {
	t.Parallel()
	ours, peer := serve(t, Options{}), memcachetest.StartDebian(t)
	never := "\x00\x00\x00\x07\xff\xff\xff\xff" // as an expiry time the year 2106: numbers have no sign
	for name, addr := range map[string]string{"ours": ours.addr, "debian": peer} {
		t.Run(name, func(t *testing.T) {
			c := memcachetest.Dial(t, addr)
			for _, tt := range []struct {
				request string
				status  binStatus
				body    string
			}{
				{versioned(packet(opAdd, "a", "12345678", "x"), 7), binNotFound, "Not found"},
				{versioned(packet(opReplace, "a", "12345678", "x"), 7), binNotFound, "Not found"},
				{versioned(packet(opAppend, "a", "", "x"), 7), binNotStored, "Not stored."},
				{packet(opAdd, "a", never, "x"), binOK, ""},
				{versioned(packet(opAdd, "a", never, "x"), 1<<60), binExists, "Data exists for key."},
				{versioned(packet(opAppend, "a", "", "x"), 1<<60), binExists, "Data exists for key."},
				{packet(opGet, "a", "", ""), binOK, never[:4] + "x"},
				{packet(opTouch, "a", never[4:], ""), binOK, never[:4]},
				{packet(opGAT, "a", never[4:], ""), binOK, never[:4] + "x"},
				{packet(opGATK, "a", never[4:], ""), binOK, never[:4] + "ax"},
				{packet(opGATK, "b", never[4:], ""), binNotFound, "b"},
				{packet(opFlush, "", never[4:], ""), binOK, ""},
				{packet(opGet, "a", "", ""), binOK, never[:4] + "x"},
				{packet(opStat, "set", "", ""), binNotFound, "Not found"},
				{packet(0x50, "", "", strings.Repeat("x", 3*readBuffer)), binUnknown, "Unknown command"},
				{packet(opNoop, "", "", ""), binOK, ""},
			} {
				c.Raw(tt.request)
				status, body := binAnswer(t, c)
				if status != tt.status || body != tt.body {
					t.Errorf("%.40q: %#x %q; want %#x %q", tt.request, status, body, tt.status, tt.body)
				}
			}
		})
	}
}
