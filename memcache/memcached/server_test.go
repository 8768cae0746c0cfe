package memcached

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/memcache/memcachetest"
	"wheelhouse/memcache/segcache"
)

func TestMultigetOfManyKeys(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	c := s.dial(t)
	const n = 3000
	line := "get"
	for i := range n {
		key := fmt.Sprintf("key%d%s", i, strings.Repeat("k", i%200))
		c.Send(fmt.Sprintf("set %s 0 0 %d noreply", key, i%50), strings.Repeat("v", i%50))
		line += " " + key
	}
	got := c.Until(line, "END")
	if len(got) != 2*n || got[0] != "VALUE key0 0 0" || got[2*n-1] != strings.Repeat("v", (n-1)%50) {
		t.Errorf("%d lines; want %d", len(got), 2*n)
	}
	before := s.count(getHits)
	go c.Raw(strings.Repeat("get key1k\r\n", 100) + "mn\r\n")
	for range 100 {
		c.Expect("VALUE key1k 0 1", "v", "END")
	}
	c.Expect("MN")
	if hits := s.count(getHits) - before; hits != 100 {
		t.Errorf("%d hits; want 100", hits)
	}
}

// Values of all sizes come back as they were, also when they come in pieces.
func TestSizes(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{MaxItem: 8 << 20, Limit: 64 << 20})
	c := s.dial(t)
	rng := rand.New(rand.NewPCG(1, 1))
	for i, n := range []int{0, 1, 100, readBuffer - 40, readBuffer, streamAbove, streamAbove + 1, holdAbove, holdAbove + 1, 100_000, 1 << 20, 8<<20 - 200, 3} {
		v := make([]byte, n)
		for j := range v {
			v[j] = byte(rng.Uint32())
		}
		text := fmt.Sprintf("set big 7 0 %d\r\n%s\r\n", n, v)
		var sending sync.WaitGroup
		sending.Go(func() {
			for text != "" {
				k := min(len(text), 1+rng.IntN(1+len(text)/3))
				c.Raw(text[:k])
				text = text[k:]
			}
		})
		c.Expect("STORED")
		sending.Wait()
		for _, ask := range []string{"get big", "mg big v"} {
			c.Send(ask)
			c.Line()
			if got := c.ReadN(n + 2); !bytes.Equal(got[:n], v) || string(got[n:]) != crlf {
				t.Fatalf("%d: %d bytes came back wrong", i, n)
			}
			if ask == "get big" {
				c.Expect("END")
			}
		}
	}
	c.Send(fmt.Sprintf("set big 0 0 %d", 9<<20))
	go c.Raw(strings.Repeat("x", 9<<20) + "\r\n")
	c.Expect(tooLarge)
	if got := c.Ask("get big"); got != "END" {
		t.Errorf("after a set that was too large: %q", got)
	}
}

// One that does not read keeps nobody from anything, and its answers come whole in the end.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{MaxItem: 4 << 20, Limit: 32 << 20})
	c, slow := s.dial(t), s.dial(t)
	value := strings.Repeat("0123456789", 300_000)
	go c.Raw(fmt.Sprintf("set big 0 0 %d\r\n%s\r\n", len(value), value))
	c.Expect("STORED")
	const times = 8
	slow.Raw(strings.Repeat("get big\r\n", times))
	for i := range 40_000 { // everything else is replaced meanwhile, and big is evicted or overwritten
		c.Send(fmt.Sprintf("set k%d 0 0 1000 noreply", i), value[:1000])
	}
	c.Send("set big 0 0 5", "small")
	c.Expect("STORED")
	old := 0
	for range times {
		switch l := slow.Line(); l {
		case fmt.Sprintf("VALUE big 0 %d", len(value)):
			if got := string(slow.ReadN(len(value) + 2)); got != value+crlf {
				t.Fatal("a value has changed while it was being sent")
			}
			slow.Expect("END")
			old++
		case "VALUE big 0 5":
			slow.Expect("small", "END")
		case "END":
		default:
			t.Fatalf("got %q", l)
		}
	}
	if old == 0 {
		t.Error("not even the first answer has the value")
	}
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{MaxConns: 2})
	a, b := s.dial(t), s.dial(t)
	a.Nothing()
	b.Nothing()
	c := s.dial(t)
	c.Expect("ERROR Too many open connections")
	c.Closed()
	a.Close()
	eventually(t, "there is room again", func() bool { return s.open.Load() == 1 })
	s.dial(t).Nothing()
	if st := b.Stats(""); st["rejected_connections"] != "1" || st["total_connections"] != "3" || st["curr_connections"] != "2" {
		t.Errorf("stats: %v %v %v", st["rejected_connections"], st["total_connections"], st["curr_connections"])
	}
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{IdleTimeout: time.Second})
	c := s.dial(t)
	c.Nothing()
	c.Closed()
	if n := s.count(idleKicks); n != 1 {
		t.Errorf("%d connections were closed for silence; want 1", n)
	}
}

func TestBinaryMistakes(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	for name, request := range map[string]string{
		"a key that is too long":  packet(opGet, strings.Repeat("k", 251), "", ""),
		"get without a key":       packet(opGet, "", "", ""),
		"get with a value":        packet(opGet, "a", "", "x"),
		"get with extras":         packet(opGet, "a", "1234", ""),
		"set without extras":      packet(opSet, "a", "", "x"),
		"incr with short extras":  packet(opIncr, "a", "1234", ""),
		"noop with a key":         packet(opNoop, "a", "", ""),
		"touch without an expiry": packet(opTouch, "a", "", ""),
		"stat with extras":        packet(opStat, "", "1234", ""),
		"stat with a value":       packet(opStat, "items", "", "x"),
		"mechanisms with a key":   packet(opSASLList, "a", "", ""),
		"a login without one":     packet(opSASLAuth, "", "", "x"),
		"more key than body":      strings.Replace(packet(opGet, "abc", "", ""), "\x00\x03\x00\x00", "\x00\x09\x00\x00", 1),
	} {
		c := s.dial(t)
		c.Raw(request)
		if status, body := binAnswer(t, c); status != binInvalid || body != "Invalid arguments" {
			t.Errorf("%s: %x %q", name, status, body)
		}
		c.Closed()
	}
	c := s.dial(t)
	for name, request := range map[string]string{
		"a range": packet(0x30, "", "", ""), "verbosity": packet(opVerbosity, "", "\x00\x00\x00\x01", ""),
		"verbosity without a level": packet(opVerbosity, "", "", ""), "verbosity of a key": packet(opVerbosity, "a", "1234", "x"),
	} {
		c.Raw(request)
		if status, body := binAnswer(t, c); status != binUnknown || body != "Unknown command" {
			t.Errorf("an unknown command, %s: %x %q", name, status, body)
		}
	}
	c.Raw(packet(opStat, "settings", "", ""))
	names := 0
	for {
		_, body := binAnswer(t, c)
		if body == "" {
			break
		}
		names++
	}
	if names < 50 {
		t.Errorf("stat settings has %d lines", names)
	}
}

func TestUDP(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{SlowAfter: 1})
	p, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.ServeUDP(p) }()
	nc, err := net.Dial("udp", p.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(memcachetest.Wait))
	var buf [2000]byte
	ask := func(id uint16, total byte, text string) {
		t.Helper()
		h := []byte{byte(id >> 8), byte(id), 0, 0, 0, total, 0, 0}
		if _, err := nc.Write(append(h, text...)); err != nil {
			t.Fatal(err)
		}
	}
	answer := func(id uint16) string {
		t.Helper()
		var parts []string
		for got := 0; ; {
			n, err := nc.Read(buf[:])
			if err != nil {
				t.Fatal(err)
			}
			if n > udpSize || binary.BigEndian.Uint16(buf[:]) != id {
				t.Fatalf("%d bytes, header % x", n, buf[:8])
			}
			total := int(binary.BigEndian.Uint16(buf[4:]))
			if parts == nil {
				parts = make([]string, total)
			}
			parts[binary.BigEndian.Uint16(buf[2:])] = string(buf[8:n])
			if got++; got == total {
				return strings.Join(parts, "")
			}
		}
	}
	ask(1, 1, "set a 0 0 5\r\nhello\r\nget a\r\n")
	if got := answer(1); got != "STORED\r\nVALUE a 0 5\r\nhello\r\nEND\r\n" {
		t.Errorf("%q", got)
	}
	long := strings.Repeat("0123456789", 1000)
	c := s.dial(t)
	if list := c.Until("stats slow", "END"); len(list) == 0 || !strings.HasSuffix(list[0], " "+nc.LocalAddr().String()+" get a") {
		t.Errorf("slow commands: %q; want whose they are", list)
	}
	c.Send("set long 0 0 10000", long)
	c.Expect("STORED")
	ask(0xabcd, 1, "get long\r\n")
	if got := answer(0xabcd); got != "VALUE long 0 10000\r\n"+long+"\r\nEND\r\n" {
		t.Errorf("a long answer has %d bytes", len(got))
	}
	ask(3, 2, "get a\r\n")              // a part of a longer request is not taken
	ask(4, 1, "set a 0 0 100\r\nshort") // nor one that is not whole
	ask(5, 1, packet(opGet, "a", "", ""))
	if got := answer(5); !strings.HasSuffix(got, "hello") || got[0] != binResponse {
		t.Errorf("the binary protocol: %q", got)
	}
	s.Close()
	if err := <-ended; err != ErrServerClosed {
		t.Errorf("ServeUDP = %v", err)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{TrackSizes: true, Threads: 3})
	c := s.dial(t)
	c.Send("set a 0 0 5", "hello", "get a b", "incr a 1", "set n 1 0 1", "5", "incr n 1", "decr n 1", "decr none 1", "delete none",
		"delete n", "touch a 0", "touch none 0", "cas a 0 0 1 99", "x", "set late 0 -1 1", "x", "get late")
	c.Expect("STORED", "VALUE a 0 5", "hello", "END", notNumeric, "STORED", "6", "5", "NOT_FOUND", "NOT_FOUND", "DELETED", "TOUCHED", "NOT_FOUND",
		"EXISTS", "STORED", "END")
	st := c.Stats("")
	for name, want := range map[string]string{
		"cmd_get": "3", "get_hits": "1", "get_misses": "2", "get_expired": "1", "cmd_set": "4", "cmd_touch": "2", "touch_hits": "1", "touch_misses": "1",
		"incr_hits": "1", "decr_hits": "1", "decr_misses": "1", "delete_hits": "1", "delete_misses": "1", "cas_badval": "1", "curr_items": "1",
		"bytes": "65", "limit_maxbytes": "67108864", "threads": "3", "pointer_size": "64", "expired_unfetched": "1",
	} {
		if st[name] != want {
			t.Errorf("stats: %s is %q; want %q", name, st[name], want)
		}
	}
	items, slabs := c.Stats("items"), c.Stats("slabs")
	for name, want := range map[string]string{"items:1:number": "1", "items:1:mem_requested": "65"} {
		if items[name] != want {
			t.Errorf("stats items: %s is %q; want %q", name, items[name], want)
		}
	}
	for name, want := range map[string]string{
		"1:chunk_size": "96", "1:chunks_per_page": "10922", "1:used_chunks": "1", "1:get_hits": "1", "1:touch_hits": "1", "active_slabs": "1",
	} {
		if slabs[name] != want {
			t.Errorf("stats slabs: %s is %q; want %q", name, slabs[name], want)
		}
	}
	if sizes := c.Stats("sizes"); sizes["96"] != "1" {
		t.Errorf("stats sizes: %v", sizes)
	}
	if conns := c.Stats("conns"); len(conns) != 7 || conns["2:state"] != "conn_parse_cmd" ||
		conns["2:listen_addr"] != "tcp:"+s.addr || conns["1:addr"] != "tcp:"+s.addr || conns["1:state"] != "conn_listening" {
		t.Errorf("stats conns: %v", conns)
	}
	if got := c.Ask("stats reset"); got != "RESET" {
		t.Error(got)
	}
	if st := c.Stats(""); st["cmd_get"] != "0" || st["curr_items"] != "1" {
		t.Errorf("after reset: %v %v", st["cmd_get"], st["curr_items"])
	}
	for range 1000 {
		c.Ask("mg a")
	}
	if hot := c.Until("stats hotkeys", "END"); !slices.Equal(hot, []string{"HOT a 100.00"}) {
		t.Errorf("hot keys: %q", hot)
	}
}

// What memcached counts as a get, as a touch and as a set.
func TestWhatCounts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		before, ask string
		want        map[counter]uint64
	}{
		{"ms a 1\r\nx\r\n", "mg a T0\r\n", map[counter]uint64{cmdTouch: 1, touchHits: 1}},
		{"", "mg a T0\r\n", map[counter]uint64{cmdGet: 1, getMisses: 1}},
		{"ms a 1 T-1\r\nx\r\n", "get a\r\n", map[counter]uint64{cmdGet: 1, getMisses: 1, getExpired: 1}},
		{"ms a 1 T-1\r\nx\r\n", "mg a T0\r\n", map[counter]uint64{cmdGet: 1, getMisses: 1, getExpired: 1}},
		{"ms a 1 T-1\r\nx\r\n", "touch a 0\r\n", map[counter]uint64{cmdTouch: 1, touchMisses: 1, getExpired: 1}},
		{"ms a 1 T-1\r\nx\r\n", "gat 0 a\r\n", map[counter]uint64{cmdTouch: 1, touchMisses: 1, getExpired: 1}},
		{"ms a 1 T-1\r\nx\r\n", packet(opTouch, "a", "\x00\x00\x00\x00", ""), map[counter]uint64{cmdTouch: 1, touchMisses: 1, getExpired: 1}},
		{"ms a 1 T-1\r\nx\r\n", "incr a 1\r\n", map[counter]uint64{incrMisses: 1, getExpired: 1}},
		{"ms a 1 T-1\r\nx\r\n", "ma a N0\r\n", map[counter]uint64{getExpired: 1}},
		{"ms a 1 T-1\r\nx\r\n", "delete a\r\n", map[counter]uint64{deleteMisses: 1, getExpired: 1}},
		{"ms a 1 T-1\r\nx\r\n", "md a I\r\n", map[counter]uint64{deleteMisses: 1, getExpired: 1}},
		{"ms a 1\r\nx\r\nflush_all\r\n", "get a\r\n", map[counter]uint64{cmdGet: 1, getMisses: 1, getFlushed: 1}},
		{"ms a 1\r\nx\r\nflush_all\r\n", "touch a 0\r\n", map[counter]uint64{cmdTouch: 1, touchMisses: 1, getFlushed: 1}},
		{"ms p:a 1\r\nx\r\nflush_prefix p\r\n", "gat 0 p:a\r\n", map[counter]uint64{cmdTouch: 1, touchMisses: 1, getFlushed: 1}},
		{"", "set a 0 0 1\r\nxxx", map[counter]uint64{cmdSet: 1}},
		{"", "ms a 1\r\nxxx", map[counter]uint64{cmdSet: 1}},
		{"", "set a 0 0 20000\r\n" + strings.Repeat("x", 20002), map[counter]uint64{cmdSet: 1}},
	} {
		s := serve(t, Options{still: true})
		c := s.dial(t)
		c.Raw(tt.before + "mn\r\n")
		for c.Line() != "MN" {
		}
		var before [counterCount]uint64
		for k := range before {
			before[k] = s.count(counter(k))
		}
		d := s.dial(t)
		d.Raw(tt.ask)
		d.ReadN(1) // it has been counted
		for _, k := range []counter{
			cmdGet, cmdSet, cmdTouch, getHits, getMisses, getExpired, getFlushed, deleteMisses, deleteHits, incrMisses, incrHits, touchHits, touchMisses,
		} {
			if got := s.count(k) - before[k]; got != tt.want[k] {
				t.Errorf("%q and %.30q: counter %d is %d; want %d", tt.before, tt.ask, k, got, tt.want[k])
			}
		}
	}
}

// The names of what exporters read are Debian's, in its order.
func TestStatsNamesAreDebians(t *testing.T) {
	t.Parallel()
	ours, peer := serve(t, Options{}).dial(t), memcachetest.Dial(t, memcachetest.StartDebian(t))
	missing := map[string]bool{"slab_reassign_evictions_nomem": true} // 1.6.42 has dropped it
	for _, group := range []string{"", "settings", "items", "slabs"} {
		for _, c := range []*memcachetest.Conn{ours, peer} {
			if got := c.Ask("set a 0 0 5\r\nhello"); got != "STORED" {
				t.Fatal(got)
			}
		}
		names := func(c *memcachetest.Conn) (list []string) {
			for _, l := range c.Until(strings.TrimSpace("stats "+group), "END") {
				if name := strings.Fields(l)[1]; !missing[name] && !strings.HasPrefix(name, "ext_") && name != "slab_automove_freeratio" {
					list = append(list, name)
				}
			}
			return list
		}
		have, want := names(ours), names(peer)
		have = slices.DeleteFunc(have, func(s string) bool { return s == "slab_reassign_busy_nomem" }) // new in 1.6.42
		if !slices.Equal(have, want) {
			t.Errorf("stats %s:\n%q\nwant\n%q", group, have, want)
		}
	}
}

func TestEvictionsAndNoEvict(t *testing.T) {
	t.Parallel()
	value := strings.Repeat("x", 1000)
	full := serve(t, Options{NoEvict: true, Limit: 2 << 20}).dial(t)
	n := 0
	for full.Ask(fmt.Sprintf("set k%d 0 0 1000\r\n%s", n, value)) == "STORED" {
		n++
	}
	if n < 1000 || n > 2000 {
		t.Errorf("2 MiB hold %d items of 1000 bytes", n)
	}
	if got := full.Ask("ms other 1000\r\n" + value); got != noMemory {
		t.Errorf("a full server answers %q", got)
	}
	for i := range n {
		if got := full.Ask(fmt.Sprintf("mg k%d", i)); got != "HD" {
			t.Fatalf("k%d of %d: %s", i, n, got)
		}
	}
	if st := full.Stats(""); st["evictions"] != "0" || st["store_no_memory"] == "0" {
		t.Errorf("evictions %s, store_no_memory %s", st["evictions"], st["store_no_memory"])
	}
	s := serve(t, Options{Limit: 2 << 20})
	c, w := s.dial(t), s.dial(t)
	if got := w.Ask("watch evictions"); got != "OK" {
		t.Fatal(got)
	}
	for i := range 10_000 {
		if got := c.Ask(fmt.Sprintf("set k%d 0 0 1000\r\n%s", i, value)); got != "STORED" {
			t.Fatal(got)
		}
		if i == 500 { // those that go first are of a time to come
			s.clock.add(-1000)
		}
	}
	if l := w.Line(); !strings.Contains(l, "type=eviction key=k") || !strings.Contains(l, "fetch=no ttl=-1 la=0 ") {
		t.Errorf("the watcher sees %q", l)
	}
	if st := c.Stats(""); st["evictions"] == "0" || st["evictions"] != st["evicted_unfetched"] {
		t.Errorf("evictions %s, unfetched %s", st["evictions"], st["evicted_unfetched"])
	}
}

func TestSlowLog(t *testing.T) {
	t.Parallel()
	c := serve(t, Options{SlowAfter: 1}).dial(t)
	c.Ask("mg something")
	if list := c.Until("stats slow", "END"); len(list) != 1 || !strings.HasSuffix(list[0], " mg something") {
		t.Errorf("%q", list)
	}
	s := serve(t, Options{SlowAfter: 1})
	b, text := s.dial(t), s.dial(t)
	b.Raw(packet(opDelete, "a key", "", ""))
	binAnswer(t, b)
	if list := text.Until("stats slow", "END"); len(list) != 1 || !strings.HasSuffix(list[0], " binary 0x04 a%20key") {
		t.Errorf("of the binary protocol: %q", list)
	}
	for _, group := range []string{"slow", "hotkeys"} { // with SASL there is no other protocol
		b.Raw(packet(opStat, group, "", ""))
		if _, got := binAnswer(t, b); !strings.HasPrefix(got, group) || !strings.HasSuffix(got, "END\r\n") || group == "slow" && !strings.HasPrefix(got, "slowSLOW ") {
			t.Errorf("stat %s: %q", group, got)
		}
		binAnswer(t, b)
	}
}

// Reads of every kind are seen by those who look at single ones.
func TestEveryReadIsSeen(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]string{
		"get": "get p:a\r\n", "mg": "mg p:a\r\n", "mg T": "mg p:a T0\r\n", "gat": "gat 0 p:a\r\n",
		"binary get": packet(opGet, "p:a", "", ""), "binary gat": packet(opGAT, "p:a", "\x00\x00\x00\x00", ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, Options{Detail: true})
			w, c, text := s.dial(t), s.dial(t), s.dial(t)
			if got := w.Ask("watch fetchers"); got != "OK" {
				t.Fatal(got)
			}
			if got := text.Ask("set p:a 0 0 1\r\nx"); got != "STORED" {
				t.Fatal(got)
			}
			var sending sync.WaitGroup
			sending.Go(func() { c.Raw(strings.Repeat(ask, hotEvery)) })
			for range hotEvery {
				if l := w.Line(); !strings.Contains(l, "type=item_get key=p%3Aa status=found") {
					t.Fatalf("the watcher sees %q", l)
				}
			}
			sending.Wait()
			if got := text.Until("stats hotkeys", "END"); !slices.Equal(got, []string{"HOT p:a 100.00"}) {
				t.Errorf("hot keys: %q", got)
			}
			if got, want := text.Until("stats detail dump", "END"), fmt.Sprintf("PREFIX p get %d hit %d set 1 del 0", hotEvery, hotEvery); !slices.Equal(got, []string{want}) {
				t.Errorf("detail: %q; want %s", got, want)
			}
		})
	}
}

// Past half of the names that can be remembered, those that no item needs are forgotten in the background.
func TestFlushedTagsAreForgotten(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	c := s.dial(t)
	for _, ask := range []string{"ms a 1 Gt1\r\nx", "ms b 1 Gother\r\nx"} {
		if got := c.Ask(ask); got != "HD" {
			t.Fatal(got)
		}
	}
	for i := range segcache.MaxFlushed/2 + 1 {
		c.Send(fmt.Sprintf("flush_tag t%d noreply", i))
	}
	c.Nothing()
	eventually(t, "flushed tags are forgotten", func() bool { _, n := s.cache.Flushed(); return n == 0 })
	for ask, want := range map[string]string{"mg a": "EN", "mg b": "HD"} {
		if got := c.Ask(ask); got != want {
			t.Errorf("%s: %s; want %s", ask, got, want)
		}
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "snapshot")
	s := serve(t, Options{Snapshot: file})
	c := s.dial(t)
	big := strings.Repeat("b", 500_000)
	go c.Raw(fmt.Sprintf("set a 5 0 5\r\nhello\r\nset t 0 1000 1\r\nx\r\nms Zm9v 3 b Gred,blue\r\nbar\r\nset big 0 0 %d\r\n%s\r\nsnapshot\r\n", len(big), big))
	c.Expect("STORED", "STORED", "HD", "STORED", "OK 4")
	d := serve(t, Options{Snapshot: file}).dial(t)
	if got := d.Until("get a big", "END"); !slices.Equal(got, []string{"VALUE a 5 5", "hello", fmt.Sprintf("VALUE big 0 %d", len(big)), big}) {
		t.Errorf("%.100q", got)
	}
	if got := d.Ask("mg foo k s g"); got != "HD kZm9v b s3 gred,blue" {
		t.Error(got)
	}
	if got := d.Ask("mg t t"); !strings.HasPrefix(got, "HD t9") && got != "HD t1000" {
		t.Error(got)
	}
	if list, err := os.ReadDir(filepath.Dir(file)); err != nil || len(list) != 1 {
		t.Errorf("beside the snapshot there is something: %v, %v", list, err)
	}
	if s, err := Open(Options{Snapshot: filepath.Join(filepath.Dir(file), "none", "x")}); err == nil {
		t.Error("a snapshot that cannot be written was accepted")
		s.Close()
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"cut": text[:len(text)-10], "changed": append(bytes.Clone(text[:100]), append([]byte{text[100] ^ 1}, text[101:]...)...), "short": text[:20]} {
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(Options{Snapshot: file}); err == nil {
			t.Errorf("a snapshot that is %s was taken", name)
			s.Close()
		}
	}
}

func TestShutdownCommand(t *testing.T) {
	t.Parallel()
	asked := make(chan bool, 1)
	s := serve(t, Options{OnShutdown: func(graceful bool) { asked <- graceful }})
	c := s.dial(t)
	for _, mode := range []string{"now", "noreply", "noreply graceful"} {
		if got := c.Ask("shutdown " + mode); got != "CLIENT_ERROR invalid shutdown mode" {
			t.Errorf("shutdown %s: %s", mode, got)
		}
	}
	c.Send("shutdown graceful")
	c.Closed()
	if graceful := <-asked; !graceful {
		t.Error("it was to be graceful")
	}
}

// What watchers are told of a command is what memcached tells them, but for the look-ups that it makes by the way.
func TestWatched(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	w, c := s.dial(t), s.dial(t)
	if got := w.Ask("watch fetchers mutations"); got != "OK" {
		t.Fatal(got)
	}
	touch := packet(opTouch, "a", "\x00\x00\x00\x00", "")
	for _, tt := range []struct{ ask, line string }{
		{"touch a 0\r\n", "item_get key=a status=not_found clsid=0 cfd=%d size=0"},
		{"set a 0 0 1\r\n5\r\n", "item_store key=a status=stored cmd=set ttl=0 clsid=1 cfd=%d size=1"},
		{"touch a 0\r\n", "item_get key=a status=found clsid=1 cfd=%d size=1"},
		{touch, "item_get key=a status=found clsid=1 cfd=%d size=1"},
		{"ma k N0 J55\r\n", "item_store key=k status=stored cmd=add ttl=0 clsid=1 cfd=%d size=2"},
		{"ma kk N30 T20 J5\r\n", "item_store key=kk status=stored cmd=add ttl=20 clsid=1 cfd=%d size=1"},
	} {
		d := c
		if tt.ask == touch {
			d = s.dial(t)
		}
		d.Raw(tt.ask)
		got, want := w.Line(), "type="+tt.line
		_, id, _ := strings.Cut(got, "cfd=")
		id, _, _ = strings.Cut(id, " ")
		if want = strings.Replace(want, "%d", id, 1); !strings.HasSuffix(got, " "+want) {
			t.Errorf("%.20q: the watcher sees %q; want %s", tt.ask, got, want)
		}
	}
}

func TestWatchers(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	for range maxWatchers {
		if got := s.dial(t).Ask("watch connevents"); got != "OK" {
			t.Fatal(got)
		}
	}
	c := s.dial(t)
	if got := c.Ask("watch"); got != "WATCHER_TOO_MANY log watcher limit reached" {
		t.Error(got)
	}
	if got := c.Ask("watch nonsense"); got != plainError {
		t.Error(got)
	}
	off := serve(t, Options{NoWatch: true, NoDump: true, NoFlush: true}).dial(t)
	for ask, want := range map[string]string{
		"watch": "CLIENT_ERROR watch commands not allowed", "lru_crawler metadump all": "ERROR metadump not allowed",
		"flush_all": "CLIENT_ERROR flush_all not allowed",
	} {
		if got := off.Ask(ask); got != want {
			t.Errorf("%s: %q", ask, got)
		}
	}
}

func TestDumpsAreComplete(t *testing.T) {
	t.Parallel()
	c := serve(t, Options{}).dial(t)
	const n = 5000
	want := map[string]bool{}
	for i := range n {
		c.Send(fmt.Sprintf("set key:%d 0 0 1 noreply", i), "x")
		want[fmt.Sprintf("key=key%%3A%d", i)] = true
	}
	for _, l := range c.Until("lru_crawler metadump all", "END") {
		delete(want, strings.Fields(l)[0])
	}
	if len(want) != 0 {
		t.Errorf("%d of %d keys are not in the dump", len(want), n)
	}
	c.Raw("mn\r\nlru_crawler metadump all\r\n")
	c.Expect("MN", dumpAlone)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{Limit: 1},
		{MaxItem: 10},
		{MaxItem: 2 << 30},
		{MaxConns: -1},
		{Growth: 0.5},
		{LeastItem: -1},
		{ChunkMax: 2 << 20},
		{Batch: -1},
		{IdleTimeout: -1},
		{Users: map[string]string{"a": "b"}, Protocol: Binary},
		{SASL: map[string]string{"a": "b"}, Protocol: ASCII},
		{Users: map[string]string{"a": "b"}, SASL: map[string]string{"a": "b"}},
	} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	want := []uint32{
		96, 120, 152, 192, 240, 304, 384, 480, 600, 752, 944, 1184, 1480, 1856, 2320, 2904, 3632, 4544, 5680, 7104, 8880, 11104, 13880, 17352,
		21696, 27120, 33904, 42384, 52984, 66232, 82792, 103496, 129376, 161720, 202152, 252696, 315872, 394840, 524288,
	}
	if got := classSizes(1.25, 48, 512<<10); !slices.Equal(got, want) {
		t.Errorf("classes: %v", got)
	}
}

// Of many who ask for a snapshot at a time, one writes, and the others wait for it.
func TestSnapshotsAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "snapshot")
	s := serve(t, Options{Snapshot: file})
	if got := s.dial(t).Ask("set a 0 0 1\r\nx"); got != "STORED" {
		t.Fatal(got)
	}
	s.saves.mu.Lock()
	const callers = 20
	answers := make(chan string, callers)
	for range callers {
		c := s.dial(t)
		c.Send("version") // it is served
		c.Line()
		c.Send("snapshot")
		go func() { answers <- c.Line() }()
	}
	time.Sleep(50 * time.Millisecond) // those who would not wait
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("%d files are written at a time, %v; want none while another one is", len(list), err)
	}
	s.saves.mu.Unlock()
	for range callers {
		if got := <-answers; got != "OK 1" {
			t.Error(got)
		}
	}
	if n := s.saves.begun.Load(); n < 1 || n > callers {
		t.Errorf("%d were written", n)
	}
}

// What a crash has left of a snapshot that was being written is removed at the next start; other files stay.
func TestSnapshotLeftovers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "snapshot")
	keep := []string{"other.tmp-ABCDEFGHIJKLMNOPQRSTUVWXYZ", "snapshot.tmp-mine", "snapshot2.tmp-ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
	for _, name := range append(keep, "snapshot.tmp-ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, Options{Snapshot: file})
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, keep) {
		t.Errorf("left are %q; want %q", names, keep)
	}
}
