package dispatcher

import (
	"testing"
	"time"

	"wheelhouse/store"
)

// A suspicion that was noted before the clock was set back an hour does not last an hour.
func TestSuspicionWhenTheClockIsSetBack(t *testing.T) {
	now := time.Unix(2_000_000_000, 0)
	var s suspicion
	for range 8 {
		s.note(errSlow, now)
		s.note(store.ErrFull, now)
	}
	if !s.active(now.Add(time.Second)) || !s.refuses(now.Add(time.Second)) {
		t.Fatal("it is not remembered")
	}
	back := now.Add(-time.Hour)
	if s.active(back) || s.refuses(back) {
		t.Error("it lasts until the clock is there again")
	}
	s.note(errSlow, back)
	if !s.active(back) || s.active(back.Add(2*firstSuspicion)) {
		t.Error("a new one does not last as long as a first one")
	}
}
