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
	"wheelhouse/store/health"
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
	m.counter("dispatcher_hedges_total", "Reads for which a second storage was asked because the first took long.", d.Hedges.Load, nil)
	m.counter("dispatcher_hedge_wins_total", "Reads that the second storage answered first.", d.HedgeWins.Load, nil)
	m.counter("dispatcher_stalls_total", "Bodies that another storage went on with because the first became slow.", d.Stalls.Load, nil)
	m.counter("dispatcher_hot_reads_total", "Reads answered from memory.", d.HotReads.Load, nil)
	m.counter("dispatcher_reproxied_total", "Reads handed to a proxy.", d.Reproxied.Load, nil)
	m.counter("dispatcher_derived_total", "Images made in another form.", d.Derived.Load, nil)
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
	m.counter("worker_backups_total", "Backups of the catalog made.", w.Backups.Load, nil)
	m.counter("worker_failures_total", "Attempts that failed and will be repeated.", w.Failures.Load, nil)
}

func (m *metrics) health(part string, h *health.Metrics) {
	labels := prometheus.Labels{"part": part}
	m.counter("health_probes_total", "Probes of storages.", h.Probes.Load, labels)
	m.counter("health_probe_failures_total", "Probes of storages that failed.", h.Failed.Load, labels)
	m.counter("health_changes_total", "Storages that this process's reports have taken out of service, brought back, or declared dead.", h.Changes.Load, labels)
}

// snapshot is several gauges that are read together, once a scrape. When the reading fails there are none, rather than
// figures that mean nothing.
type snapshot[T any] struct {
	read   func(context.Context) (T, error)
	gauges []snapshotGauge[T]
}

type snapshotGauge[T any] struct {
	desc  *prometheus.Desc
	value func(T) int64
}

// snapshotTimeout bounds one reading.
const snapshotTimeout = 2 * time.Second

func newSnapshot[T any](help string, labels prometheus.Labels, read func(context.Context) (T, error), values map[string]func(T) int64) *snapshot[T] {
	s := &snapshot[T]{read: read}
	for name, value := range values {
		s.gauges = append(s.gauges, snapshotGauge[T]{prometheus.NewDesc("wheelhouse_"+name, help, nil, labels), value})
	}
	return s
}

// Describe implements prometheus.Collector.
func (s *snapshot[T]) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range s.gauges {
		ch <- g.desc
	}
}

// Collect implements prometheus.Collector.
func (s *snapshot[T]) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), snapshotTimeout)
	defer cancel()
	t, err := s.read(ctx)
	if err != nil {
		return
	}
	for _, g := range s.gauges {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(g.value(t)))
	}
}

// disk registers the space of one storage.
func (m *metrics) disk(id store.StorageID, dev store.Device) {
	labels := prometheus.Labels{"storage": strconv.FormatUint(uint64(id), 10)}
	m.registry.MustRegister(newSnapshot("Space of a storage.", labels, dev.Usage, map[string]func(store.Usage) int64{
		"storage_capacity_bytes": func(u store.Usage) int64 { return u.Capacity },
		"storage_free_bytes":     func(u store.Usage) int64 { return u.Free },
		"storage_live_bytes":     func(u store.Usage) int64 { return u.Live },
		"storage_garbage_bytes":  func(u store.Usage) int64 { return u.Garbage },
		"storage_entities":       func(u store.Usage) int64 { return u.Entities },
	}))
}

func (m *metrics) catalog(totals func(context.Context) (store.Totals, error)) {
	m.registry.MustRegister(newSnapshot("What the catalog holds.", nil, totals, map[string]func(store.Totals) int64{
		"catalog_objects":          func(t store.Totals) int64 { return t.Objects },
		"catalog_object_bytes":     func(t store.Totals) int64 { return t.Bytes },
		"catalog_missing_entities": func(t store.Totals) int64 { return t.Missing },
		"catalog_deleted_objects":  func(t store.Totals) int64 { return t.DeletedObjects },
	}))
}
