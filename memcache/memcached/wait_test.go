package memcached

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"wheelhouse/memcache/memcachetest"
)

// In a crowd, a connection that waits with half a request has no buffers, and what it has sent is kept aside. It is done when the rest comes,
// in however many pieces.
func TestHalfRequestsInACrowd(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{SlowAfter: 1})
	control := s.dial(t)
	for range crowd + 10 {
		s.dial(t)
	}
	value := strings.Repeat("v", 5000)
	large := strings.Repeat("w", 50_000)
	body := "\x00\x00\x00\x07\x00\x00\x00\x00bin" + value
	head := binary.BigEndian.AppendUint32([]byte("\x80\x01\x00\x03\x08\x00\x00\x00"), uint32(len(body)))
	tests := []struct {
		request string
		want    []string // lines
	}{
		{"get nothing\r\n", []string{"END"}},
		{"get nothing " + strings.Repeat("k", 200) + "\r\nmn\r\n", []string{"END", "MN"}},
		{"get " + strings.Repeat("many ", 6000) + "nothing\r\n", []string{"END"}},
		{"set a 7 0 5000\r\n" + value + "\r\nget a\r\n", []string{"STORED", "VALUE a 7 5000", value, "END"}},
		{"ms a 5000 c F3 Oq k\r\n" + value + "\r\n", nil},
		{"set b 7 0 50000\r\n" + large + "\r\nget b\r\n", []string{"STORED", "VALUE b 7 50000", large, "END"}},
		{"set b 7 0 50000\r\n" + large + "xx", []string{badChunk}},
		{"set a 7 0 5000\r\n" + value + "xx", []string{badChunk}},
		{"set d 7 0 9000000\r\n" + strings.Repeat("x", 9_000_000) + "\r\nget d\r\n", []string{tooLarge, "END"}},
		{"set " + strings.Repeat("k", 251) + " 0 0 300\r\n" + value[:300] + "\r\nmn\r\n", []string{badFormat, "MN"}},
		{"ms e 300 Z\r\n" + value[:300] + "\r\nmn\r\n", []string{invalidFlag, "MN"}},
		{string(head) + strings.Repeat("\x00", 12) + body, nil},
	}
	for _, tt := range tests {
		for _, pieces := range []int{2, 7} {
			t.Run(fmt.Sprintf("%.20q in %d pieces", tt.request, pieces), func(t *testing.T) {
				c := s.dial(t)
				read := s.count(bytesRead)
				step := len(tt.request)/pieces + 1
				for i := 0; i < len(tt.request); i += step {
					part := tt.request[i:min(i+step, len(tt.request))]
					c.Raw(part)
					read += uint64(len(part))
					eventually(t, "it has been read", func() bool { return s.count(bytesRead) == read })
				}
				switch {
				case tt.request[0] == 0x80:
					if got := c.ReadN(24); got[0] != 0x81 || got[7] != 0 {
						t.Errorf("%x", got)
					}
				case tt.want == nil:
					if got := c.Line(); !strings.HasPrefix(got, "HD c") || !strings.HasSuffix(got, " Oq ka") {
						t.Errorf("%q", got)
					}
				default:
					c.Expect(tt.want...)
				}
			})
		}
	}
	if got := control.Stats("")["cmd_meta"]; got != "4" { // ms, twice each: a request counts once, in however many pieces it comes
		t.Errorf("cmd_meta is %s; want 4", got)
	}
	s.pending.mu.Lock()
	defer s.pending.mu.Unlock()
	if s.pending.bytes != 0 || len(s.pending.list) != 0 {
		t.Errorf("%d bytes of %d connections are pending; want none", s.pending.bytes, len(s.pending.list))
	}
}

// Two connections of a crowd may find at once that there is too much, and neither waits for the other.
func TestCrowdOfHalfRequests(t *testing.T) {
	t.Parallel()
	const each = 8000
	s := serve(t, Options{MaxConns: 4000})
	control := s.dial(t)
	many := 2 * maxPending / each
	if raceEnabled {
		many = maxPending/each + 100
	}
	list := make([]*memcachetest.Conn, many)
	for i := range list {
		list[i] = s.dial(t)
	}
	for i, c := range list {
		c.Raw(fmt.Sprintf("set k%d 0 0 8100\r\n%s", i, strings.Repeat("x", each)))
	}
	eventually(t, "those beyond the limit are closed", func() bool { return s.count(slowClosed) > 0 })
	if got := control.Ask("set a 0 0 1\r\nx"); got != "STORED" {
		t.Error(got)
	}
	eventually(t, "they are within the limit", func() bool {
		s.pending.mu.Lock()
		defer s.pending.mu.Unlock()
		return s.pending.bytes > maxPending/2 && s.pending.bytes <= maxPending && len(s.pending.list) == int(s.open.Load())-1
	})
}

// One at a time is behind the gate, and one that fails does not keep it.
func TestGate(t *testing.T) {
	t.Parallel()
	var g gate
	g.init()
	var inside atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is lost")
				}
			}()
			g.do(func() {
				if inside.Add(1) != 1 {
					t.Error("two are inside at once")
				}
				inside.Add(-1)
				panic("it fails")
			})
		})
	}
	all.Wait()
	g.do(func() {})
}
