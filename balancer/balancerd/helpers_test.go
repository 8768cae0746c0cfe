package balancerd_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"wheelhouse/balancer"
)

func get(t *testing.T, url string, edit ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	return do(t, http.MethodGet, url, nil, edit...)
}

func do(t *testing.T, method, url string, body io.Reader, edit ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range edit {
		f(req)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: body: %v after %d bytes", method, url, err, len(b))
	}
	return res, string(b)
}

func with(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		if name == "Host" {
			r.Host = value
			return
		}
		r.Header.Set(name, value)
	}
}

// echo answers with what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Echo", "yes")
	fmt.Fprintf(w, "%s %s %s len=%d te=%v\n", r.Method, r.Host, r.RequestURI, r.ContentLength, r.TransferEncoding)
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range r.Header {
			if !yield(n) {
				return
			}
		}
	}) {
		fmt.Fprintf(w, "%s: %s\n", name, strings.Join(r.Header[name], " | "))
	}
	fmt.Fprintf(w, "\n%s", b)
}

func balancerPriority(p int8) balancer.Priority { return balancer.Priority(p) }

type request = balancer.Request
