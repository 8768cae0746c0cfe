package web_test

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wheelhouse/balancer/balancertest"
)

func TestGet(t *testing.T) {
	dir := docroot(t, map[string]string{
		"a.txt": "0123456789", "b.html": "<b>", "empty": "", "sub/index.html": "index", "list/x & <y>.txt": "x", "list/inner/": "",
		"deep/er/file.unknown": "?", "sp ace+plus.txt": "sp", "UP.HTML": "up",
	})
	must(t, os.Symlink("a.txt", filepath.Join(dir, "inside")))
	must(t, os.Symlink("../../etc/passwd", filepath.Join(dir, "outside")))
	must(t, os.Symlink("/etc", filepath.Join(dir, "etc")))
	must(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	b := start(t, dir, "SET dirindexing = on")
	for _, v := range []struct {
		method, target string
		status         int
		kind, body     string
	}{
		{"GET", "/a.txt", 200, "text/plain", "0123456789"},
		{"HEAD", "/a.txt", 200, "text/plain", ""},
		{"GET", "/a.txt?x=1", 200, "text/plain", "0123456789"},
		{"GET", "/b.html", 200, "text/html", "<b>"},
		{"GET", "/UP.HTML", 200, "text/html", "up"},
		{"GET", "/empty", 200, "text/plain", ""},
		{"GET", "/deep/er/file.unknown", 200, "text/plain", "?"},
		{"GET", "//deep//er/./file.unknown", 200, "text/plain", "?"},
		{"GET", "/deep%2Fer%2ffile.unknown", 200, "text/plain", "?"},
		{"GET", "/%61.txt", 200, "text/plain", "0123456789"},
		{"GET", "/sp%20ace+plus.txt", 200, "text/plain", "sp"},
		{"GET", "/sub/", 200, "text/html", "index"},
		{"GET", "/inside", 200, "text/plain", "0123456789"},
		{"GET", "/sub", 301, "text/html", "<h1>301 - Permanent Redirect</h1>\n"},
		{"GET", "/none", 404, "text/html", "<h1>404 - Not Found</h1>\n"},
		{"GET", "/a.txt/", 404, "text/html", "<h1>404 - Not Found</h1>\n"},
		{"GET", "/a.txt/b", 404, "text/html", "<h1>404 - Not Found</h1>\n"},
		{"GET", "/outside", 404, "text/html", "<h1>404 - Not Found</h1>\n"},
		{"GET", "/etc/passwd", 404, "text/html", "<h1>404 - Not Found</h1>\n"},
		{"GET", "/fifo", 404, "text/html", "<h1>404 - Not Found</h1>\n"},
		{"GET", "/" + strings.Repeat("n", 300), 404, "text/html", "<h1>404 - Not Found</h1>\n"},
		{"GET", "/../a.txt", 403, "text/html", "<h1>403 - Forbidden</h1>\nBogus URL"},
		{"GET", "/sub/%2e%2e/a.txt", 403, "text/html", "<h1>403 - Forbidden</h1>\nBogus URL"},
		{"GET", "/sub/..", 403, "text/html", "<h1>403 - Forbidden</h1>\nBogus URL"},
		{"GET", "/sub/..%2fa.txt", 403, "text/html", "<h1>403 - Forbidden</h1>\nBogus URL"},
		{"GET", "/a.txt%00.html", 400, "text/html", "<h1>400 - Bad request</h1>\n"},
		{"MKCOL", "/new", 400, "text/html", "<h1>400 - Bad request</h1>\n"},
		{"PUT", "/new", 403, "text/html", "<h1>403 - Forbidden</h1>\n"},
		{"DELETE", "/a.txt", 403, "text/html", "<h1>403 - Forbidden</h1>\n"},
		{"GET", "/list/", 200, "text/html; charset=utf-8", "<html><body><b><a href='/list/./'>.</a></b><br />\n" +
			"<b><a href='/list/../'>..</a></b><br />\n<b><a href='/list/inner/'>inner</a></b><br />\n" +
			"<a href='/list/x%20%26%20%3Cy%3E.txt'>x &amp; &lt;y&gt;.txt</a><br />\n</body></html>"},
	} {
		// net/http's client would clean the paths.
		raw := balancertest.Send(t, b.Addr("w"), fmt.Sprintf("%s %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", v.method, v.target), 20*time.Second)
		head, body, _ := strings.Cut(raw, "\r\n\r\n")
		if want := fmt.Sprintf("HTTP/1.1 %d ", v.status); !strings.HasPrefix(head, want) {
			t.Errorf("%s %s: %q; want %s", v.method, v.target, head, want)
			continue
		}
		if !strings.Contains(head+"\r\n", "\r\nContent-Type: "+v.kind+"\r\n") || !strings.Contains(head+"\r\n", "\r\nServer: Perlbal\r\n") {
			t.Errorf("%s %s: head %q; want Content-Type: %s and a Server", v.method, v.target, head, v.kind)
		}
		if body != v.body {
			t.Errorf("%s %s: body %q; want %q", v.method, v.target, body, v.body)
		}
	}
}

func TestRedirectStaysHere(t *testing.T) {
	b := start(t, docroot(t, map[string]string{"sub/index.html": "i"}), "")
	for target, want := range map[string]string{"/sub?a=b": "/sub/?a=b", "//sub": "/sub/", "/./sub": "/./sub/"} {
		raw := balancertest.Send(t, b.Addr("w"), "GET "+target+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 20*time.Second)
		if !strings.Contains(raw, "\r\nLocation: "+want+"\r\n") {
			t.Errorf("GET %s: %q; want Location: %s", target, raw, want)
		}
	}
}

func TestListingIsOffUnlessAskedFor(t *testing.T) {
	b := start(t, docroot(t, map[string]string{"sub/x": "x"}), "")
	a := ask(t, "GET", b.URL("w", "/sub/"), "")
	if a.status != 403 || !strings.HasSuffix(a.body, "\nDirectory listing disabled") {
		t.Errorf("%d %q; want 403, Directory listing disabled", a.status, a.body)
	}
	b.Do("SET w.index_files = y, x")
	if a = ask(t, "GET", b.URL("w", "/sub/"), ""); a.status != 200 || a.body != "x" {
		t.Errorf("%d %q; want the second index file", a.status, a.body)
	}
}

func TestMIMECommand(t *testing.T) {
	b := start(t, docroot(t, map[string]string{"a.foo": "x", "a.gif": "x"}), "MIME set foo application/x-foo\nMIME remove gif")
	for path, want := range map[string]string{"/a.foo": "application/x-foo", "/a.gif": "text/plain"} {
		if got := ask(t, "GET", b.URL("w", path), "").header.Get("Content-Type"); got != want {
			t.Errorf("%s: %q; want %q", path, got, want)
		}
	}
	b.Do("MIME set foo text/foo")
	if got := ask(t, "GET", b.URL("w", "/a.foo"), "").header.Get("Content-Type"); got != "text/foo" {
		t.Errorf("after MIME set: %q; want text/foo", got)
	}
}

func TestConditions(t *testing.T) {
	b := start(t, docroot(t, map[string]string{"a": "0123456789"}), "")
	first := ask(t, "GET", b.URL("w", "/a"), "")
	tag := first.header.Get("ETag")
	if len(tag) < 4 || tag[0] != '"' || first.header.Get("Last-Modified") != stampDate || first.header.Get("Accept-Ranges") != "bytes" {
		t.Fatalf("validators: %v", first.header)
	}
	const before, after = "Mon, 03 Feb 2020 04:05:05 GMT", "Mon, 03 Feb 2020 04:05:07 GMT"
	for _, v := range []struct {
		fields string
		want   int
	}{
		{"If-None-Match: " + tag, 304},
		{"If-None-Match: W/" + tag, 304},
		{`If-None-Match: "x", ` + tag, 304},
		{"If-None-Match: *", 304},
		{`If-None-Match: "x"`, 200},
		{`If-None-Match: "x"|If-Modified-Since: ` + stampDate, 200}, // RFC 9110 §13.1.3
		{"If-Modified-Since: " + stampDate, 304},
		{"If-Modified-Since: " + after, 304},
		{"If-Modified-Since: " + before, 200},
		{"If-Modified-Since: Monday, 03-Feb-20 04:05:06 GMT", 304},
		{"If-Modified-Since: " + stampDate + "; length=10", 304},
		{"If-Modified-Since: " + stampDate + "; length=11", 200},
		{"If-Modified-Since: nonsense", 200},
		{"If-Match: " + tag, 200},
		{"If-Match: W/" + tag, 412},
		{`If-Match: "x"`, 412},
		{"If-Match: *", 200},
		{"If-Unmodified-Since: " + stampDate, 200},
		{"If-Unmodified-Since: " + before, 412},
		{"Range: bytes=0-0|If-Range: " + tag, 206},
		{`Range: bytes=0-0|If-Range: "x"`, 200},
		{"Range: bytes=0-0|If-Range: " + stampDate, 206},
		{"Range: bytes=0-0|If-Range: " + after, 200},
		{"Range: bytes=0-0|If-None-Match: " + tag, 304},
	} {
		a := ask(t, "GET", b.URL("w", "/a"), "", strings.Split(v.fields, "|")...)
		if a.status != v.want {
			t.Errorf("%s: %d; want %d", v.fields, a.status, v.want)
		}
		if a.status == 304 && (a.header.Get("ETag") != tag || a.body != "" || a.header.Get("Content-Length") != "") {
			t.Errorf("%s: %v %q", v.fields, a.header, a.body)
		}
	}
}

func TestRanges(t *testing.T) {
	b := start(t, docroot(t, map[string]string{"a.txt": "0123456789", "empty": ""}), "")
	for _, v := range []struct {
		path, field  string
		status       int
		cr, body     string
		method, size string
	}{
		{path: "/a.txt", field: "bytes=0-3", status: 206, cr: "bytes 0-3/10", body: "0123"},
		{path: "/a.txt", field: "bytes=5-", status: 206, cr: "bytes 5-9/10", body: "56789"},
		{path: "/a.txt", field: "bytes=5-5000", status: 206, cr: "bytes 5-9/10", body: "56789"},
		{path: "/a.txt", field: "bytes=-3", status: 206, cr: "bytes 7-9/10", body: "789"},
		{path: "/a.txt", field: "bytes=-30", status: 206, cr: "bytes 0-9/10", body: "0123456789"},
		{path: "/a.txt", field: "BYTES=9-", status: 206, cr: "bytes 9-9/10", body: "9"},
		{path: "/a.txt", field: "bytes=10-", status: 416, cr: "bytes */10"},
		{path: "/a.txt", field: "bytes=-0", status: 416, cr: "bytes */10"},
		{path: "/a.txt", field: "bytes=5-1", status: 416, cr: "bytes */10"},
		{path: "/a.txt", field: "bytes=20-10", status: 416, cr: "bytes */10"},
		{path: "/a.txt", field: "bytes=x-", status: 200, body: "0123456789"},
		{path: "/a.txt", field: "bytes=", status: 200, body: "0123456789"},
		{path: "/a.txt", field: "lines=1-2", status: 200, body: "0123456789"},
		{path: "/a.txt", field: "bytes=0-9,0-9", status: 200, body: "0123456789"},
		{path: "/a.txt", field: "bytes=" + strings.Repeat("1-1,", 17), status: 200, body: "0123456789"},
		{path: "/a.txt", field: "bytes=99-, 2-3", status: 206, cr: "bytes 2-3/10", body: "23"},
		{path: "/a.txt", field: "bytes=99999999999999999999999-", status: 416, cr: "bytes */10"},
		{path: "/a.txt", field: "bytes=0-3", method: "HEAD", status: 200},
		{path: "/empty", field: "bytes=0-", status: 416, cr: "bytes */0"},
	} {
		method := v.method
		if method == "" {
			method = "GET"
		}
		a := ask(t, method, b.URL("w", v.path), "", "Range: "+v.field)
		if a.status != v.status || a.header.Get("Content-Range") != v.cr || a.body != v.body {
			t.Errorf("%s %s: %d %q %q; want %d %q %q", v.path, v.field, a.status, a.header.Get("Content-Range"), a.body, v.status, v.cr, v.body)
		}
	}
	a := ask(t, "GET", b.URL("w", "/a.txt"), "", "Range: bytes=0-1, 4-4,-2")
	kind, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if a.status != 206 || err != nil || kind != "multipart/byteranges" {
		t.Fatalf("%d %v", a.status, a.header)
	}
	parts := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
	for _, want := range []string{"bytes 0-1/10 01", "bytes 4-4/10 4", "bytes 8-9/10 89"} {
		p, err := parts.NextPart()
		must(t, err)
		text, err := io.ReadAll(p)
		must(t, err)
		if got := p.Header.Get("Content-Range") + " " + string(text); got != want || p.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("part %q %v; want %q", got, p.Header, want)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
}

func TestLargeFileAndItsRanges(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 40<<10)
	b := start(t, docroot(t, map[string]string{"big": text}), "")
	if a := ask(t, "GET", b.URL("w", "/big"), ""); a.body != text {
		t.Errorf("%d bytes; want %d", len(a.body), len(text))
	}
	if a := ask(t, "GET", b.URL("w", "/big"), "", "Range: bytes=100000-500000"); a.body != text[100000:500001] {
		t.Errorf("%d bytes of a range", len(a.body))
	}
}

func TestConcat(t *testing.T) {
	dir := docroot(t, map[string]string{"s/a.css": "A", "s/sub/b.css": "B", "s/c": "C"})
	b := start(t, dir, "SET enable_concatenate_get = on")
	for _, v := range []struct {
		target string
		status int
		body   string
	}{
		{"/s/??a.css,sub/b.css", 200, "AB"},
		{"/s/??c,a.css?v=5", 200, "CA"},
		{"/s/??a.css,none", 404, "<h1>404 - Not Found</h1>\nOne or more file does not exist"},
		{"/s/??sub", 404, "<h1>404 - Not Found</h1>\nOne or more file does not exist"},
		{"/s/??", 404, "<h1>404 - Not Found</h1>\nOne or more file does not exist"},
		{"/none/??a", 404, "<h1>404 - Not Found</h1>\nBase directory not a directory"},
		{"/s??a.css", 500, "<h1>500 - Internal server error</h1>\nBase directory (before ??) must end in slash."},
		{"/s/??../s/a.css", 403, "<h1>403 - Forbidden</h1>\nBogus filenames"},
		{"/s/??sub/%2e%2e/a.css", 403, "<h1>403 - Forbidden</h1>\nBogus filenames"},
		{"/s/??" + strings.Repeat("c,", 99) + "c", 200, strings.Repeat("C", 100)},
		{"/s/??" + strings.Repeat("c,", 100) + "c", 403, "<h1>403 - Forbidden</h1>\nToo many files requested"},
	} {
		a := ask(t, "GET", b.URL("w", v.target), "")
		if a.status != v.status || a.body != v.body {
			t.Errorf("%s: %d %q; want %d %q", v.target, a.status, a.body, v.status, v.body)
		}
	}
	a := ask(t, "HEAD", b.URL("w", "/s/??c,a.css"), "")
	if a.header.Get("Content-Type") != "text/css" || a.header.Get("Content-Length") != "2" || a.header.Get("Last-Modified") != stampDate {
		t.Errorf("HEAD: %v", a.header)
	}
	for _, cond := range []string{"If-None-Match: " + a.header.Get("ETag"), "If-Modified-Since: " + stampDate} {
		if again := ask(t, "GET", b.URL("w", "/s/??c,a.css"), "", cond); again.status != 304 {
			t.Errorf("%s: %d; want 304", cond, again.status)
		}
	}
	if other := ask(t, "GET", b.URL("w", "/s/??a.css,c"), "", "If-None-Match: "+a.header.Get("ETag")); other.status != 200 {
		t.Errorf("another order has the same tag")
	}
	b.Do("SET w.enable_concatenate_get = off")
	if a := ask(t, "GET", b.URL("w", "/s/??c"), ""); a.status != 403 || !strings.HasSuffix(a.body, "Multiple file serving isn&#39;t enabled") {
		t.Errorf("off: %d %q", a.status, a.body)
	}
}

func TestPrecompressed(t *testing.T) {
	dir := docroot(t, map[string]string{"a.txt": "plain", "a.txt.gz": "GZ", "b.txt": "plain", "b.txt.gz": "GZ", "b.txt.zst": "ZST", "c.txt": "plain", "c.txt.gz": "old"})
	must(t, os.Chtimes(filepath.Join(dir, "c.txt.gz"), stamp.Add(-time.Hour), stamp.Add(-time.Hour)))
	b := start(t, dir, "SET precompressed = on")
	plain := ask(t, "GET", b.URL("w", "/a.txt"), "")
	for _, v := range []struct{ path, accept, coding, body, vary string }{
		{"/a.txt", "gzip", "gzip", "GZ", "Accept-Encoding"},
		{"/a.txt", "identity", "", "plain", "Accept-Encoding"},
		{"/a.txt", "zstd", "", "plain", "Accept-Encoding"},
		{"/b.txt", "gzip, zstd", "zstd", "ZST", "Accept-Encoding"},
		{"/b.txt", "gzip, zstd;q=0.5", "gzip", "GZ", "Accept-Encoding"},
		{"/c.txt", "gzip", "", "plain", ""},
		{"/a.txt.gz", "gzip", "", "GZ", ""},
	} {
		a := ask(t, "GET", b.URL("w", v.path), "", "Accept-Encoding: "+v.accept)
		if h := a.header; a.body != v.body || h.Get("Content-Encoding") != v.coding || h.Get("Vary") != v.vary {
			t.Errorf("%s, %s: %q %v", v.path, v.accept, a.body, h)
		}
		if v.coding != "" && (a.header.Get("Content-Type") != "text/plain" || a.header.Get("ETag") == plain.header.Get("ETag")) {
			t.Errorf("%s, %s: %v", v.path, v.accept, a.header)
		}
	}
	b.Do("SET w.precompressed = off")
	if a := ask(t, "GET", b.URL("w", "/a.txt"), "", "Accept-Encoding: gzip"); a.body != "plain" {
		t.Errorf("off: %q", a.body)
	}
}

func TestChangesAreSeen(t *testing.T) {
	dir := docroot(t, map[string]string{"a": "one"})
	b := start(t, dir, "")
	get := func() string { return ask(t, "GET", b.URL("w", "/a"), "").body }
	if got := get(); got != "one" {
		t.Fatalf("%q", got)
	}
	must(t, os.WriteFile(filepath.Join(dir, "new"), []byte("other"), 0o644))
	must(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "a")))
	balancertest.Eventually(t, "the new file is served", func() bool { return get() == "other" })
	must(t, os.Remove(filepath.Join(dir, "a")))
	balancertest.Eventually(t, "the file is gone", func() bool { return ask(t, "GET", b.URL("w", "/a"), "").status == 404 })
}

func TestDocrootThatIsALinkIsFollowedAnew(t *testing.T) {
	dir := docroot(t, map[string]string{"r1/a": "one", "r2/a": "two"})
	link := filepath.Join(dir, "current")
	must(t, os.Symlink("r1", link))
	b := start(t, link, "")
	if got := ask(t, "GET", b.URL("w", "/a"), "").body; got != "one" {
		t.Fatalf("%q", got)
	}
	must(t, os.Symlink("r2", link+".new"))
	must(t, os.Rename(link+".new", link))
	balancertest.Eventually(t, "the other release is served", func() bool { return ask(t, "GET", b.URL("w", "/a"), "").body == "two" })
}

func TestReproxyFile(t *testing.T) {
	dir := docroot(t, map[string]string{"in/f.gif": "0123456789", "in/empty": "", "out": "secret"})
	var order string
	node := balancertest.Raw(t, func(nc net.Conn) {
		buf := make([]byte, 4096)
		if _, err := nc.Read(buf); err == nil {
			_, _ = io.WriteString(nc, "HTTP/1.0 204 No Content\r\nETag: \"app\"\r\n"+strings.ReplaceAll(order, "DIR", dir)+"\r\n\r\n")
		}
	})
	b := startWith(t, balancertest.Proxy([]string{node}, "SET enable_reproxy = on\nSET persist_backend = off"), optionsFor())
	for _, v := range []struct {
		order, fields string
		status        int
		body          string
	}{
		{"X-REPROXY-FILE: DIR/in/f.gif", "", 200, "0123456789"},
		{"X-REPROXY-FILE: DIR/in/f.gif", "Range: bytes=2-4", 206, "234"},
		{"X-REPROXY-FILE: DIR/in/f.gif", "Range: bytes=20-", 416, ""},
		{"X-REPROXY-FILE: DIR/in/f.gif", `Range: bytes=2-4|If-Range: "app"`, 206, "234"},
		{"X-REPROXY-FILE: DIR/in/f.gif", `Range: bytes=2-4|If-Range: "other"`, 200, "0123456789"},
		{"X-REPROXY-FILE: DIR/in/empty", "", 200, ""},
		{"X-REPROXY-FILE: DIR/in/f.gif\r\nX-REPROXY-EXPECTED-SIZE: 10", "", 200, "0123456789"},
		{"X-REPROXY-FILE: DIR/in/f.gif\r\nX-REPROXY-EXPECTED-SIZE: 11", "", 404, "<h1>404 - Not Found</h1>\n"},
		{"X-REPROXY-FILE: DIR/in/none", "", 404, "<h1>404 - Not Found</h1>\n"},
		{"X-REPROXY-FILE: DIR/in", "", 404, "<h1>404 - Not Found</h1>\n"},
		{"X-REPROXY-FILE: in/f.gif", "", 404, "<h1>404 - Not Found</h1>\n"},
		{"X-REPROXY-FILE: DIR/out", "", 200, "secret"},
	} {
		order = v.order
		var fields []string
		if v.fields != "" {
			fields = strings.Split(v.fields, "|")
		}
		a := ask(t, "GET", b.URL("rp", "/"), "", fields...)
		if a.status != v.status || a.body != v.body || a.header.Get("X-Reproxy-File") != "" {
			t.Errorf("%s (%s): %d %q %v; want %d %q", v.order, v.fields, a.status, a.body, a.header, v.status, v.body)
		}
		if a.status < 300 && (a.header.Get("ETag") != `"app"` || a.header.Get("Accept-Ranges") != "bytes") {
			t.Errorf("%s: %v", v.order, a.header)
		}
	}
	b.Do("SET rp.reproxy_file_roots = " + dir + "/in")
	for path, want := range map[string]int{"/in/f.gif": 200, "/out": 404, "/in/../out": 404, "/in2": 404} {
		order = "X-REPROXY-FILE: DIR" + path
		if a := ask(t, "GET", b.URL("rp", "/"), ""); a.status != want {
			t.Errorf("with roots, %s: %d; want %d", path, a.status, want)
		}
	}
}
