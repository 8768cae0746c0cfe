package main

import (
	"slices"
	"time"
)

// median of values that are not empty; of an even number, the mean of the two in the middle.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// spreadOf is the median and the range of values that are not empty.
func spreadOf(values []float64) *Spread {
	return &Spread{Median: median(values), Min: slices.Min(values), Max: slices.Max(values)}
}

// percentile of durations, which are sorted by it.
func percentile(times []time.Duration, p float64) time.Duration {
	slices.Sort(times)
	return times[min(len(times)-1, int(float64(len(times))*p))]
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
