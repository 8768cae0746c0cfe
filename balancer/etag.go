package balancer

import (
	"iter"
	"strings"
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
