package balancerd

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// inFlight are a service's requests under way, for those who look and those who wait.
type inFlight struct {
	mu    sync.Mutex // guards all below, and the slots' links
	first *slot
	empty chan struct{} // closed when none is left; nil: nobody waits
}

// slot is what the console shows of a request.
type slot struct {
	Began    time.Time
	r        *balancer.Request
	observed netip.Addr
	q        *http1.Request // as it came: r.X may be put behind another exchange

	next, prev *slot
}

// enter takes a request in. s is its own until it leaves.
func (f *inFlight) enter(s *slot, r *balancer.Request) {
	*s = slot{Began: r.Began, r: r, q: r.X.Request()}
	if r.Trusted && r.Observed != r.Client.Addr() {
		s.observed = r.Observed
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.next = f.first; s.next != nil {
		s.next.prev = s
	}
	f.first = s
}

func (f *inFlight) leave(s *slot) {
	f.mu.Lock()
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		f.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	if f.first == nil && f.empty != nil {
		close(f.empty)
		f.empty = nil
	}
	f.mu.Unlock()
	*s = slot{}
}

// wait waits until no request is under way.
func (f *inFlight) wait(ctx context.Context) {
	for {
		f.mu.Lock()
		if f.first == nil {
			f.mu.Unlock()
			return
		}
		if f.empty == nil {
			f.empty = make(chan struct{})
		}
		empty := f.empty
		f.mu.Unlock()
		select {
		case <-empty:
		case <-ctx.Done():
			return
		}
	}
}

// Live is a request under way.
type Live struct {
	Client, Method, Host, URI string
	Age                       time.Duration
	Phase                     balancer.Phase
	Backend                   string // that has it, or had it last
	Priority                  balancer.Priority
	Observed                  string // whom a trusted upstream reports as the client, "" where it is the client itself
}

// Live are the requests under way.
func (s *Service) Live() []Live {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	now := time.Now()
	var list []Live
	for sl := s.live.first; sl != nil; sl = sl.next {
		q := sl.q // leave takes the lock, so the exchange is still there
		l := Live{Client: sl.r.Client.String(), Method: q.Method, Host: string(q.Host), URI: string(q.Target), Age: now.Sub(sl.Began)}
		if sl.observed.IsValid() {
			l.Observed = sl.observed.String()
		}
		l.Phase, l.Backend, l.Priority = sl.r.Watch.See()
		list = append(list, l)
	}
	return list
}
