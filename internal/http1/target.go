package http1

import "bytes"

var (
	slash    = []byte("/")
	asterisk = []byte("*")
)

// splitTarget checks the request target and splits it (RFC 9112 §3.2).
func (r *Request) splitTarget() error {
	t := r.Target
	if !all(t, inTarget) {
		if bytes.IndexByte(t, '\r') >= 0 {
			return errBareCR
		}
		if bytes.IndexByte(t, '#') >= 0 {
			return errFragment
		}
		return errTarget
	}
	switch {
	case r.Method == "CONNECT": // authority-form, §3.2.3
		i := bytes.LastIndexByte(t, ':')
		if !validAuthority(t) || i <= 0 || i == len(t)-1 || t[i-1] == ':' {
			return errTargetForm
		}
		r.Host = t
		return nil
	case t[0] == '/': // origin-form, §3.2.1
		return r.splitQuery(t)
	case len(t) == 1 && t[0] == '*': // asterisk-form, §3.2.4
		if r.Method != "OPTIONS" {
			return errTargetForm
		}
		r.Path = t
		return nil
	}
	return r.splitAbsolute(t)
}

// splitQuery takes path and query apart. A broken percent-encoding in the path is refused here, where it is seen first: what
// each later party made of it would differ.
func (r *Request) splitQuery(t []byte) error {
	r.Path = t
	if i := bytes.IndexByte(t, '?'); i >= 0 {
		r.Path, r.Query = t[:i:i], t[i+1:]
	}
	for p := r.Path; ; {
		i := bytes.IndexByte(p, '%')
		if i < 0 {
			return nil
		}
		if i+2 >= len(p) || unhex(p[i+1]) < 0 || unhex(p[i+2]) < 0 {
			return errTargetPct
		}
		p = p[i+3:]
	}
}

// splitAbsolute splits absolute-form (RFC 9112 §3.2.2) of the schemes that this engine can be asked for.
func (r *Request) splitAbsolute(t []byte) error {
	rest, ok := cutFold(t, "http://")
	if !ok {
		if rest, ok = cutFold(t, "https://"); !ok {
			return errTargetForm
		}
	}
	end := len(rest)
	if i := bytes.IndexAny(rest, "/?"); i >= 0 {
		end = i
	}
	r.Host = rest[:end:end]
	if end == 0 || !validAuthority(r.Host) { // RFC 9110 §4.2.1: an empty host is invalid; §4.2.4: so is userinfo
		return errTargetHost
	}
	switch rest = rest[end:]; {
	case len(rest) == 0 && r.Method == "OPTIONS":
		r.Path = asterisk // RFC 9112 §3.2.4, last paragraph
	case len(rest) == 0:
		r.Path = slash
	case rest[0] == '?':
		r.Path, r.Query = slash, rest[1:]
	default:
		return r.splitQuery(rest)
	}
	return nil
}

func cutFold(b []byte, prefix string) ([]byte, bool) {
	if len(b) < len(prefix) || !foldEqual(b[:len(prefix)], prefix) {
		return b, false
	}
	return b[len(prefix):], true
}

// validAuthority reports whether b is uri-host [ ":" port ] (RFC 9110 §7.2, RFC 3986 §3.2.2). What is inside the brackets
// of an IP literal is only checked for its alphabet.
func validAuthority[T string | []byte](b T) bool {
	i := 0
	if len(b) > 0 && b[0] == '[' {
		for i = 1; i < len(b) && b[i] != ']'; i++ {
			if class[b[i]]&inHost == 0 && b[i] != ':' {
				return false
			}
		}
		if i == len(b) || i == 1 {
			return false
		}
		i++
	} else {
		for i < len(b) && class[b[i]]&inHost != 0 {
			i++
		}
		if i == 0 {
			return false
		}
	}
	if i == len(b) {
		return true
	}
	if b[i] != ':' || len(b)-i > len(":65535") {
		return false
	}
	for i++; i < len(b); i++ {
		if !digit(b[i]) {
			return false
		}
	}
	return true
}
