package cache

import (
	"net/url"
	"strings"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// invalidating has an unsafe request answered, and forgets what it has changed (RFC 9111 §4.4): before the client is told, so that what it
// asks for next is new.
func (c *Cache) invalidating(r *balancer.Request, next func(*balancer.Request)) {
	x := &changing{Exchange: r.X, c: c, key: keyOf(r)}
	r.X = x
	next(r)
	r.X = x.Exchange
}

// changing is the exchange of a request that may change its resource.
type changing struct {
	http1.Exchange
	c   *Cache
	key string
}

// note forgets what an answer of some status says was changed: the request's resource, and others on the same host that the answer names.
func (x *changing) note(status int) {
	if status < 200 || status >= 400 || x.Started() {
		return
	}
	x.c.forget(x.key)
	for _, name := range [...]string{"Location", "Content-Location"} {
		if key := sameHost(x.key, x.Header().Get(name)); key != "" {
			x.c.forget(key)
		}
	}
}

// sameHost is the key of what a reference names, "" when it is of another host or none.
func sameHost(key, ref string) string {
	if ref == "" {
		return ""
	}
	base, err := url.Parse(key)
	if err != nil {
		return ""
	}
	u, err := base.Parse(ref)
	if err != nil || !strings.EqualFold(u.Host, base.Host) || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return u.Scheme + "://" + base.Host + u.RequestURI()
}

// Start implements http1.Exchange.
func (x *changing) Start(status int, size int64) error {
	x.note(status)
	return x.Exchange.Start(status, size)
}

// Reply implements http1.Exchange.
func (x *changing) Reply(status int, body []byte) error {
	x.note(status)
	return x.Exchange.Reply(status, body)
}

// Unwrap gives the exchange beneath, for http1.As.
func (x *changing) Unwrap() http1.Exchange { return x.Exchange }
