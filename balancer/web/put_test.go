package web_test

import (
	"bufio"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
)

func optionsFor() balancerd.Options { return balancerd.Options{} }

func sum(s string) string {
	h := md5.Sum([]byte(s))
	return "Content-MD5: " + base64.StdEncoding.EncodeToString(h[:])
}

// chunked hides a reader's size, so that it goes chunked.
type chunked struct{ io.Reader }

func TestPut(t *testing.T) {
	dir := docroot(t, map[string]string{"old": "old", "there/": "", "file": "x"})
	b := start(t, dir, "SET enable_put = on\nSET enable_delete = on")
	for _, v := range []struct {
		method, path, body string
		field              string
		want               int
		text               string
	}{
		{"PUT", "/new", "text", "", 201, ""},
		{"PUT", "/new", "again", "", 200, "<h1>200 - OK</h1>\n"},
		{"PUT", "/made/by/put", "x", "", 201, ""},
		{"PUT", "/zero", "", "", 201, ""},
		{"PUT", "/sum", "body", sum("body"), 201, ""},
		{"PUT", "/sum", "body", strings.TrimRight(sum("body"), "="), 201, ""},
		{"PUT", "/sum2", "body", sum("other"), 400, "mismatch"},
		{"PUT", "/old", "new", sum("wrong"), 400, "mismatch"},
		{"PUT", "/there", "x", "", 400, "Invalid filename"},
		{"PUT", "/file/below", "x", "", 400, "Invalid filename"},
		{"PUT", "/a%20b", "x", "", 400, "Invalid filename"},
		{"PUT", "/a/", "x", "", 400, "Invalid filename"},
		{"PUT", "/a?b", "x", "", 400, "Invalid filename"},
		{"PUT", "/a..b", "x", "", 400, "Invalid filename"},
		{"PUT", "/" + strings.Repeat("n", 256), "x", "", 400, "Invalid filename"},
		{"DELETE", "/zero", "", "", 204, ""},
		{"DELETE", "/zero", "", "", 404, ""},
		{"DELETE", "/there", "", "", 400, "Is a directory"},
		{"DELETE", "/a%20b", "", "", 400, "Invalid filename"},
	} {
		var fields []string
		if v.field != "" {
			fields = append(fields, v.field)
		}
		a := ask(t, v.method, b.URL("w", v.path), v.body, fields...)
		if a.status != v.want || !strings.Contains(a.body, v.text) {
			t.Errorf("%s %s: %d %q; want %d %q", v.method, v.path, a.status, a.body, v.want, v.text)
		}
	}
	for name, want := range map[string]string{"new": "again", "made/by/put": "x", "sum": "body", "old": "old"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), "file made new old sum there"; got != want {
		t.Errorf("the directory holds %q; want %q", got, want)
	}
	if a := ask(t, "GET", b.URL("w", "/new"), ""); a.body != "again" {
		t.Errorf("GET after PUT: %q", a.body)
	}
	ask(t, "PUT", b.URL("w", "/new"), "third")
	if a := ask(t, "GET", b.URL("w", "/new"), ""); a.body != "third" {
		t.Errorf("GET right after PUT: %q", a.body)
	}
	ask(t, "DELETE", b.URL("w", "/new"), "")
	if a := ask(t, "GET", b.URL("w", "/new"), ""); a.status != 404 {
		t.Errorf("GET right after DELETE: %d", a.status)
	}
}

// Content-MD5 is checked, unless enable_md5 is off.
func TestPutWithMD5(t *testing.T) {
	b := start(t, docroot(t, nil), "SET enable_put = on")
	wrong := "Content-MD5: AAAAAAAAAAAAAAAAAAAAAA=="
	if a := ask(t, "PUT", b.URL("w", "/f"), "body", wrong); a.status != 400 {
		t.Errorf("a wrong sum: %d; want 400", a.status)
	}
	if a := ask(t, "GET", b.URL("w", "/f"), ""); a.status != 404 {
		t.Errorf("it has left a file: %d", a.status)
	}
	b.Do("SET w.enable_md5 = off")
	if a := ask(t, "PUT", b.URL("w", "/f"), "body", wrong); a.status != 200 && a.status != 201 {
		t.Errorf("enable_md5 = off: %d; want it to be taken", a.status)
	}
}

func TestPutLimits(t *testing.T) {
	dir := docroot(t, map[string]string{"a/b/": ""})
	b := start(t, dir, "SET enable_put = on\nSET max_put_size = 5\nSET min_put_directory = 2")
	for _, v := range []struct {
		path, body string
		chunked    bool
		want       int
		text       string
	}{
		{"/a/b/f", "12345", false, 201, ""},
		{"/a/b/c/f", "12345", true, 201, ""},
		{"/a/b/g", "123456", false, 400, "Content-length of 6 is invalid."},
		{"/a/b/g", "123456", true, 413, "Content too long."},
		{"/a/f", "1", false, 400, "Does not meet minimum directory requirement"},
		{"/a/f", "1", true, 400, "Does not meet minimum directory requirement"},
		{"/a/x/f", "1", false, 404, "Base directory does not exist"},
		{"/a/x/f", "1", true, 404, "Base directory does not exist"},
	} {
		var in io.Reader = strings.NewReader(v.body)
		if v.chunked {
			in = chunked{in}
		}
		a := askReader(t, "PUT", b.URL("w", v.path), in)
		if a.status != v.want || !strings.Contains(a.body, v.text) {
			t.Errorf("PUT %s, chunked %v: %d %q; want %d %q", v.path, v.chunked, a.status, a.body, v.want, v.text)
		}
	}
	b.Do("SET w.max_put_size = 0\nSET w.max_chunked_request_size = 3")
	if a := askReader(t, "PUT", b.URL("w", "/a/b/h"), chunked{strings.NewReader("1234")}); a.status != 413 {
		t.Errorf("above max_chunked_request_size: %d; want 413", a.status)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "a/b"))
	must(t, err)
	if len(entries) != 2 {
		t.Errorf("what was refused has left something: %v", entries)
	}
}

func TestPutThatBreaksOffLeavesWhatWas(t *testing.T) {
	dir := docroot(t, map[string]string{"f": "before"})
	b := start(t, dir, "SET enable_put = on")
	r, w := io.Pipe()
	done := make(chan error)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), "PUT", b.URL("w", "/f"), r)
		if err == nil {
			req.ContentLength = 100
			var res *http.Response
			if res, err = http.DefaultClient.Do(req); err == nil {
				res.Body.Close()
			}
		}
		done <- err
	}()
	_, err := io.WriteString(w, "half of it")
	must(t, err)
	balancertest.Eventually(t, "the upload has begun", func() bool {
		entries, err := os.ReadDir(dir)
		return err == nil && len(entries) == 2
	})
	w.CloseWithError(errors.New("the client gives up"))
	if err := <-done; err == nil {
		t.Error("the client saw success")
	}
	balancertest.Eventually(t, "the temporary file goes", func() bool {
		entries, err := os.ReadDir(dir)
		return err == nil && len(entries) == 1
	})
	if got, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(got) != "before" {
		t.Errorf("%q, %v; want what was before", got, err)
	}
}

func TestPutCannotLeaveTheDocroot(t *testing.T) {
	outside := docroot(t, map[string]string{"victim": "safe"})
	dir := docroot(t, map[string]string{"x": "x"})
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	must(t, os.Symlink(filepath.Join(outside, "victim"), filepath.Join(dir, "leaf")))
	b := start(t, dir, "SET enable_put = on\nSET enable_delete = on")
	for _, path := range []string{"/link/victim", "/link/new", "/link/d/new"} {
		if a := ask(t, "PUT", b.URL("w", path), "evil"); a.status != 400 {
			t.Errorf("PUT %s: %d", path, a.status)
		}
		if a := ask(t, "DELETE", b.URL("w", path), ""); a.status < 400 {
			t.Errorf("DELETE %s: %d", path, a.status)
		}
	}
	if a := ask(t, "PUT", b.URL("w", "/leaf"), "mine"); a.status >= 300 { // the link itself is replaced
		t.Errorf("PUT /leaf: %d", a.status)
	}
	if got, err := os.ReadFile(filepath.Join(outside, "victim")); err != nil || string(got) != "safe" {
		t.Errorf("the file outside: %q, %v", got, err)
	}
	entries, err := os.ReadDir(outside)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("outside there are %v", entries)
	}
}

// PUT and DELETE are done if the file is as the request demands, and only then.
func TestChangesOnConditions(t *testing.T) {
	dir := docroot(t, map[string]string{"f": "first"})
	b := start(t, dir, "SET enable_put = on\nSET enable_delete = on")
	url := b.URL("w", "/f")
	tag := ask(t, "GET", url, "").header.Get("ETag")
	for _, v := range []struct {
		method, path, field string
		want                int
	}{
		{"PUT", "/f", `If-Match: "other"`, 412},
		{"PUT", "/f", "If-Match: W/" + tag, 412},
		{"PUT", "/f", "If-None-Match: *", 412},
		{"PUT", "/f", "If-None-Match: " + tag, 412},
		{"PUT", "/f", "If-Unmodified-Since: Mon, 03 Feb 2020 04:05:05 GMT", 412},
		{"PUT", "/f", "Content-Range: bytes 0-3/9", 400},
		{"DELETE", "/f", `If-Match: "other"`, 412},
		{"DELETE", "/f", "If-Unmodified-Since: Mon, 03 Feb 2020 04:05:05 GMT", 412},
		{"PUT", "/d/new", "If-Match: *", 412},
		{"PUT", "/new", `If-Match: "x"`, 412},
		{"DELETE", "/new", "If-Match: *", 404},
	} {
		if a := ask(t, v.method, b.URL("w", v.path), "text", v.field); a.status != v.want {
			t.Errorf("%s %s, %s: %d; want %d", v.method, v.path, v.field, a.status, v.want)
		}
	}
	entries, err := os.ReadDir(dir)
	if a := ask(t, "GET", url, ""); a.body != "first" || a.header.Get("ETag") != tag || err != nil || len(entries) != 1 {
		t.Fatalf("something was changed: %q, %v, %v", a.body, entries, err)
	}
	for _, v := range []struct {
		method, path, field string
		want                int
	}{
		{"PUT", "/f", "If-Match: " + tag, 200},
		{"PUT", "/f", "If-Match: " + tag, 412}, // which was the one before
		{"PUT", "/f", "If-Match: *", 200},
		{"PUT", "/f", `If-None-Match: "other"`, 200},
		{"PUT", "/new", "If-None-Match: *", 201},
		{"PUT", "/new", "If-None-Match: *", 412},
		{"PUT", "/f", "If-Unmodified-Since: Mon, 03 Feb 2080 04:05:05 GMT", 200},
		{"DELETE", "/new", "If-None-Match: *", 412},
		{"DELETE", "/new", "If-Match: *", 204},
	} {
		if a := ask(t, v.method, b.URL("w", v.path), v.field, v.field); a.status != v.want {
			t.Errorf("%s %s, %s: %d; want %d", v.method, v.path, v.field, a.status, v.want)
		}
	}
}

// Of several who write what must not be there yet one succeeds, though none was there when they all began.
func TestOneOfSeveralPutsSucceeds(t *testing.T) {
	dir := docroot(t, nil)
	b := start(t, dir, "SET enable_put = on")
	const writers = 8
	var conns []net.Conn
	for range writers {
		nc, err := net.Dial("tcp", b.Addr("w"))
		must(t, err)
		defer nc.Close()
		must(t, nc.SetDeadline(time.Now().Add(time.Minute)))
		_, err = io.WriteString(nc, "PUT /f HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		must(t, err)
		res, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil || res.StatusCode != 100 { // its conditions held
			t.Fatal(res, err)
		}
		conns = append(conns, nc)
	}
	count := map[int]int{}
	for _, nc := range conns {
		_, err := io.WriteString(nc, "text")
		must(t, err)
	}
	for _, nc := range conns {
		res, err := http.ReadResponse(bufio.NewReader(nc), nil)
		must(t, err)
		count[res.StatusCode]++
	}
	if count[201] != 1 || count[412] != writers-1 {
		t.Errorf("%v; want one 201, and 412 for the others", count)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v; want the one file", entries, err)
	}
}

// A PUT that another service has handed on, after it had read the body, writes that body.
func TestPutHandedOn(t *testing.T) {
	dir := docroot(t, nil)
	app := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("X-REPROXY-SERVICE", "w")
	})
	b := startWith(t, "CREATE SERVICE w\nSET role = web_server\nSET docroot = "+dir+"\nSET enable_put = on\nENABLE w\n"+
		balancertest.Proxy([]string{app}, "SET enable_reproxy = on\nSET buffer_uploads_path = "+t.TempDir()+"\nSET buffer_uploads = on"), balancerd.Options{})
	for name, n := range map[string]int{"empty": 0, "in memory": 1000, "in a file": 300000, "chunked": 1000} {
		body := strings.Repeat("b", n)
		var in io.Reader = strings.NewReader(body)
		if name == "chunked" {
			in = io.MultiReader(in) // of a length that nobody knows
		}
		file := strings.ReplaceAll(name, " ", "-")
		if a := askReader(t, "PUT", b.URL("rp", "/"+file), in); a.status != 201 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != body {
			t.Errorf("%s: the file has %d bytes, %v; want %d", name, len(got), err, n)
		}
	}
}
