package compress

import (
	"strings"
	"testing"

	"wheelhouse/balancer"
)

// A 304 has the ETag and Vary that the 200 would have had (RFC 9110 §15.4.5), as far as can be known.
func TestNotModified(t *testing.T) {
	const html = "Content-Type: text/html"
	for _, tt := range []struct {
		name, accept, asked string // Accept-Encoding, If-None-Match
		fields              []string
		tag, vary           string
	}{
		{"it holds the compressed one", "gzip", `W/"1"`, []string{`ETag: "1"`}, `W/"1"`, "Accept-Encoding"},
		{"among others", "gzip", `"0", W/"1" , W/"2"`, []string{`ETag: "1"`}, `W/"1"`, "Accept-Encoding"},
		{"both", "gzip", `"1", W/"1"`, []string{`ETag: "1"`}, `W/"1"`, "Accept-Encoding"},
		{"a comma in a tag", "gzip", `W/"a,b"`, []string{`ETag: "a,b"`}, `W/"a,b"`, "Accept-Encoding"},
		{"vary is joined", "gzip", `W/"1"`, []string{`ETag: "1"`, "Vary: Cookie"}, `W/"1"`, "Cookie, Accept-Encoding"},
		{"vary is there", "gzip", `W/"1"`, []string{`ETag: "1"`, "Vary: accept-encoding"}, `W/"1"`, "accept-encoding"},
		{"its type is known", "gzip", `W/"1"`, []string{`ETag: "1"`, html}, `W/"1"`, "Accept-Encoding"},
		{"it holds the plain one", "gzip", `"1"`, []string{`ETag: "1"`, html}, `"1"`, "Accept-Encoding"},
		{"it does not say", "gzip", "", []string{`ETag: "1"`, html}, `W/"1"`, "Accept-Encoding"},
		{"it does not say, nor is the type known", "gzip", "", []string{`ETag: "1"`}, `"1"`, ""},
		{"weak at its origin", "gzip", `W/"1"`, []string{`ETag: W/"1"`, html}, `W/"1"`, "Accept-Encoding"},
		{"weak at its origin, of no known type", "gzip", `W/"1"`, []string{`ETag: W/"1"`}, `W/"1"`, ""},
		{"it wants it plain now", "", `W/"1"`, []string{`ETag: "1"`}, `"1"`, "Accept-Encoding"},
		{"plain, of a type that is compressed", "br", `"1"`, []string{`ETag: "1"`, html}, `"1"`, "Accept-Encoding"},
		{"plain, of no known type", "gzip", `"1"`, []string{`ETag: "1"`}, `"1"`, ""},
		{"a type that is not compressed", "gzip", `W/"1"`, []string{`ETag: "1"`, "Content-Type: image/png"}, `"1"`, ""},
		{"coded at its origin", "gzip", `W/"1"`, []string{`ETag: "1"`, html, "Content-Encoding: br"}, `"1"`, ""},
		{"no-transform", "gzip", `W/"1"`, []string{`ETag: "1"`, html, "Cache-Control: no-transform"}, `"1"`, ""},
		{"no tag", "gzip", `W/"1"`, []string{html}, "", "Accept-Encoding"},
	} {
		x := &peer{}
		x.req.Method = "GET"
		x.req.Header.Add("Accept-Encoding", tt.accept)
		if tt.asked != "" {
			x.req.Header.Add("If-None-Match", tt.asked)
		}
		serveOn(x, nil, tt.fields, func(r *balancer.Request) { r.Reply(304, nil) })
		if h := &x.header; x.status != 304 || h.Get("ETag") != tt.tag || h.Joined("Vary") != tt.vary || h.Has("Content-Encoding") != (tt.name == "coded at its origin") {
			t.Errorf("%s: %d, ETag %s, Vary %q, Content-Encoding %q; want %s, %q", tt.name, x.status, h.Get("ETag"), h.Joined("Vary"), h.Get("Content-Encoding"), tt.tag, tt.vary)
		}
	}
}

// The cache in front asks with a condition of its own, which stands in the edits: what it holds must not become strong by the answer.
func TestNotModifiedForTheCache(t *testing.T) {
	for _, tt := range []struct {
		edits     []balancer.HeaderEdit
		tag, vary string
	}{
		{[]balancer.HeaderEdit{{Name: "If-None-Match", Remove: true}, {Name: "If-None-Match", Value: `W/"1"`}}, `W/"1"`, "Accept-Encoding"},
		{[]balancer.HeaderEdit{{Name: "if-none-match", Remove: true}}, `"1"`, ""},
	} {
		x := &peer{}
		x.req.Method = "GET"
		x.req.Header.Add("Accept-Encoding", "gzip")
		x.req.Header.Add("If-None-Match", `W/"1"`)
		if tt.edits[len(tt.edits)-1].Value != "" {
			x.req.Header.Set("If-None-Match", `"other"`)
		}
		serveOn(x, tt.edits, []string{`ETag: "1"`}, func(r *balancer.Request) { r.Reply(304, nil) })
		if h := &x.header; h.Get("ETag") != tt.tag || h.Joined("Vary") != tt.vary {
			t.Errorf("%v: ETag %s, Vary %q; want %s, %q", tt.edits, h.Get("ETag"), h.Joined("Vary"), tt.tag, tt.vary)
		}
	}
}

// Tags are found whatever the list looks like, and one that is not there is not.
func FuzzLists(f *testing.F) {
	f.Add(`W/"1", "2"`, `"2"`)
	f.Add(`*`, `"2"`)
	f.Add(`W/"1`, `"1"`)
	f.Add(`"a,\"b"`, `"b"`)
	f.Fuzz(func(t *testing.T, list, tag string) {
		strong, weak := lists(list, `"`+tag+`"`)
		if alone, _ := lists(`"`+tag+`"`, `"`+tag+`"`); len(tag) > 0 && !strings.Contains(tag, `"`) && !alone {
			t.Errorf("%q is not found by itself", tag)
		}
		if (strong || weak) && !strings.Contains(list, `"`) {
			t.Errorf("%q is found in %q", tag, list)
		}
	})
}
