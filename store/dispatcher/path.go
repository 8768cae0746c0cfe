package dispatcher

import (
	"bytes"
	"fmt"
	"net/http"

	"wheelhouse/store"
)

// target is what a request's path names. The slices point into the request's buffer or into decoded copies; they are
// valid while the request is.
type target struct {
	bucket []byte
	name   []byte // empty: the bucket itself
}

// parsePath splits a raw path at its first slash into bucket and object name, and decodes both. The grammar is STF's:
// ^/([^/]+)(?:/(.+)$)?, so that /b and /b/ name the bucket and /b//o the object "/o".
func parsePath(raw []byte) (target, *failure) {
	if len(raw) == 0 || raw[0] != '/' {
		return target{}, failf(http.StatusBadRequest, "the path must begin with a slash")
	}
	bucket, name, _ := bytes.Cut(raw[1:], []byte{'/'})
	var t target
	var f *failure
	if t.bucket, f = unescape(bucket); f != nil {
		return target{}, f
	}
	if t.name, f = unescape(name); f != nil {
		return target{}, f
	}
	return t, nil
}

// checkNames enforces the limits on names that are to be created or looked up.
func (t *target) check() *failure {
	switch {
	case len(t.bucket) == 0:
		return failf(http.StatusBadRequest, "the path names no bucket")
	case len(t.bucket) > store.MaxBucketName:
		return failf(http.StatusBadRequest, "the bucket name is %d bytes long; at most %d are allowed", len(t.bucket), store.MaxBucketName)
	case bytes.IndexByte(t.bucket, '/') >= 0:
		return failf(http.StatusBadRequest, "the bucket name contains a slash")
	case string(t.bucket) == "." || string(t.bucket) == "..":
		return failf(http.StatusBadRequest, "the bucket name %q means another path to HTTP clients", t.bucket)
	case len(t.name) > store.MaxObjectName:
		return failf(http.StatusBadRequest, "the object name is %d bytes long; at most %d are allowed", len(t.name), store.MaxObjectName)
	case bytes.IndexByte(t.bucket, 0) >= 0 || bytes.IndexByte(t.name, 0) >= 0:
		return failf(http.StatusBadRequest, "the name contains a NUL byte")
	}
	return nil
}

func (t *target) String() string { return store.ObjectPath(string(t.bucket), string(t.name)) }

// unescape decodes percent-encoding (RFC 3986 §2.1). It returns b itself when there is nothing to decode.
func unescape(b []byte) ([]byte, *failure) {
	i := bytes.IndexByte(b, '%')
	if i < 0 {
		return b, nil
	}
	out := append(make([]byte, 0, len(b)), b[:i]...)
	for ; i < len(b); i++ {
		if b[i] != '%' {
			out = append(out, b[i])
			continue
		}
		if i+2 >= len(b) || unhex(b[i+1]) < 0 || unhex(b[i+2]) < 0 {
			return nil, failf(http.StatusBadRequest, "the path has a bad percent-encoding at byte %d: %s", i, quoteSome(b[i:]))
		}
		out = append(out, byte(unhex(b[i+1])<<4|unhex(b[i+2])))
		i += 2
	}
	return out, nil
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// quoteSome quotes the beginning of untrusted bytes for an error text.
func quoteSome(b []byte) string {
	const most = 40
	if len(b) > most {
		return fmt.Sprintf("%q…", b[:most])
	}
	return fmt.Sprintf("%q", b)
}
