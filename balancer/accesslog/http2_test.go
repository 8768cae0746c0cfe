package accesslog

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/testcert"
)

// The log says which HTTP the client spoke, not which the balancer made of it.
func TestVersion(t *testing.T) {
	cert, key := testcert.Pair(t, t.TempDir(), "a", 1, "a.test")
	node := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	for _, tt := range []struct {
		h2           bool
		combined     string
		major, minor float64
	}{{false, `"GET /x HTTP/1.1" 200 5 `, 1, 1}, {true, `"GET /x HTTP/2.0" 200 5 `, 2, 0}} {
		for _, format := range []string{"combined", "json"} {
			file := filepath.Join(t.TempDir(), "access.log")
			l := New(Options{})
			b := serve(t, l, node, "SET access_log = "+file+"\nSET access_log_format = "+format+"\nSET enable_ssl = on\nSET ssl_cert_file = "+cert+"\nSET ssl_key_file = "+key)
			tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: tt.h2}
			res, err := (&http.Client{Transport: tr}).Get("https://" + b.Addr("rp") + "/x")
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			tr.CloseIdleConnections()
			line := lines(t, l, file, 1)[0]
			if format == "combined" {
				if !strings.Contains(line, tt.combined) {
					t.Errorf("HTTP/%d: %s; want %s", res.ProtoMajor, line, tt.combined)
				}
				continue
			}
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if m["http_major"] != tt.major || m["http_minor"] != tt.minor {
				t.Errorf("HTTP/%d: %s; want HTTP/%v.%v", res.ProtoMajor, line, tt.major, tt.minor)
			}
		}
	}
}
