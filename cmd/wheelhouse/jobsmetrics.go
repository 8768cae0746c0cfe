package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"wheelhouse/jobs"
)

// jobsCollector shows what a job worker counts.
type jobsCollector struct{ stats func() []jobs.WorkerStats }

var (
	jobsTotal = prometheus.NewDesc("wheelhouse_jobs_total", "Jobs by what became of them.", []string{"func", "result"}, nil)
	jobsNow   = prometheus.NewDesc("wheelhouse_jobs_held", "Jobs under lease, by whether they run.", []string{"func", "state"}, nil)
	jobsWait  = prometheus.NewDesc("wheelhouse_jobs_wait_seconds", "From when a job was due until it was begun.", []string{"func"}, nil)
	jobsRun   = prometheus.NewDesc("wheelhouse_jobs_run_seconds", "From when a job, or batch, was begun until it ended.", []string{"func"}, nil)
)

// Describe implements prometheus.Collector.
func (c jobsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{jobsTotal, jobsNow, jobsWait, jobsRun} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c jobsCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.stats() {
		for result, n := range map[string]int64{
			"begun": s.Begun, "done": s.Done, "failed": s.Failed, "dead": s.Dead, "returned": s.Returned, "lost": s.Lost, "unrecorded": s.Unrecorded,
		} {
			ch <- prometheus.MustNewConstMetric(jobsTotal, prometheus.CounterValue, float64(n), s.Func, result)
		}
		ch <- prometheus.MustNewConstMetric(jobsNow, prometheus.GaugeValue, float64(s.Running), s.Func, "running")
		ch <- prometheus.MustNewConstMetric(jobsNow, prometheus.GaugeValue, float64(s.Prefetched), s.Func, "waiting")
		ch <- histogram(jobsWait, s.Wait, s.Func)
		ch <- histogram(jobsRun, s.Run, s.Func)
	}
}

func histogram(desc *prometheus.Desc, t jobs.Times, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64)
	sum := uint64(0)
	for i := range len(t.Buckets) - 1 {
		sum += uint64(t.Buckets[i])
		buckets[t.Bound(i).Seconds()] = sum
	}
	return prometheus.MustNewConstHistogram(desc, uint64(t.Count), t.Sum.Seconds(), buckets, labels...)
}
