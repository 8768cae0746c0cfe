// Package ratelimit bounds how many requests a second each client may make: by the generic cell rate algorithm, which needs one
// number for each of them.
package ratelimit

import (
	"hash/maphash"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/balancer"
)

const (
	shards   = 64
	perShard = 4096 // clients that are remembered; beyond it, those that have been quiet are forgotten
)

// Limiter is a service's limits. It is safe for concurrent use.
type Limiter struct {
	set     atomic.Pointer[balancer.RateLimit]
	seed    maphash.Seed
	shard   [shards]shard
	Refused atomic.Int64
}

type shard struct {
	mu   sync.Mutex
	next map[string]int64 // Unix ns at which the client's bucket is full again
}

// New makes a limiter.
func New() *Limiter {
	l := &Limiter{seed: maphash.MakeSeed()}
	l.set.Store(&balancer.RateLimit{})
	return l
}

// Update puts settings in force.
func (l *Limiter) Update(set balancer.RateLimit) { l.set.Store(&set) }

// Serve has next answer a request that is within its client's limit, and answers others with 429.
func (l *Limiter) Serve(r *balancer.Request, next func(*balancer.Request)) {
	wait := l.Allow(key(r, l.set.Load().Key), r.Began)
	if wait == 0 {
		next(r)
		return
	}
	l.Refused.Add(1)
	r.ErrorAfter(429, wait, "", "over rate_limit")
}

// Allow takes a request in; if it is over the limit, it says how long until one would not be.
func (l *Limiter) Allow(key string, now time.Time) (wait time.Duration) {
	set := l.set.Load()
	if set.Rate <= 0 {
		return 0
	}
	step := int64(float64(time.Second) / set.Rate)
	room := step * int64(set.Burst)
	s := &l.shard[maphash.String(l.seed, key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	at := now.UnixNano()
	full := max(s.next[key], at)
	if full+step-at > room {
		return time.Duration(full + step - at - room)
	}
	if s.next == nil {
		s.next = make(map[string]int64)
	}
	if _, known := s.next[key]; !known && len(s.next) >= perShard {
		s.forget(at)
	}
	s.next[key] = full + step
	return 0
}

// forget drops those whose buckets are full; if none is, the one that will be first. s.mu is held.
func (s *shard) forget(at int64) {
	first, when := "", int64(math.MaxInt64)
	for k, full := range s.next {
		if full <= at {
			delete(s.next, k)
		} else if full < when {
			first, when = k, full
		}
	}
	if len(s.next) >= perShard {
		delete(s.next, first)
	}
}

// key is what a client is known by.
func key(r *balancer.Request, by string) string {
	kind, name, _ := strings.Cut(by, ":")
	switch kind {
	case "host":
		return string(r.Host)
	case "header":
		return r.X.Request().Header.Get(name)
	case "cookie":
		v, _ := balancer.Cookie(&r.X.Request().Header, name)
		return v
	}
	if a := r.Observed; a.Is6() { // a customer has a network, not an address
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return r.Observed.String()
}
