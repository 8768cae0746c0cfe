package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"wheelhouse/balancer"
	"wheelhouse/balancer/backend"
	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/config"
)

type balancerRequest = balancer.Request

// serveMetrics answers /metrics of the console.
func (p *balancerParts) serveMetrics(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	web := p.web
	p.mu.Unlock()
	if web == nil {
		http.NotFound(w, r)
		return
	}
	web.ServeHTTP(w, r)
}

// register makes the registry of a balancer that runs alone.
func (p *balancerParts) register(b *balancerd.Balancer) {
	m := newMetrics()
	m.registry.MustRegister(p.collector(b))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.web = m.web()
}

func (p *balancerParts) collector(b *balancerd.Balancer) prometheus.Collector {
	return &balancerCollector{b, p}
}

// balancerCollector makes the figures of a balancer when they are asked for: services and nodes come and go while it runs, so it
// describes nothing beforehand.
type balancerCollector struct {
	b     *balancerd.Balancer
	parts *balancerParts
}

// Describe implements prometheus.Collector.
func (c *balancerCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *balancerCollector) Collect(ch chan<- prometheus.Metric) {
	c.parts.stats.Prune(c.b)
	e := &emitter{ch: ch, descs: map[string]*prometheus.Desc{}}
	e.count("requests_total", "Requests taken.", nil, c.b.Requests())
	logs := []string{"result"}
	e.count("access_log_lines_total", "Lines of access logs.", logs, c.parts.logs.Written(), "written")
	e.count("access_log_lines_total", "Lines of access logs.", logs, c.parts.logs.Dropped(), "dropped")
	for _, s := range c.b.Services() {
		c.service(e, s)
	}
	for _, p := range c.b.Pools() {
		pool(e, p)
		for _, n := range p.Nodes() {
			node(e, p.Name(), n)
		}
	}
}

func (c *balancerCollector) service(e *emitter, s *balancerd.Service) {
	name, set, st := s.Name(), s.Settings(), c.parts.stats.Service(s.Name())
	label := []string{"service"}
	if set.Role == config.Management || set.Role == config.UploadTracker {
		return
	}
	e.count("service_requests_total", "Requests that a service has answered or is answering.", label, s.Requests.Load(), name)
	for class := range st.Classes {
		text := "none"
		if class > 0 {
			text = strconv.Itoa(class) + "xx"
		}
		e.count("answers_total", "Answers by class; none: the client had gone, or the connection was cut.", []string{"service", "class"},
			st.Classes[class].Load(), name, text)
	}
	engine := s.Engine()
	malformed := uint64(0)
	for _, n := range engine.ProtocolErrors {
		malformed += n
	}
	e.count("malformed_requests_total", "Requests refused before the service saw them, or while it read them: malformed, too large or too slow.", label, int64(malformed), name)
	e.count("client_timeouts_total", "Clients' connections whose time was over, idle ones included.", label, int64(engine.Timeouts), name)
	e.count("panics_total", "Requests ended by a panic; the log has it.", label, int64(engine.Panics), name)
	e.count("sent_bytes_total", "Bytes of bodies sent to clients.", label, st.Sent.Load(), name)
	e.count("retries_total", "Further attempts at backends.", label, st.Retried.Load(), name)
	e.count("rate_limited_total", "Requests refused by rate_limit.", label, s.Limiter().Refused.Load(), name)
	known, refused := s.Limiter().Clients(time.Now().Add(-5 * time.Minute))
	clients := []string{"service", "state"}
	e.gauge("rate_limit_clients", "Clients that rate_limit knows, and those of them that were refused within five minutes.", clients, float64(known), name, "known")
	e.gauge("rate_limit_clients", "Clients that rate_limit knows, and those of them that were refused within five minutes.", clients, float64(refused), name, "refused")
	e.histogram("request_duration_seconds", "From a request's head to its end.", label, st.Duration.Counts(), name)
	e.histogram("queue_duration_seconds", "Waited for a backend.", label, st.Queued.Counts(), name)
	e.gauge("clients", "Clients' connections.", label, float64(len(s.Conns())), name)
	e.gauge("live_requests", "Requests under way.", label, float64(len(s.Live())), name)
	if set.Role == config.ReverseProxy {
		for p, queue := range map[balancer.Priority]string{balancer.High: "high", balancer.Normal: "normal", balancer.Low: "low"} {
			n, oldest := s.Queues(p)
			e.gauge("queued_requests", "Requests that wait for a backend.", []string{"service", "queue"}, float64(n), name, queue)
			e.gauge("queue_oldest_seconds", "How long the first of them has waited.", []string{"service", "queue"}, oldest.Seconds(), name, queue)
		}
		idle := s.Queue().Idle()
		for state, n := range map[string]int{"idle": idle, "busy": max(0, len(s.Queue().Conns())-idle), "connecting": len(s.Queue().Pending())} {
			e.gauge("backend_connections", "Connections to backends.", []string{"service", "state"}, float64(n), name, state)
		}
	}
	uploads := s.Proxy().Spooled()
	e.gauge("upload_spool_files", "Uploads on disk, before a backend gets them.", label, float64(uploads.Files), name)
	e.gauge("upload_spool_bytes", "Their size.", label, float64(uploads.Bytes), name)
	e.count("uploads_refused_total", "Uploads refused by buffer_uploads_total_size.", label, uploads.Refused, name)
	cache := s.Cache()
	for result, v := range map[string]int64{
		"hit": cache.Hits.Load(), "miss": cache.Misses.Load(), "stale": cache.Stale.Load(), "revalidated": cache.Revalidated.Load(),
		"collapsed": cache.Collapsed.Load(), "passed": cache.Passed.Load(), "purged": cache.Purged.Load(),
	} {
		e.count("cache_requests_total", "Requests by what the cache made of them.", []string{"service", "result"}, v, name, result)
	}
	held := cache.Stats()
	for where, v := range map[string][2]int64{"memory": {int64(held.Entries), held.Bytes}, "disk": {int64(held.DiskEntries), held.DiskBytes}} {
		e.gauge("cache_entries", "Answers in the cache.", []string{"service", "in"}, float64(v[0]), name, where)
		e.gauge("cache_bytes", "Their size.", []string{"service", "in"}, float64(v[1]), name, where)
	}
}

func pool(e *emitter, p *backend.Pool) {
	st := p.Circuit(time.Now())
	label := []string{"pool"}
	e.gauge("circuit_state", "The pool's circuit breaker: 0 closed, 1 open, 2 half-open.", label, float64(st.State), p.Name())
	e.count("circuit_opened_total", "How often it opened.", label, st.Trips, p.Name())
	for limit, n := range st.Refused {
		e.count("pool_refused_total", "Requests that the pool did not take, by limit.", []string{"pool", "limit"}, n, p.Name(), limit)
	}
	for limit, n := range map[string]int64{backend.LimitRequests: st.Active, backend.LimitPending: st.Pending, backend.LimitRetries: st.Retrying} {
		e.gauge("pool_limit_used", "Requests that count towards a limit of the pool, where that is set.", []string{"pool", "limit"}, float64(n), p.Name(), limit)
	}
}

func node(e *emitter, pool string, n *backend.Node) {
	label := []string{"pool", "node"}
	st := n.Status(time.Now())
	up := 0.0
	if st.State == "up" || st.State == "half-open" {
		up = 1
	}
	e.gauge("node_up", "1 where the node is used, 0 where it is paused, ejected or sick.", label, up, pool, n.Addr)
	e.gauge("node_active_requests", "Requests that the node has.", label, float64(st.Active), pool, n.Addr)
	e.gauge("node_connections", "Connections to the node.", label, float64(st.Conns), pool, n.Addr)
	e.count("node_requests_total", "Requests sent to the node.", label, st.Requests, pool, n.Addr)
	e.count("node_errors_total", "Requests that the node has failed.", label, st.Errors, pool, n.Addr)
	e.count("node_connect_failures_total", "Connects that have failed.", label, n.Failures.Load(), pool, n.Addr)
	e.histogram("node_head_duration_seconds", "From a request sent to its response's head.", label, n.Latency.Counts(), pool, n.Addr)
}

// emitter sends metrics.
type emitter struct {
	ch    chan<- prometheus.Metric
	descs map[string]*prometheus.Desc
}

func (e *emitter) desc(name, help string, labels []string) *prometheus.Desc {
	d := e.descs[name]
	if d == nil {
		d = prometheus.NewDesc("wheelhouse_balancer_"+name, help, labels, nil)
		e.descs[name] = d
	}
	return d
}

func (e *emitter) count(name, help string, labels []string, v int64, values ...string) {
	e.ch <- prometheus.MustNewConstMetric(e.desc(name, help, labels), prometheus.CounterValue, float64(v), values...)
}

func (e *emitter) gauge(name, help string, labels []string, v float64, values ...string) {
	e.ch <- prometheus.MustNewConstMetric(e.desc(name, help, labels), prometheus.GaugeValue, v, values...)
}

// bounds are those of histograms: powers of two of µs, which are bounds of backend.Histogram's classes, from 64 µs to over a minute.
var bounds = func() (list []time.Duration) {
	for d := 64 * time.Microsecond; d < 100*time.Second; d *= 2 {
		list = append(list, d)
	}
	return list
}()

func (e *emitter) histogram(name, help string, labels []string, c backend.Counts, values ...string) {
	buckets := make(map[float64]uint64, len(bounds))
	for _, le := range bounds {
		buckets[le.Seconds()] = 0
	}
	c.Cumulative(func(below time.Duration, n int64) {
		for _, le := range bounds {
			if below <= le {
				buckets[le.Seconds()] = max(buckets[le.Seconds()], uint64(n))
			}
		}
	})
	e.ch <- prometheus.MustNewConstHistogram(e.desc(name, help, labels), uint64(c.Count), c.Sum.Seconds(), buckets, values...)
}
