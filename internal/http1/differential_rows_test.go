package http1

import (
	"fmt"
	"strings"
)

// row is one request of the differential test.
type row struct {
	name, raw string
	status    int    // what this engine answers, 0: as net/http
	why       string // why it differs from net/http, "" when it does not
}

// Reasons to differ, all for the sake of one reading of a message.
const (
	whyLF       = "RFC 9112 §2.2 only allows a lone LF to be taken for a line end; proxies that do not then see another message"
	whyTarget   = "RFC 9112 §3.2: the form is not one that this method may have"
	whyFragment = "RFC 9110 §7.1: a fragment is no part of a request target"
	whyScheme   = "RFC 9110 §4.2: only http and https are served"
	whyUserinfo = "RFC 9110 §4.2.4: userinfo in a target is deprecated and used to deceive"
	whyLengths  = "RFC 9110 §8.6 allows repeated equal lengths to be refused"
	whyBoth     = "RFC 9112 §6.1: length and coding together are the sign of smuggling"
	whyCoding10 = "RFC 9112 §6.1: a coding in HTTP/1.0 is faulty framing"
	whyChunk    = "RFC 9112 §7.1: no white space beside a chunk size"
	whyEmpty    = "RFC 9112 §2.2: an empty line before the request line is skipped"
	whyConnect  = "there is no tunnel, so what follows a CONNECT is not read"
	whyLong     = "limits differ"
	whyPreface  = "RFC 9113 §3.4: the preface is made to fail in a server of HTTP/1"
	whyFold     = "RFC 9112 §5.2: a folded line is refused or mended; refusing leaves one reading"
	whyTrailer  = "RFC 9112 §7.1.2: trailers are held to the grammar of fields, though they are dropped"
	whyExpect   = "RFC 9110 §10.1.1: only 100-continue is known"
	whyClose    = "RFC 9112 §9.3: close wins over keep-alive, in HTTP/1.0 too"
)

func differentialRows() []row {
	var rows []row
	add := func(name, raw string) { rows = append(rows, row{name: name, raw: raw}) }
	differ := func(name, raw string, status int, why string) { rows = append(rows, row{name, raw, status, why}) }
	addTargets(add, differ)
	addFields(add, differ)
	addFraming(add, differ)
	addChunks(add, differ)
	addConnection(add, differ)
	addLines(add, differ)
	return rows
}

type (
	adder    func(name, raw string)
	differer func(name, raw string, status int, why string)
)

func get(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n" }

func field(line string) string { return "GET /f HTTP/1.1\r\nHost: h\r\n" + line + "\r\n\r\n" }

func post(fields, body string) string {
	return "POST /p HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n\r\n" + body
}

func addTargets(add adder, differ differer) {
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "MOVE", "MKCOL", "get", "M-SEARCH", "X!#$%&'*+.^_`|~"} {
		for _, v := range []string{"1.0", "1.1"} {
			add("method "+m+" "+v, m+" /m HTTP/"+v+"\r\nHost: h\r\n\r\n")
		}
	}
	for _, c := range []byte("()<>@,;:\\\"/[]?={} \t\x00\x01\x7f\x80\xff") {
		add(fmt.Sprintf("method with %q", c), "G"+string(rune(c))+"T / HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	for c := 1; c < 256; c++ {
		if c == '\n' || c == '#' || c >= 0x84 && c < 0xfe {
			continue
		}
		add(fmt.Sprintf("target with %q", byte(c)), "GET /a"+string([]byte{byte(c)})+"b HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	for _, s := range []string{
		"/", "//", "//a/b", "/a/../b", "/a?b", "/?", "/??", "/a?b?c", "/%41", "/%2f", "/%00", "/%zz", "/%4", "/%", "/a?%zz", "/a;b=c",
		"/a:b", "/a@b", "http://e.org/", "http://e.org", "http://e.org?q", "http://e.org:8080/a?b", "HTTP://E.org/a", "https://e.org/a",
		"http://[::1]/a", "http://[::1]:80/a", "http://e.org:x/", "http://e.org/%zz", "http://[::1/a", "a", "a/b", "?q", "",
		"://a", "/é", "/a%20b", "/a+b", "/~a/b!$&'()*,=",
	} {
		add("target "+s, get(s))
	}
	for _, s := range []string{"*", "ftp://e.org/", "x:y", "http:/a", "http:a"} {
		why := whyTarget
		if strings.Contains(s, "ftp") {
			why = whyScheme
		}
		differ("target "+s, get(s), 400, why)
	}
	differ("target userinfo", get("http://u:p@e.org/"), 400, whyUserinfo)
	differ("target without host", get("http:///a"), 400, whyTarget)
	differ("target fragment", get("/a#b"), 400, whyFragment)
	add("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
	differ("CONNECT", "CONNECT e.org:443 HTTP/1.1\r\nHost: h\r\n\r\n", 200, whyConnect)
	differ("CONNECT path", "CONNECT /a HTTP/1.1\r\nHost: h\r\n\r\n", 400, whyTarget)
	differ("CONNECT without port", "CONNECT e.org HTTP/1.1\r\nHost: h\r\n\r\n", 400, whyTarget)
	for _, v := range []string{
		"HTTP/1.2", "HTTP/1.9", "HTTP/1.10", "HTTP/01.1", "HTTP/1,1", "HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/11",
		"http/1.1", "Http/1.1", "HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/a.b", "HTTP/-1.1", "HTTPS/1.1", "HTTP/1.1 ", "HTTP /1.1", "HTTP/1.1a", "",
	} {
		add("version "+v, "GET / "+v+"\r\nHost: h\r\n\r\n")
	}
}

func addFields(add adder, differ differer) {
	for _, c := range []byte("()<>@,;\\\"/[]?={} \t\x00\x01\x0b\x0c\x1f\x7f\x80\xff!#$%&'*+-.^_`|~9") {
		add(fmt.Sprintf("name with %q", c), "GET / HTTP/1.1\r\nHost: h\r\nA"+string([]byte{c})+"B: v\r\n\r\n")
	}
	for c := range 256 {
		if c == '\n' || c > ' ' && c < 0x7f || c > 0x82 && c < 0xfe {
			continue
		}
		add(fmt.Sprintf("value with %q", byte(c)), "GET / HTTP/1.1\r\nHost: h\r\nA: x"+string([]byte{byte(c)})+"y\r\n\r\n")
	}
	for _, s := range []string{
		"A:", "A: ", "A:\t", "A:b", "A: b ", "A:  b\t", "A: b: c", ":", ": b", " A: b", "\tA: b", "A : b", "A\t: b",
		"A", "A b", "A: \"b\"", "A: (b)", "a: 1\r\nA: 2", "Cookie: a=b; c=d", "Host2: x",
	} {
		add("field "+s, field(s))
	}
	for _, s := range []string{"A: b\r\n c", "A: b\r\n\tc", "A: b\r\n \r\nC: d", "A:\r\n b"} {
		differ("field "+s, field(s), 400, whyFold)
	}
	for _, s := range []string{
		"e.org", "e.org:80", "127.0.0.1", "[::1]", "[::1]:80", "E.ORG", "a-b_c.d", "", " e.org ", "e.org:", "a b", "a\tb", "a/b",
		"a?b", "a#b", "a,b", "a\\b", "a\"b", "<a>", "a^b", "a{b", "a|b", "a`b", "ä.org", "a;b", "a=b", "a%41",
	} {
		add("host "+s, "GET / HTTP/1.1\r\nHost: "+s+"\r\n\r\n")
	}
	add("no host", "GET / HTTP/1.1\r\n\r\n")
	add("no host in 1.0", "GET / HTTP/1.0\r\n\r\n")
	add("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")
	add("host twice in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n")
	add("host and absolute-form", "GET http://e.org/a HTTP/1.1\r\nHost: other\r\n\r\n")
	add("absolute-form without host", "GET http://e.org/a HTTP/1.1\r\n\r\n")
	add("host in lower case", "GET / HTTP/1.1\r\nhost: h\r\n\r\n")
	add("90 fields", "GET / HTTP/1.1\r\nHost: h\r\n"+strings.Repeat("A: b\r\n", 90)+"\r\n")
	differ("101 fields", "GET / HTTP/1.1\r\nHost: h\r\n"+strings.Repeat("A: b\r\n", 100)+"\r\n", 431, whyLong)
	add("large head", "GET / HTTP/1.1\r\nHost: h\r\nA: "+strings.Repeat("a", 40<<10)+"\r\n\r\n")
	add("too large a head", "GET / HTTP/1.1\r\nHost: h\r\nA: "+strings.Repeat("a", 70<<10)+"\r\n\r\n")
	add("long target", get("/"+strings.Repeat("a", 8000)))
	differ("too long a target", get("/"+strings.Repeat("a", 9000)), 414, whyLong)
	differ("too long a method", strings.Repeat("A", 65)+" / HTTP/1.1\r\nHost: h\r\n\r\n", 501, whyLong)
}

func addFraming(add adder, differ differer) {
	for _, s := range []string{
		"5", "0", "05", "00000000000000000005", "5 ", " 5", "+5", "-5", "-0", "0x5", "5.0", "5e0", "5a", "a", "", " ", "5 5", "5\t5",
		"9223372036854775808", "99999999999999999999", "18446744073709551621", "5;a", "\"5\"", "1_0", "٥",
	} {
		add("length "+s, post("Content-Length: "+s, "hello"))
	}
	for _, s := range []string{
		"chunked", "Chunked", "CHUNKED", " chunked ", "\tchunked", "gzip", "identity", "gzip, chunked", "chunked, gzip", "chunked, chunked",
		"chunked,", ",chunked", "", "chunked;a=b", "\"chunked\"", "xchunked", "chunkedx", "chunked identity", "chu nked", "identity, chunked", "deflate", "compress",
		"chunked\x00", "chunked\x0b", "trailers",
	} {
		add("coding "+s, post("Transfer-Encoding: "+s, "5\r\nhello\r\n0\r\n\r\n"))
	}
	add("coding twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"))
	add("coding twice, other", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"))
	add("coding with space before colon", post("Transfer-Encoding : chunked", "0\r\n\r\n"))
	differ("coding folded", post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"), 400, whyFold)
	add("coding with other name", post("Transfer_Encoding: chunked\r\nContent-Length: 5", "hello"))
	differ("coding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, whyCoding10)
	differ("length and coding", post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400, whyBoth)
	differ("coding and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"), 400, whyBoth)
	add("lengths that differ", post("Content-Length: 5\r\nContent-Length: 6", "hello!"))
	differ("lengths that agree", post("Content-Length: 5\r\nContent-Length: 5", "hello"), 400, whyLengths)
	add("length list", post("Content-Length: 5, 5", "hello"))
	add("length with other name", post("Content_Length: 5", ""))
	add("length too short", post("Content-Length: 4", "hello"))
	add("length too long", post("Content-Length: 500", "hello"))
	add("GET with body", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
	add("HEAD with body", "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
	add("DELETE with chunked body", "DELETE / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
	add("POST without length", post("A: b", ""))
	add("1.0 with length", "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
	for _, s := range []string{"100-continue", "100-Continue"} {
		add("expect "+s, post("Expect: "+s+"\r\nContent-Length: 5", "hello"))
		add("expect in 1.0 "+s, "POST / HTTP/1.0\r\nExpect: "+s+"\r\nContent-Length: 5\r\n\r\nhello")
	}
	for _, s := range []string{"200-ok", "100", "x"} {
		add("expect "+s, post("Expect: "+s+"\r\nContent-Length: 5", "hello"))
	}
	differ("expect a list", post("Expect: 100-continue, x\r\nContent-Length: 5", "hello"), 417, whyExpect)
}

func addChunks(add adder, differ differer) {
	bodies := map[string]string{
		"one": "5\r\nhello\r\n0\r\n\r\n", "none": "0\r\n\r\n", "two": "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "upper case": "A\r\n0123456789\r\n0\r\n\r\n",
		"leading zeros": "0005\r\nhello\r\n000\r\n\r\n", "extension": "5;a=b\r\nhello\r\n0\r\n\r\n", "extension quoted": "5;a=\"b c\"\r\nhello\r\n0\r\n\r\n",
		"extension alone": "5;\r\nhello\r\n0;\r\n\r\n", "trailer": "5\r\nhello\r\n0\r\nA: b\r\n\r\n", "two trailers": "0\r\nA: b\r\nC: d\r\n\r\n",
		"no size": "\r\nhello\r\n0\r\n\r\n", "not hex": "g\r\n\r\n0\r\n\r\n", "0x": "0x5\r\nhello\r\n0\r\n\r\n", "plus": "+5\r\nhello\r\n0\r\n\r\n",
		"minus": "-5\r\nhello\r\n0\r\n\r\n", "space before": " 5\r\nhello\r\n0\r\n\r\n", "too short": "4\r\nhello\r\n0\r\n\r\n", "too long": "6\r\nhello\r\n0\r\n\r\n",
		"overflow": "10000000000000005\r\nhello\r\n0\r\n\r\n", "huge": "fffffffffffffffff\r\nhello\r\n0\r\n\r\n", "huge zeros": strings.Repeat("0", 17) + "5\r\nhello\r\n0\r\n\r\n",
		"no end": "5\r\nhello\r\n", "no last CRLF": "5\r\nhello\r\n0\r\n", "data without CRLF": "5\r\nhello0\r\n\r\n", "bare CR": "5\rhello\r\n0\r\n\r\n",
		"trailer without colon": "0\r\nabc\r\n\r\n", "trailer folded": "0\r\nA: b\r\n c\r\n\r\n", "trailer space": "0\r\nA : b\r\n\r\n", "NUL": "5\x00\r\nhello\r\n0\r\n\r\n",
		"semicolon in size": "5;5\r\nhello\r\n0\r\n\r\n", "comma": "5,5\r\nhello\r\n0\r\n\r\n", "underscore": "0_5\r\nhello\r\n0\r\n\r\n", "empty chunk line": "5\r\nhello\r\n\r\n0\r\n\r\n",
		"long extension": "5;" + strings.Repeat("a", 5000) + "\r\nhello\r\n0\r\n\r\n", "bare LF after data": "5\r\nhello\n0\r\n\r\n",
		"space after": "5 \r\nhello\r\n0\r\n\r\n", "tab after": "5\t\r\nhello\r\n0\r\n\r\n", "space before extension": "5 ;a\r\nhello\r\n0\r\n\r\n",
		"bare LF after size": "5\nhello\r\n0\r\n\r\n", "bare LF at the end": "5\r\nhello\r\n0\n\n", "bare LF in extension": "5;a\nhello\r\n0\r\n\r\n",
		"long extension of 300": "5;" + strings.Repeat("a", 300) + "\r\nhello\r\n0\r\n\r\n", "bare LF in trailer": "0\r\nA: b\n\r\n", "CR in extension": "5;a\rb\r\nhello\r\n0\r\n\r\n",
	}
	differs := map[string]string{
		"space after": whyChunk, "tab after": whyChunk, "bare LF in trailer": whyLF, "trailer folded": whyFold, "trailer space": whyTrailer,
		"long extension of 300": whyLong,
	}
	for name, b := range bodies {
		raw := post("Transfer-Encoding: chunked", b)
		if why := differs[name]; why != "" {
			differ("chunks: "+name, raw, 400, why)
		} else {
			add("chunks: "+name, raw)
		}
	}
}

func addConnection(add adder, differ differer) {
	for _, v := range []string{"1.0", "1.1"} {
		for _, s := range []string{
			"close", "Close", "keep-alive", "Keep-Alive", "close, keep-alive", "keep-alive, close", "x", "x, close", "close,x", "closed", "Upgrade", "", ",", "te",
			"close\r\nConnection: keep-alive", "keep-alive\r\nConnection: close",
		} {
			raw := "GET / HTTP/" + v + "\r\nHost: h\r\nConnection: " + s + "\r\n\r\n"
			if v == "1.0" && strings.Contains(s, "keep-alive") && strings.Contains(s, "close") && !strings.HasPrefix(s, "close\r") {
				differ("connection "+s+" "+v, raw, 200, whyClose)
			} else {
				add("connection "+s+" "+v, raw)
			}
		}
		add("no connection "+v, "GET / HTTP/"+v+"\r\nHost: h\r\n\r\n")
		add("connection close with body "+v, "POST / HTTP/"+v+"\r\nHost: h\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
		add("connection keep-alive with body "+v, "POST / HTTP/"+v+"\r\nHost: h\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi")
		add("proxy-connection "+v, "GET / HTTP/"+v+"\r\nHost: h\r\nProxy-Connection: keep-alive\r\n\r\n")
	}
}

func addLines(add adder, differ differer) {
	add("two SP after method", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n")
	add("two SP before version", "GET /  HTTP/1.1\r\nHost: h\r\n\r\n")
	add("SP in front", " GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	add("SP at the end", "GET / HTTP/1.1 \r\nHost: h\r\n\r\n")
	add("TAB for SP", "GET\t/\tHTTP/1.1\r\nHost: h\r\n\r\n")
	add("HTTP/0.9", "GET /\r\n\r\n")
	add("only a method", "GET\r\n\r\n")
	add("nonsense", "xyz\r\n\r\n")
	add("NUL in front", "\x00GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	add("CR in front", "\rGET / HTTP/1.1\r\nHost: h\r\n\r\n")
	add("CR CR LF", "GET / HTTP/1.1\r\r\nHost: h\r\n\r\n")
	add("CR in value", "GET / HTTP/1.1\r\nHost: h\r\nA: b\rC: d\r\n\r\n")
	add("CR at a value's end", "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\r\n\r\n")
	add("TLS", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n")
	differ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, whyPreface)
	add("response", "HTTP/1.1 200 OK\r\nHost: h\r\n\r\n")
	differ("LF", "GET / HTTP/1.1\nHost: h\n\n", 400, whyLF)
	differ("LF after request line", "GET / HTTP/1.1\nHost: h\r\n\r\n", 400, whyLF)
	differ("LF after field", "GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", 400, whyLF)
	differ("LF after head", "GET / HTTP/1.1\r\nHost: h\r\n\n", 400, whyLF)
	differ("one empty line in front", "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 200, whyEmpty)
	differ("two empty lines in front", "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 200, whyEmpty)
	add("three empty lines in front", "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
	add("LF in front", "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
}
