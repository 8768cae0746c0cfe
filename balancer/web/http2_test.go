package web_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/http1"
)

// TestOverHTTP2: files go by net/http there, and are the same.
func TestOverHTTP2(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 20<<10)
	dir := docroot(t, map[string]string{"big": big, "small.txt": "0123456789", "sub/index.html": "I"})
	b := start(t, dir, "SET enable_put = on")
	s := httptest.NewUnstartedServer(http1.NetHTTP(b.Service("w")))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	c := s.Client()
	c.CheckRedirect = balancertest.Client.CheckRedirect
	for _, v := range []struct {
		method, path, field, body string
		status                    int
		want                      string
	}{
		{"GET", "/big", "", "", 200, big},
		{"GET", "/big", "bytes=100000-200000", "", 206, big[100000:200001]},
		{"GET", "/small.txt", "", "", 200, "0123456789"},
		{"GET", "/small.txt", "", "", 200, "0123456789"}, // from memory
		{"GET", "/small.txt", "bytes=-3", "", 206, "789"},
		{"HEAD", "/small.txt", "", "", 200, ""},
		{"GET", "/sub/", "", "", 200, "I"},
		{"GET", "/sub", "", "", 301, "<h1>301 - Permanent Redirect</h1>\n"},
		{"GET", "/none", "", "", 404, "<h1>404 - Not Found</h1>\n"},
		{"PUT", "/put", "", big, 201, "<h1>201 - Created</h1>\n"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), v.method, s.URL+v.path, strings.NewReader(v.body))
		must(t, err)
		if v.field != "" {
			req.Header.Set("Range", v.field)
		}
		res, err := c.Do(req)
		must(t, err)
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != v.status || string(body) != v.want || res.ProtoMajor != 2 {
			t.Errorf("%s %s %s: %s %d, %d bytes, %v; want %d, %d bytes", v.method, v.path, v.field, res.Proto, res.StatusCode, len(body), err, v.status, len(v.want))
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "put")); err != nil || string(got) != big {
		t.Errorf("PUT wrote %d bytes, %v", len(got), err)
	}
}
