package web

import (
	"bytes"
	"errors"
	"strings"
)

var (
	errBogus = errors.New("a path that leads upwards, or is none")
	errNUL   = errors.New("a NUL in the path")
)

// Clean decodes the path of a request: percent-encoding, "." and empty segments go, a slash at the end stays. The result begins
// with a slash. "%2F" is a slash like any other, and is seen as one before segments are looked at; '+' is no space, as it was to
// Perlbal. ".." anywhere, and what does not begin with a slash, is errBogus.
func Clean(raw []byte) (string, error) {
	if len(raw) == 0 || raw[0] != '/' {
		return "", errBogus
	}
	if bytes.IndexByte(raw, '%') < 0 && bytes.IndexByte(raw, 0) < 0 && !bytes.Contains(raw, []byte("//")) && !bytes.Contains(raw, []byte("/.")) {
		return string(raw), nil
	}
	path, err := decode(raw)
	if err != nil {
		return "", err
	}
	return clean(path)
}

// clean does the same to a path that is decoded.
func clean(path string) (string, error) {
	if path == "" || path[0] != '/' {
		return "", errBogus
	}
	var b strings.Builder
	b.Grow(len(path))
	dir := false
	for seg := range strings.SplitSeq(path[1:], "/") {
		switch seg {
		case "..":
			return "", errBogus
		case "", ".":
			dir = true
		default:
			dir = false
			b.WriteByte('/')
			b.WriteString(seg)
		}
	}
	if dir {
		b.WriteByte('/')
	}
	return b.String(), nil
}

// decode undoes percent-encoding. A '%' that begins none stands for itself.
func decode(raw []byte) (string, error) {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '%' && i+2 < len(raw) {
			if hi, lo := unhex(raw[i+1]), unhex(raw[i+2]); hi >= 0 && lo >= 0 {
				c = byte(hi<<4 | lo)
				i += 2
			}
		}
		if c == 0 {
			return "", errNUL
		}
		out = append(out, c)
	}
	return string(out), nil
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// local is a cleaned path as a name below a root.
func local(path string) string {
	name := strings.Trim(path, "/")
	if name == "" {
		return "."
	}
	return name
}

// encode percent-encodes a name for a URL: all but the unreserved characters (RFC 3986 §2.3) and the slash.
func encode(name string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}
