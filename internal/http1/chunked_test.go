package http1

import (
	"strings"
	"testing"
)

// dechunk decodes in, given to the decoder in pieces of at most size bytes. It returns the data, how much of in was
// consumed, and how it ended.
func dechunk(in []byte, size int, lim *Limits) (data []byte, n int, done bool, err error) {
	d := chunkDecoder{lim: lim}
	for n < len(in) && !d.done() {
		piece := in[n:min(len(in), n+size)]
		if d.state == chunkData {
			k := min(int64(len(piece)), d.rem)
			data = append(data, piece[:k]...)
			d.took(k)
			n += int(k)
			continue
		}
		k, err := d.frame(piece)
		n += k
		if err != nil {
			return data, n, false, err
		}
	}
	return data, n, d.done(), nil
}

func TestChunkDecoder(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := []struct {
		name, in, want string
		err            error // nil: the body ends before "rest"
	}{
		{"empty", "0\r\n\r\n", "", nil},
		{"two", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", nil},
		{"hex", "A\r\n0123456789\r\n0a\r\n0123456789\r\n000\r\n\r\n", "01234567890123456789", nil},
		{"extension", "1;a=b;c=\"d \te\"\r\nx\r\n0;z\r\n\r\n", "x", nil},
		{"trailers", "1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n", "x", nil},
		{"no size", "\r\n", "", errChunkSize},
		{"not hex", "g\r\n", "", errChunkSize},
		{"prefix", "0x5\r\nhello\r\n", "", errChunkSize},
		{"sign", "+5\r\nhello\r\n", "", errChunkSize},
		{"minus", "-5\r\nhello\r\n", "", errChunkSize},
		{"space before", " 5\r\nhello\r\n", "", errChunkSize},
		{"space after", "5 \r\nhello\r\n", "", errChunkSize},
		{"space before extension", "5 ;a\r\nhello\r\n", "", errChunkSize},
		{"overflow", "80000000000000000\r\n", "", errChunkSize},
		{"overflow by one", "8000000000000000\r\n", "", errChunkSize},
		{"largest", "7fffffffffffffff\r\nabc", "abcrest", errOpen},
		{"bare LF after size", "5\nhello\r\n", "", errChunkSize},
		{"bare CR after size", "5\rhello\r\n", "", errBareCR},
		{"bare LF in extension", "5;a\nhello\r\n", "", errChunkExt},
		{"NUL in extension", "5;\x00\r\nhello\r\n", "", errChunkExt},
		{"only an extension", ";a\r\n", "", errChunkSize},
		{"long extension", "5;" + long + "\r\n", "", errChunkLine},
		{"many zeros", strings.Repeat("0", 17) + "\r\n", "", errChunkSize},
		{"data too long", "5\r\nhello!\r\n0\r\n\r\n", "hello", errChunkEnd},
		{"bare LF after data", "5\r\nhello\n0\r\n\r\n", "hello", errChunkEnd},
		{"bare CR after data", "5\r\nhello\r0\r\n\r\n", "hello", errChunkEnd},
		{"trailer without colon", "0\r\nabc\r\n\r\n", "", errFieldName},
		{"trailer with space", "0\r\nabc : d\r\n\r\n", "", errFieldName},
		{"trailer folded", "0\r\nA: b\r\n c\r\n\r\n", "", errObsFold},
		{"trailer bare LF", "0\r\nA: b\n\r\n", "", errFieldValue},
		{"trailer bare CR", "0\r\nA: b\rc\r\n\r\n", "", errBareCR},
		{"last bare LF", "0\r\n\n", "", errFieldName},
		{"last bare CR", "0\r\n\rx", "", errBareCR},
		{"many trailers", "0\r\n" + strings.Repeat("A: b\r\n", 101) + "\r\n", "", errTrailerLong},
		{"large trailer", "0\r\nA: " + strings.Repeat("b", 64<<10) + "\r\n\r\n", "", errTrailerLong},
		{"little data", strings.Repeat("1;"+long[:240]+"\r\nx\r\n", 200), strings.Repeat("x", 72), errChunkExcess},
		{"tiny chunks are fine", strings.Repeat("1\r\nx\r\n", 10000) + "0\r\n\r\n", strings.Repeat("x", 10000), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 7, 1 << 20} {
				data, n, done, err := dechunk([]byte(tt.in+"rest"), size, testLimits)
				if err == nil && !done {
					err = errOpen
				}
				if string(data) != tt.want || err != tt.err || err == nil && n != len(tt.in) {
					t.Fatalf("by %d: %q, consumed %d of %d, %v; want %q, %v", size, data, n, len(tt.in), err, tt.want, tt.err)
				}
			}
		})
	}
}

// errOpen stands for a body that is not complete.
var errOpen = &Error{0, "incomplete"}
