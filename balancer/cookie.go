package balancer

import (
	"net/url"
	"strings"

	"wheelhouse/internal/http1"
)

// Cookie is the value of a cookie, decoded.
func Cookie(h *http1.Header, name string) (string, bool) {
	for _, field := range h.Values("Cookie") {
		for part := range strings.SplitSeq(field, ";") {
			n, v, _ := strings.Cut(strings.TrimSpace(part), "=")
			if unescape(n) == name {
				return unescape(v), true
			}
		}
	}
	return "", false
}

func unescape(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}
