// Package ratelimit bounds how many requests a second each client may make: by the generic cell rate algorithm, which needs one
// number for each of them.
package ratelimit

import (
	"hash/maphash"
	"math"
	"net/netip"
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
	set     atomic.Pointer[limit]
	seed    maphash.Seed
	shard   [shards]shard
	refusal refusals
	Refused atomic.Int64 // requests
}

// limit is a limit in the form in which it is used.
type limit struct {
	balancer.RateLimit
	step int64 // ns that a request costs
	room int64 // ns that a client may be ahead
}

// most is more ns than anybody waits for; sums of two of them fit.
const most = 1 << 60

type shard struct {
	mu   sync.Mutex
	next map[string]int64 // Unix ns at which the client's bucket is full again
}

// New makes a limiter.
func New() *Limiter {
	l := &Limiter{seed: maphash.MakeSeed()}
	l.set.Store(&limit{})
	return l
}

// Update puts settings in force. Clients that are known stay so, but nobody waits for longer than the new limit would have made it.
func (l *Limiter) Update(set balancer.RateLimit) {
	n := &limit{RateLimit: set}
	if set.Rate > 0 {
		step := float64(time.Second) / set.Rate
		n.step = int64(min(step, most))
		n.room = int64(min(step*float64(set.Burst), most))
	}
	if old := l.set.Swap(n); old.Key != set.Key {
		l.refusal.clear()
	}
}

// Limit is the limit in force; its Rate is 0 when there is none.
func (l *Limiter) Limit() balancer.RateLimit { return l.set.Load().RateLimit }

// Serve has next answer a request that is within its client's limit, and answers others with 429.
func (l *Limiter) Serve(r *balancer.Request, next func(*balancer.Request)) {
	k, secret := key(r, l.set.Load().Key)
	if k == "" {
		next(r)
		return
	}
	wait := l.Allow(k, r.Began)
	if wait == 0 {
		next(r)
		return
	}
	l.Refused.Add(1)
	l.refusal.note(k, secret, r.Began)
	r.ErrorAfter(429, wait, "", "over rate_limit")
}

// Allow takes a request in; if it is over the limit, it says how long until one would not be.
func (l *Limiter) Allow(key string, now time.Time) (wait time.Duration) {
	set := l.set.Load()
	if set.Rate <= 0 {
		return 0
	}
	step, room := set.step, set.room
	s := &l.shard[maphash.String(l.seed, key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	at := now.UnixNano()
	full := min(max(s.next[key], at), at+room)
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

// looked is how many clients are looked at to make room for one: all of them would take long, and for each newcomer again.
const looked = 32

// forget makes room: of some that chance picks it drops those whose buckets are full, or if none is, the one whose bucket is first to be.
// s.mu is held.
func (s *shard) forget(at int64) {
	first, when := "", int64(math.MaxInt64)
	n := 0
	for k, full := range s.next {
		if full <= at {
			delete(s.next, k)
		} else if full < when {
			first, when = k, full
		}
		if n++; n == looked {
			break
		}
	}
	if len(s.next) >= perShard {
		delete(s.next, first)
	}
}

// key is what a client is known by, and whether that is the client's secret. One that does not bear the field or cookie is known by its
// address: else all of those would share one limit, and each of them could use it up for the others. For the same reason one that has no
// address, since it came over a unix socket and nobody who is trusted has named it, is not limited: its key is "".
func key(r *balancer.Request, by string) (key string, secret bool) {
	kind, name, _ := strings.Cut(by, ":")
	switch kind {
	case "host":
		return strings.ToLower(string(r.Host)), false
	case "header":
		if v := r.X.Request().Header.Get(name); v != "" {
			return "=" + v, true
		}
	case "cookie":
		if v, _ := balancer.Cookie(&r.X.Request().Header, name); v != "" {
			return "=" + v, true
		}
	}
	a := r.Observed.Unmap()
	if a == netip.IPv4Unspecified() {
		return "", false
	}
	if a.Is6() { // a customer has a network, not an address
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String(), false
		}
	}
	return a.String(), false
}
