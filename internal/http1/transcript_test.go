package http1

import (
	"io"
	"strings"
	"testing"
)

// site is a handler with one path for each way to answer.
var site = HandlerFunc(func(x Exchange) {
	switch string(x.Request().Path) {
	case "/reply":
		x.Header().Set("Content-Type", "text/plain")
		x.Reply(200, []byte("hello"))
	case "/fields":
		h := x.Header()
		h.Set("Content-Length", "99")
		h.Set("Transfer-Encoding", "chunked")
		h.Set("Keep-Alive", "x")
		h.Set("X-Evil", "a\r\nSet-Cookie: b")
		x.Reply(200, nil)
	case "/close":
		x.Header().Set("Connection", "close")
		x.Reply(200, nil)
	case "/fixed":
		x.Start(200, 6)
		io.WriteString(x, "one")
		io.WriteString(x, "two")
	case "/chunked":
		x.Start(200, -1)
		io.WriteString(x, "one")
		io.WriteString(x, "two")
		x.Flush()
		io.WriteString(x, "three")
	case "/chunked-empty":
		x.Start(200, -1)
	case "/readfrom":
		x.Start(200, 5)
		x.ReadFrom(strings.NewReader("hello, and more"))
	case "/readfrom-chunked":
		x.Start(200, -1)
		x.ReadFrom(strings.NewReader("hello"))
	case "/204":
		x.Reply(204, nil)
	case "/304":
		x.Header().Set("ETag", `"a"`)
		x.Reply(304, nil)
	case "/304-size":
		x.Start(304, 5)
	case "/799":
		x.Reply(799, nil)
	case "/nothing":
	case "/short":
		x.Start(200, 10)
		io.WriteString(x, "short")
	case "/abort":
		x.Start(200, -1)
		io.WriteString(x, "part")
		x.Abort()
	case "/panic":
		panic("on purpose")
	case "/panic-late":
		x.Start(200, -1)
		io.WriteString(x, "part")
		x.Flush()
		panic("on purpose")
	case "/early":
		x.Reply(403, []byte("no"))
	case "/body":
		echo(x)
	default:
		x.Reply(404, nil)
	}
})

func TestTranscripts(t *testing.T) {
	_, addr := serve(t, site, Options{Server: "wh"})
	tests := []struct{ name, in, want string }{
		{
			"reply", "GET /reply HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
		},
		{
			"HEAD", "HEAD /reply HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n",
		},
		{
			"engine's fields", "GET /fields HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nX-Evil: a  Set-Cookie: b\r\nContent-Length: 0\r\n\r\n",
		},
		{
			"close by handler", "GET /close HTTP/1.1\r\nHost: h\r\n\r\nGET /reply HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		},
		{
			"close by client", "GET /204 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /reply HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 204 No Content\r\nServer: wh\r\nConnection: close\r\n\r\n",
		},
		{
			"fixed", "GET /fixed HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nContent-Length: 6\r\n\r\nonetwo",
		},
		{
			"chunked", "GET /chunked HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nTransfer-Encoding: chunked\r\n\r\n000006\r\nonetwo\r\n000005\r\nthree\r\n0\r\n\r\n",
		},
		{
			"chunked, empty", "GET /chunked-empty HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		},
		{
			"chunked, HEAD", "HEAD /chunked HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\n\r\n",
		},
		{
			"chunked, 1.0", "GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nConnection: close\r\n\r\nonetwothree",
		},
		{
			"ReadFrom", "GET /readfrom HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nContent-Length: 5\r\n\r\nhello",
		},
		{
			"ReadFrom, HEAD", "HEAD /readfrom HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nContent-Length: 5\r\n\r\n",
		},
		{
			"ReadFrom, chunked", "GET /readfrom-chunked HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nTransfer-Encoding: chunked\r\n\r\n000005\r\nhello\r\n0\r\n\r\n",
		},
		{
			"ReadFrom, chunked HEAD", "HEAD /readfrom-chunked HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\n\r\n",
		},
		{
			"304", "GET /304 HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 304 Not Modified\r\nServer: wh\r\nETag: \"a\"\r\n\r\n",
		},
		{
			"304 with size", "GET /304-size HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 304 Not Modified\r\nServer: wh\r\nContent-Length: 5\r\n\r\n",
		},
		{
			"nameless status", "GET /799 HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 799 \r\nServer: wh\r\nContent-Length: 0\r\n\r\n",
		},
		{
			"1.0", "GET /reply HTTP/1.0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
		},
		{
			"1.0 keep-alive", "GET /fixed HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nContent-Length: 6\r\nConnection: keep-alive\r\n\r\nonetwo",
		},
		{
			"no answer", "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 500 Internal Server Error\r\nServer: wh\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 58\r\n\r\n" +
				"500 Internal Server Error: the request was not answered\n",
		},
		{
			"short answer", "GET /short HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nContent-Length: 10\r\n\r\nshort",
		},
		{
			"abort", "GET /abort HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nTransfer-Encoding: chunked\r\n\r\n000004\r\npart\r\n",
		},
		{
			"panic", "GET /panic HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 500 Internal Server Error\r\nServer: wh\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 60\r\n" +
				"Connection: close\r\n\r\n500 Internal Server Error: the request could not be handled\n",
		},
		{
			"panic in mid-answer", "GET /panic-late HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nTransfer-Encoding: chunked\r\n\r\n000004\r\npart\r\n",
		},
		{
			"body", "PUT /body HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nContent-Length: 15\r\n\r\nPUT /body hello",
		},
		{
			"chunked body, pipelined", "PUT /body HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" +
				"2;x\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: dropped\r\n\r\nGET /204 HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nContent-Length: 15\r\n\r\nPUT /body hello" +
				"HTTP/1.1 204 No Content\r\nServer: wh\r\n\r\n",
		},
		{
			"broken chunks", "PUT /body HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
			"HTTP/1.1 400 Bad Request\r\nServer: wh\r\nContent-Length: 57\r\nConnection: close\r\n\r\n" +
				"a chunk size is not a hexadecimal number, or too large",
		},
		{
			"unread body is skipped", "PUT /204 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET /204 HTTP/1.1\r\nHost: h\r\n\r\n",
			strings.Repeat("HTTP/1.1 204 No Content\r\nServer: wh\r\n\r\n", 2),
		},
		{
			"unread body is too large to skip", "PUT /early HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nhello",
			"HTTP/1.1 403 Forbidden\r\nServer: wh\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
		},
		{
			"unread chunks, all there", "PUT /early HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" +
				"GET /204 HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 403 Forbidden\r\nServer: wh\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 204 No Content\r\nServer: wh\r\n\r\n",
		},
		{
			"unread chunks, more to come", "PUT /early HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
			"HTTP/1.1 403 Forbidden\r\nServer: wh\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
		},
		{
			"expect, body at once", "PUT /body HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
			"HTTP/1.1 200 OK\r\nServer: wh\r\nContent-Length: 15\r\n\r\nPUT /body hello",
		},
		{
			"expect, refused", "PUT /early HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
			"HTTP/1.1 403 Forbidden\r\nServer: wh\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
		},
		{
			"expect, refused, body there", "PUT /early HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello" +
				"GET /204 HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 403 Forbidden\r\nServer: wh\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 204 No Content\r\nServer: wh\r\n\r\n",
		},
		{
			"pipeline", strings.Repeat("\r\nGET /204 HTTP/1.1\r\nHost: h\r\n\r\n", 3),
			strings.Repeat("HTTP/1.1 204 No Content\r\nServer: wh\r\n\r\n", 3),
		},
		{
			"refused after good", "GET /204 HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\n\r\nGET /204 HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 204 No Content\r\nServer: wh\r\n\r\nHTTP/1.1 400 Bad Request\r\nServer: wh\r\n" +
				"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 43\r\nConnection: close\r\n\r\n" +
				"400 Bad Request: the Host field is missing\n",
		},
		{"HTTP/0.9 by pieces", "GET /\r\n", "HTTP/1.1 400 Bad Request\r\nServer: wh\r\nContent-Type: text/plain; charset=utf-8\r\n" +
			"Content-Length: 73\r\nConnection: close\r\n\r\n400 Bad Request: the request line is not METHOD SP TARGET SP VERSION\n"},
		{"TLS on a plain port", "\x16\x03\x01\x00\xff", "HTTP/1.1 400 Bad Request\r\nServer: wh\r\nContent-Type: text/plain; charset=utf-8\r\n" +
			"Content-Length: 45\r\nConnection: close\r\n\r\n400 Bad Request: the method is not a token\n"},
		{"nothing", "", ""},
		{"half a head", "GET / HT", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := fixLengths(tt.want)
			if got := noDate(talk(t, addr, tt.in, true)); got != want {
				t.Errorf("\n%sgot\n%swant\n%s", transcript("C: ", tt.in), transcript("S: ", got), transcript("S: ", want))
			}
		})
	}
}

// fixLengths corrects the Content-Length of the engine's own answers, which nobody should have to count.
func fixLengths(s string) string {
	head, body, ok := strings.Cut(s, "\r\n\r\n")
	if !ok || !strings.HasSuffix(body, "\n") && !strings.HasPrefix(body, "a chunk size") || strings.Contains(body, "\r\n") {
		return s
	}
	a, rest, _ := strings.Cut(head, "Content-Length: ")
	_, rest, _ = strings.Cut(rest, "\r\n")
	if rest != "" {
		rest = "\r\n" + rest
	}
	return a + "Content-Length: " + itoa(len(body)) + rest + "\r\n\r\n" + body
}

func itoa(n int) string { return string(appendDecimal(nil, n)) }

func appendDecimal(b []byte, n int) []byte {
	if n >= 10 {
		b = appendDecimal(b, n/10)
	}
	return append(b, byte('0'+n%10))
}
