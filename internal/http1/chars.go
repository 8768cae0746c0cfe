package http1

import "encoding/binary"

// Classes of octets. A table lookup per octet is what the whole parser costs.
const (
	inToken  = 1 << iota // RFC 9110 §5.6.2: tchar
	inValue              // RFC 9110 §5.5: field-vchar, SP, HTAB
	inTarget             // RFC 9112 §3.2: what a request-target may hold; see validTarget
	inHost               // RFC 3986 §3.2.2: reg-name; the digits after a % are not looked at
)

// class and lower are tables, written once and never changed.
var (
	class = buildClasses()
	lower = buildLower()
)

func buildClasses() (t [256]byte) {
	for c := range 256 {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			t[c] |= inToken | inHost
		}
		if c == '\t' || c >= ' ' && c != 0x7f {
			t[c] |= inValue
		}
		// Octets of 0x80 and more are not URI characters (RFC 3986 §2), but clients send raw UTF-8, net/http and nginx
		// take it, and no framing depends on it. '#' would begin a fragment, which is never sent (RFC 9110 §7.1).
		if c > ' ' && c != 0x7f && c != '#' {
			t[c] |= inTarget
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= inToken
	}
	for _, c := range "-._~!$&'()*+,;=%" {
		t[c] |= inHost
	}
	return t
}

func buildLower() (t [256]byte) {
	for c := range 256 {
		t[c] = byte(c)
		if c >= 'A' && c <= 'Z' {
			t[c] = byte(c) + 'a' - 'A'
		}
	}
	return t
}

// foldEqual compares without regard to ASCII case.
func foldEqual[T, U string | []byte](a T, b U) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower[a[i]] != lower[b[i]] {
			return false
		}
	}
	return true
}

// all reports whether each octet of s is of class m.
func all[T string | []byte](s T, m byte) bool {
	for i := range len(s) {
		if class[s[i]]&m == 0 {
			return false
		}
	}
	return true
}

// isValue reports whether each octet of v may stand in a field's value: eight at a time as long as there are no tabs.
func isValue(v []byte) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for len(v) >= 8 {
		x := binary.LittleEndian.Uint64(v)
		del := x ^ ones*0x7f
		if ((x-ones*' ')&^x|(del-ones)&^del)&tops != 0 { // an octet below ' ', or 0x7f
			break
		}
		v = v[8:]
	}
	return all(v, inValue)
}

// isToken reports whether s is a token (RFC 9110 §5.6.2).
func isToken[T string | []byte](s T) bool { return len(s) > 0 && all(s, inToken) }

// trimOWS cuts optional white space off both ends (RFC 9110 §5.6.3).
func trimOWS(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// unhex is the value of a hexadecimal digit, or -1.
func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// nextElement takes the first element off a comma-separated list (RFC 9110 §5.6.1), white space trimmed.
func nextElement(list []byte) (elem, rest []byte, more bool) {
	for i, c := range list {
		if c == ',' {
			return trimOWS(list[:i]), list[i+1:], true
		}
	}
	return trimOWS(list), nil, false
}

// parseDecimal reads 1*DIGIT without sign, space or overflow (RFC 9110 §8.6).
func parseDecimal(b []byte) (int64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' || n > (1<<63-1-int64(c-'0'))/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// appendHex appends n in hexadecimal.
func appendHex(dst []byte, n int64) []byte {
	const digits = "0123456789abcdef"
	var b [16]byte
	i := len(b)
	for {
		i--
		b[i] = digits[n&15]
		n >>= 4
		if n == 0 {
			return append(dst, b[i:]...)
		}
	}
}
