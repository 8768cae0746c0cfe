package plugin_test

import (
	"net/http"
	"strings"
	"testing"

	"wheelhouse/balancer/balancertest"
)

// TestAsPerlbal runs one configuration on Debian's perlbal and on ours, and compares what they agree on.
func TestAsPerlbal(t *testing.T) {
	film := strings.Repeat("0123456789", 10)
	node := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		if start := r.Header.Get("Range"); start == "bytes=90-" {
			w.Header().Set("Content-Range", "bytes 90-99/100")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte(film[90:]))
			return
		}
		_, _ = w.Write([]byte(r.RequestURI + " " + r.Host + " " + r.Header.Get("X-Queue-Count") + " " + r.Header.Get("X-HP-Queue-Age") + " " + r.Header.Get("X-Forwarded-Proto")))
	})
	dir := files(t, map[string]string{"index.html": "I", "a": "A"})
	conf := `
LOAD vhosts
LOAD vpaths
LOAD redirect
LOAD NotModified
LOAD MaxContentLength
LOAD AutoRemoveLeadingDir
LOAD FlvStreaming
LOAD queues
LOAD highpri
LOAD XFFExtras
LOAD AccessControl
CREATE POOL p
POOL p ADD ` + node + `
CREATE SERVICE rp
SET role = reverse_proxy
SET pool = p
SET plugins = FlvStreaming, Queues, Highpri, XFFExtras
SET send_backend_proto = on
ENABLE rp
CREATE SERVICE w
SET role = web_server
SET docroot = ` + dir + `
SET plugins = Redirect, NotModified, AutoRemoveLeadingDir, MaxContentLength
SET w.notmodified.host_pattern = ^img\.
SET max_content_length = 5
SET enable_put = on
REDIRECT HOST moved.test new.test
ENABLE w
CREATE SERVICE denied
SET role = web_server
SET docroot = ` + dir + `
SET plugins = AccessControl
ACCESS POLICY DENY
ENABLE denied
CREATE SERVICE paths
SET role = selector
SET plugins = vpaths
VPATH ^/w/ = w
VPATH \.flv = rp
SET default_service = rp
ENABLE paths
CREATE SERVICE s
SET role = selector
SET listen = LISTEN
SET plugins = vhosts
VHOST rp.test = rp
VHOST *.w.test = w
VHOST img.test = w
VHOST moved.test = w
VHOST denied.test = denied
VHOST paths.test = paths
VHOST rp.test;using:other.test = rp
ENABLE s
`
	theirs := "http://" + perlbal(t, conf)
	b := start(t, strings.ReplaceAll(conf, "LISTEN", "127.0.0.1:0"))
	for _, v := range []struct{ method, host, target, body, field string }{
		{"GET", "rp.test", "/x?y", "", ""},
		{"GET", "rp.test:80", "/x", "", ""},
		{"GET", "rp.test", "/a.flv?start=90", "", ""},
		{"GET", "rp.test", "/a.flv", "", ""},
		{"GET", "w.test", "/", "", ""},
		{"GET", "a.b.w.test", "/a", "", ""},
		{"GET", "w.test", "/static/a", "", ""},
		{"GET", "none.test", "/", "", ""},
		{"GET", "img.test", "/a", "", "If-Modified-Since: x"},
		{"GET", "img.test", "/a", "", ""},
		{"GET", "moved.test", "/q?r", "", ""},
		{"PUT", "w.test", "/f", "123456", ""},
		{"GET", "denied.test", "/", "", ""},
		{"GET", "paths.test", "/w/", "", ""},
		{"GET", "paths.test", "/other", "", ""},
		{"GET", "rp.test", "/__using/other.test/id", "", ""},
		{"GET", "rp.test", "/__using/none.test/id", "", ""},
	} {
		fields := []string{"Host: " + v.host}
		if v.field != "" {
			fields = append(fields, v.field)
		}
		want := ask(t, v.method, theirs+v.target, v.body, fields...)
		got := ask(t, v.method, b.URL("s", v.target), v.body, fields...)
		name := v.method + " " + v.host + v.target + " " + v.field
		if got.status != want.status || got.header.Get("Location") != want.header.Get("Location") || got.header.Get("Content-Type") != want.header.Get("Content-Type") {
			t.Errorf("%s: %d %v; perlbal %d %v", name, got.status, got.header, want.status, want.header)
		}
		got.body = strings.Replace(got.body, "413 - Request Entity Too Large", "413", 1) // theirs has no phrase for it
		if got.body != want.body {
			t.Errorf("%s: %q; perlbal %q", name, got.body, want.body)
		}
	}
}
