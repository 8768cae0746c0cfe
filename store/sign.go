package store

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The query parameters of a signed URL.
const (
	ParamKey       = "key"       // the access key's id
	ParamExpires   = "expires"   // seconds since 1970; the URL is worth nothing from then on
	ParamSignature = "signature" // hex of HMAC-SHA256(secret, method LF path LF expires)
)

// ErrSignature is a signed URL that is expired, altered, or signed with another secret.
var ErrSignature = errors.New("store: bad signature")

// SignPath returns the query that lets whoever has it make one kind of request for one path until expires. method is GET
// (which HEAD may use too) or PUT; path is as it stands in the URL, percent-encoded: see [ObjectPath].
func SignPath(key AccessKey, method, path string, expires time.Time) string {
	exp := strconv.FormatInt(expires.Unix(), 10)
	return ParamKey + "=" + url.QueryEscape(key.ID) + "&" + ParamExpires + "=" + exp + "&" +
		ParamSignature + "=" + signature(key.Secret, method, path, exp)
}

// CheckSignature verifies what [SignPath] made. HEAD is checked as GET. It returns ErrSignature, wrapped with what was
// wrong.
func CheckSignature(secret, method, path string, query url.Values, now time.Time) error {
	exp := query.Get(ParamExpires)
	seconds, err := strconv.ParseInt(exp, 10, 64)
	if err != nil || seconds < 0 {
		return &signatureError{"expires is not a number of seconds"}
	}
	if method == "HEAD" {
		method = "GET"
	}
	want := signature(secret, method, path, exp)
	if subtle.ConstantTimeCompare([]byte(want), []byte(query.Get(ParamSignature))) != 1 {
		return &signatureError{"the signature does not fit this method and path"}
	}
	if now.Unix() >= seconds {
		return &signatureError{"the URL has expired at " + time.Unix(seconds, 0).UTC().Format(time.RFC3339)}
	}
	return nil
}

type signatureError struct{ reason string }

func (e *signatureError) Error() string   { return ErrSignature.Error() + ": " + e.reason }
func (e *signatureError) Is(t error) bool { return t == ErrSignature }

func signature(secret, method, path, expires string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	for _, part := range []string{method, "\n", path, "\n", expires} {
		mac.Write([]byte(part))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// ObjectPath is the path of an object in a URL: /bucket/name, with everything percent-encoded that is not unreserved
// (RFC 3986 §2.3), and the slashes of the name kept. An empty name gives the bucket's path.
func ObjectPath(bucket, name string) string {
	var b strings.Builder
	b.WriteByte('/')
	escape(&b, bucket, false)
	if name != "" {
		b.WriteByte('/')
		escape(&b, name, true)
	}
	return b.String()
}

func escape(b *strings.Builder, s string, slashes bool) {
	const hexDigits = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~',
			c == '/' && slashes:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
}
