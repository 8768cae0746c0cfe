package web_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

func BenchmarkGet(b *testing.B) {
	for name, size := range map[string]int{"size=10K": 10 << 10, "size=1M": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			s := start(b, docroot(b, map[string]string{"f": strings.Repeat("x", size)}), "")
			nc, err := net.Dial("tcp", s.Addr("w"))
			must(b, err)
			defer nc.Close()
			in := bufio.NewReader(nc)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.WriteString(nc, "GET /f HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
					b.Fatal(err)
				}
				for {
					line, err := in.ReadSlice('\n')
					if err != nil {
						b.Fatal(err)
					}
					if len(line) == 2 {
						break
					}
				}
				if _, err := in.Discard(size); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
