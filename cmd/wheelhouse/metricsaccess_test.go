package main

import (
	"net/http"
	"testing"
)

// Metrics are for this machine alone, whoever's requests a proxy on it passes on.
func TestMetricsAreForThisMachine(t *testing.T) {
	t.Parallel()
	p := start(t, upArgs(t.TempDir())...)
	for _, tt := range []struct {
		name, value string
		status      int
	}{
		{"Accept", "*/*", 200},
		{"X-Forwarded-For", "127.0.0.1", 200},
		{"X-Forwarded-For", "::1, 127.0.0.2", 200},
		{"X-Forwarded-For", "8.8.8.8", 403},
		{"X-Forwarded-For", "127.0.0.1, 8.8.8.8", 403},
		{"X-Forwarded-For", "unknown", 403},
		{"X-Real-IP", "2001:db8::1", 403},
		{"Forwarded", "for=8.8.8.8", 403},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", p.ready["http"]+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(tt.name, tt.value)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tt.status {
			t.Errorf("%s: %s: %d; want %d", tt.name, tt.value, res.StatusCode, tt.status)
		}
	}
}
