package dispatcher

import (
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// conditions are the request's, RFC 9110 §13.1. They are nil where the request has none, which is most of the time.
type conditions struct {
	ifMatch, ifNoneMatch *tagList
	ifModifiedSince      time.Time
	ifUnmodifiedSince    time.Time
}

// tagList is the value of If-Match or If-None-Match.
type tagList struct {
	any  bool // "*"
	tags [][16]byte
}

func (l *tagList) has(etag [16]byte) bool {
	for _, t := range l.tags {
		if t == etag {
			return true
		}
	}
	return l.any
}

// parseConditions reads the four conditional headers. A malformed date means that the header is ignored (RFC 9110
// §13.1.3); a malformed tag list is the client's mistake and an error.
func parseConditions(h *http1.Header) (*conditions, *failure) {
	if !h.Has("If-None-Match") && !h.Has("If-Modified-Since") && !h.Has("If-Match") && !h.Has("If-Unmodified-Since") {
		return nil, nil // without allocating: most requests have none
	}
	return parseSomeConditions(h)
}

func parseSomeConditions(h *http1.Header) (*conditions, *failure) {
	var c conditions
	var some bool
	for _, t := range []struct {
		name string
		list **tagList
		weak bool
	}{{"If-Match", &c.ifMatch, false}, {"If-None-Match", &c.ifNoneMatch, true}} {
		if !h.Has(t.name) {
			continue
		}
		list, ok := parseTags(h.Joined(t.name), t.weak)
		if !ok {
			return nil, failf(http.StatusBadRequest, "%s is not a list of entity tags: %s", t.name, quoteSome(h.Bytes(t.name)))
		}
		*t.list, some = list, true
	}
	for _, t := range []struct {
		name string
		time *time.Time
	}{{"If-Modified-Since", &c.ifModifiedSince}, {"If-Unmodified-Since", &c.ifUnmodifiedSince}} {
		if v := h.Bytes(t.name); v != nil {
			if when, err := http.ParseTime(string(v)); err == nil {
				*t.time, some = when, true
			}
		}
	}
	if !some {
		return nil, nil
	}
	return &c, nil
}

// parseTags reads a list of entity tags, RFC 9110 §8.8.3. Tags that cannot be one of ours (not 32 hex digits) are
// well-formed and match nothing. Weak tags match only where weak comparison is asked for (§8.8.3.2).
func parseTags(s string, weak bool) (*tagList, bool) {
	s = strings.TrimSpace(s)
	if s == "*" {
		return &tagList{any: true}, true
	}
	list := &tagList{tags: [][16]byte{}}
	for s != "" {
		isWeak := strings.HasPrefix(s, "W/")
		s = strings.TrimPrefix(s, "W/")
		if len(s) < 2 || s[0] != '"' {
			return nil, false
		}
		end := strings.IndexByte(s[1:], '"')
		if end < 0 {
			return nil, false
		}
		if tag, ok := parseETag(s[1 : 1+end]); ok && (weak || !isWeak) {
			list.tags = append(list.tags, tag)
		}
		s = strings.TrimLeft(s[end+2:], " \t")
		if s != "" {
			if s[0] != ',' {
				return nil, false
			}
			s = strings.TrimLeft(s, ", \t")
		}
	}
	return list, true
}

func parseETag(s string) (etag [16]byte, ok bool) {
	if len(s) != 32 {
		return etag, false
	}
	_, err := hex.Decode(etag[:], []byte(s))
	return etag, err == nil
}

// appendETag appends the strong entity tag of an object, with its quotes.
func appendETag(b []byte, etag [16]byte) []byte {
	b = append(b, '"')
	b = hex.AppendEncode(b, etag[:])
	return append(b, '"')
}

// evaluate applies the conditions of a read in the order of RFC 9110 §13.2.2: 0 to go on, 304 or 412.
func (c *conditions) evaluate(o *store.Object) int {
	switch {
	case c.ifMatch != nil:
		if !c.ifMatch.has(o.ETag) {
			return http.StatusPreconditionFailed
		}
	case !c.ifUnmodifiedSince.IsZero() && o.Created.Unix() > c.ifUnmodifiedSince.Unix():
		return http.StatusPreconditionFailed
	}
	switch {
	case c.ifNoneMatch != nil:
		if c.ifNoneMatch.has(o.ETag) {
			return http.StatusNotModified
		}
	case !c.ifModifiedSince.IsZero() && o.Created.Unix() <= c.ifModifiedSince.Unix():
		return http.StatusNotModified
	}
	return 0
}

// forWrite turns the conditions of a PUT, POST or DELETE into what the catalog checks in the transaction itself.
// If-Modified-Since means nothing there (RFC 9110 §13.1.3), and the date is ignored where the tag is given (§13.1.4).
func (c *conditions) forWrite() store.Condition {
	var out store.Condition
	if c == nil {
		return out
	}
	if c.ifMatch != nil {
		out.Exists = c.ifMatch.any
		if !c.ifMatch.any {
			out.Match = c.ifMatch.tags
		}
	} else {
		out.UnmodifiedSince = c.ifUnmodifiedSince
	}
	if c.ifNoneMatch != nil {
		out.Absent = c.ifNoneMatch.any
		out.NoneMatch = c.ifNoneMatch.tags
	}
	return out
}
