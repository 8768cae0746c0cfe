package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"wheelhouse/gearman/gearmand"
)

// web is the metrics for servers of net/http.
func (m *metrics) web() http.Handler { return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}) }

// gearmand registers a job server's counters.
func (m *metrics) gearmand(s *gearmand.Server) {
	count := func(name, help string, read func(gearmand.Stats) uint64, labels prometheus.Labels) {
		m.counter("gearmand_"+name, help, func() int64 { return int64(read(s.Stats())) }, labels)
	}
	gauge := func(name, help string, read func(gearmand.Stats) int64) {
		m.gauge("gearmand_"+name, help, func() int64 { return read(s.Stats()) }, nil)
	}
	for what, read := range map[string]func(gearmand.Stats) uint64{
		"accepted":    func(t gearmand.Stats) uint64 { return t.Accepted },
		"turned_away": func(t gearmand.Stats) uint64 { return t.TurnedAway },
		"slow":        func(t gearmand.Stats) uint64 { return t.Slow },
	} {
		count("connections_total", "Connections by what became of them: accepted, turned away, closed because they did not read.",
			read, prometheus.Labels{"what": what})
	}
	for what, read := range map[string]func(gearmand.Stats) uint64{
		"submitted": func(t gearmand.Stats) uint64 { return t.Submitted },
		"merged":    func(t gearmand.Stats) uint64 { return t.Merged },
		"completed": func(t gearmand.Stats) uint64 { return t.Completed },
		"failed":    func(t gearmand.Stats) uint64 { return t.Failed },
		"requeued":  func(t gearmand.Stats) uint64 { return t.Requeued },
		"timeout":   func(t gearmand.Stats) uint64 { return t.Timeouts },
		"given_up":  func(t gearmand.Stats) uint64 { return t.GivenUp },
	} {
		count("jobs_total", "Jobs by what happened to them.", read, prometheus.Labels{"what": what})
	}
	count("received_bytes_total", "Bytes received.", func(t gearmand.Stats) uint64 { return t.BytesIn }, nil)
	count("sent_bytes_total", "Bytes sent.", func(t gearmand.Stats) uint64 { return t.BytesOut }, nil)
	count("packets_total", "Packets and text commands received.", func(t gearmand.Stats) uint64 { return t.Packets }, nil)
	count("refused_total", "ERROR packets sent.", func(t gearmand.Stats) uint64 { return t.Refused }, nil)
	count("store_errors_total", "Calls of the store that failed.", func(t gearmand.Stats) uint64 { return t.StoreErrors }, nil)
	count("panics_total", "Connections ended by a panic.", func(t gearmand.Stats) uint64 { return t.Panics }, nil)
	gauge("connections", "Open connections.", func(t gearmand.Stats) int64 { return int64(t.Connections) })
	gauge("functions", "Functions known.", func(t gearmand.Stats) int64 { return int64(t.Functions) })
	gauge("jobs", "Jobs, running ones included.", func(t gearmand.Stats) int64 { return int64(t.Jobs) })
	gauge("jobs_running", "Jobs with a worker.", func(t gearmand.Stats) int64 { return int64(t.Running) })
	gauge("memory_bytes", "Jobs and buffers, as --max-memory counts them.", func(t gearmand.Stats) int64 { return t.Memory })
}
