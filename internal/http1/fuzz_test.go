package http1

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"
)

// printRequest is a head that means what r means.
func printRequest(r *Request) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.%d\r\n", r.Method, r.Target, r.Minor)
	printFields(&b, &r.Header)
	return b.Bytes()
}

func printFields(b *bytes.Buffer, h *Header) {
	for n, v := range h.All() {
		fmt.Fprintf(b, "%s: %s\r\n", n, v)
	}
	b.WriteString("\r\n")
}

// fuzzLimits are small, so that the fuzzer reaches them.
var fuzzLimits = func() *Limits {
	l := Limits{Line: 200, Head: 600, Fields: 12, Body: 1 << 30, ChunkLine: 40}.withDefaults()
	return &l
}()

func FuzzRequestHead(f *testing.F) {
	for _, row := range differentialRows() {
		f.Add([]byte(row.raw))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var r, again Request
		n, err := parseRequestHead(bytes.Clone(in), fuzzLimits, &r)
		if err != nil || n == 0 {
			if n != 0 {
				t.Fatalf("%d bytes consumed, %v", n, err)
			}
			if _, ok := err.(*Error); err != nil && !ok {
				t.Fatalf("error %T", err)
			}
			if err == nil && len(in) >= fuzzLimits.Head {
				t.Fatalf("%d bytes are waited for more", len(in))
			}
			return
		}
		if n > fuzzLimits.Head || r.Header.Len() > fuzzLimits.Fields {
			t.Fatalf("over the limits: %d bytes, %d fields", n, r.Header.Len())
		}
		if bytes.ContainsAny(bytes.ReplaceAll(in[:n], []byte("\r\n"), nil), "\r\n\x00") {
			t.Fatalf("accepted a bare CR, LF or a NUL: %q", in[:n])
		}
		printed := printRequest(&r)
		m, err := parseRequestHead(printed, &Limits{Line: 1 << 20, Head: 1 << 20, Fields: 100, Body: 1 << 40}, &again)
		if err != nil || m != len(printed) {
			t.Fatalf("%q does not parse again: %d, %v", printed, m, err)
		}
		if !bytes.Equal(printed, printRequest(&again)) || again.ContentLength != r.ContentLength || again.close != r.close ||
			again.ExpectContinue != r.ExpectContinue || !bytes.Equal(again.Host, r.Host) || !bytes.Equal(again.Path, r.Path) ||
			!bytes.Equal(again.Query, r.Query) {
			t.Fatalf("%+v became %+v", r, again)
		}
	})
}

func FuzzResponseHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", "HTTP/1.1 204\r\n\r\n",
		"HTTP/1.0 200 \r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n",
		"HTTP/1.1 200 OK\nA: b\n\n", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
	} {
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, head bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		var r, again Response
		n, err := parseResponseHead(bytes.Clone(in), fuzzLimits, method, &r)
		if err != nil || n == 0 {
			if e, ok := err.(*Error); err != nil && (!ok || e.Status != 502 || n != 0) {
				t.Fatalf("%d, %v", n, err)
			}
			return
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "HTTP/1.%d %d %s\r\n", r.Minor, r.Status, r.Reason)
		printFields(&b, &r.Header)
		m, err := parseResponseHead(b.Bytes(), &Limits{Line: 1 << 20, Head: 1 << 20, Fields: 100}, method, &again)
		if err != nil || m != b.Len() || again.Status != r.Status || again.ContentLength != r.ContentLength ||
			again.kind != r.kind || again.close != r.close || !bytes.Equal(again.Reason, r.Reason) {
			t.Fatalf("%q: %d, %v: %+v became %+v", b.Bytes(), m, err, r, again)
		}
	})
}

func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "1;a=b\r\nx\r\n0\r\nA: b\r\n\r\n", "5 \r\nhello\r\n", "ffffffffffffffff\r\n", "1\r\nxx",
	} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		data, n, done, err := dechunk(in, len(in)+1, fuzzLimits)
		data2, n2, done2, err2 := dechunk(in, int(size)+1, fuzzLimits)
		if !bytes.Equal(data, data2) || n != n2 || done != done2 || err != err2 {
			t.Fatalf("whole: %q, %d, %v, %v; by %d: %q, %d, %v, %v", data, n, done, err, size+1, data2, n2, done2, err2)
		}
		if len(data) > n || n > len(in) {
			t.Fatalf("%d bytes of data out of %d", len(data), n)
		}
		if !done {
			return
		}
		// What was decoded means the same when it is encoded plainly.
		var b []byte
		if len(data) > 0 {
			b = append(strconv.AppendInt(nil, int64(len(data)), 16), "\r\n"...)
			b = append(append(b, data...), "\r\n"...)
		}
		b = append(b, "0\r\n\r\n"...)
		if again, m, ok, err := dechunk(b, 7, testLimits); !ok || err != nil || m != len(b) || !bytes.Equal(again, data) {
			t.Fatalf("%q became %q, %v", data, again, err)
		}
	})
}
