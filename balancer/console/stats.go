package console

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/backend"
	"wheelhouse/balancer/balancerd"
)

// Stats counts the requests of each service, for the status page and metrics. It is safe for concurrent use.
type Stats struct {
	services atomic.Pointer[map[string]*ServiceStats] // by name; replaced, never changed

	mu      sync.Mutex // guards samples, and the replacing of services
	samples []sample   // the older first
}

// ServiceStats are a service's counters.
type ServiceStats struct {
	Classes  [6]atomic.Int64 // answers by the first digit of their status; 0: none was sent whole
	Sent     atomic.Int64    // bytes of bodies
	Retried  atomic.Int64    // further attempts at backends
	Duration backend.Histogram
	Queued   backend.Histogram // of requests for which a backend was asked
}

// NewStats makes an empty one.
func NewStats() *Stats {
	s := &Stats{}
	s.services.Store(&map[string]*ServiceStats{})
	return s
}

// Finished counts a request at its end. It is what balancerd.Options.Finished wants.
func (s *Stats) Finished(r *balancer.Request) {
	v := s.Service(r.Service.Name())
	v.Classes[classOf(r.Status)].Add(1)
	if r.Sent > 0 {
		v.Sent.Add(r.Sent)
	}
	if r.Attempts > 1 {
		v.Retried.Add(int64(r.Attempts - 1))
	}
	if r.Attempts > 0 {
		v.Queued.Observe(r.Queued)
	}
	if r.Status != 101 { // an upgraded connection lasts as long as people like
		v.Duration.Observe(time.Since(r.Began))
	}
}

func classOf(status int) int {
	if status < 100 || status > 599 {
		return 0
	}
	return status / 100
}

// Service is a service's counters.
func (s *Stats) Service(name string) *ServiceStats {
	if v := (*s.services.Load())[name]; v != nil {
		return v
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := maps.Clone(*s.services.Load())
	v := m[name]
	if v == nil {
		v = &ServiceStats{}
		m[name] = v
		s.services.Store(&m)
	}
	return v
}

// Prune forgets services that there are no more.
func (s *Stats) Prune(b *balancerd.Balancer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := maps.Clone(*s.services.Load())
	maps.DeleteFunc(m, func(name string, _ *ServiceStats) bool { return b.Service(name) == nil })
	s.services.Store(&m)
}

const (
	sampleEvery = time.Second
	// window is over how long rates and percentiles are taken, where somebody has looked that long ago.
	window = 10 * time.Second
)

// sample is what had been counted at a time.
type sample struct {
	at       time.Time
	services map[string]serviceSample
	nodes    map[string]nodeSample // by pool and address
}

type serviceSample struct {
	requests, errors, sent int64
	took                   backend.Counts
}

type nodeSample struct {
	requests, errors int64
	took             backend.Counts
}

// look counts, and returns what was counted now and about a window ago. Nothing is counted while nobody looks: the first look shows
// everything since the start, a later one everything since the one before it, if that is longer ago than the window.
func (s *Stats) look(b *balancerd.Balancer) (base, now sample) {
	s.Prune(b)
	now = sample{time.Now(), map[string]serviceSample{}, map[string]nodeSample{}}
	for _, svc := range b.Services() {
		v := s.Service(svc.Name())
		now.services[svc.Name()] = serviceSample{svc.Requests.Load(), v.Classes[5].Load(), v.Sent.Load(), v.Duration.Counts()}
	}
	for _, p := range b.Pools() {
		for _, n := range p.Nodes() {
			now.nodes[p.Name()+" "+n.Addr] = nodeSample{n.Requests.Load(), n.Errors.Load(), n.Latency.Counts()}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.samples) == 0 {
		s.samples = []sample{{at: b.Started()}}
	}
	for len(s.samples) > 1 && now.at.Sub(s.samples[1].at) >= window {
		s.samples = s.samples[1:]
	}
	base = s.samples[0]
	if now.at.Sub(s.samples[len(s.samples)-1].at) >= sampleEvery {
		s.samples = append(s.samples, now)
	}
	return base, now
}
