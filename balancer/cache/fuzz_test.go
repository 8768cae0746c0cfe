package cache

import (
	"strings"
	"testing"
	"time"

	"wheelhouse/internal/http1"
)

// No directive is taken for another, times are never negative but for "not given", and quoted strings hide what is in them.
func FuzzCacheControl(f *testing.F) {
	for _, s := range []string{
		"max-age=60", "private, max-age=1", `no-cache="a, b", s-maxage=5`, `ext="private, no-store"`, "max-stale", "max-age=99999999999", ",,=,", `"`, `a="\"private"`,
		"stale-while-revalidate=1;stale-if-error=2", "NO-STORE",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var h http1.Header
		h.Add("Cache-Control", s)
		d := parseControl(&h)
		for _, v := range []time.Duration{d.maxAge, d.sMaxAge, d.maxStale, d.minFresh, d.staleWhile, d.staleIfError} {
			if v < -1 || v > 1<<62 {
				t.Errorf("%q: %v", s, v)
			}
		}
		low := strings.ToLower(s)
		for name, set := range map[string]bool{"private": d.private, "no-store": d.noStore, "no-cache": d.noCache, "public": d.public, "must-revalidate": d.mustRevalidate} {
			if set && !strings.Contains(low, name) {
				t.Errorf("%q: %s from nothing", s, name)
			}
			// A directive that stands for itself is not missed.
			if h2 := (http1.Header{}); !strings.Contains(s, `"`) {
				h2.Add("Cache-Control", s+", "+name)
				again := parseControl(&h2)
				if !map[string]bool{"private": again.private, "no-store": again.noStore, "no-cache": again.noCache, "public": again.public, "must-revalidate": again.mustRevalidate}[name] {
					t.Errorf("%q with %s: not seen", s, name)
				}
			}
		}
		var quoted http1.Header
		if !strings.ContainsAny(s, `"\`) {
			quoted.Add("Cache-Control", `ext="`+s+`", max-age=7`)
			if q := parseControl(&quoted); q.private || q.noStore || q.noCache || q.maxAge != 7*time.Second {
				t.Errorf("%q in quotes: %+v", s, q)
			}
		}
	})
}

// An entry fits the request that made it, and one that differs in a field of Vary it does not; "*" is never kept.
func FuzzVary(f *testing.F) {
	f.Add("Accept-Language", "de", "fr")
	f.Add("accept-encoding, Cookie", "a", "b")
	f.Add(`X , "x,y"`, "", "\t")
	f.Add("*", "", "")
	f.Add(" ,X-Forwarded-For", "1", "2")
	f.Fuzz(func(t *testing.T, vary, one, two string) {
		var h, first, second http1.Header
		h.Add("Vary", vary)
		vary = h.Get("Vary") // as a header can hold it
		for name := range splitList(vary) {
			if name == "*" && !dependsOnUs(&h) {
				t.Errorf("%q may be kept", vary)
			}
		}
		first.Add("X-Field", one)
		second.Add("X-Field", two)
		e := &entry{vary: variedBy(&h, &http1.Request{})}
		if len(e.vary) > len(vary) {
			t.Errorf("%q gave %v", vary, e.vary)
		}
		h.Add("Vary", "x-field")
		q := &http1.Request{}
		q.Header.AddAll(&first)
		e = &entry{vary: variedBy(&h, q)}
		if !e.fits(&first) {
			t.Errorf("%q: does not fit its own request", vary)
		}
		if first.Get("X-Field") != second.Get("X-Field") && e.fits(&second) && !strings.Contains(vary, `"`) {
			t.Errorf("%q: made for %q, given for %q", vary, one, two)
		}
	})
}

// A client's list of tags.
func FuzzEntityTags(f *testing.F) {
	f.Add(`"a", W/"b"`, `"b"`)
	f.Add(`*`, "")
	f.Add(`"a,b"`, `"b"`)
	f.Fuzz(func(t *testing.T, list, tag string) {
		if etagIn(list, tag) && strings.TrimSpace(list) != "*" && !strings.Contains(list, strings.TrimPrefix(tag, "W/")) {
			t.Errorf("%q is not in %q", tag, list)
		}
	})
}
