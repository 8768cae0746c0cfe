package balancerd_test

import (
	"net/http"
	"strings"
	"testing"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
)

// What HEADER INSERT takes is sent: each field that it takes arrives at the backend, and none keeps a request from being sent.
func TestInsertedFieldsArrive(t *testing.T) {
	back := balancertest.Backend(t, echo)
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, ""), balancerd.Options{})
	for _, name := range []string{
		"Accept", "Connection", "Content-Length", "Content-Type", "Cookie", "Date", "Expect", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection",
		"TE", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Via", "X-Forwarded-For", "!#$%&'*+-.^_`|~",
	} {
		if b.Try("HEADER rp INSERT "+name+": given") != nil {
			continue
		}
		res, got := get(t, b.URL("rp", "/"))
		if want := "\n" + http.CanonicalHeaderKey(name) + ": given\n"; res.StatusCode != 200 || !strings.Contains(got, want) {
			t.Errorf("%s was taken, but did not arrive: %d %s", name, res.StatusCode, got)
		}
		b.Do("HEADER rp REMOVE " + name)
	}
	for _, host := range []string{"a.test", "a.test:81", "[::1]", "[::1]:81", "a_b", "A%41", "a:", "bad host", "a@b", "a/b", "é", ":80", "[]", "a:b", "a]"} {
		if b.Try("HEADER rp INSERT Host: "+host) != nil {
			continue
		}
		if res, got := get(t, b.URL("rp", "/")); res.StatusCode != 200 || !strings.HasPrefix(got, "GET "+host+" ") {
			t.Errorf("Host %q was taken, but: %d %s", host, res.StatusCode, got)
		}
	}
	b.Do("HEADER rp REMOVE Host\nCREATE SERVICE sel\nSET role = selector\nSET listen = 127.0.0.1:0\nSET default_service = rp\nHEADER sel INSERT Host: sel.test\nENABLE sel")
	if _, got := get(t, b.URL("sel", "/")); !strings.HasPrefix(got, "GET sel.test ") {
		t.Errorf("a selector's Host did not arrive: %s", got)
	}
	for _, line := range []string{"HEADER rp INSERT Host: a.test:81", "HEADER rp INSERT Host: [::1]:81", "HEADER rp INSERT X-A_b: c d"} {
		b.Do(line)
	}
}
