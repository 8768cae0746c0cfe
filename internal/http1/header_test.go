package http1

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func dump(h *Header) string {
	var b strings.Builder
	for n, v := range h.All() {
		fmt.Fprintf(&b, "%s=%s|", n, v)
	}
	return b.String()
}

func TestHeader(t *testing.T) {
	var h Header
	if h.Get("A") != "" || h.Bytes("A") != nil || h.Has("A") || h.Values("A") != nil || h.Joined("A") != "" || h.Len() != 0 {
		t.Error("the zero header is not empty")
	}
	h.Add("Accept", "a")
	h.Add("X-One", "1")
	h.Add("accept", "b")
	h.Add("Empty", "")
	if got, want := dump(&h), "Accept=a|X-One=1|accept=b|Empty=|"; got != want {
		t.Errorf("after Add: %s; want %s", got, want)
	}
	if !h.Has("EMPTY") || h.Bytes("empty") == nil {
		t.Error("an empty value is not there")
	}
	if got := h.Values("ACCEPT"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("Values = %q", got)
	}
	if got := h.Joined("accept"); got != "a, b" {
		t.Errorf("Joined = %q", got)
	}
	h.Set("ACCEPT", "c")
	if got, want := dump(&h), "Accept=c|X-One=1|Empty=|"; got != want {
		t.Errorf("after Set: %s; want %s", got, want)
	}
	v := []byte("bytes")
	h.SetBytes("X-Two", v)
	v[0] = 'X'
	if got := h.Get("x-two"); got != "bytes" {
		t.Errorf("SetBytes kept the caller's slice: %q", got)
	}
	h.Del("x-one")
	h.Del("none")
	if got, want := dump(&h), "Accept=c|Empty=|X-Two=bytes|"; got != want {
		t.Errorf("after Del: %s; want %s", got, want)
	}
	var dst Header
	dst.AddAll(&h)
	h.Reset()
	if got, want := dump(&dst), "Accept=c|Empty=|X-Two=bytes|"; got != want || h.Len() != 0 {
		t.Errorf("AddAll, then Reset: %s; want %s", got, want)
	}
	if n, v := dst.At(2); string(n) != "X-Two" || string(v) != "bytes" {
		t.Errorf("At(2) = %s, %s", n, v)
	}
}

func TestHeaderNeutralisesLineEnds(t *testing.T) {
	var h Header
	h.Add("X-A", "a\r\nEvil: 1\x00\x7f\tb\xff")
	h.Set("X-B\r\nEvil: 2", "v")
	h.AddBytes([]byte("X C"), []byte("\nv"))
	h.Set("", "dropped")
	if got, want := dump(&h), "X-A=a  Evil: 1  \tb\xff|X-B__Evil__2=v|X_C= v|"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestHeaderDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations differ under the race detector")
	}
	var h Header
	value := []byte("value")
	use := func() {
		h.Reset()
		h.Set("Content-Type", "text/plain")
		h.Add("X-A", "a")
		h.SetBytes("X-B", value)
		_ = h.Get("none")
		_ = h.Bytes("x-b")
		for range h.All() {
		}
	}
	use()
	if n := testing.AllocsPerRun(100, use); n != 0 {
		t.Errorf("%v allocations per use; want 0", n)
	}
}

func TestIsValue(t *testing.T) {
	for n := range 20 {
		for at := range n {
			for c := range 256 {
				v := bytes.Repeat([]byte{'x'}, n)
				v[at] = byte(c)
				if got, want := isValue(v), all(v, inValue); got != want {
					t.Fatalf("isValue(%q) = %t, want %t", v, got, want)
				}
			}
		}
	}
}
