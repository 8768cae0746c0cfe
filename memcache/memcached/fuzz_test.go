package memcached

import (
	"bytes"
	"strings"
	"testing"
)

// requests are seeds: one of each kind.
var requests = []string{
	"get a\r\n", "gets a b  c\r\n", "set a 1 2 3\r\nabc\r\n", "cas a 0 0 1 5 noreply\r\nx\r\n", "append a 0 0 1\r\nx\r\n", "incr a 5\r\n", "touch a -1\r\n",
	"gat 5 a b\r\n", "delete a 0\r\n", "mg a t v k Oabc N30 R5\r\n", "ms a 3 T5 C7 I MA N9\r\nabc\r\n", "md a I T5 q\r\n", "ma a N0 J5 D7 MD v\r\n", "me a b\r\n", "mn\r\n",
	"mg Zm9v b k\r\n", "ms a 1 Gx,y\r\nx\r\nmg a g\r\nmt a Gz\r\nflush_tag z\r\n", "stats\r\nstats items\r\nstats detail dump\r\n", "lru_crawler metadump all\r\n", "slabs reassign -1 5\r\n", "lru tune 1 2 3 4\r\n",
	"flush_all 5 noreply\r\n", "flush_prefix p:\r\n", "verbosity 9\r\n", "cache_memlimit 9\r\n", "set a 0 0 99999999999\r\n", "set a 0 0 -1\r\n", "debugtime 5\r\n",
	strings.Repeat("get ", 20) + "\r\n", "ms a S1\r\nx\r\n", "get " + strings.Repeat("k", 251) + "\r\n", "\r\n", " \n", "\x00\r\n",
}

var binRequests = []string{
	packet(opGet, "a", "", ""), packet(opSet, "a", "12345678", "value"), packet(opIncr, "a", strings.Repeat("\x00", 20), ""), packet(opStat, "items", "", ""),
	packet(opFlush, "", "\x00\x00\x00\x05", ""), packet(opGATKQ, "a", "\x00\x00\x00\x05", ""), packet(opNoop, "", "", ""), packet(opAppendQ, "a", "", "x"),
	packet(opSASLAuth, "PLAIN", "", "\x00a\x00b"), packet(opDeleteQ, "a", "", ""), packet(0xff, "", "", ""),
}

// fuzzRequests handles anything: it must not panic, not take memory without bound, and leave the books right.
func fuzzRequests(f *testing.F, p Protocol) {
	s := serve(f, Options{Limit: 2 << 20, DebugTime: true, Detail: true})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > readBuffer {
			return
		}
		c := alone(t, s.Server)
		c.protocol = p
		c.w.n = copy(c.w.in, b)
		if err := c.process(); err == nil && c.w.r > c.w.n {
			t.Errorf("%d bytes were handled of %d", c.w.r, c.w.n)
		}
		if cap(c.w.in) > 2*maxMultiget {
			t.Errorf("the buffer has grown to %d bytes", cap(c.w.in))
		}
		if c.skipping > readBuffer {
			return // a refused value that is announced as long as that is still to come
		}
		if c.skipping > 0 {
			c.do(t, strings.Repeat("x", c.skipping))
		}
		c.do(t, map[Protocol]string{ASCII: "version\r\n", Binary: packet(opVersion, "", "", "")}[p])
		if !bytes.Contains(c.w.out, []byte(Version)) && !c.quit {
			t.Errorf("after %q the server answers %q", b, c.w.out)
		}
	})
}

func FuzzText(f *testing.F) {
	for _, r := range requests {
		f.Add([]byte(r))
	}
	f.Add([]byte(strings.Join(requests, "")))
	fuzzRequests(f, ASCII)
}

func FuzzBinary(f *testing.F) {
	for _, r := range binRequests {
		f.Add([]byte(r))
	}
	f.Add([]byte(strings.Join(binRequests, "")))
	fuzzRequests(f, Binary)
}

func FuzzMetaFlags(f *testing.F) {
	for _, r := range requests {
		f.Add(byte('g'), []byte(r))
		f.Add(byte('s'), []byte(r))
	}
	k := clock{}
	s := serve(f, Options{})
	k.cache = s.cache
	f.Fuzz(func(t *testing.T, cmd byte, line []byte) {
		var tok [maxMeta]([]byte)
		n, _ := split(line, tok[:])
		var m metaFlags
		if text := m.parse(cmd, tok[:n], &k); text == "" && m.n != n {
			t.Errorf("%q: %d flags of %d, and no error", line, m.n, n)
		}
	})
}

func FuzzTags(f *testing.F) {
	for _, s := range []string{"", "a", "a,b", ",", "a,,b", "a,", "a b", strings.Repeat("t", maxTagBytes), strings.Repeat("t,", maxTags) + "t"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		if !validTags(list) || len(list) == 0 {
			return
		}
		tags := bytes.Split(list, []byte{','})
		if len(list) > maxTagBytes || len(tags) > maxTags {
			t.Errorf("%d tags of %d bytes", len(tags), len(list))
		}
		for _, tag := range tags {
			if len(tag) == 0 || bytes.ContainsAny(tag, " \r\n\x00") || !validTags(tag) {
				t.Errorf("%q has the tag %q", list, tag)
			}
		}
	})
}

func FuzzUDPHeader(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x00\x00\x01\x00\x00get a\r\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, payload, ok := parseUDP(b); ok && len(payload) != len(b)-udpHeader {
			t.Errorf("% x: payload of %d bytes", b, len(payload))
		}
	})
}

func FuzzUsers(f *testing.F) {
	f.Add("a:b\nc:d\n")
	f.Add(":\n")
	f.Fuzz(func(t *testing.T, text string) {
		users, err := ParseUsers(strings.NewReader(text))
		if err != nil {
			return
		}
		again := ""
		for name, password := range users {
			again += name + ":" + password + "\n"
		}
		if twice, err := ParseUsers(strings.NewReader(again)); err != nil || len(twice) != len(users) {
			t.Errorf("%q: %v, then %v %v", text, users, twice, err)
		}
	})
}

func FuzzACL(f *testing.F) {
	f.Add("a * rwa\n* p: r # x\n", "a", "p:1")
	f.Fuzz(func(t *testing.T, text, user, key string) {
		acl, err := ParseACL(strings.NewReader(text))
		if err == nil && acl.rights(user, []byte(key))&^(permRead|permWrite|permAdmin) != 0 {
			t.Error("there are no such rights")
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	f.Add([]byte(snapshotMagic + "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00kv" + strings.Repeat("\x00", 20)))
	f.Add([]byte(snapshotMagic + "\x01\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00kx,yv" + strings.Repeat("\x00", 20)))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		err := readSnapshot(bytes.NewReader(b), func(it snapshotItem) error {
			n += len(it.key) + len(it.tags) + len(it.value)
			return nil
		})
		if err == nil && n > len(b) {
			t.Errorf("%d bytes of items in a file of %d", n, len(b))
		}
	})
}

func FuzzNumbers(f *testing.F) {
	for _, s := range []string{"0", "-1", "+5", " 7", "18446744073709551615", "18446744073709551616", "2147483648", "-2147483648", "1 x", "", "-", "-18446744073709551615", "-0", "5\x00a"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, ok := parseU64(b)
		w, okSigned := parseI32(b)
		below := bytes.IndexByte(b, '-') >= 0 && v > 0 // so far that it has come round
		if ok && v < 1<<31 && !below && (!okSigned || uint64(w) != v) {
			t.Errorf("%q is %d, and signed %d %v", b, v, w, okSigned)
		}
		if stored, okStored := parseStored(b); ok && (!okStored || stored != v && bytes.IndexByte(b, 0) < 0) {
			t.Errorf("%q is %d, and in an item %d %v", b, v, stored, okStored)
		}
	})
}
