package compress

import (
	"strings"

	"wheelhouse/internal/http1"
)

// notModified gives a 304 the ETag and Vary that the 200 would have had (RFC 9110 §15.4.5). Its origin says little of what the 200 would
// have been, most often not even the type; but a client that names the weak form of a strong tag was given that here, with what was
// compressed. Of what can be neither known nor told from that, nothing is changed.
func (x *exchange) notModified(h *http1.Header) {
	if untouchable(h) || h.Has("Content-Type") && !x.compressible(h) {
		return
	}
	tag := h.Get("ETag")
	plain := !strings.HasPrefix(tag, "W/") && tag != ""
	strong, weak := false, false
	if plain {
		strong, weak = lists(x.asked(), tag)
	}
	if !weak && !h.Has("Content-Type") {
		return
	}
	if !varies(h) {
		h.Add("Vary", "Accept-Encoding")
	}
	// One that names the strong tag alone holds what was not compressed, for being short perhaps: it must be able to tell.
	if plain && x.coding != "" && (weak || !strong) {
		h.Set("ETag", "W/"+tag)
	}
}

// asked is the If-None-Match of the request as it went to the origin: the cache in front has conditions of its own.
func (x *exchange) asked() string {
	v := x.Request().Header.Joined("If-None-Match")
	for _, e := range x.r.Edits {
		switch {
		case !strings.EqualFold(e.Name, "If-None-Match"):
		case e.Remove:
			v = ""
		default:
			v = e.Value
		}
	}
	return v
}

// lists reports whether a list of entity tags (RFC 9110 §13.1.2) has a strong one as it is, and whether it has its weak form.
func lists(list, tag string) (strong, weak bool) {
	for list = strings.TrimLeft(list, " \t,"); list != ""; list = strings.TrimLeft(list, " \t,") {
		candidate, isWeak := strings.CutPrefix(list, "W/")
		if candidate == "" || candidate[0] != '"' {
			return strong, weak
		}
		end := strings.IndexByte(candidate[1:], '"')
		if end < 0 {
			return strong, weak
		}
		if candidate[:end+2] == tag {
			strong, weak = strong || !isWeak, weak || isWeak
		}
		list = candidate[end+2:]
	}
	return strong, weak
}
