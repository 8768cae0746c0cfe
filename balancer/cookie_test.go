package balancer

import (
	"net/url"
	"strings"
	"testing"

	"wheelhouse/internal/http1"
)

func TestCookie(t *testing.T) {
	for _, tt := range []struct {
		fields []string
		want   string
		ok     bool
	}{
		{[]string{"s=v"}, "v", true},
		{[]string{"a=b; s=v; s=w"}, "v", true},
		{[]string{"a=b;s=v"}, "v", true},
		{[]string{"a=b", "s=v"}, "v", true},
		{[]string{"s=a%20b+c"}, "a b c", true},
		{[]string{"%73=v"}, "v", true},
		{[]string{"s=%zz"}, "%zz", true},
		{[]string{"s=a=b"}, "a=b", true},
		{[]string{"s="}, "", true},
		{[]string{"s"}, "", true},
		{[]string{"S=v"}, "", false},
		{[]string{"xs=v; sx=v"}, "", false},
		{[]string{"a=s=v"}, "", false},
		{nil, "", false},
	} {
		var h http1.Header
		for _, f := range tt.fields {
			h.Add("Cookie", f)
		}
		if got, ok := Cookie(&h, "s"); got != tt.want || ok != tt.ok {
			t.Errorf("%q: %q, %v; want %q, %v", tt.fields, got, ok, tt.want, tt.ok)
		}
	}
}

// A cookie that was set is found again behind any others that do not bear its name.
func FuzzCookie(f *testing.F) {
	f.Add("a=b; c", "value")
	f.Add(";;=;", "x=y%20")
	f.Add("s2=\"q;s=1\"", "")
	f.Fuzz(func(t *testing.T, before, value string) {
		var h http1.Header
		h.Add("Cookie", before)
		first, had := Cookie(&h, "sid")
		if had && !strings.Contains(before, "%") && !strings.Contains(before, "sid") {
			t.Errorf("%q: found %q", before, first)
		}
		h.Reset()
		h.Add("Cookie", before+"; sid="+url.QueryEscape(value))
		got, ok := Cookie(&h, "sid")
		if want := value; !ok || !had && got != want {
			t.Errorf("%q and then %q: %q, %v", before, value, got, ok)
		}
	})
}
