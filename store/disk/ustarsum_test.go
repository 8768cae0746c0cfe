package disk

import (
	"math/rand/v2"
	"testing"
)

// The sum of a header's bytes is that of POSIX, whatever they are.
func TestUstarSum(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		h := make([]byte, blockSize)
		for i := range h {
			if h[i] = byte(random.Uint32()); round == 0 {
				h[i] = 255
			}
		}
		want := int64(0)
		for i, c := range h {
			if i >= 148 && i < 156 {
				c = ' '
			}
			want += int64(c)
		}
		if got := ustarSum(h); got != want {
			t.Fatalf("round %d: %d; want %d", round, got, want)
		}
	}
}
