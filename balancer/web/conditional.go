package web

import (
	"bytes"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"wheelhouse/balancer"
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
	if !asExpected(h, v.etag, v.modified) {
		return 412
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

// asExpected evaluates If-Match, or else If-Unmodified-Since, against a file that is there.
func asExpected(h *http1.Header, tag string, modified time.Time) bool {
	if h.Has("If-Match") {
		return matches(h.Joined("If-Match"), tag, false)
	}
	since := h.Bytes("If-Unmodified-Since")
	if since == nil {
		return true
	}
	t, err := http.ParseTime(string(since))
	return err != nil || !modified.Truncate(time.Second).After(t)
}

// mayChange evaluates the conditions of a PUT or DELETE of a file as it is, nil for one that is not there (RFC 9110 §13.2.2).
func mayChange(h *http1.Header, info fs.FileInfo) bool {
	if info == nil {
		return !h.Has("If-Match")
	}
	tag := etag(info.Size(), info.ModTime(), "")
	return asExpected(h, tag, info.ModTime()) && !(h.Has("If-None-Match") && matches(h.Joined("If-None-Match"), tag, true))
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

// matches looks for an entity tag in a list of them, or "*". weak compares as §8.8.3.2 has it for If-None-Match; tag is a strong one.
func matches(list, tag string, weak bool) bool {
	for candidate, isWeak := range balancer.EntityTags(list) {
		if candidate == "*" || candidate == tag && (weak || !isWeak) {
			return true
		}
	}
	return false
}
