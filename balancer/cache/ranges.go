package cache

import (
	"strconv"
	"strings"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// parseRange reads a Range field for a body of size bytes (RFC 9110 §14.1.2). ok is false when the field is to be ignored: it names
// several ranges, another unit, or is malformed.
func parseRange(v string, size int64) (first, n int64, ok, satisfiable bool) {
	spec, found := strings.CutPrefix(v, "bytes=")
	if !found || strings.Contains(spec, ",") {
		return 0, 0, false, true
	}
	from, to, dash := strings.Cut(strings.TrimSpace(spec), "-")
	if !dash {
		return 0, 0, false, true
	}
	last, lerr := position(to)
	if from == "" { // the last bytes
		switch {
		case lerr != nil || to == "":
			return 0, 0, false, true
		case last == 0:
			return 0, 0, true, false
		}
		last = min(last, size)
		return size - last, last, true, size > 0
	}
	first, ferr := position(from)
	switch {
	case ferr != nil || to != "" && lerr != nil || to != "" && last < first:
		return 0, 0, false, true
	case first >= size:
		return 0, 0, true, false
	}
	if to == "" || last >= size {
		last = size - 1
	}
	return first, last - first + 1, true, true
}

func position(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}
