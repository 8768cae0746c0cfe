package web

import (
	"bytes"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"wheelhouse/internal/http1"
)

// validators are what conditional requests are compared with.
type validators struct {
	etag     string // strong
	modified time.Time
	date     string // modified as an HTTP-date
	size     int64
}

// precondition evaluates a GET's or HEAD's conditions in the order of RFC 9110 §13.2.2: 0, 304 or 412.
func (v *validators) precondition(h *http1.Header) int {
	if h.Has("If-Match") {
		if !matches(h.Joined("If-Match"), v.etag, false) {
			return 412
		}
	} else if since := h.Bytes("If-Unmodified-Since"); since != nil {
		if t, err := http.ParseTime(string(since)); err == nil && v.modified.Truncate(time.Second).After(t) {
			return 412
		}
	}
	if h.Has("If-None-Match") {
		if matches(h.Joined("If-None-Match"), v.etag, true) {
			return 304
		}
		return 0
	}
	if since := h.Bytes("If-Modified-Since"); since != nil && v.unmodifiedSince(since) {
		return 304
	}
	return 0
}

// mayChange evaluates the conditions of a PUT or DELETE of a file as it is, nil for one that is not there (RFC 9110 §13.2.2).
func mayChange(h *http1.Header, info fs.FileInfo) bool {
	var tag string
	if info != nil {
		tag = etag(info.Size(), info.ModTime(), "")
	}
	if h.Has("If-Match") {
		if info == nil || !matches(h.Joined("If-Match"), tag, false) {
			return false
		}
	} else if since := h.Bytes("If-Unmodified-Since"); since != nil && info != nil {
		if t, err := http.ParseTime(string(since)); err == nil && info.ModTime().Truncate(time.Second).After(t) {
			return false
		}
	}
	return info == nil || !h.Has("If-None-Match") || !matches(h.Joined("If-None-Match"), tag, true)
}

// unmodifiedSince reads If-Modified-Since. Old Internet Explorers put "; length=N" behind the date; a file of another size has been
// modified whatever its date says.
func (v *validators) unmodifiedSince(since []byte) bool {
	if date, rest, ok := bytes.Cut(since, []byte{';'}); ok {
		name, length, _ := strings.Cut(strings.TrimSpace(string(rest)), "=")
		if n, err := strconv.ParseInt(length, 10, 64); strings.EqualFold(name, "length") && (err != nil || n != v.size) {
			return false
		}
		since = bytes.TrimSpace(date)
	}
	if string(since) == v.date {
		return true
	}
	t, err := http.ParseTime(string(since))
	return err == nil && !v.modified.Truncate(time.Second).After(t)
}

// ifRange reports whether a Range may be answered as such (RFC 9110 §13.1.5): there is no condition, or it names this very file.
func (v *validators) ifRange(h *http1.Header) bool {
	cond := h.Bytes("If-Range")
	switch {
	case cond == nil:
		return true
	case bytes.HasPrefix(cond, []byte{'"'}) || bytes.HasPrefix(cond, []byte("W/")):
		return v.etag != "" && string(cond) == v.etag
	}
	return v.date != "" && string(cond) == v.date
}

// matches looks for an entity tag in a list of them, or "*". weak compares as §8.8.3.2 has it for If-None-Match; tag is a strong one.
func matches(list, tag string, weak bool) bool {
	for list = strings.TrimLeft(list, " \t,"); list != ""; list = strings.TrimLeft(list, " \t,") {
		if list[0] == '*' {
			return true
		}
		candidate, isWeak := strings.CutPrefix(list, "W/")
		if candidate == "" || candidate[0] != '"' {
			return false
		}
		end := strings.IndexByte(candidate[1:], '"')
		if end < 0 {
			return false
		}
		if candidate[:end+2] == tag && (weak || !isWeak) {
			return true
		}
		list = candidate[end+2:]
	}
	return false
}
