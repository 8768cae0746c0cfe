package foreground

import (
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/store"
)

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		if f := m.Latest(time.Now()); f != (store.Foreground{}) {
			t.Errorf("at first: %+v", f)
		}
		for range 980 {
			m.Note(time.Millisecond)
		}
		for range 20 {
			m.Note(40 * time.Millisecond)
		}
		time.Sleep(Window / 2)
		if f := m.Latest(time.Now()); f.Reads != 0 {
			t.Errorf("in the middle of a window: %+v", f)
		}
		time.Sleep(Window / 2)
		f := m.Latest(time.Now())
		if f.Reads != 1000 || f.P99 < 40*time.Millisecond || f.P99 > 46*time.Millisecond {
			t.Errorf("with 2 %% slow: %+v", f)
		}
		for range 995 {
			m.Note(time.Millisecond)
		}
		for range 5 {
			m.Note(40 * time.Millisecond)
		}
		if again := m.Latest(time.Now()); again != f {
			t.Errorf("the same window: %+v, then %+v", f, again)
		}
		time.Sleep(Window)
		if f := m.Latest(time.Now()); f.Reads != 1000 || f.P99 < time.Millisecond || f.P99 > 1150*time.Microsecond {
			t.Errorf("with 0.5 %% slow: %+v", f)
		}
		m.Note(time.Hour)
		time.Sleep(time.Hour)
		if f := m.Latest(time.Now()); f.Reads != 0 {
			t.Errorf("of another time: %+v", f)
		}
	})
}

func TestSlots(t *testing.T) {
	for d := time.Duration(1); d < 20*time.Second; d += d/7 + 1 {
		i := slot(d)
		if bound(i) < d || i > 0 && bound(i-1) > d {
			t.Fatalf("%v is in slot %d, which ends at %v", d, i, bound(i))
		}
		if d > unit && float64(bound(i)) > 1.13*float64(d) {
			t.Fatalf("%v is told as %v", d, bound(i))
		}
	}
	if slot(time.Hour) != slots-1 || slot(0) != 0 || slot(-1) != 0 {
		t.Error("the ends")
	}
}
