package compress

import (
	"strings"

	"wheelhouse/balancer"
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
		strong, weak = lists(x.r.Fields().Joined("If-None-Match"), tag) // as it went to the origin
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

// lists reports whether a list of entity tags has a strong one as it is, and whether it has its weak form.
func lists(list, tag string) (strong, weak bool) {
	for candidate, isWeak := range balancer.EntityTags(list) {
		if candidate == tag {
			strong, weak = strong || !isWeak, weak || isWeak
		}
	}
	return strong, weak
}
