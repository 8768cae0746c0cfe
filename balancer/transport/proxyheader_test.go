package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// v2 is a header of version 2: the byte of version and command, that of family and protocol, and what follows.
func v2(command, family byte, body []byte) []byte {
	b := append(bytes.Clone(proxyV2Signature), command, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...)
}

func TestReadProxyHeader(t *testing.T) {
	four := []byte{192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0, 80}
	six := append(append(netip.MustParseAddr("2001:db8::1").AsSlice(), netip.MustParseAddr("2001:db8::2").AsSlice()...), 0x30, 0x39, 0, 80)
	for _, tt := range []struct {
		name string
		in   []byte
		want string // "" for none
		bad  bool
	}{
		{"v1 tcp4", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\r\n"), "192.0.2.1:12345", false},
		{"v1 tcp6", []byte("PROXY TCP6 2001:db8::1 2001:db8::2 12345 80\r\n"), "[2001:db8::1]:12345", false},
		{"v1 unknown", []byte("PROXY UNKNOWN\r\n"), "", false},
		{"v1 unknown with more", []byte("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), "", false},
		{"v1 longest", []byte("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"), "", false},
		{"v1 too long", []byte("PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n"), "", true},
		{"v1 never ends", []byte("PROXY TCP4 " + strings.Repeat("1", 200)), "", true},
		{"v1 without cr", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\n"), "", true},
		{"v1 wrong family", []byte("PROXY TCP6 192.0.2.1 192.0.2.2 12345 80\r\n"), "", true},
		{"v1 other wrong family", []byte("PROXY TCP4 2001:db8::1 2001:db8::2 12345 80\r\n"), "", true},
		{"v1 udp", []byte("PROXY UDP4 192.0.2.1 192.0.2.2 12345 80\r\n"), "", true},
		{"v1 port", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n"), "", true},
		{"v1 signed port", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 +1 80\r\n"), "", true},
		{"v1 zone", []byte("PROXY TCP6 fe80::1%eth0 fe80::2 1 80\r\n"), "", true},
		{"v1 name", []byte("PROXY TCP4 localhost 192.0.2.2 1 80\r\n"), "", true},
		{"v1 destination", []byte("PROXY TCP4 192.0.2.1 nowhere 1 80\r\n"), "", true},
		{"v1 destination's port", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 http\r\n"), "", true},
		{"v1 fields", []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 80 90\r\n"), "", true},
		{"v1 two spaces", []byte("PROXY TCP4  192.0.2.1 192.0.2.2 1 80\r\n"), "", true},
		{"v1 lower case", []byte("proxy TCP4 192.0.2.1 192.0.2.2 1 80\r\n"), "", true},
		{"http", []byte("GET / HTTP/1.1\r\n\r\n"), "", true},
		{"nothing", nil, "", true},
		{"cut short", []byte("PROXY TCP4 192.0"), "", true},

		{"v2 tcp4", v2(0x21, 0x11, four), "192.0.2.1:12345", false},
		{"v2 tcp6", v2(0x21, 0x21, six), "[2001:db8::1]:12345", false},
		{"v2 with tlvs", v2(0x21, 0x11, append(bytes.Clone(four), 4, 0, 1, 0)), "192.0.2.1:12345", false},
		{"v2 local", v2(0x20, 0x11, four), "", false},
		{"v2 local, empty", v2(0x20, 0, nil), "", false},
		{"v2 unix", v2(0x21, 0x31, make([]byte, 216)), "", false},
		{"v2 unspecified", v2(0x21, 0, nil), "", false},
		{"v2 longest", v2(0x21, 0x11, append(bytes.Clone(four), make([]byte, proxyV2Max-12)...)), "192.0.2.1:12345", false},
		{"v2 too long", v2(0x21, 0x11, append(bytes.Clone(four), make([]byte, proxyV2Max-11)...)), "", true},
		{"v2 short", v2(0x21, 0x11, four[:11]), "", true},
		{"v2 short tcp6", v2(0x21, 0x21, six[:35]), "", true},
		{"v2 version", v2(0x11, 0x11, four), "", true},
		{"v2 command", v2(0x22, 0x11, four), "", true},
		{"v2 cut short", v2(0x21, 0x11, four)[:20], "", true},
		{"v2 signature alone", proxyV2Signature, "", true},
	} {
		rest := "GET / HTTP/1.1\r\n"
		whole := append(bytes.Clone(tt.in), rest...)
		if tt.bad {
			whole = tt.in
		}
		r := bytes.NewReader(whole)
		a, err := ReadProxyHeader(iotest.OneByteReader(r))
		if (err != nil) != tt.bad || err != nil && !errors.Is(err, errProxyHeader) {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if tt.bad {
			continue
		}
		if got := ""; a != nil && a.String() != tt.want || a == nil && tt.want != got {
			t.Errorf("%s: %v; want %q", tt.name, a, tt.want)
		}
		if left, _ := io.ReadAll(r); string(left) != rest {
			t.Errorf("%s: %q is left; want what follows the header", tt.name, left)
		}
	}
}

// What is written is read as the same client, in both versions.
func TestAppendProxyHeader(t *testing.T) {
	for _, tt := range []struct{ from, to, v1, want string }{
		{"192.0.2.1:1", "192.0.2.2:80", "PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n", "192.0.2.1:1"},
		{"[2001:db8::1]:65535", "[::1]:80", "PROXY TCP6 2001:db8::1 ::1 65535 80\r\n", "[2001:db8::1]:65535"},
		{"[::ffff:192.0.2.1]:1", "192.0.2.2:80", "PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n", "192.0.2.1:1"},
		{"192.0.2.1:1", "[2001:db8::2]:80", "PROXY TCP6 ::ffff:c000:0201 2001:db8::2 1 80\r\n", "192.0.2.1:1"},
		{"0.0.0.0:0", "0.0.0.0:0", "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0:0"},
	} {
		from, to := netip.MustParseAddrPort(tt.from), netip.MustParseAddrPort(tt.to)
		if got := AppendProxyHeader([]byte("x"), 1, from, to); string(got) != "x"+tt.v1 {
			t.Errorf("%s to %s: %q; want %q", tt.from, tt.to, got, tt.v1)
		}
		for version := 1; version <= 2; version++ {
			a, err := ReadProxyHeader(bytes.NewReader(AppendProxyHeader(nil, version, from, to)))
			if err != nil {
				t.Errorf("%s to %s, version %d: %v", tt.from, tt.to, version, err)
				continue
			}
			ap := a.(*net.TCPAddr).AddrPort()
			if got := netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String(); got != tt.want {
				t.Errorf("%s to %s, version %d: read as %s", tt.from, tt.to, version, got)
			}
		}
	}
}

// Whatever comes, no more is read than a header can have, an error leaves no client, and a client can be written and read again.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\r\n"))
	f.Add([]byte("PROXY TCP6 2001:db8::1 2001:db8::2 12345 80\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\nrest"))
	f.Add(v2(0x21, 0x11, make([]byte, 12)))
	f.Add(v2(0x21, 0x21, make([]byte, 40)))
	f.Add(v2(0x20, 0, nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		a, err := ReadProxyHeader(r)
		used := len(in) - r.Len()
		if used > proxyV2Max+16 {
			t.Errorf("%d bytes were read", used)
		}
		if err != nil {
			if a != nil {
				t.Errorf("%q: %v with %v", in, a, err)
			}
			return
		}
		again, err := ReadProxyHeader(bytes.NewReader(in[:used]))
		if err != nil || (a == nil) != (again == nil) || a != nil && a.String() != again.String() {
			t.Errorf("%q alone: %v, %v; want %v", in[:used], again, err, a)
		}
		if a == nil {
			return
		}
		from := a.(*net.TCPAddr).AddrPort()
		for version := 1; version <= 2; version++ {
			b := AppendProxyHeader(nil, version, from, from)
			back, err := ReadProxyHeader(bytes.NewReader(b))
			if err != nil {
				t.Fatalf("%q: %v", b, err)
			}
			if ap := back.(*net.TCPAddr).AddrPort(); ap.Addr().Unmap() != from.Addr().Unmap() || ap.Port() != from.Port() {
				t.Errorf("%v became %v by %q", from, ap, b)
			}
		}
	})
}
