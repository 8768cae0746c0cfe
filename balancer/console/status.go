package console

import (
	"cmp"
	"fmt"
	"runtime"
	"strings"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/backend"
	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/config"
)

// Status is what the page shows, and /status.json. Times are in ms unless they say otherwise.
type Status struct {
	Version     string          `json:"version"`
	Host        string          `json:"host"`
	Now         int64           `json:"now"`     // Unix seconds
	Started     int64           `json:"started"` // Unix seconds
	Uptime      string          `json:"uptime"`
	Window      float64         `json:"window_seconds"` // over which rates and percentiles are taken
	Requests    int64           `json:"requests"`
	Memory      uint64          `json:"memory_bytes"`
	Goroutines  int             `json:"goroutines"`
	Trouble     []string        `json:"trouble"`
	Services    []ServiceStatus `json:"services"`
	Pools       []PoolStatus    `json:"pools"`
	Perlbal     string          `json:"-"`
	ScriptNonce string          `json:"-"`
}

// ServiceStatus is one service.
type ServiceStatus struct {
	Name      string       `json:"name"`
	Role      string       `json:"role"`
	Listen    string       `json:"listen"`
	Enabled   bool         `json:"enabled"`
	Pool      string       `json:"pool,omitempty"`
	Requests  int64        `json:"requests"`
	Rate      float64      `json:"requests_per_second"`
	Errors    int64        `json:"errors"` // answers of 500 and above
	ErrorRate float64      `json:"errors_per_second"`
	SentRate  float64      `json:"sent_bytes_per_second"`
	Latency   Percentiles  `json:"latency"`
	Clients   int          `json:"clients"`
	Live      int          `json:"live"`
	Queues    []QueueState `json:"queues,omitempty"`
	Idle      int          `json:"idle_backend_connections"`
	Pending   int          `json:"pending_backend_connections"`
	Backends  int          `json:"backend_connections"`
	Refused   int64        `json:"rate_limited"`
	Limit     *LimitState  `json:"rate_limit,omitempty"`
	Cache     *CacheState  `json:"cache,omitempty"`
	Uploads   *UploadState `json:"uploads,omitempty"`
}

// Percentiles are upper bounds in ms.
type Percentiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// QueueState is one queue for backends.
type QueueState struct {
	Name   string  `json:"name"`
	Count  int     `json:"count"`
	Oldest float64 `json:"oldest"`
}

// CacheState is a service's cache.
type CacheState struct {
	Entries int     `json:"entries"`
	Bytes   int64   `json:"bytes"`
	Hits    int64   `json:"hits"`
	Misses  int64   `json:"misses"`
	Ratio   float64 `json:"hit_percent"`
}

// UploadState is what a service's uploads take on disk.
type UploadState struct {
	Files   int64 `json:"files"`
	Bytes   int64 `json:"bytes"`
	Limit   int64 `json:"limit"`   // buffer_uploads_total_size, 0: none
	Refused int64 `json:"refused"` // uploads, ever
}

// LimitState is a service's rate limit.
type LimitState struct {
	Limit   string          `json:"limit"`   // as it is configured
	Clients int             `json:"clients"` // that are known to it
	Refused int64           `json:"refused"` // requests, ever
	Now     int             `json:"limited"` // clients that were refused within the last minutes
	Top     []LimitedClient `json:"top"`     // of those the ones that were refused most often
}

// LimitedClient is one that was refused.
type LimitedClient struct {
	Client string `json:"client"`
	Count  int64  `json:"count"`
	Last   int64  `json:"last"` // Unix seconds
}

// limitedFor is for how long a client that was refused is shown, limitedTop how many are.
const (
	limitedFor = 5 * time.Minute
	limitedTop = 10
)

// PoolStatus is one pool.
type PoolStatus struct {
	Name    string        `json:"name"`
	Method  string        `json:"method"`
	Circuit *CircuitState `json:"circuit,omitempty"`
	Limits  []PoolLimit   `json:"limits"` // those that are set
	Nodes   []NodeStatus  `json:"nodes"`
}

// CircuitState is a pool's circuit breaker.
type CircuitState struct {
	State   string `json:"state"` // closed, open, half-open
	Opened  int64  `json:"opened"`
	Refused int64  `json:"refused"`
	Failure string `json:"failure,omitempty"`
}

// PoolLimit is one of a pool's limits.
type PoolLimit struct {
	Name    string `json:"name"`
	Used    int64  `json:"used"`
	Limit   int    `json:"limit"`
	Refused int64  `json:"refused"`
}

// NodeStatus is one backend.
type NodeStatus struct {
	Addr      string      `json:"addr"`
	Name      string      `json:"name,omitempty"`
	State     string      `json:"state"`
	Error     string      `json:"error,omitempty"`
	Weight    int         `json:"weight"`
	Active    int64       `json:"active"`
	Conns     int64       `json:"connections"`
	Requests  int64       `json:"requests"`
	Rate      float64     `json:"requests_per_second"`
	Errors    int64       `json:"errors"`
	ErrorRate float64     `json:"errors_per_second"`
	Latency   Percentiles `json:"latency"`
	LastReply int64       `json:"last_reply,omitempty"` // Unix seconds
}

// Status is how the balancer does.
func (c *Console) Status(b *balancerd.Balancer) *Status {
	base, now := c.stats.look(b)
	span := max(now.at.Sub(base.at).Seconds(), 0.001)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	st := &Status{
		Version: c.o.Version, Now: now.at.Unix(), Started: b.Started().Unix(), Uptime: now.at.Sub(b.Started()).Truncate(time.Second).String(),
		Window: span, Requests: b.Requests(), Memory: mem.HeapAlloc, Goroutines: runtime.NumGoroutine(), Perlbal: perlbalVersion,
		Trouble: []string{}, Services: []ServiceStatus{}, Pools: []PoolStatus{},
	}
	for _, s := range b.Services() {
		v := serviceStatus(s, base.services[s.Name()], now.services[s.Name()], span)
		st.Services = append(st.Services, v)
		if v.ErrorRate > 0 {
			st.Trouble = append(st.Trouble, "service "+v.Name+" answers with errors")
		}
	}
	for _, p := range b.Pools() {
		v := poolStatus(p, base.nodes, now, span)
		st.Pools = append(st.Pools, v)
		down := []string{}
		for _, n := range v.Nodes {
			if n.State != "up" {
				down = append(down, n.Addr+" "+n.State)
			}
		}
		if v.Circuit != nil && v.Circuit.State != "closed" {
			st.Trouble = append(st.Trouble, "the circuit of pool "+v.Name+" is "+v.Circuit.State+": "+v.Circuit.Failure)
		}
		if names := p.Unresolved(); len(names) > 0 {
			st.Trouble = append(st.Trouble, "pool "+v.Name+": names cannot be resolved, what was known of them stays: "+strings.Join(names, "; "))
		}
		switch {
		case len(v.Nodes) == 0 && p.Local() == "":
			st.Trouble = append(st.Trouble, "pool "+v.Name+" has no nodes")
		case len(down) > 0:
			st.Trouble = append(st.Trouble, "pool "+v.Name+": "+strings.Join(down, ", "))
		}
	}
	return st
}

func percentiles(c backend.Counts) Percentiles {
	ms := func(q float64) float64 { return float64(c.Quantile(q)) / float64(time.Millisecond) }
	return Percentiles{ms(0.5), ms(0.95), ms(0.99)}
}

func serviceStatus(s *balancerd.Service, base, now serviceSample, span float64) ServiceStatus {
	set := s.Settings()
	v := ServiceStatus{
		Name: s.Name(), Role: set.Role, Listen: cmp.Or(listening(s), "–"), Enabled: s.Config().Enabled, Pool: set.Pool,
		Requests: now.requests, Rate: float64(now.requests-base.requests) / span, Errors: now.errors,
		ErrorRate: float64(now.errors-base.errors) / span, SentRate: float64(now.sent-base.sent) / span,
		Latency: percentiles(now.took.Sub(base.took)), Clients: len(s.Conns()), Live: len(s.Live()), Refused: s.Limiter().Refused.Load(),
	}
	if set.Role == config.ReverseProxy {
		for p, name := range map[balancer.Priority]string{balancer.High: "high", balancer.Normal: "normal", balancer.Low: "low"} {
			n, oldest := s.Queues(p)
			if v.Queues == nil {
				v.Queues = make([]QueueState, 3)
			}
			v.Queues[p] = QueueState{name, n, float64(oldest) / float64(time.Millisecond)}
		}
		v.Idle, v.Pending, v.Backends = s.Queue().Idle(), len(s.Queue().Pending()), len(s.Queue().Conns())
	}
	if set.BufferUploads {
		st := s.Proxy().Spooled()
		v.Uploads = &UploadState{st.Files, st.Bytes, set.BufferUploadsTotal, st.Refused}
	}
	v.Limit = limitState(s, time.Now())
	if set.Cache.Enabled {
		c := s.Cache()
		st := c.Stats()
		k := &CacheState{Entries: st.Entries + st.DiskEntries, Bytes: st.Bytes + st.DiskBytes, Hits: c.Hits.Load(), Misses: c.Misses.Load()}
		if sum := k.Hits + k.Misses; sum > 0 {
			k.Ratio = 100 * float64(k.Hits) / float64(sum)
		}
		v.Cache = k
	}
	return v
}

func poolLimits(p *backend.Pool, st backend.CircuitStatus) []PoolLimit {
	set := p.Settings()
	return []PoolLimit{
		{backend.LimitRequests, st.Active, set.MaxRequests, st.Refused[backend.LimitRequests]},
		{backend.LimitPending, st.Pending, set.MaxPending, st.Refused[backend.LimitPending]},
		{backend.LimitRetries, st.Retrying, set.MaxRetries, st.Refused[backend.LimitRetries]},
	}
}

// limitState is a service's rate limit; nil when it has none.
func limitState(s *balancerd.Service, now time.Time) *LimitState {
	l := s.Limiter()
	set := l.Limit()
	if set.Rate <= 0 {
		return nil
	}
	st := &LimitState{Limit: fmt.Sprintf("%g burst=%d key=%s", set.Rate, set.Burst, set.Key), Refused: l.Refused.Load(), Top: []LimitedClient{}}
	since := now.Add(-limitedFor)
	st.Clients, st.Now = l.Clients(since)
	for _, r := range l.Refusals(since, limitedTop) {
		st.Top = append(st.Top, LimitedClient{r.Client, r.Count, r.Last.Unix()})
	}
	return st
}

func poolStatus(p *backend.Pool, base map[string]nodeSample, now sample, span float64) PoolStatus {
	v := PoolStatus{Name: p.Name(), Method: p.Settings().Method.String(), Nodes: []NodeStatus{}, Limits: []PoolLimit{}}
	st := p.Circuit(now.at)
	if st.On {
		v.Circuit = &CircuitState{State: st.State.String(), Opened: st.Trips, Refused: st.Refused[backend.LimitCircuit], Failure: st.Failure}
	}
	for _, l := range poolLimits(p, st) {
		if l.Limit > 0 {
			v.Limits = append(v.Limits, l)
		}
	}
	for _, n := range p.Nodes() {
		st := n.Status(now.at)
		key := p.Name() + " " + n.Addr
		was, is := base[key], now.nodes[key]
		ns := NodeStatus{
			Addr: st.Addr, Name: st.Name, State: st.State, Weight: st.Weight, Active: st.Active, Conns: st.Conns, Requests: is.requests,
			Rate: float64(is.requests-was.requests) / span, Errors: is.errors, ErrorRate: float64(is.errors-was.errors) / span,
			Latency: percentiles(is.took.Sub(was.took)),
		}
		if st.State != "up" {
			ns.Error = st.Error
			if _, cause, ok := strings.Cut(st.Error, st.Addr+": "); ok { // the address stands beside it
				ns.Error = cause
			}
		}
		if !st.LastReply.IsZero() {
			ns.LastReply = st.LastReply.Unix()
		}
		v.Nodes = append(v.Nodes, ns)
	}
	return v
}
