package byterange

import (
	"fmt"
	"math"
	"testing"
)

func TestSingle(t *testing.T) {
	for _, tt := range []struct {
		field string
		size  int64
		want  Range
		kind  Kind
	}{
		{"bytes=0-0", 10, Range{0, 1}, Part},
		{"bytes=0-", 10, Range{0, 10}, Part},
		{"bytes=9-", 10, Range{9, 1}, Part},
		{"bytes=3-5", 10, Range{3, 3}, Part},
		{"bytes=3-100", 10, Range{3, 7}, Part},
		{"bytes=-3", 10, Range{7, 3}, Part},
		{"bytes=-30", 10, Range{0, 10}, Part},
		{"BYTES=0-1", 10, Range{0, 2}, Part},
		{"bytes = 0-1", 10, Range{0, 2}, Part},
		{"bytes=,0-1 , ", 10, Range{0, 2}, Part},
		{"bytes=0-99999999999999999999", 10, Range{0, 10}, Part},
		{"bytes=-99999999999999999999", 10, Range{0, 10}, Part},
		{"bytes=99999999999999999999-", 10, Range{}, Outside},
		{"bytes=0-9223372036854775807", math.MaxInt64, Range{0, math.MaxInt64}, Part},
		{"bytes=10-", 10, Range{}, Outside},
		{"bytes=10-20", 10, Range{}, Outside},
		{"bytes=-0", 10, Range{}, Outside},
		{"bytes=0-", 0, Range{}, Outside},
		{"bytes=-1", 0, Range{}, Outside},
		{"bytes=5-4", 10, Range{}, Reversed},
		{"bytes=0-1,3-4", 10, Range{}, Malformed},
		{"bytes=", 10, Range{}, Malformed},
		{"bytes=-", 10, Range{}, Malformed},
		{"bytes=--1", 10, Range{}, Malformed},
		{"bytes=+1-2", 10, Range{}, Malformed},
		{"bytes=1-+2", 10, Range{}, Malformed},
		{"bytes=1 -2", 10, Range{}, Malformed},
		{"bytes=0x1-2", 10, Range{}, Malformed},
		{"bytes=5", 10, Range{}, Malformed},
		{"bytes 0-1", 10, Range{}, Malformed},
		{"lines=0-1", 10, Range{}, Malformed},
		{"", 10, Range{}, Malformed},
	} {
		if got, kind := Single(tt.field, tt.size); got != tt.want || kind != tt.kind {
			t.Errorf("Single(%q, %d) = %v, %d; want %v, %d", tt.field, tt.size, got, kind, tt.want, tt.kind)
		}
	}
}

// A part lies within its body, and what it says of itself gives the same part again.
func FuzzSingle(f *testing.F) {
	for _, s := range []string{"bytes=0-", "bytes=-5", "bytes=3-4", "bytes=5-4", "bytes=99999999999999999999-", "bytes=0-1,2-3", "x=1-2", "bytes=,1-2,"} {
		f.Add(s, int64(100))
	}
	f.Fuzz(func(t *testing.T, field string, size int64) {
		r, kind := Single(field, size)
		if kind != Part {
			if r != (Range{}) {
				t.Errorf("%q of %d: %v with kind %d", field, size, r, kind)
			}
			return
		}
		if r.Off < 0 || r.N <= 0 || r.N > size || r.Off > size-r.N {
			t.Fatalf("%q of %d: %v lies outside", field, size, r)
		}
		if again, kind := Single(fmt.Sprintf("bytes=%d-%d", r.Off, r.Last()), size); again != r || kind != Part {
			t.Errorf("%v of %d read again: %v, %d", r, size, again, kind)
		}
	})
}
