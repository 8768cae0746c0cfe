package main

import (
	"io"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"wheelhouse/memcache/memcached"
)

// memcachedWeb is what operators look at.
func memcachedWeb(s *memcached.Server) http.Handler {
	m := newMetrics()
	m.memcached(s)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.web())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	return mux
}

// memcached registers a cache server's counters.
func (m *metrics) memcached(s *memcached.Server) {
	count := func(name, help string, read func(memcached.Counts) uint64, labels prometheus.Labels) {
		m.counter("memcached_"+name, help, func() int64 { return int64(read(s.Counts())) }, labels)
	}
	gauge := func(name, help string, read func(memcached.Counts) int64) {
		m.gauge("memcached_"+name, help, func() int64 { return read(s.Counts()) }, nil)
	}
	for what, read := range map[string]func(memcached.Counts) uint64{
		"hit":  func(t memcached.Counts) uint64 { return t.Hits },
		"miss": func(t memcached.Counts) uint64 { return t.Misses },
	} {
		count("gets_total", "Keys looked up, by result.", read, prometheus.Labels{"result": what})
	}
	for what, read := range map[string]func(memcached.Counts) uint64{
		"set":    func(t memcached.Counts) uint64 { return t.Sets },
		"touch":  func(t memcached.Counts) uint64 { return t.Touches },
		"delete": func(t memcached.Counts) uint64 { return t.Deletes },
		"flush":  func(t memcached.Counts) uint64 { return t.Flushes },
		"meta":   func(t memcached.Counts) uint64 { return t.Meta },
	} {
		count("commands_total", "Commands other than gets, by kind; meta commands are counted by what they do besides.", read, prometheus.Labels{"kind": what})
	}
	for what, read := range map[string]func(memcached.Counts) uint64{
		"accepted": func(t memcached.Counts) uint64 { return t.Accepted },
		"rejected": func(t memcached.Counts) uint64 { return t.Rejected },
		"slow":     func(t memcached.Counts) uint64 { return t.SlowClosed },
	} {
		count("connections_total", "Connections by what became of them.", read, prometheus.Labels{"what": what})
	}
	for what, read := range map[string]func(memcached.Counts) uint64{
		"too_large":     func(t memcached.Counts) uint64 { return t.TooLarge },
		"out_of_memory": func(t memcached.Counts) uint64 { return t.OutOfMemory },
		"auth":          func(t memcached.Counts) uint64 { return t.AuthErrors },
		"acl":           func(t memcached.Counts) uint64 { return t.ACLDenied },
	} {
		count("refused_total", "Requests that were refused, by reason.", read, prometheus.Labels{"reason": what})
	}
	count("evictions_total", "Items forgotten for want of memory.", func(t memcached.Counts) uint64 { return t.Evictions }, nil)
	count("reclaimed_total", "Items that had expired or were flushed when a sweep found them.", func(t memcached.Counts) uint64 { return t.Reclaimed }, nil)
	count("received_bytes_total", "Bytes received.", func(t memcached.Counts) uint64 { return t.BytesIn }, nil)
	count("sent_bytes_total", "Bytes sent.", func(t memcached.Counts) uint64 { return t.BytesOut }, nil)
	count("slow_commands_total", "Commands that took longer than --slow-log.", func(t memcached.Counts) uint64 { return t.Slow }, nil)
	count("panics_total", "Connections ended by a panic.", func(t memcached.Counts) uint64 { return t.Panics }, nil)
	gauge("connections", "Open connections.", func(t memcached.Counts) int64 { return t.Connections })
	gauge("items", "Items.", func(t memcached.Counts) int64 { return t.Items })
	gauge("item_bytes", "Bytes of items, as memcached counts them.", func(t memcached.Counts) int64 { return t.Bytes })
	gauge("used_bytes", "Memory in use for items and index.", func(t memcached.Counts) int64 { return t.Used })
	gauge("limit_bytes", "Memory that may be used for items and index.", func(t memcached.Counts) int64 { return t.Limit })
	gauge("given_up_bytes", "Of the limit, memory that items give up for the connections.", func(t memcached.Counts) int64 { return t.Aside })
	gauge("index_bytes", "Memory in use for the index.", func(t memcached.Counts) int64 { return t.IndexMemory })
}
