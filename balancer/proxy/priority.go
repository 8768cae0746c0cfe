package proxy

import (
	"strings"

	"wheelhouse/balancer"
)

// prioritize puts the request into a queue: the cookie decides where one is configured, else the plugins.
func (c *call) prioritize() {
	r, set := c.r, c.set
	if set.HighPriorityCookie != "" {
		v, ok := balancer.Cookie(&c.x.Request().Header, set.HighPriorityCookie)
		if ok && strings.Contains(v, set.HighPriorityCookieContents) {
			r.Priority = balancer.High
			return
		}
	}
	if chain := r.Chain(); chain != nil {
		if p, ok := chain.Prioritize(r); ok && r.Priority != balancer.High {
			r.Priority = p
		}
	}
}

// hashKey is what a pool that goes by a key goes by.
func (c *call) hashKey() string {
	pool := c.p.Pool()
	if pool == nil || pool.Settings().Method != balancer.ConsistentHash {
		return ""
	}
	kind, name, _ := strings.Cut(pool.Settings().HashKey, ":")
	switch kind {
	case "path":
		return string(c.r.Path)
	case "ip":
		return c.r.Observed.String()
	case "header":
		return c.x.Request().Header.Get(name)
	case "cookie":
		v, _ := balancer.Cookie(&c.x.Request().Header, name)
		return v
	}
	return c.r.URI()
}
