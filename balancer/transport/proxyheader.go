package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt).
const (
	proxyV1Max = 107       // §2.1: the longest line, CRLF included
	proxyV2Max = 16 + 2048 // header with address and more TLVs than anybody sends
)

var proxyV2Signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// errProxyHeader is a connection that does not begin as it must.
var errProxyHeader = errors.New("the connection does not begin with a PROXY header")

// ReadProxyHeader reads a PROXY header, version 1 or 2, and not a byte more. It returns the client's address, or nil when the header
// says that the connection is the proxy's own (§2.2, LOCAL) or of no known family.
func ReadProxyHeader(r io.Reader) (net.Addr, error) {
	buf := make([]byte, len(proxyV2Signature), proxyV1Max)
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	if bytes.Equal(buf, proxyV2Signature) {
		return readProxyV2(r)
	}
	if !bytes.HasPrefix(buf, []byte("PROXY ")) {
		return nil, errProxyHeader
	}
	for buf[len(buf)-1] != '\n' {
		if len(buf) == proxyV1Max {
			return nil, errProxyHeader
		}
		buf = buf[:len(buf)+1]
		if _, err := io.ReadFull(r, buf[len(buf)-1:]); err != nil {
			return nil, fmt.Errorf("%w: %w", errProxyHeader, err)
		}
	}
	return parseProxyV1(string(buf))
}

// parseProxyV1 reads PROXY TCP4|TCP6 source destination port port, or PROXY UNKNOWN … (§2.1).
func parseProxyV1(line string) (net.Addr, error) {
	line, ok := strings.CutSuffix(line, "\r\n")
	f := strings.Split(line, " ")
	if !ok || len(f) < 2 {
		return nil, errProxyHeader
	}
	if f[1] == "UNKNOWN" {
		return nil, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return nil, errProxyHeader
	}
	from, ok := endV1(f[1], f[2], f[4])
	if _, ok2 := endV1(f[1], f[3], f[5]); !ok || !ok2 {
		return nil, errProxyHeader
	}
	return net.TCPAddrFromAddrPort(from), nil
}

// endV1 reads one end of a connection.
func endV1(family, addr, port string) (netip.AddrPort, bool) {
	ip, err := netip.ParseAddr(addr)
	n, perr := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(ip, uint16(n)), err == nil && perr == nil && ip.Is4() == (family == "TCP4") && ip.Zone() == ""
}

// readProxyV2 reads what follows the signature (§2.2).
func readProxyV2(r io.Reader) (net.Addr, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	n := int(binary.BigEndian.Uint16(head[2:]))
	if head[0]>>4 != 2 || head[0]&15 > 1 || n > proxyV2Max {
		return nil, errProxyHeader
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	if head[0]&15 == 0 { // LOCAL
		return nil, nil
	}
	switch head[1] >> 4 {
	case 1:
		if n < 12 {
			return nil, errProxyHeader
		}
		return addrOf(netip.AddrFrom4([4]byte(body[:4])), body[8:]), nil
	case 2:
		if n < 36 {
			return nil, errProxyHeader
		}
		return addrOf(netip.AddrFrom16([16]byte(body[:16])), body[32:]), nil
	}
	return nil, nil
}

func addrOf(ip netip.Addr, port []byte) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, binary.BigEndian.Uint16(port)))
}

// AppendProxyHeader appends a header of a version, 1 or 2, that names a client and where it connected to.
func AppendProxyHeader(b []byte, version int, from, to netip.AddrPort) []byte {
	src, dst := from.Addr().Unmap(), to.Addr().Unmap()
	six := src.Is6() || dst.Is6()
	if version == 1 {
		family := "TCP4"
		if six {
			family = "TCP6"
			src, dst = netip.AddrFrom16(src.As16()), netip.AddrFrom16(dst.As16())
		}
		return fmt.Appendf(b, "PROXY %s %s %s %d %d\r\n", family, v1Addr(src), v1Addr(dst), from.Port(), to.Port())
	}
	b = append(b, proxyV2Signature...)
	if six {
		s, d := src.As16(), dst.As16()
		b = append(b, 0x21, 0x21, 0, 36)
		b = append(append(b, s[:]...), d[:]...)
	} else {
		s, d := src.As4(), dst.As4()
		b = append(b, 0x21, 0x11, 0, 12)
		b = append(append(b, s[:]...), d[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, from.Port())
	return binary.BigEndian.AppendUint16(b, to.Port())
}

// v1Addr writes an address that stands in a TCP6 line without the dots of an IPv4 address mapped into IPv6, which not all readers know.
func v1Addr(a netip.Addr) string {
	if a.Is4In6() {
		v4 := a.As4()
		return fmt.Sprintf("::ffff:%02x%02x:%02x%02x", v4[0], v4[1], v4[2], v4[3])
	}
	return a.String()
}
