package web

import (
	"strings"

	"wheelhouse/internal/byterange"
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
	set, isBytes := byterange.Set(v)
	if !isBytes {
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
		switch r, kind := byterange.Parse(part, size); kind {
		case byterange.Malformed:
			return nil, true
		case byterange.Reversed:
			return nil, false
		case byterange.Part:
			spans = append(spans, span{r.Off, r.N})
			total += r.N
		}
	}
	if asked == 0 || total > size {
		return nil, true
	}
	return spans, len(spans) > 0
}
