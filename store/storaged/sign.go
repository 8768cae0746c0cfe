package storaged

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"wheelhouse/internal/http1"
)

// Secret authenticates the parts of one installation to each other. An empty one authenticates nobody.
type Secret []byte

// MinSecret is the least length of a secret, in bytes.
const MinSecret = 16

const (
	scheme    = "WHEELHOUSE-HMAC-SHA256 "
	clockSkew = 5 * time.Minute // how far apart two machines' clocks may be
)

// Authorization is the header that lets a request pass: the scheme, the time, and HMAC-SHA256(secret, method LF target LF
// time). target is path and query as sent.
func (s Secret) Authorization(method, target string, now time.Time) string {
	t := strconv.FormatInt(now.Unix(), 10)
	return scheme + t + ":" + s.mac(method, target, t)
}

// SignURL returns the query that lets whoever has the URL read its path until expires.
func (s Secret) SignURL(path string, expires time.Time) string {
	e := strconv.FormatInt(expires.Unix(), 10)
	return "e=" + e + "&s=" + s.mac("GET", path, e)
}

func (s Secret) mac(parts ...string) string {
	m := hmac.New(sha256.New, s)
	m.Write([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(m.Sum(nil))
}

var (
	errUnsigned = errors.New("the request carries no signature")
	errForged   = errors.New("the signature does not fit the request, or is of another secret")
)

// check verifies a request's header or query.
func (s Secret) check(r *http1.Request, now time.Time) error {
	if auth := r.Header.Get("Authorization"); strings.HasPrefix(auth, scheme) {
		t, sum, _ := strings.Cut(auth[len(scheme):], ":")
		seconds, err := strconv.ParseInt(t, 10, 64)
		if err != nil || !equal(sum, s.mac(r.Method, string(r.Target), t)) {
			return errForged
		}
		if d := now.Sub(time.Unix(seconds, 0)).Abs(); d > clockSkew {
			return skewError(d)
		}
		return nil
	}
	if r.Query == nil || r.Method != "GET" && r.Method != "HEAD" {
		return errUnsigned
	}
	q, err := url.ParseQuery(string(r.Query))
	if err != nil || q.Get("s") == "" {
		return errUnsigned
	}
	seconds, err := strconv.ParseInt(q.Get("e"), 10, 64)
	if err != nil || !equal(q.Get("s"), s.mac("GET", string(r.Path), q.Get("e"))) {
		return errForged
	}
	if now.Unix() >= seconds {
		return errors.New("the URL has expired")
	}
	return nil
}

// skewError says that a request bears a good signature of another time.
type skewError time.Duration

func (e skewError) Error() string {
	return fmt.Sprintf("the request was signed %v away from this machine's time; at most %v are allowed: check the clocks",
		time.Duration(e).Round(time.Second), clockSkew)
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
