package web_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const perlbalConf = `CREATE SERVICE w
SET role = web_server
SET listen = LISTEN
SET persist_client = on
SET dirindexing = on
SET enable_put = on
SET enable_delete = on
DOCROOT
ENABLE w
`

// TestAsPerlbal asks Debian's perlbal and ours the same, and compares what they agree on.
func TestAsPerlbal(t *testing.T) {
	tree := map[string]string{
		"a.txt": "0123456789", "b.html": "<b>", "c.gif": "GIF", "d.png": "", "none": "x", "sub/index.html": "index",
		"list/one": "1", "list/two.txt": "2", "list/dir/": "", "old": "x",
	}
	theirs, mine := docroot(t, tree), docroot(t, tree)
	addr := perlbal(t, strings.ReplaceAll(perlbalConf, "DOCROOT", "SET docroot = "+theirs))
	b := start(t, mine, "SET dirindexing = on\nSET enable_put = on\nSET enable_delete = on")
	fields := []string{"Content-Type", "Content-Length", "Last-Modified", "Accept-Ranges", "Content-Range", "Server"}
	for _, v := range []struct{ method, path, body, field, differs string }{
		{"GET", "/a.txt", "", "", ""},
		{"HEAD", "/a.txt", "", "", ""},
		{"GET", "/a.txt?q", "", "", ""},
		{"GET", "/b.html", "", "", ""},
		{"GET", "/c.gif", "", "", ""},
		{"GET", "/d.png", "", "", ""},
		{"GET", "/none", "", "", ""},
		{"GET", "/sub/", "", "", ""},
		{"GET", "/missing", "", "", ""},
		{"GET", "/x/../a.txt", "", "", ""},
		{"GET", "/list/", "", "", "Content-Type Last-Modified"}, // ours names the charset, and does not say when a list was new
		{"GET", "/a.txt", "", "Range: bytes=2-5", ""},
		{"GET", "/a.txt", "", "Range: bytes=2-", ""},
		{"GET", "/a.txt", "", "Range: bytes=2-100", ""},
		{"GET", "/a.txt", "", "Range: bytes=10-", ""},
		{"GET", "/a.txt", "", "Range: bytes=5-1", ""},
		{"GET", "/a.txt", "", "Range: lines=1-2", ""},
		{"GET", "/a.txt", "", "If-Modified-Since: " + stampDate, "Accept-Ranges"},
		{"GET", "/a.txt", "", "If-Modified-Since: " + stampDate + "; length=10", "Accept-Ranges"},
		{"GET", "/a.txt", "", "If-Modified-Since: " + stampDate + "; length=9", ""},
		{"PUT", "/old", "new", "", ""},
		{"PUT", "/sum", "body", sum("body"), "body"},                              // theirs has no phrase for 201
		{"PUT", "/sum2", "body", "Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==", "body"}, // theirs cuts the padding in what it shows
		{"PUT", "/a..b", "x", "", ""},
		{"PUT", "/a+b", "x", "", ""},
		{"DELETE", "/old", "", "", ""},
		{"DELETE", "/old", "", "", ""},
		{"DELETE", "/list", "", "", ""},
		{"DELETE", "/a+b", "", "", ""},
		{"MKCOL", "/x", "", "", ""},
	} {
		var extra []string
		if v.field != "" {
			extra = []string{v.field}
		}
		want := ask(t, v.method, "http://"+addr+v.path, v.body, extra...)
		got := ask(t, v.method, b.URL("w", v.path), v.body, extra...)
		name := v.method + " " + v.path + " " + v.field
		if got.status != want.status {
			t.Errorf("%s: %d; perlbal %d", name, got.status, want.status)
		}
		if got.body != want.body && v.differs != "body" {
			t.Errorf("%s: %q; perlbal %q", name, got.body, want.body)
		}
		for _, f := range fields {
			if f == "Content-Length" && (v.differs == "body" || got.status == http.StatusNoContent || got.status == http.StatusNotModified) {
				continue
			}
			if !strings.Contains(v.differs, f) && got.header.Get(f) != want.header.Get(f) {
				t.Errorf("%s: %s: %q; perlbal %q", name, f, got.header.Get(f), want.header.Get(f))
			}
		}
	}
	for _, dir := range []string{theirs, mine} {
		if got, err := os.ReadFile(filepath.Join(dir, "sum")); err != nil || string(got) != "body" {
			t.Errorf("%s/sum: %q, %v", dir, got, err)
		}
		list, err := filepath.Glob(filepath.Join(dir, "*"))
		must(t, err)
		for _, f := range list {
			if regexp.MustCompile(`tmp`).MatchString(filepath.Base(f)) {
				t.Errorf("%s was left behind", f)
			}
		}
	}
}
