package cache

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"wheelhouse/internal/http1"
)

// directives are those of Cache-Control that a shared cache acts upon (RFC 9111 §5.2, RFC 5861). Durations are -1 when absent.
type directives struct {
	noStore, noCache, private, public, mustRevalidate, proxyRevalidate, onlyIfCached bool
	maxAge, sMaxAge, maxStale, minFresh, staleWhile, staleIfError                    time.Duration
}

func parseControl(h *http1.Header) directives {
	d := directives{maxAge: -1, sMaxAge: -1, maxStale: -1, minFresh: -1, staleWhile: -1, staleIfError: -1}
	for _, field := range h.Values("Cache-Control") {
		for part := range splitList(field) {
			name, arg, _ := strings.Cut(part, "=")
			d.take(strings.ToLower(strings.TrimSpace(name)), strings.Trim(strings.TrimSpace(arg), `"`))
		}
	}
	if !h.Has("Cache-Control") && strings.Contains(strings.ToLower(h.Get("Pragma")), "no-cache") { // RFC 9111 §5.4
		d.noCache = true
	}
	return d
}

func (d *directives) take(name, arg string) {
	switch name {
	case "no-store":
		d.noStore = true
	case "no-cache": // with field names it speaks of those alone; to take it for the whole is allowed and safe
		d.noCache = true
	case "private":
		d.private = true
	case "public":
		d.public = true
	case "must-revalidate":
		d.mustRevalidate = true
	case "proxy-revalidate":
		d.proxyRevalidate = true
	case "only-if-cached":
		d.onlyIfCached = true
	case "max-age":
		first(&d.maxAge, seconds(arg))
	case "s-maxage":
		first(&d.sMaxAge, seconds(arg))
	case "max-stale":
		if arg == "" {
			first(&d.maxStale, 1<<62)
		} else {
			first(&d.maxStale, seconds(arg))
		}
	case "min-fresh":
		first(&d.minFresh, seconds(arg))
	case "stale-while-revalidate":
		first(&d.staleWhile, seconds(arg))
	case "stale-if-error":
		first(&d.staleIfError, seconds(arg))
	}
}

// first sets what was not set: of several values of a directive the first counts (RFC 9111 §4.2.1).
func first(d *time.Duration, v time.Duration) {
	if *d < 0 {
		*d = v
	}
}

// seconds reads delta-seconds (RFC 9111 §1.2.2): what is too large is the largest, what is no number is stale at once.
func seconds(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		if e, ok := err.(*strconv.NumError); ok && e.Err == strconv.ErrRange {
			return (1<<31 - 1) * time.Second
		}
		return 0
	}
	return time.Duration(n) * time.Second
}

// splitList yields the elements of a list, commas in quoted strings apart.
func splitList(s string) func(func(string) bool) {
	return func(yield func(string) bool) {
		start, quoted := 0, false
		for i := 0; i <= len(s); i++ {
			switch {
			case i < len(s) && s[i] == '"':
				quoted = !quoted
			case i < len(s) && quoted && s[i] == '\\':
				i++
			case i == len(s) || s[i] == ',' && !quoted:
				if e := strings.TrimSpace(s[start:min(i, len(s))]); e != "" && !yield(e) {
					return
				}
				start = i + 1
			}
		}
	}
}

// understood are the statuses whose answers may be kept without a word from the server (RFC 9110 §15.1), of those that this cache
// keeps at all.
func understood(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// heuristicPart is the part of the time since Last-Modified for which an answer is taken for fresh when it does not say
// (RFC 9111 §4.2.2), heuristicMax the most.
const (
	heuristicPart = 10
	heuristicMax  = time.Hour
)

// lifetime is how long an answer is fresh (RFC 9111 §4.2.1); ok is false when nothing says so.
func lifetime(status int, h *http1.Header, d *directives, now time.Time) (time.Duration, bool) {
	switch {
	case d.sMaxAge >= 0:
		return d.sMaxAge, true
	case d.maxAge >= 0:
		return d.maxAge, true
	}
	date := httpTime(h.Get("Date"), now)
	if v := h.Get("Expires"); v != "" {
		t, err := parseTime(v)
		if err != nil {
			return 0, true // RFC 9111 §5.3: in the past
		}
		return max(0, t.Sub(date)), true
	}
	if modified, err := parseTime(h.Get("Last-Modified")); err == nil && (understood(status) || d.public) && modified.Before(date) {
		return min(date.Sub(modified)/heuristicPart, heuristicMax), true
	}
	return 0, false
}

func httpTime(v string, otherwise time.Time) time.Time {
	if t, err := parseTime(v); err == nil {
		return t
	}
	return otherwise
}

// mayStore reports whether a shared cache may keep an answer to a request (RFC 9111 §3).
func mayStore(q *http1.Request, status int, h *http1.Header, req, res *directives, ask bool) bool {
	switch {
	case dependsOnUs(h) || !codingAsked(q, h):
		return false
	case ask: // whoever gets it was let in by the origin, which knows it by its tag
		return q.Method == "GET" && status == 200 && !req.noStore && !res.noStore && !h.Has("Set-Cookie") && h.Has("ETag")
	case q.Method != "GET" || status < 200 || status == 206 || status == 304:
		return false
	case req.noStore || res.noStore || res.private:
		return false
	case q.Header.Has("Authorization") && !res.public && !res.mustRevalidate && res.sMaxAge < 0: // §3.5
		return false
	case h.Has("Set-Cookie"): // whoever sets a cookie speaks to one client
		return false
	}
	if !understood(status) && res.maxAge < 0 && res.sMaxAge < 0 && !h.Has("Expires") {
		return false
	}
	return true
}

// codingAsked reports whether the codings of an answer that varies by them are of those that the request is known to take. An origin that
// sends others, because it reads Accept-Encoding otherwise than variant does, would have them given to those who do not take them.
func codingAsked(q *http1.Request, h *http1.Header) bool {
	codings := h.Joined("Content-Encoding")
	if codings == "" {
		return true
	}
	for name := range splitList(h.Joined("Vary")) {
		if !strings.EqualFold(name, "Accept-Encoding") {
			continue
		}
		taken := strings.Fields(variant(name, &q.Header))
		for coding := range splitList(codings) {
			if coding = strings.ToLower(coding); coding != "identity" && !slices.Contains(taken, coding) {
				return false
			}
		}
	}
	return true
}

// dependsOnUs reports whether an answer varies by what cannot be told from the client's request: by everything, or by fields that say who
// the client is and that the balancer writes itself.
func dependsOnUs(h *http1.Header) bool {
	for name := range splitList(h.Joined("Vary")) {
		switch strings.ToLower(name) {
		case "*", "x-forwarded-for", "forwarded", "x-real-ip", "x-request-id":
			return true
		}
	}
	return false
}
