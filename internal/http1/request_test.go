package http1

import (
	"fmt"
	"strings"
	"testing"
)

var testLimits = func() *Limits {
	l := Limits{}.withDefaults()
	return &l
}()

func TestParseRequestHead(t *testing.T) {
	const host = "Host: h\r\n"
	tests := []struct {
		name, in string
		want     string // method|path|query|host|minor|length|close|expect|fields
	}{
		{"plain", "GET /a/b?c=d HTTP/1.1\r\n" + host + "\r\n", "GET|/a/b|c=d|h|1|0|false|false|1"},
		{"1.0", "GET / HTTP/1.0\r\n\r\n", "GET|/|<nil>||0|0|true|false|0"},
		{"1.0 keep-alive", "GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", "GET|/|<nil>||0|0|false|false|1"},
		{"1.2 is 1.1", "GET / HTTP/1.2\r\n" + host + "\r\n", "GET|/|<nil>|h|2|0|false|false|1"},
		{"empty query", "GET /? HTTP/1.1\r\n" + host + "\r\n", "GET|/||h|1|0|false|false|1"},
		{"close in a list", "GET / HTTP/1.1\r\n" + host + "Connection: te, CLOSE ,x\r\n\r\n", "GET|/|<nil>|h|1|0|true|false|2"},
		{"absolute", "GET HTTP://e.org:80/x?y HTTP/1.1\r\n" + host + "\r\n", "GET|/x|y|e.org:80|1|0|false|false|1"},
		{"absolute, bare", "GET http://e.org HTTP/1.1\r\n" + host + "\r\n", "GET|/|<nil>|e.org|1|0|false|false|1"},
		{"absolute, query only", "GET http://e.org?q HTTP/1.1\r\n" + host + "\r\n", "GET|/|q|e.org|1|0|false|false|1"},
		{"absolute OPTIONS", "OPTIONS https://e.org HTTP/1.1\r\n" + host + "\r\n", "OPTIONS|*|<nil>|e.org|1|0|false|false|1"},
		{"asterisk", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "OPTIONS|*|<nil>|h|1|0|false|false|1"},
		{"authority", "CONNECT e.org:443 HTTP/1.1\r\n" + host + "\r\n", "CONNECT||<nil>|e.org:443|1|0|false|false|1"},
		{"IPv6", "CONNECT [::1]:443 HTTP/1.1\r\n" + host + "\r\n", "CONNECT||<nil>|[::1]:443|1|0|false|false|1"},
		{"length", "PUT / HTTP/1.1\r\n" + host + "content-length: 007\r\n\r\n", "PUT|/|<nil>|h|1|7|false|false|2"},
		{"length 0, expect", "PUT / HTTP/1.1\r\n" + host + "Content-Length: 0\r\nExpect: 100-continue\r\n\r\n", "PUT|/|<nil>|h|1|0|false|false|3"},
		{"expect", "PUT / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nExpect: 100-Continue\r\n\r\n", "PUT|/|<nil>|h|1|1|false|true|3"},
		{"expect in 1.0", "PUT / HTTP/1.0\r\nContent-Length: 1\r\nExpect: x\r\n\r\n", "PUT|/|<nil>||0|1|true|false|2"},
		{"chunked", "PUT / HTTP/1.1\r\n" + host + "Transfer-Encoding: Chunked\r\n\r\n", "PUT|/|<nil>|h|1|-1|false|false|2"},
		{"unknown method", "FROB-1 / HTTP/1.1\r\n" + host + "\r\n", "FROB-1|/|<nil>|h|1|0|false|false|1"},
		{"raw UTF-8", "GET /ü HTTP/1.1\r\n" + host + "\r\n", "GET|/ü|<nil>|h|1|0|false|false|1"},
		{"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET|/|<nil>||1|0|false|false|1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r Request
			n, err := parseRequestHead([]byte(tt.in+"rest"), testLimits, &r)
			if err != nil || n != len(tt.in) {
				t.Fatalf("= %d, %v; want %d", n, err, len(tt.in))
			}
			query := "<nil>"
			if r.Query != nil {
				query = string(r.Query)
			}
			got := fmt.Sprintf("%s|%s|%s|%s|%d|%d|%v|%v|%d", r.Method, r.Path, query, r.Host, r.Minor, r.ContentLength,
				r.close, r.ExpectContinue, r.Header.Len())
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			for i := range len(tt.in) {
				if n, err := parseRequestHead([]byte(tt.in[:i]), testLimits, &r); n != 0 || err != nil {
					t.Fatalf("of the first %d bytes = %d, %v; want 0, nil", i, n, err)
				}
			}
		})
	}
}

func TestParseRequestHeadRefuses(t *testing.T) {
	get := func(fields string) string { return "GET / HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n" }
	target := func(s string) string { return "GET " + s + " HTTP/1.1\r\nHost: h\r\n\r\n" }
	tests := []struct {
		name, in string
		want     *Error
	}{
		{"bare LF", "GET / HTTP/1.1\nHost: h\n\n", errBareLF},
		{"bare LF in fields", get("A: b\n"), errBareLF},
		{"bare LF at the end", "GET / HTTP/1.1\r\nHost: h\r\n\n", errBareLF},
		{"bare CR in target", target("/a\rb"), errBareCR},
		{"bare CR in value", get("A: b\rc\r\n"), errBareCR},
		{"bare CR in name", get("A\r: b\r\n"), errBareCR},
		{"HTTP/0.9", "GET /\r\n\r\n", errRequestLine},
		{"empty", "\r\n\r\n", errRequestLine},
		{"two SP", "GET  / HTTP/1.1\r\n\r\n", errRequestLine},
		{"SP in target", "GET /a b HTTP/1.1\r\n\r\n", errRequestLine},
		{"SP before version", "GET /  HTTP/1.1\r\n\r\n", errRequestLine},
		{"SP at the end", "GET / HTTP/1.1 \r\n\r\n", errRequestLine},
		{"SP in front", " GET / HTTP/1.1\r\n\r\n", errMethod},
		{"TAB", "GET\t/ HTTP/1.1\r\n\r\n", errMethod},
		{"method", "G@T / HTTP/1.1\r\n\r\n", errMethod},
		{"long method", strings.Repeat("A", 65) + " / HTTP/1.1\r\n\r\n", errMethodLong},
		{"TLS", "\x16\x03\x01\x02", errMethod},
		{"version lower case", "GET / http/1.1\r\n\r\n", errVersion},
		{"version long", "GET / HTTP/1.10\r\n\r\n", errVersion},
		{"version short", "GET / HTTP/1\r\n\r\n", errVersion},
		{"version 2", "PRI * HTTP/2.0\r\n\r\n", errVersionOther},
		{"version 2.0", "GET / HTTP/2.0\r\n\r\n", errVersionOther},
		{"version 0.9", "GET / HTTP/0.9\r\n\r\n", errVersionOther},
		{"fragment", target("/a#b"), errFragment},
		{"NUL in target", target("/\x00"), errTarget},
		{"DEL in target", target("/\x7f"), errTarget},
		{"percent", target("/%4"), errTargetPct},
		{"percent 2", target("/%zz/a"), errTargetPct},
		{"relative", target("a"), errTargetForm},
		{"asterisk with GET", target("*"), errTargetForm},
		{"scheme", target("ftp://h/"), errTargetForm},
		{"absolute without host", target("http:///a"), errTargetHost},
		{"userinfo", target("http://u@h/a"), errTargetHost},
		{"CONNECT path", "CONNECT /a HTTP/1.1\r\nHost: h\r\n\r\n", errTargetForm},
		{"CONNECT without port", "CONNECT h HTTP/1.1\r\nHost: h\r\n\r\n", errTargetForm},
		{"CONNECT empty port", "CONNECT h: HTTP/1.1\r\nHost: h\r\n\r\n", errTargetForm},
		{"long target", target("/" + strings.Repeat("a", 9000)), errLineLong},
		{"long unfinished line", "GET /" + strings.Repeat("a", 9000), errLineLong},
		{"no host", "GET / HTTP/1.1\r\n\r\n", errNoHost},
		{"two hosts", get("Host: h\r\n"), errHosts},
		{"bad host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", errHost},
		{"host list", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", errHost},
		{"host port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", errHost},
		{"host brackets", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", errHost},
		{"fold", get("A: b\r\n c\r\n"), errObsFold},
		{"fold first", "GET / HTTP/1.1\r\n A: b\r\n\r\n", errObsFold},
		{"space before colon", get("A : b\r\n"), errFieldSpace},
		{"no colon", get("AAA\r\n"), errFieldLine},
		{"no name", get(": b\r\n"), errFieldName},
		{"name", get("A(: b\r\n"), errFieldName},
		{"name with NUL", get("A\x00: b\r\n"), errFieldName},
		{"value with NUL", get("A: b\x00\r\n"), errFieldValue},
		{"value with DEL", get("A: \x7f\r\n"), errFieldValue},
		{"length twice", get("Content-Length: 5\r\nContent-Length: 5\r\n"), errLengths},
		{"length list", get("Content-Length: 5, 5\r\n"), errLengths},
		{"length sign", get("Content-Length: +5\r\n"), errLength},
		{"length minus", get("Content-Length: -5\r\n"), errLength},
		{"length hex", get("Content-Length: 0x5\r\n"), errLength},
		{"length empty", get("Content-Length:\r\n"), errLength},
		{"length overflow", get("Content-Length: 9223372036854775808\r\n"), errLength},
		{"length and coding", get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), errLengthCoding},
		{"coding and length", get("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), errLengthCoding},
		{"coding unknown", get("Transfer-Encoding: gzip\r\n"), errCoding},
		{"coding identity", get("Transfer-Encoding: identity\r\n"), errCoding},
		{"coding gzip, chunked", get("Transfer-Encoding: gzip, chunked\r\n"), errCoding},
		{"coding chunked, gzip", get("Transfer-Encoding: chunked, gzip\r\n"), errCodingOrder},
		{"coding twice", get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), errCodingTwice},
		{"coding empty", get("Transfer-Encoding:\r\n"), errCodingEmpty},
		{"coding with parameter", get("Transfer-Encoding: chunked;a=b\r\n"), errCoding},
		{"coding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", errCodingOld},
		{"coding 'xchunked'", get("Transfer-Encoding: xchunked\r\n"), errCoding},
		{"expectation", get("Expect: 200-ok\r\n"), errExpect},
		{"body too large", get("Content-Length: 5368709121\r\n"), errBodyLong},
		{"fields", get(strings.Repeat("A: b\r\n", 100)), errFieldsMany},
		{"head", get("A: " + strings.Repeat("a", 64<<10) + "\r\n"), errHeadLong},
		{"unfinished head", "GET / HTTP/1.1\r\nA: " + strings.Repeat("a", 64<<10), errHeadLong},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r Request
			if n, err := parseRequestHead([]byte(tt.in), testLimits, &r); err != error(tt.want) || n != 0 {
				t.Errorf("= %d, %v; want %v", n, err, tt.want)
			}
		})
	}
}

func TestHeadScan(t *testing.T) {
	// However a head is cut into pieces, it is found complete at its last byte, and a byte costs no new search of all.
	in := "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n"
	for first := 1; first < len(in); first++ {
		var h headScan
		parses := 0
		for i := first; i <= len(in); i++ {
			if !h.worthParsing([]byte(in[:i]), testLimits) {
				continue
			}
			parses++
			var r Request
			n, err := parseRequestHead([]byte(in[:i]), testLimits, &r)
			if err != nil || (n > 0) != (i == len(in)) {
				t.Fatalf("first %d, at %d: %d, %v", first, i, n, err)
			}
			if n == 0 {
				h.parsed([]byte(in[:i]))
			}
		}
		if parses > 3 {
			t.Errorf("first %d: %d parses", first, parses)
		}
	}
	var h headScan
	h.parsed([]byte("GET / HTTP/1.1\r\nA: b"))
	if !h.worthParsing([]byte("GET / HTTP/1.1\r\nA: b\n"), testLimits) {
		t.Error("a bare LF is not looked at before the head's end")
	}
}
