package dispatcher

import (
	"net/http"
	"strconv"
	"strings"

	"wheelhouse/internal/byterange"
	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// byteRange is the part [off, off+n) of an object.
type byteRange struct{ off, n int64 }

// maxRanges is how many parts one answer may have; a request for more gets the whole object, which costs less than
// thousands of overlapping parts would (RFC 9110 §14.2 allows to ignore the header, §17.15 names the attack).
const maxRanges = 32

// parseRange reads a Range header, RFC 9110 §14.1.2, for an object of size bytes. No ranges and no failure means that the
// header is to be ignored: it is of another unit, malformed, or asks for too much.
func parseRange(s string, size int64) ([]byteRange, *failure) {
	spec, ok := byterange.Set(s)
	if !ok {
		return nil, nil
	}
	var ranges []byteRange
	var total int64
	seen := 0
	for part := range strings.SplitSeq(spec, ",") {
		part = strings.Trim(part, " \t")
		if part == "" {
			continue
		}
		if seen++; seen > maxRanges {
			return nil, nil
		}
		switch r, kind := byterange.Parse(part, size); kind {
		case byterange.Malformed, byterange.Reversed:
			return nil, nil
		case byterange.Part:
			ranges = append(ranges, byteRange{r.Off, r.N})
			total += r.N
		}
	}
	if seen == 0 {
		return nil, nil
	}
	if len(ranges) == 0 {
		return nil, failf(http.StatusRequestedRangeNotSatisfiable, "the range %s lies outside the object's %d bytes", quoteSome([]byte(s)), size).
			with("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
	}
	if len(ranges) > 1 && total > size { // overlapping parts: the whole is less
		return nil, nil
	}
	return ranges, nil
}

// requestedRanges is what the request asks for, if it asks for parts and its If-Range (RFC 9110 §13.1.5) holds.
func requestedRanges(h *http1.Header, o *store.Object) ([]byteRange, *failure) {
	spec := h.Bytes("Range")
	if spec == nil {
		return nil, nil
	}
	if cond := h.Bytes("If-Range"); cond != nil {
		if when, err := http.ParseTime(string(cond)); err == nil {
			if when.Unix() != o.Created.Unix() {
				return nil, nil
			}
		} else if string(cond) != string(appendETag(nil, o.ETag)) { // strong comparison: W/ never matches
			return nil, nil
		}
	}
	return parseRange(string(spec), o.Size)
}
