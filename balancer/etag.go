package balancer

import (
	"bytes"
	"iter"
	"strings"

	"wheelhouse/internal/http1"
)

// EntityTags are the tags in the value of If-Match or If-None-Match (RFC 9110 §13.1), each with its quotes, and whether it is a weak one. "*" is
// the last, and so is what stands before anything that is no tag.
func EntityTags(list string) iter.Seq2[string, bool] {
	return func(yield func(tag string, weak bool) bool) {
		for list = strings.TrimLeft(list, " \t,"); list != ""; list = strings.TrimLeft(list, " \t,") {
			if list[0] == '*' {
				yield("*", false)
				return
			}
			tag, weak := strings.CutPrefix(list, "W/")
			if tag == "" || tag[0] != '"' {
				return
			}
			end := strings.IndexByte(tag[1:], '"')
			if end < 0 {
				return
			}
			if !yield(tag[:end+2], weak) {
				return
			}
			list = tag[end+2:]
		}
	}
}

// IfRange reports whether a Range may be answered as such (RFC 9110 §13.1.5): the request makes no condition, or it names the representation
// that has these validators, of which one that is empty is none.
func IfRange(h *http1.Header, etag, modified string) bool {
	cond := h.Bytes("If-Range")
	switch {
	case cond == nil:
		return true
	case bytes.HasPrefix(cond, []byte{'"'}):
		return string(cond) == etag
	case bytes.HasPrefix(cond, []byte("W/")):
		return false
	}
	return modified != "" && string(cond) == modified
}
