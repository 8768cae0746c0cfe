package memcached

import "bytes"

// Numbers as C's strtol reads them, which memcached does: blanks and a + may come before, and what follows the digits must be a blank
// or the end.

func isBlank(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' }

// parseDigits splits the sign from the digits' value.
func parseDigits(b []byte) (v uint64, negative, ok bool) {
	i := 0
	for i < len(b) && isBlank(b[i]) {
		i++
	}
	if i < len(b) && (b[i] == '+' || b[i] == '-') {
		negative = b[i] == '-'
		i++
	}
	first := i
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		d := uint64(b[i] - '0')
		if v > (1<<64-1-d)/10 {
			return 0, negative, false
		}
		v = v*10 + d
	}
	return v, negative, i > first && (i == len(b) || isBlank(b[i]))
}

// parseU64 reads an unsigned number of 64 bits. strtoull takes a minus too, and counts down from 0; as memcached does, what is then 2^63 or more is
// refused.
func parseU64(b []byte) (uint64, bool) {
	v, negative, ok := parseDigits(b)
	if negative {
		v = -v
		ok = ok && int64(v) >= 0
	}
	return v, ok
}

// parseStored is parseU64 for an item's value. A NUL ends it, as it ends a string of C.
func parseStored(b []byte) (uint64, bool) {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return parseU64(b)
}

// parseI32 reads a signed number of 32 bits.
func parseI32(b []byte) (int32, bool) {
	v, negative, ok := parseDigits(b)
	switch {
	case !ok:
		return 0, false
	case negative:
		return int32(-int64(min(v, 1<<31))), v <= 1<<31
	}
	return int32(v & 0x7fffffff), v < 1<<31
}

// parseFlags reads a client's flags, 32 bits.
func parseFlags(b []byte) (uint32, bool) {
	v, ok := parseU64(b)
	return uint32(v), ok && v < 1<<32
}
