package memcached

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// What is asked for ahead is what is looked up afterwards, and nothing that has not arrived.
func TestPeek(t *testing.T) {
	t.Parallel()
	bin := func(op byte, extras, key, value string) string {
		h := make([]byte, binHeader)
		h[0], h[1], h[4] = binRequest, op, byte(len(extras))
		binary.BigEndian.PutUint16(h[2:], uint16(len(key)))
		binary.BigEndian.PutUint32(h[8:], uint32(len(extras)+len(key)+len(value)))
		return string(h) + extras + key + value
	}
	tests := []struct {
		in   string
		peek func([]byte) (key, rest []byte)
		want string
	}{
		{"get a\r\nmg b v\r\n", peekText, "a b"},
		{"get a\nget b", peekText, "a"},
		{"set a 0 0 7\r\nget x\r\n\r\nget b\r\n", peekText, "a b"},
		{"ms a 7 T0\r\nget x\r\n\r\nmd b\r\n", peekText, "a b"},
		{"cas a 0 0 1 9\r\nx\r\nincr b 1\r\n", peekText, "a b"},
		{"set a 0 0 100\r\nget x\r\n", peekText, "a"},
		{"set a 0 0 -1\r\nget x\r\n", peekText, "a"},
		{"set a\r\nget x\r\n", peekText, "a"},
		{"mn\r\nversion\r\n\r\n\nget b\r\n", peekText, "    b"},
		{bin(opGet, "", "a", "") + bin(opSet, "12345678", "bb", "value") + bin(opGet, "", "c", ""), peekBinary, "a bb c"},
		{bin(opSet, "12345678", "bb", "value")[:35], peekBinary, "bb"},
		{bin(opSet, "12345678", "bb", "value")[:33], peekBinary, ""},
		{bin(opGet, "", "a", "") + "\x80", peekBinary, "a "},
	}
	for _, tt := range tests {
		var keys []string
		for b := []byte(tt.in); len(b) > 0; {
			var key []byte
			key, b = tt.peek(b)
			keys = append(keys, string(key))
		}
		if got := strings.TrimRight(strings.Join(keys, " "), " "); got != strings.TrimRight(tt.want, " ") {
			t.Errorf("%q: %q; want %q", tt.in, got, tt.want)
		}
	}
}

// A multiget of more keys than are asked for at once finds all of them.
func TestLongMultiget(t *testing.T) {
	t.Parallel()
	for _, threads := range []int{1, -1} {
		c := serve(t, Options{Threads: threads}).dial(t)
		var ask, want []string
		for i := range 5*aheadKeys + 7 {
			c.Send(fmt.Sprintf("set key%d 0 0 1 noreply", i), "x")
			ask = append(ask, fmt.Sprintf("key%d", i), "none")
			want = append(want, fmt.Sprintf("VALUE key%d 0 1", i), "x")
		}
		c.Send("get " + strings.Join(ask, "  "))
		c.Expect(append(want, "END")...)
	}
}
