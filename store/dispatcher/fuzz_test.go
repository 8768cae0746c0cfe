package dispatcher

import (
	"bytes"
	"testing"

	"wheelhouse/store"
)

// A path that is accepted is written and read again as the same names.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/b", "/b/", "/b/o", "/b//o", "/b/%41%2f", "/%2F/x", "/b/%", "/b/%zz", "//", "/b/\xff%00", "x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, fail := parsePath(raw)
		if fail == nil {
			fail = a.check()
		}
		if fail != nil {
			if fail.status < 400 || fail.reason == "" {
				t.Fatalf("%q is refused with %d %q", raw, fail.status, fail.reason)
			}
			return
		}
		b, fail := parsePath([]byte(a.String()))
		if fail != nil || !bytes.Equal(a.bucket, b.bucket) || !bytes.Equal(a.name, b.name) {
			t.Fatalf("%q is %q %q, written as %s, read again as %q %q (%v)", raw, a.bucket, a.name, a.String(), b.bucket, b.name, fail)
		}
	})
}

// Ranges that are accepted lie within the object, and are few.
func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-5", "bytes=5-", "bytes=0-0,2-3 , -1", "bytes=,,", "bytes=9-1", "x=0-1", "bytes=99999999999999999999-"} {
		f.Add(s, int64(100))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		if size < 0 {
			return
		}
		ranges, _ := parseRange(s, size)
		if len(ranges) > maxRanges {
			t.Fatalf("%q: %d ranges", s, len(ranges))
		}
		for _, r := range ranges {
			if r.off < 0 || r.n <= 0 || r.off > size-r.n {
				t.Fatalf("%q of %d bytes: [%d, +%d)", s, size, r.off, r.n)
			}
		}
	})
}

// Tags that are ours are found again in what is written of them.
func FuzzParseTags(f *testing.F) {
	for _, s := range []string{"*", `"0123456789abcdef0123456789abcdef"`, `W/"x", "y"`, `"`, ``, `"a""b"`, `"a" , ,"b"`} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, weak bool) {
		list, ok := parseTags(s, weak)
		if !ok {
			return
		}
		for _, tag := range list.tags {
			again, ok := parseTags(string(appendETag(nil, tag)), weak)
			if !ok || len(again.tags) != 1 || again.tags[0] != tag {
				t.Fatalf("%x is written as %s", tag, appendETag(nil, tag))
			}
		}
	})
}

func FuzzEntityPath(f *testing.F) {
	f.Add("0/000/000/0000000025.fid")
	f.Add("1/234/567/12345678901234.fid")
	f.Fuzz(func(t *testing.T, s string) {
		if id, ok := store.ParseEntityPath(s); ok && store.EntityPath(id) != s {
			t.Fatalf("%q is %d, which is written %q", s, id, store.EntityPath(id))
		}
	})
}
