package dispatcher

import (
	"testing"
	"time"
)

func TestLatencySlots(t *testing.T) {
	for d := latencyUnit; d < 50*time.Second; d += d/7 + 1 {
		i := slot(d)
		if d >= bound(i) || i > 0 && d < bound(i-1) {
			t.Fatalf("%v is in bucket %d, which ends at %v", d, i, bound(i))
		}
		if i > 0 && float64(bound(i)) > 1.26*float64(bound(i-1)) {
			t.Fatalf("bucket %d spans %v to %v", i, bound(i-1), bound(i))
		}
	}
	if slot(0) != 0 || slot(time.Hour) != latencySlots-1 {
		t.Errorf("slots of 0 and 1 h: %d, %d", slot(0), slot(time.Hour))
	}
}

func TestLatencyPercentile(t *testing.T) {
	var l latency
	if got := l.typical(7); got != 7 {
		t.Errorf("unknown: %v", got)
	}
	for i := range 640 {
		d := time.Millisecond
		if i%100 < 3 {
			d = time.Second // three in a hundred are not typical
		}
		l.add(d)
	}
	if got := l.typical(0); got < time.Millisecond || got > 1300*time.Microsecond {
		t.Errorf("p95 = %v; want 1 ms", got)
	}
	for range 640 { // the past fades
		l.add(20 * time.Millisecond)
	}
	if got := l.typical(0); got < 20*time.Millisecond || got > 26*time.Millisecond {
		t.Errorf("p95 = %v; want 20 ms", got)
	}
}
