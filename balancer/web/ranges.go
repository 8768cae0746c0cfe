package web

import (
	"math"
	"strings"
)

// maxRanges is how many ranges one request may ask for; one that asks for more gets the whole (RFC 9110 §14.2, §17.15).
const maxRanges = 16

// span is a part of a file, in bytes.
type span struct{ off, n int64 }

// parseRange reads a Range field for a file of some size (RFC 9110 §14.1.2). Without an error, no spans mean the whole file: the
// field is malformed, of another unit, asks for more parts than are given, or for more bytes than there are. ok is false when it
// asks for nothing that there is.
//
// A range whose end is before its start is malformed; §14.2 lets a server refuse it instead of ignoring it, and Perlbal's users
// know it refused.
func parseRange(v string, size int64) (spans []span, ok bool) {
	unit, set, found := strings.Cut(v, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return nil, true
	}
	asked, total := 0, int64(0)
	for part := range strings.SplitSeq(set, ",") {
		if part = strings.Trim(part, " \t"); part == "" {
			continue
		}
		if asked++; asked > maxRanges {
			return nil, true
		}
		first, last, valid := positions(part, size)
		switch {
		case !valid:
			return nil, true
		case last < first && first < size:
			return nil, false
		case first >= size:
			continue
		}
		n := min(last, size-1) - first + 1
		spans = append(spans, span{first, n})
		total += n
	}
	if asked == 0 || total > size {
		return nil, true
	}
	return spans, len(spans) > 0
}

// positions reads first-last, first- or -length. What is beyond the end is left so.
func positions(s string, size int64) (first, last int64, valid bool) {
	a, b, found := strings.Cut(s, "-")
	switch {
	case !found, a == "" && b == "":
		return 0, 0, false
	case a == "":
		n, ok := digits(b)
		if n == 0 {
			return size, size, ok // nothing of it is there
		}
		return max(0, size-n), size - 1, ok
	}
	first, ok := digits(a)
	if !ok {
		return 0, 0, false
	}
	if b == "" {
		return first, math.MaxInt64, true
	}
	last, ok = digits(b)
	return first, last, ok
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
