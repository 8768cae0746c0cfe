// Package byterange reads the Range field's byte ranges (RFC 9110 §14.1.2). It is pure: what to do with a range that is malformed, turned
// round or outside is for its callers to say, and they differ.
package byterange

import (
	"math"
	"strings"
)

// Range is a part of a body: N bytes from Off. Both lie within the body, and N is above 0.
type Range struct{ Off, N int64 }

// Last is the position of its last byte.
func (r Range) Last() int64 { return r.Off + r.N - 1 }

// Kind says what a range is.
type Kind uint8

// The kinds.
const (
	// Malformed is no range. A Range field with one is to be ignored (RFC 9110 §14.2).
	Malformed Kind = iota
	// Reversed ends before it begins: malformed too, but some refuse it instead.
	Reversed
	// Outside names no byte of the body: 416, if nothing else of the field does (RFC 9110 §15.5.17).
	Outside
	// Part is a range that can be given. One that goes beyond the end was cut there.
	Part
)

// Set is what stands behind the unit in a Range field of bytes; ok is false for another unit. Units know no case (RFC 9110 §14.1).
func Set(field string) (set string, ok bool) {
	unit, set, found := strings.Cut(field, "=")
	return set, found && strings.EqualFold(strings.TrimSpace(unit), "bytes")
}

// Parse reads one range of a set, for a body of size bytes: first-last, first- or -length. White space around it is ignored. Numbers
// too large for an int64 are taken for the largest.
func Parse(spec string, size int64) (Range, Kind) {
	from, to, found := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !found {
		return Range{}, Malformed
	}
	if from == "" { // the last bytes
		n, ok := digits(to)
		switch {
		case !ok:
			return Range{}, Malformed
		case n == 0 || size <= 0:
			return Range{}, Outside
		}
		n = min(n, size)
		return Range{size - n, n}, Part
	}
	first, ok := digits(from)
	if !ok {
		return Range{}, Malformed
	}
	last := int64(math.MaxInt64)
	if to != "" {
		if last, ok = digits(to); !ok {
			return Range{}, Malformed
		}
	}
	switch {
	case last < first:
		return Range{}, Reversed
	case first >= size:
		return Range{}, Outside
	}
	return Range{first, min(last, size-1) - first + 1}, Part
}

// Single reads a Range field that asks for one range. One that asks for several, or for another unit, is Malformed: a server that
// gives single parts alone ignores it.
func Single(field string, size int64) (Range, Kind) {
	set, ok := Set(field)
	if !ok {
		return Range{}, Malformed
	}
	only := ""
	for part := range strings.SplitSeq(set, ",") {
		if part = strings.Trim(part, " \t"); part == "" {
			continue
		}
		if only != "" {
			return Range{}, Malformed
		}
		only = part
	}
	return Parse(only, size)
}

// digits reads a number; one that is too large is as large as can be.
func digits(s string) (n int64, ok bool) {
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 {
			return 0, false
		}
		if n > (math.MaxInt64-d)/10 {
			n = math.MaxInt64
			continue
		}
		n = n*10 + d
	}
	return n, s != ""
}
