//go:build unix && !race

package rawio_test

import (
	"testing"

	"wheelhouse/internal/rawio"
)

// A read that finds nothing, as most do now and then, costs no allocation.
func TestNoAllocation(t *testing.T) {
	a, _ := pair(t)
	buf := make([]byte, 8)
	if n := testing.AllocsPerRun(100, func() { rawio.Read(a, buf) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
