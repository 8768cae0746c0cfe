package memcache

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func FuzzParseValue(f *testing.F) {
	for _, s := range []string{"VALUE a 1 2", "VALUE a 4294967295 0 18446744073709551615", "VALUE a 1 2 3 4", "VALUE  1 2", "END", "VALUE a -1 2", "VALUE a 1 99999"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		h, err := parseValue(line, 1000)
		if err != nil {
			return
		}
		if h.size < 0 || h.size > 1000 || checkKey(h.key) != nil {
			t.Fatalf("%q: %+v", line, h)
		}
		printed := fmt.Sprintf("VALUE %s %d %d %d", h.key, h.flags, h.size, h.cas)
		if again, err := parseValue([]byte(printed), 1000); err != nil || again != h {
			t.Fatalf("%q: %+v; printed as %q: %+v, %v", line, h, printed, again, err)
		}
	})
}

func FuzzParseMeta(f *testing.F) {
	for _, s := range []string{"HD", "EN", "VA 5 c12 f3 kname", "VA 5 W Z X", "HD c", "VA", "VA x", "MN", "NF Oab", "VA 1  c1", "HD c1 ", "HD k"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		code, h, err := parseMeta(line, 1000)
		if err != nil {
			return
		}
		if h.size > 1000 || (h.size >= 0) != (code == "VA") || h.key != "" && checkKey(h.key) != nil {
			t.Fatalf("%q: %s %+v", line, code, h)
		}
		printed := code
		if code == "VA" {
			printed += fmt.Sprintf(" %d", h.size)
		}
		printed += fmt.Sprintf(" c%d f%d", h.cas, h.flags)
		if h.key != "" {
			printed += " k" + h.key
		}
		if h.won {
			printed += " W"
		}
		if h.stale {
			printed += " X"
		}
		if code2, again, err := parseMeta([]byte(printed), 1000); err != nil || again != h || code2 != code {
			t.Fatalf("%q: %s %+v; printed as %q: %s %+v, %v", line, code, h, printed, code2, again, err)
		}
	})
}

func FuzzParseServer(f *testing.F) {
	for _, s := range []string{"a", "a:1/?2", "[::1]:5", "/run/x/?3", "::1", "a:b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseServer(text)
		if err != nil {
			return
		}
		if again, err := ParseServer(s.String()); err != nil || again != s {
			t.Fatalf("%q: %+v; printed as %q: %+v, %v", text, s, s.String(), again, err)
		}
	})
}

// FuzzReplies reads whatever a server may send as the reply to each request. Memory is bounded by what came, not by what was announced.
func FuzzReplies(f *testing.F) {
	for _, s := range []string{
		"VALUE a 0 1 5\r\nx\r\nEND\r\n", "VA 1 c5 f0\r\nx\r\n", "HD\r\n", "STORED\r\n", "STAT a b\r\nEND\r\n", "HOT a 1.50\r\nEND\r\n", "SLOW 1 2 unix get a\r\nEND\r\n", "RESET\r\n", "5 \r\n", "EN\r\n", "MN\r\n",
		"VALUE a 0 1 5\r\nxyzEND\r\n", "VA 1 ka c5 f0\r\nx\r\nMN\r\n", "SERVER_ERROR x\r\n", "VALUE a 0 1073741824 5\r\n", "ERROR\r\n", "\r\n", "VA 0 kb\r\n\r\n",
		"VA 0 c7 f0 W\r\n\r\nVA 1 c8 f0 X\r\nx\r\n", "HD\r\nNF\r\n", "EX\r\nHD\r\nHD c9\r\n",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, reply []byte, meta bool) {
		for name, ask := range map[string]func(*conn) error{
			"get": func(c *conn) error {
				i, err := c.classicItem("a")
				if c.meta {
					i, err = c.metaItem("a")
				}
				if err == nil && (i.Key != "a" || len(i.Value) > len(reply)) {
					t.Fatalf("%q: %+v", reply, i)
				}
				return err
			},
			"multi": func(c *conn) error {
				items, err := c.multi([]string{"a", "b"})
				if len(items) > 2 {
					t.Fatalf("%q: %d items", reply, len(items))
				}
				return err
			},
			"store": func(c *conn) error { _, err := c.store(casWord, &Item{Key: "a"}, nil, 0); return err },
			"leases": func(c *conn) error {
				c.meta = true
				return c.leases([]string{"a", "b"}, 10, make([]Found, 2))
			},
			"mark":   func(c *conn) error { return c.mark([]Mark{{Key: "a"}, {Key: "b"}}, 10) },
			"unmark": func(c *conn) error { return c.unmark([]Mark{{Key: "a", cas: 7}, {Key: "b"}}, 10) },
			"touch":  func(c *conn) error { return c.touch("a", 1) },
			"stats":  func(c *conn) error { _, err := c.stats(""); return err },
		} {
			c := &conn{r: bufio.NewReaderSize(bytes.NewReader(reply), MaxLine+2), w: bufio.NewWriter(&bytes.Buffer{}), meta: meta, limit: 1 << 20}
			if err := ask(c); err == nil && len(reply) == 0 {
				t.Fatalf("%s is content with nothing", name)
			}
		}
	})
}

func TestRefusal(t *testing.T) {
	for line, want := range map[string]bool{
		"ERROR": true, "CLIENT_ERROR bad data chunk": true, "SERVER_ERROR": true, "ERROR: shutdown not enabled": true, "ERRORS": false, "STORED": false, "": false,
	} {
		if got := refusal([]byte(line)) != nil; got != want {
			t.Errorf("%q: %v; want %v", line, got, want)
		}
	}
}

// What an error says of the server, and of the connection.
func TestErrorsAreJudged(t *testing.T) {
	for _, test := range []struct {
		err      error
		judged   outcome
		reusable bool
	}{
		{nil, worked, true},
		{ErrCacheMiss, worked, true},
		{ErrNotStored, worked, true},
		{ErrCASConflict, worked, true},
		{ErrNoLeases, worked, true},
		{&ServerError{"SERVER_ERROR out of memory"}, worked, true},
		{&ServerError{"CLIENT_ERROR bad data chunk"}, worked, false},
		{&ServerError{"ERROR"}, worked, false},
		{fmt.Errorf("x: %w", ErrProtocol), failed, false},
		{ErrTooLarge, worked, false},
		{context.DeadlineExceeded, failed, false},
		{unsent{context.Canceled}, unknown, false},
		{unsent{errBusy}, unknown, false},
		{errors.New("connection refused"), failed, false},
	} {
		if got := judge(test.err); got != test.judged {
			t.Errorf("judge(%v) = %d; want %d", test.err, got, test.judged)
		}
		if got := reusable(test.err); got != test.reusable {
			t.Errorf("reusable(%v) = %v; want %v", test.err, got, test.reusable)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Option{
		"protocol": WithProtocol(7), "timeout": WithTimeout(0, 1), "conns": WithConns(5, 4), "value": WithMaxValue(1<<30 + 1), "eject": WithEject(-1, 1, 1),
		"dialer": WithDialer(nil), "auth": WithAuth("a b", ""), "small": WithCompression(10, Gzip{}), "twice": WithCompression(100, Gzip{}, Gzip{Level: 1}),
		"distribution": WithDistribution(-1),
	} {
		if c, err := New([]Server{{"a", 1, 1}}, o); err == nil {
			t.Errorf("%s: %v; want an error", name, c)
		}
	}
	if _, err := New(nil); !errors.Is(err, ErrNoServers) {
		t.Errorf("without servers: %v", err)
	}
}

func TestGzipHasALimit(t *testing.T) {
	long := []byte(strings.Repeat("x", 100000))
	small, err := Gzip{}.Compress(long)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := (Gzip{}).Decompress(small, len(long)); err != nil || !bytes.Equal(b, long) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if b, err := (Gzip{}).Decompress(small, len(long)-1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%d bytes, %v; want a refusal", len(b), err)
	}
}
