package http1

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseResponseHead(t *testing.T) {
	tests := []struct {
		name, method, in string
		want             string // status|reason|minor|length|kind|close
	}{
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200|OK|1|5|1|false"},
		{"length 0", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200|OK|1|0|0|false"},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "200|OK|1|-1|2|false"},
		{"until close", "GET", "HTTP/1.1 200 OK\r\n\r\n", "200|OK|1|-1|3|true"},
		{"close", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", "200|OK|1|5|1|true"},
		{"1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", "200|OK|0|5|1|true"},
		{"1.0 keep-alive", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", "200|OK|0|5|1|false"},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200|OK|1|5|0|false"},
		{"HEAD without length", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", "200|OK|1|-1|0|false"},
		{"HEAD chunked", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "200|OK|1|-1|0|false"},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", "204|No Content|1|0|0|false"},
		{"204 with length", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "204|No Content|1|0|0|true"},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "304|Not Modified|1|5|0|false"},
		{"no reason", "GET", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "200||1|0|0|false"},
		{"no reason, no space", "GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200||1|0|0|false"},
		{"odd status", "GET", "HTTP/1.1 799 \xfc ?\r\nContent-Length: 0\r\n\r\n", "799|\xfc ?|1|0|0|false"},
		{"100", "GET", "HTTP/1.1 100 Continue\r\n\r\n", "100|Continue|1|0|0|false"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r Response
			n, err := parseResponseHead([]byte(tt.in+"rest"), testLimits, tt.method, &r)
			if err != nil || n != len(tt.in) {
				t.Fatalf("= %d, %v; want %d", n, err, len(tt.in))
			}
			got := fmt.Sprintf("%d|%s|%d|%d|%d|%v", r.Status, r.Reason, r.Minor, r.ContentLength, r.kind, r.close)
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			for i := range len(tt.in) {
				if n, err := parseResponseHead([]byte(tt.in[:i]), testLimits, tt.method, &r); n != 0 || err != nil {
					t.Fatalf("of the first %d bytes = %d, %v; want 0, nil", i, n, err)
				}
			}
		})
	}
}

func TestParseResponseHeadRefuses(t *testing.T) {
	tests := []struct {
		in   string
		want *Error
	}{
		{"HTTP/1.1 200 OK\nContent-Length: 0\n\n", errBareLF},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\n\n", errBareLF},
		{"HTTP/1.1  200 OK\r\n\r\n", errStatusLine},
		{"HTTP/1.1 20 OK\r\n\r\n", errStatusLine},
		{"HTTP/1.1 2000 OK\r\n\r\n", errStatusLine},
		{"HTTP/1.1 099 OK\r\n\r\n", errStatusLine},
		{"HTTP/1.1 +20 OK\r\n\r\n", errStatusLine},
		{"HTTP/1.1 200 O\x00K\r\n\r\n", errStatusLine},
		{"HTTP/1.1 200 O\rK\r\n\r\n", errBareCR},
		{"HTTP/2.0 200 OK\r\n\r\n", errVersionOther},
		{"ICY 200 OK\r\n\r\n", errStatusLine},
		{"http/1.1 200 OK\r\n\r\n", errVersion},
		{strings.Repeat("H", 9000), errStatusLine},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", errLengths},
		{"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", errLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", errLengthCoding},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", errCoding},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", errCodingOld},
		{"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", errFieldSpace},
		{"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", errObsFold},
		{"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 101) + "\r\n", errFieldsMany},
	}
	for _, tt := range tests {
		var r Response
		n, err := parseResponseHead([]byte(tt.in), testLimits, "GET", &r)
		e, ok := err.(*Error)
		if n != 0 || !ok || e.Status != 502 || e.Reason != tt.want.Reason {
			t.Errorf("%.60q = %d, %v; want 502 %q", tt.in, n, err, tt.want.Reason)
		}
	}
}
