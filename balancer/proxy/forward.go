package proxy

import (
	"bytes"
	"strings"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// render makes the request that goes to a backend.
func (c *call) render() {
	r, q, out := c.r, c.x.Request(), &c.out
	out.Method = q.Method
	out.Target = target(r)
	out.Host = string(r.Host)
	if r.Trusted {
		copyFields(&out.Header, &q.Header, nil)
	} else {
		copyFields(&out.Header, &q.Header, claim)
	}
	c.forwarded(&out.Header)
	if c.set.EnableReproxy {
		out.Header.Set("X-Proxy-Capabilities", "reproxy-file")
	}
	if r.ID != "" { // the log's own, whatever an untrusted client has sent
		out.Header.Set("X-Request-Id", r.ID)
	}
	c.body.attach(out, c.p.DebugUploads)
	out.Upgrade = c.upgrade
	r.Edit(&out.Header)
	if chain := r.Chain(); chain != nil {
		chain.Forward(r, out)
	}
	for _, name := range c.set.HeaderRemove {
		out.Header.Del(name)
	}
	for _, h := range c.set.HeaderInsert {
		if strings.EqualFold(h.Name, "Host") {
			out.Host = h.Value
			continue
		}
		out.Header.Set(h.Name, h.Value)
	}
}

// target is the request target for a backend: what came, unless a plugin has changed it. Absolute-form becomes origin-form.
func target(r *balancer.Request) string {
	q := r.X.Request()
	if len(q.Target) > 0 && q.Target[0] == '/' && same(r.Path, q.Path) && same(r.Query, q.Query) {
		return string(q.Target)
	}
	if len(r.Path) == 0 {
		return "/"
	}
	return r.URI()
}

// same reports whether two slices are one and the same.
func same(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// forwarded sets the fields that tell of the client; what an untrusted one has said of itself is not among them any more.
func (c *call) forwarded(h *http1.Header) {
	var room [64]byte
	switch {
	case !c.r.Trusted:
		h.SetBytes("X-Forwarded-For", c.r.Client.Addr().AppendTo(room[:0]))
	case c.set.BlindProxy:
	default:
		list := room[:0]
		if v := h.Joined("X-Forwarded-For"); v != "" {
			list = append(append(list, v...), ", "...)
		}
		h.SetBytes("X-Forwarded-For", c.r.Client.Addr().AppendTo(list))
	}
}

// claim reports whether a request field says of the client, or of how it came, what only a proxy in between can know. Applications
// believe such fields: https or not, which host and port to link to, where below the root they are. A field with '_' in the place of
// '-' is the same to the many that know fields as environment variables (RFC 3875 §4.1.18).
func claim(name []byte) bool {
	if n := len(forwardedPrefix); len(name) > n && isField(name[:n], forwardedPrefix) {
		return true
	}
	switch len(name) {
	case len("X-Host"):
		return isField(name, "x-host")
	case len("Forwarded"):
		return isField(name, "forwarded") || isField(name, "x-real-ip") // RFC 7239, and nginx's
	case len("Front-End-Https"):
		return isField(name, "front-end-https")
	case len("X-Proxy-Capabilities"): // an application that believed it would tell the client where its storages are
		return isField(name, "x-proxy-capabilities")
	}
	return false
}

// forwardedPrefix begins the names of -For, -Proto, -Port, -Host, -Server, -Prefix, -Ssl and whatever else there is.
const forwardedPrefix = "x-forwarded-"

// isField is the same as is, where '_' and '-' are one.
func isField(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		switch {
		case c >= 'A' && c <= 'Z':
			c |= 0x20
		case c == '_':
			c = '-'
		}
		if c != word[i] {
			return false
		}
	}
	return true
}

// copyFields copies the fields of a message that are for its recipient and not for the connection (RFC 9110 §7.6.1), without those that
// drop names; nil: none.
func copyFields(dst, src *http1.Header, drop func(name []byte) bool) {
	var named [][]byte // by Connection
	for name, value := range src.All() {
		if is(name, "connection") && !plainConnection(value) {
			named = append(named, value)
		}
	}
	dst.AddSome(src, func(name []byte) bool {
		return !hopByHop(name) && (named == nil || !nominated(named, name)) && (drop == nil || !drop(name))
	})
}

// plainConnection reports whether a Connection field names no other field.
func plainConnection(v []byte) bool {
	return len(v) == 0 || is(v, "close") || is(v, "keep-alive") || is(v, "upgrade")
}

func nominated(lists [][]byte, name []byte) bool {
	for _, list := range lists {
		for part := range bytes.SplitSeq(list, []byte{','}) {
			if bytes.EqualFold(bytes.TrimSpace(part), name) {
				return true
			}
		}
	}
	return false
}

// hopByHop reports whether a field speaks of the connection, or is the engine's own.
func hopByHop(name []byte) bool {
	switch len(name) {
	case len("TE"):
		return is(name, "te")
	case len("Host"):
		return is(name, "host")
	case len("Expect"):
		return is(name, "expect")
	case len("Trailer"):
		return is(name, "trailer") || is(name, "upgrade")
	case len("Connection"):
		return is(name, "connection") || is(name, "keep-alive")
	case len("Content-Length"):
		return is(name, "content-length")
	case len("Proxy-Connection"):
		return is(name, "proxy-connection")
	case len("Transfer-Encoding"):
		return is(name, "transfer-encoding")
	case len("Proxy-Authenticate"):
		return is(name, "proxy-authenticate")
	case len("Proxy-Authorization"):
		return is(name, "proxy-authorization")
	}
	return false
}

// is reports whether b is the word, which is in lower case, in any case.
func is(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != word[i] {
			return false
		}
	}
	return true
}
