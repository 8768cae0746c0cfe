package netpoll

import (
	"testing"
	"time"
)

// A turn that took long is followed by as long without one, within bounds; one that took no time by the least.
func TestTurnsAreFair(t *testing.T) {
	t.Parallel()
	tt, err := NewTurns()
	if err != nil {
		t.Fatal(err)
	}
	defer tt.Close()
	for _, tc := range []struct{ long, want time.Duration }{{0, turnEvery}, {3 * turnEvery, 3 * turnEvery}, {time.Hour, turnMost}} {
		before := time.Since(tt.begun)
		tt.Given(tc.long)
		after := time.Since(tt.begun)
		if next := time.Duration(tt.next.Load()); next < before+tc.want || next > after+tc.want {
			t.Errorf("after one of %v, between %v and %v, the next is at %v; want %v later", tc.long, before, after, next, tc.want)
		}
	}
	tt.next.Store(0)
	for range 3 { // the first waits, and must come back
		tt.Give()
	}
	if tt.next.Load() == 0 {
		t.Error("no turn was given")
	}
}
