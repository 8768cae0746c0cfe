package main

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
	"wheelhouse/store/dispatcher"
	"wheelhouse/store/storaged"
	"wheelhouse/store/worker"
)

// metrics collects the counters of all parts of a process when they are asked for, so that counting costs the parts no
// more than an atomic addition.
type metrics struct {
	registry *prometheus.Registry
	handler  http1.Handler
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = http1.FromHandler(promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	return m
}

// counter registers one counter; read is called at each scrape.
func (m *metrics) counter(name, help string, read func() int64, labels prometheus.Labels) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "wheelhouse_" + name, Help: help, ConstLabels: labels},
		func() float64 { return float64(read()) }))
}

func (m *metrics) gauge(name, help string, read func() int64, labels prometheus.Labels) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "wheelhouse_" + name, Help: help, ConstLabels: labels},
		func() float64 { return float64(read()) }))
}

func (m *metrics) dispatcher(d *dispatcher.Metrics) {
	for method, read := range map[string]func() int64{
		"get": d.Gets.Load, "put": d.Puts.Load, "delete": d.Deletes.Load, "other": d.Others.Load,
	} {
		m.counter("dispatcher_requests_total", "Requests by kind.", read, prometheus.Labels{"kind": method})
	}
	m.counter("dispatcher_received_bytes_total", "Bytes of stored objects.", d.BytesIn.Load, nil)
	m.counter("dispatcher_sent_bytes_total", "Bytes of objects sent.", d.BytesOut.Load, nil)
	m.counter("dispatcher_failures_total", "Answers of 500 and above.", d.Failures.Load, nil)
	m.counter("dispatcher_degraded_writes_total", "Writes acknowledged while a storage was owed its entity.", d.Degraded.Load, nil)
	m.counter("dispatcher_failovers_total", "Reads for which another storage had to be asked.", d.Failovers.Load, nil)
	m.counter("dispatcher_hot_reads_total", "Reads answered from memory.", d.HotReads.Load, nil)
	m.counter("dispatcher_reproxied_total", "Reads handed to a proxy.", d.Reproxied.Load, nil)
	m.counter("dispatcher_repairs_total", "Repairs enqueued after a failed read.", d.Repairs.Load, nil)
	m.counter("dispatcher_spooled_total", "Large uploads that were spooled.", d.SpooledBodies.Load, nil)
	m.gauge("dispatcher_buffered_bytes", "Memory that holds bodies.", d.BufferedBytes.Load, nil)
}

func (m *metrics) node(n *storaged.Metrics) {
	for method, read := range map[string]func() int64{
		"read": n.Reads.Load, "write": n.Writes.Load, "delete": n.Deletes.Load, "refused": n.Refused.Load,
	} {
		m.counter("storaged_requests_total", "Requests by kind.", read, prometheus.Labels{"kind": method})
	}
	m.counter("storaged_received_bytes_total", "Bytes of entities received.", n.BytesIn.Load, nil)
	m.counter("storaged_sent_bytes_total", "Bytes of entities sent.", n.BytesOut.Load, nil)
	m.counter("storaged_failures_total", "Answers of 500 and above.", n.Failures.Load, nil)
}

func (m *metrics) worker(w *worker.Metrics) {
	for what, read := range map[string]func() int64{
		"replicated": w.Replicated.Load, "repaired": w.Repaired.Load, "deleted": w.Deleted.Load, "orphan": w.Orphans.Load,
	} {
		m.counter("worker_entities_total", "Entities by what was done with them.", read, prometheus.Labels{"done": what})
	}
	m.counter("worker_copied_bytes_total", "Bytes copied between storages.", w.BytesCopied.Load, nil)
	m.counter("worker_failures_total", "Attempts that failed and will be repeated.", w.Failures.Load, nil)
}

// disk registers the space of one storage; it is asked at most once a scrape for each figure, which is a statfs.
func (m *metrics) disk(id store.StorageID, dev store.Device) {
	labels := prometheus.Labels{"storage": strconv.FormatUint(uint64(id), 10)}
	for name, read := range map[string]func(store.Usage) int64{
		"storage_capacity_bytes": func(u store.Usage) int64 { return u.Capacity },
		"storage_free_bytes":     func(u store.Usage) int64 { return u.Free },
		"storage_live_bytes":     func(u store.Usage) int64 { return u.Live },
		"storage_garbage_bytes":  func(u store.Usage) int64 { return u.Garbage },
		"storage_entities":       func(u store.Usage) int64 { return u.Entities },
	} {
		m.gauge(name, "Space of a storage.", func() int64 {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			u, err := dev.Usage(ctx)
			if err != nil {
				return -1
			}
			return read(u)
		}, labels)
	}
}

func (m *metrics) catalog(totals func(context.Context) (store.Totals, error)) {
	for name, read := range map[string]func(store.Totals) int64{
		"catalog_objects":          func(t store.Totals) int64 { return t.Objects },
		"catalog_object_bytes":     func(t store.Totals) int64 { return t.Bytes },
		"catalog_missing_entities": func(t store.Totals) int64 { return t.Missing },
		"catalog_deleted_objects":  func(t store.Totals) int64 { return t.DeletedObjects },
	} {
		m.gauge(name, "What the catalog holds.", func() int64 {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			t, err := totals(ctx)
			if err != nil {
				return -1
			}
			return read(t)
		}, nil)
	}
}
