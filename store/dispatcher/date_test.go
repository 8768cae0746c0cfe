package dispatcher

import (
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

func TestAppendDate(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 10_000 {
		when := time.Unix(rng.Int64N(4_000_000_000), rng.Int64N(1e9))
		if got, want := string(appendDate(nil, when)), when.UTC().Format(http.TimeFormat); got != want {
			t.Fatalf("appendDate(%d) = %q; want %q", when.Unix(), got, want)
		}
	}
}

func BenchmarkAppendDate(b *testing.B) {
	var buf [32]byte
	when := time.Unix(2_000_000_000, 0)
	b.ReportAllocs()
	for b.Loop() {
		appendDate(buf[:0], when)
	}
}
