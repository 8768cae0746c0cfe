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
	mu    sync.Mutex // guards all below
	slots map[*slot]struct{}
	empty chan struct{} // closed when slots becomes empty; nil: nobody waits
}

// slot is what the console shows of a request.
type slot struct {
	Began    time.Time
	r        *balancer.Request
	observed netip.Addr
	q        *http1.Request // as it came: r.X may be put behind another exchange
}

var slotPool = sync.Pool{New: func() any { return new(slot) }}

func (f *inFlight) enter(r *balancer.Request) *slot {
	s := slotPool.Get().(*slot)
	s.Began, s.r, s.q = r.Began, r, r.X.Request()
	s.observed = netip.Addr{}
	if r.Trusted && r.Observed != r.Client.Addr() {
		s.observed = r.Observed
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.slots == nil {
		f.slots = map[*slot]struct{}{}
	}
	f.slots[s] = struct{}{}
	return s
}

func (f *inFlight) leave(s *slot) {
	f.mu.Lock()
	delete(f.slots, s)
	if len(f.slots) == 0 && f.empty != nil {
		close(f.empty)
		f.empty = nil
	}
	f.mu.Unlock()
	s.r, s.q = nil, nil
	slotPool.Put(s)
}

// wait waits until no request is under way.
func (f *inFlight) wait(ctx context.Context) {
	for {
		f.mu.Lock()
		if len(f.slots) == 0 {
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
	list := make([]Live, 0, len(s.live.slots))
	for sl := range s.live.slots {
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
