package memcached

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"regexp"
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
	eventually(t, "some are closed", func() bool { return s.count(slowClosed) > 0 })
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

// What watchers see of stores and look-ups is what has happened.
func TestWatchersSeeWhatHappens(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	w, c := s.dial(t), s.dial(t)
	if got := w.Ask("watch fetchers mutations deletions rawcmds"); got != "OK" {
		t.Fatal(got)
	}
	for _, tt := range []struct {
		ask, answer string
		want        []string
	}{
		{"set a 0 0 1\r\nx", "STORED", []string{"type=item_store key=a status=stored cmd=set ttl=0 clsid=1 cfd=* size=1"}},
		{"append a 0 0 2\r\nyz", "STORED", []string{"type=item_store key=a status=stored cmd=append ttl=0 clsid=1 cfd=* size=3"}},
		{"append none 0 0 2\r\nyz", "NOT_STORED", []string{"type=item_store key=none status=not_stored cmd=append ttl=0 clsid=1 cfd=* size=2"}},
		{"ms a 1 C99999\r\nx", "EX", []string{"type=item_store key=a status=exists cmd=cas ttl=0 clsid=1 cfd=* size=1"}},
		{"set e 0 -1 1\r\nx", "STORED", []string{"type=item_store key=e status=stored cmd=set ttl=-1 clsid=1 cfd=* size=1"}},
		{"mg e", "EN", []string{"type=item_get key=e status=expired clsid=0 cfd=* size=0"}},
		{"mg new N30", "HD W", []string{"type=item_get key=new status=not_found clsid=0 cfd=* size=0"}},
		{"mg new", "HD Z", []string{"type=item_get key=new status=found clsid=1 cfd=* size=0"}},
		{"ms IA== 1 b\r\nx", "HD", []string{"type=item_store key=%20 status=stored cmd=set ttl=0 clsid=1 cfd=* size=1"}},
		{"delete a", "DELETED", []string{"type=deleted key=a cmd=delete clsid=1 size=3"}},
		{"md none", "NF", nil},
	} {
		if got := c.Ask(tt.ask); got != tt.answer {
			t.Fatalf("%q: %q", tt.ask, got)
		}
		command, _, _ := strings.Cut(tt.ask, "\r\n")
		for _, want := range append([]string{fmt.Sprintf("type=raw_cmd cfd=* cmd=%q", command)}, tt.want...) {
			_, got, ok := strings.Cut(w.Line(), " type=")
			got = cfdForm.ReplaceAllString("type="+got, "cfd=*")
			if !ok || got != want {
				t.Errorf("%q: %q; want %q", command, got, want)
			}
		}
	}
	c.Ask("get " + strings.Repeat("k", 100_000))
	if got := w.Line(); len(got) > 2*rawText {
		t.Errorf("of a long command a watcher sees %d bytes", len(got))
	}
}

var cfdForm = regexp.MustCompile(`cfd=\d+`)

// Others have their turn after each stats, which takes as long as many gets do.
func TestStatsTakeTurns(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	c := s.dial(t)
	const n = 30
	c.Raw(strings.Repeat("stats\r\n", n) + strings.Repeat("get nothing\r\n", n) + "mn\r\n")
	for range n {
		for c.Line() != "END" {
		}
	}
	for range n {
		c.Expect("END")
	}
	c.Expect("MN")
	if got := s.count(connYields); got < n || got > n+n/2 {
		t.Errorf("others had %d turns during %d stats and %d gets", got, n, n)
	}
}
