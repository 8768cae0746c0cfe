package cache

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/balancer"
)

func stamp(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }

// For how long each answer is given without asking (RFC 9111 §4.2), to the second: it is given then, and not two seconds later.
func TestLifetimes(t *testing.T) {
	for _, tt := range []struct {
		fields func() []string
		fresh  time.Duration // 0: not given at all
	}{
		{func() []string { return []string{"Cache-Control: max-age=100"} }, 100 * time.Second},
		{func() []string { return []string{`Cache-Control: max-age="100"`} }, 100 * time.Second},
		{func() []string { return []string{"Cache-Control: MAX-AGE=100"} }, 100 * time.Second},
		{func() []string { return []string{"Cache-Control: max-age=100", "Age: 40"} }, 60 * time.Second},
		{func() []string { return []string{"Cache-Control: max-age=100", "Date: " + stamp(-30*time.Second)} }, 70 * time.Second},
		{func() []string {
			return []string{"Cache-Control: max-age=100", "Date: " + stamp(-30*time.Second), "Age: 10"}
		}, 70 * time.Second},
		{func() []string { return []string{"Cache-Control: max-age=100", "Date: " + stamp(30*time.Second)} }, 100 * time.Second},
		{func() []string { return []string{"Cache-Control: max-age=100", "Age: nonsense"} }, 100 * time.Second},
		{func() []string { return []string{"Cache-Control: max-age=100", "Age: 99999999999999999999"} }, 0},
		{func() []string { return []string{"Cache-Control: max-age=100, max-age=5"} }, 100 * time.Second},
		{func() []string { return []string{"Cache-Control: max-age=5", "Cache-Control: max-age=100"} }, 5 * time.Second},
		{func() []string { return []string{"Cache-Control: max-age=5, s-maxage=100"} }, 100 * time.Second},
		{func() []string { return []string{"Cache-Control: s-maxage=5, max-age=100"} }, 5 * time.Second},
		{func() []string { return []string{"Cache-Control: max-age=-1"} }, 0},
		{func() []string { return []string{"Cache-Control: max-age=x"} }, 0},
		{func() []string { return []string{"Cache-Control: max-age"} }, 0},
		{func() []string { return []string{"Cache-Control: max-age=100", "Expires: " + stamp(5*time.Second)} }, 100 * time.Second},
		{func() []string { return []string{"Expires: " + stamp(100*time.Second)} }, 100 * time.Second},
		{func() []string {
			return []string{"Expires: " + stamp(100*time.Second), "Date: " + stamp(-50*time.Second)}
		}, 100 * time.Second},
		{func() []string { return []string{"Expires: -1"} }, 0},
		{func() []string { return []string{"Expires: " + stamp(-time.Second)} }, 0},
		{func() []string { return []string{"Last-Modified: " + stamp(-1000*time.Second)} }, 100 * time.Second},
		{func() []string { return []string{"Last-Modified: " + stamp(-1000*time.Hour)} }, time.Hour},
		{func() []string { return []string{"Last-Modified: " + stamp(1000*time.Second)} }, 0},
		{func() []string { return nil }, 0},
		{func() []string { return []string{`Cache-Control: foo="max-age=100"`} }, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, balancer.Cache{})
			w.reply = reply{200, tt.fields(), "body"}
			w.ask("GET", "/")
			if tt.fresh == 0 {
				if w.kept("/") {
					t.Errorf("%v: given without asking", w.reply.fields)
				}
				return
			}
			time.Sleep(tt.fresh - time.Second)
			if !w.kept("/") {
				t.Errorf("%v: not given after %v", w.reply.fields, tt.fresh-time.Second)
			}
			time.Sleep(2 * time.Second)
			if w.kept("/") {
				t.Errorf("%v: still given after %v", w.reply.fields, tt.fresh+time.Second)
			}
		})
	}
}

// What a shared cache may keep (RFC 9111 §3), and for whom.
func TestStores(t *testing.T) {
	const auth = "Authorization: Basic x"
	for i, tt := range []struct {
		status  int
		request []string
		fields  []string
		kept    bool
	}{
		{200, nil, []string{"Cache-Control: max-age=60"}, true},
		{203, nil, []string{"Cache-Control: max-age=60"}, true},
		{301, nil, []string{"Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT"}, true},
		{302, nil, []string{"Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT"}, false},
		{404, nil, []string{"Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT"}, true},
		{206, nil, []string{"Cache-Control: max-age=60", "Content-Range: bytes 0-3/8"}, false},
		{304, nil, []string{"Cache-Control: max-age=60"}, false},
		{200, nil, []string{"Cache-Control: private, max-age=60"}, false},
		{200, nil, []string{`Cache-Control: private="set-cookie", max-age=60`}, false},
		{200, nil, []string{"Cache-Control: max-age=60", "Cache-Control: private"}, false},
		{200, nil, []string{"Cache-Control: no-store, max-age=60"}, false},
		{200, nil, []string{"Cache-Control: no-cache, max-age=60", `ETag: "1"`}, false},
		{200, nil, []string{`Cache-Control: no-cache="x-secret", max-age=60`, `ETag: "1"`}, false},
		{200, nil, []string{"Pragma: no-cache", "Expires: Thu, 01 Jan 2099 00:00:00 GMT"}, false},
		{200, nil, []string{"Cache-Control: max-age=60", "Set-Cookie: a=b"}, false},
		{200, nil, []string{"Cache-Control: public, max-age=60", "Set-Cookie: a=b"}, false},
		{200, nil, []string{"Cache-Control: max-age=60", "Vary: *"}, false},
		{200, nil, []string{"Cache-Control: max-age=60", "Vary: Accept, *"}, false},
		{200, nil, []string{"Cache-Control: max-age=60", "Vary: X-Forwarded-For"}, false},
		{200, []string{"Accept-Encoding: deflate, gzip"}, []string{"Cache-Control: max-age=60", "Vary: Accept-Encoding", "Content-Encoding: gzip"}, true},
		{200, []string{"Accept-Encoding: *"}, []string{"Cache-Control: max-age=60", "Vary: Accept-Encoding", "Content-Encoding: zstd"}, true},
		{200, nil, []string{"Cache-Control: max-age=60", "Vary: Accept-Encoding", "Content-Encoding: identity"}, true},
		{200, []string{"Accept-Encoding: deflate, gzip"}, []string{"Cache-Control: max-age=60", "Vary: Accept-Encoding", "Content-Encoding: deflate"}, false},
		{200, []string{"Accept-Encoding: gzip;q=0"}, []string{"Cache-Control: max-age=60", "Vary: Accept-Encoding", "Content-Encoding: gzip"}, false},
		{200, []string{"Accept-Encoding: x-gzip"}, []string{"Cache-Control: max-age=60", "Vary: Accept-Encoding", "Content-Encoding: gzip"}, false},
		{200, nil, []string{"Cache-Control: max-age=60", "Vary: Accept, Accept-Encoding", "Content-Encoding: br"}, false},
		{200, nil, []string{"Cache-Control: max-age=60", "Content-Encoding: br"}, true}, // the origin sends nothing else
		{200, []string{auth}, []string{"Cache-Control: max-age=60"}, false},
		{200, []string{auth}, []string{"Cache-Control: public, max-age=60"}, true},
		{200, []string{auth}, []string{"Cache-Control: s-maxage=60"}, true},
		{200, []string{auth}, []string{"Cache-Control: must-revalidate, max-age=60"}, true},
		{200, []string{auth}, []string{"Cache-Control: proxy-revalidate, max-age=60"}, false},
		{200, []string{auth}, []string{"Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT"}, false},
		{200, []string{"Cache-Control: no-store"}, []string{"Cache-Control: max-age=60"}, false},
		{200, []string{"Range: bytes=0-1"}, []string{"Cache-Control: max-age=60"}, false},
	} {
		w := newWorld(t, balancer.Cache{})
		w.reply = reply{tt.status, tt.fields, "body"}
		path := fmt.Sprint("/", i)
		w.ask("GET", path, tt.request...)
		if kept := w.kept(path, coding(tt.request)...); kept != tt.kept {
			t.Errorf("%d %v to %v: given again %v; want %v", tt.status, tt.fields, tt.request, kept, tt.kept)
		}
	}
}

// What a request may demand (RFC 9111 §5.2.1).
func TestRequestDirectives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, balancer.Cache{})
		w.reply = reply{200, []string{"Cache-Control: max-age=100", `ETag: "1"`}, "body"}
		for i, tt := range []struct {
			age  time.Duration
			want string
			kept bool
		}{
			{50 * time.Second, "", true},
			{50 * time.Second, "no-cache", false},
			{50 * time.Second, "max-age=60", true},
			{50 * time.Second, "max-age=40", false},
			{50 * time.Second, "min-fresh=40", true},
			{50 * time.Second, "min-fresh=60", false},
			{150 * time.Second, "max-stale=60", true},
			{150 * time.Second, "max-stale=40", false},
			{150 * time.Second, "max-stale", true},
			{150 * time.Second, "only-if-cached, max-stale", true},
		} {
			path := fmt.Sprint("/", i)
			w.ask("GET", path)
			time.Sleep(tt.age)
			var fields []string
			if tt.want != "" {
				fields = []string{"Cache-Control: " + tt.want}
			}
			if kept := w.kept(path, fields...); kept != tt.kept {
				t.Errorf("%q at %v: %v; want %v", tt.want, tt.age, kept, tt.kept)
			}
		}
		if x := w.ask("GET", "/never", "Cache-Control: only-if-cached"); x.status != 504 {
			t.Errorf("only-if-cached of nothing: %d", x.status)
		}
		w.reply.fields = []string{"Cache-Control: max-age=1, must-revalidate", `ETag: "1"`}
		w.ask("GET", "/must")
		time.Sleep(2 * time.Second)
		if w.kept("/must", "Cache-Control: max-stale") {
			t.Error("max-stale got what must be asked about")
		}
	})
}

// The origin is asked with the tag that is kept, what it says is merged, and what it says for one client alone is not (RFC 9111 §4.3).
func TestRevalidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, balancer.Cache{})
		w.reply = reply{200, []string{"Cache-Control: max-age=10", `ETag: "1"`, "X-Old: a", "Content-Type: text/plain", "Age: 5"}, "body"}
		w.ask("GET", "/")
		time.Sleep(20 * time.Second)
		w.reply.fields = []string{"Cache-Control: max-age=100", `ETag: "1"`, "X-New: b", "Content-Type: x/y", "Set-Cookie: session=1"}
		x := w.ask("GET", "/", `If-None-Match: "other"`, "Range: bytes=1-2")
		last := w.asked[len(w.asked)-1]
		if last.Header.Get("If-None-Match") != `"1"` || last.Header.Has("Range") {
			t.Errorf("the origin was asked with %q, range %q", last.Header.Get("If-None-Match"), last.Header.Get("Range"))
		}
		h := &x.header
		if x.status != 206 || x.body.String() != "od" || h.Get("X-Old") != "a" || h.Get("X-New") != "b" || h.Get("Content-Type") != "text/plain" || h.Get("Age") != "0" {
			t.Errorf("%d %q: %v", x.status, x.body.String(), dump(x))
		}
		if h.Get("Set-Cookie") != "session=1" {
			t.Error("the cookie did not reach its client")
		}
		x = w.ask("GET", "/")
		if len(w.asked) != 2 || x.body.String() != "body" {
			t.Errorf("asked %d times, %q", len(w.asked), x.body.String())
		}
		if x.header.Has("Set-Cookie") {
			t.Error("another client got the cookie")
		}
	})
}

func dump(x *exchange) (s []string) {
	for n, v := range x.header.All() {
		s = append(s, string(n)+": "+string(v))
	}
	return s
}

// An answer whose origin has since called it private, or a 304 of another tag, is not given again.
func TestRevalidationTakesBack(t *testing.T) {
	for _, tt := range []string{"private, max-age=100", "no-store", "no-store, max-age=100"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, balancer.Cache{})
			w.reply = reply{200, []string{"Cache-Control: max-age=10", `ETag: "1"`}, "body"}
			w.ask("GET", "/")
			time.Sleep(20 * time.Second)
			w.reply.fields = []string{"Cache-Control: " + tt, `ETag: "1"`}
			if x := w.ask("GET", "/"); x.status != 200 || x.body.String() != "body" {
				t.Errorf("%d %q", x.status, x.body.String())
			}
			w.ask("GET", "/")
			if last := w.asked[len(w.asked)-1]; len(w.asked) != 3 || last.Header.Has("If-None-Match") {
				t.Errorf("%s: asked %d times, with %q", tt, len(w.asked), last.Header.Get("If-None-Match"))
			}
			if st := w.c.Stats(); st.Entries != 0 {
				t.Errorf("%s: %+v is kept", tt, st)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, balancer.Cache{})
		w.reply = reply{200, []string{"Cache-Control: max-age=10", `ETag: "1"`}, "old"}
		w.ask("GET", "/")
		time.Sleep(20 * time.Second)
		w.reply = reply{304, []string{`ETag: "2"`}, ""}
		w.before = func() {
			if !w.asked[len(w.asked)-1].Header.Has("If-None-Match") {
				w.reply = reply{200, []string{`ETag: "2"`}, "new"}
			}
		}
		if x := w.ask("GET", "/"); x.status != 200 || x.body.String() != "new" {
			t.Errorf("after a 304 of another tag: %d %q", x.status, x.body.String())
		}
	})
}

// What was private stays so: with cache_ask_always each client gets an answer that the origin has granted to it, and one that is known by
// its date alone is not kept, for another's may not have been modified since either.
func TestPrivacyWhenAskingAlways(t *testing.T) {
	w := newWorld(t, balancer.Cache{AskAlways: true})
	w.reply = reply{200, []string{"Cache-Control: private, max-age=100", `ETag: "of-a"`, "Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT"}, "of a"}
	w.ask("GET", "/me", "Authorization: a")
	w.reply = reply{200, []string{"Cache-Control: private, max-age=100", `ETag: "of-b"`, "Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT"}, "of b"}
	if x := w.ask("GET", "/me", "Authorization: b"); x.body.String() != "of b" {
		t.Errorf("b got %q", x.body.String())
	}
	if last := w.asked[len(w.asked)-1]; last.Header.Has("If-Modified-Since") || last.Header.Get("Authorization") != "b" {
		t.Errorf("asked about with a date, as %q", last.Header.Get("Authorization"))
	}
	w.reply = reply{403, nil, "no"}
	if x := w.ask("GET", "/me", "Authorization: c"); x.status != 403 || x.body.String() != "no" {
		t.Errorf("c got %d %q", x.status, x.body.String())
	}
	w.reply = reply{503, nil, "down"}
	if x := w.ask("GET", "/me"); x.status != 503 {
		t.Errorf("while the origin is down: %d %q", x.status, x.body.String())
	}
	w = newWorld(t, balancer.Cache{AskAlways: true})
	w.reply = reply{200, []string{"Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT"}, "of a"}
	w.ask("GET", "/me")
	if st := w.c.Stats(); st.Entries != 0 {
		t.Error("an answer without a tag was kept")
	}
}

// coding is the part of a request's fields that says which codings it takes, if an answer may be given for it.
func coding(fields []string) []string {
	if len(fields) > 0 && strings.HasPrefix(fields[0], "Accept-Encoding: ") {
		return fields[:1]
	}
	return nil
}

// Vary chooses between answers; of two that fit the newer is given; variants are bounded.
func TestVariants(t *testing.T) {
	w := newWorld(t, balancer.Cache{})
	ok := func(body string, fields ...string) {
		w.reply = reply{200, append([]string{"Cache-Control: max-age=100"}, fields...), body}
	}
	ok("german", "Vary: Accept-Language")
	w.ask("GET", "/", "Accept-Language: de")
	ok("french", "Vary: Accept-Language")
	if w.kept("/", "Accept-Language: fr") || !w.kept("/", "accept-language: fr") || !w.kept("/", "Accept-Language: de") {
		t.Error("one variant was given for another, or was forgotten")
	}
	if x := w.ask("GET", "/", "Accept-Language: de"); x.body.String() != "german" {
		t.Errorf("%q", x.body.String())
	}
	// First for all, then by cookie: nobody gets the one for all any more who has caused the other.
	ok("for all")
	w.ask("GET", "/page")
	ok("of a", "Vary: Cookie")
	w.ask("GET", "/page", "Cookie: a", "Cache-Control: no-cache")
	if x := w.ask("GET", "/page", "Cookie: a"); x.body.String() != "of a" {
		t.Errorf("a got %q", x.body.String())
	}
	if x := w.ask("GET", "/page", "Cookie: b"); x.body.String() == "of a" {
		t.Error("b got a's page")
	}
	ok("x", "Vary: Accept-Language")
	for i := range 3 * maxVariants {
		w.ask("GET", "/many", fmt.Sprint("Accept-Language: ", i))
	}
	if n := len(w.c.mem.keys["http://site.example/many"]); n != maxVariants {
		t.Errorf("%d variants are kept; want %d", n, maxVariants)
	}
	// The codings that a client takes matter, not how it says so.
	ok("zipped", "Vary: Accept-Encoding")
	w.ask("GET", "/z", "Accept-Encoding: gzip, br;q=0")
	if !w.kept("/z", "Accept-Encoding: GZIP;q=0.5") || w.kept("/z", "Accept-Encoding: br") || w.kept("/z") {
		t.Error("Accept-Encoding")
	}
}

// HEAD is answered from what GET has brought, and brings nothing itself; Range is for GET alone.
func TestHead(t *testing.T) {
	w := newWorld(t, balancer.Cache{})
	w.reply = reply{200, []string{"Cache-Control: max-age=100", `ETag: "1"`}, ""}
	w.ask("HEAD", "/")
	w.reply.body = "body"
	if x := w.ask("GET", "/"); x.body.String() != "body" {
		t.Errorf("GET after HEAD: %q", x.body.String())
	}
	n := len(w.asked)
	x := w.ask("HEAD", "/", "Range: bytes=0-1")
	if x.status != 200 || x.body.Len() != 0 || len(w.asked) != n {
		t.Errorf("HEAD: %d, %d bytes", x.status, x.body.Len())
	}
}

// A change of a resource makes the cache forget it, and what the answer names on the same host: before the client gets that answer.
func TestInvalidation(t *testing.T) {
	for _, tt := range []struct {
		method string
		status int
		fields []string
		gone   []string
		stay   []string
	}{
		{"POST", 201, []string{"Location: /b", "Content-Location: http://site.EXAMPLE/c?x=1"}, []string{"/a", "/b", "/c?x=1"}, []string{"/c"}},
		{"PUT", 204, []string{"Location: http://other.example/b"}, []string{"/a"}, []string{"/b", "/c"}},
		{"DELETE", 303, []string{"Location: c"}, []string{"/a", "/c"}, []string{"/b"}},
		{"PATCH", 200, []string{"Location: ftp://site.example/b"}, []string{"/a"}, []string{"/b"}},
		{"POST", 400, []string{"Location: /b"}, nil, []string{"/a", "/b"}},
		{"POST", 500, nil, nil, []string{"/a"}},
		{"OPTIONS", 200, nil, nil, []string{"/a"}},
		{"PROPFIND", 207, nil, nil, []string{"/a"}},
	} {
		w := newWorld(t, balancer.Cache{})
		w.reply = reply{200, []string{"Cache-Control: max-age=100"}, "body"}
		for _, p := range []string{"/a", "/b", "/c", "/c?x=1"} {
			w.ask("GET", p)
		}
		w.reply = reply{tt.status, tt.fields, ""}
		w.ask(tt.method, "/a")
		w.reply = reply{200, nil, "new"}
		for _, p := range tt.gone {
			if w.kept(p) {
				t.Errorf("%s %d %v: %s was given again", tt.method, tt.status, tt.fields, p)
			}
		}
		for _, p := range tt.stay {
			if !w.kept(p) {
				t.Errorf("%s %d %v: %s was forgotten", tt.method, tt.status, tt.fields, p)
			}
		}
	}
}

// What was asked for before a change, and comes after it, is not kept.
func TestInvalidationOfWhatIsUnderWay(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		w := newWorld(t, balancer.Cache{Disk: dir, DiskSize: 1 << 20})
		w.reply = reply{200, []string{"Cache-Control: max-age=100"}, "old"}
		w.before = func() {
			w.before = nil
			saved := w.reply
			w.reply = reply{204, nil, ""}
			w.ask("DELETE", "/a")
			w.reply = saved
		}
		w.ask("GET", "/a")
		w.c.Wait()
		if st := w.c.Stats(); st.Entries != 0 || st.DiskEntries != 0 {
			t.Errorf("the old answer is kept: %+v", st)
		}
	}
}

// A URL that ends with an asterisk stands for all that begin as it does, of both schemes, also for what is under way.
func TestPurgeByPrefix(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, balancer.Cache{PurgeNetworks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Disk: dir, DiskSize: 1 << 20})
	defer w.c.Wait()
	w.reply = reply{200, []string{"Cache-Control: max-age=100"}, "body"}
	purge := func(path string) (int, string) {
		r, x := new(balancer.Request), &exchange{ctx: t.Context()}
		x.req.Method, x.req.Path, x.req.Host = "PURGE", []byte(path), []byte("site.example")
		r.Reset(x, nil, &balancer.Settings{}, nil, nil)
		r.Observed = netip.MustParseAddr("192.0.2.7")
		w.c.Serve(r, w.origin)
		return x.status, x.body.String()
	}
	all := []string{"/css/a", "/css/b?v=1", "/css/b?v=2", "/cssx", "/js/a", "/"}
	for _, path := range all {
		w.ask("GET", path)
	}
	w.c.Wait()
	for _, tt := range []struct {
		path   string
		status int
		left   []string
	}{{"/css/*", 200, all[3:]}, {"/css/*", 404, all[3:]}, {"/js/a*", 200, []string{"/cssx", "/"}}, {"/*", 200, nil}, {"*", 404, nil}} {
		if status, _ := purge(tt.path); status != tt.status {
			t.Errorf("PURGE %s: %d; want %d", tt.path, status, tt.status)
		}
		if st := w.c.Stats(); st.Entries != len(tt.left) || st.DiskEntries != len(tt.left) {
			t.Errorf("PURGE %s: %+v; want %d left", tt.path, st, len(tt.left))
		}
		for _, path := range tt.left {
			if !w.kept(path) {
				t.Errorf("PURGE %s: %s has gone", tt.path, path)
			}
		}
	}
	w.before = func() { purge("/css/*") }
	w.ask("GET", "/css/late")
	w.before = nil
	if w.kept("/css/late") {
		t.Error("what was forgotten while it was under way is kept")
	}
	if x := w.ask("PURGE", "/css/*"); x.status != 403 {
		t.Errorf("from elsewhere: %d", x.status)
	}
}

func TestPurge(t *testing.T) {
	w := newWorld(t, balancer.Cache{PurgeNetworks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	w.reply = reply{200, []string{"Cache-Control: max-age=100"}, "body"}
	w.ask("GET", "/a")
	x := &exchange{}
	for i, want := range []int{200, 404} {
		r := new(balancer.Request)
		x = &exchange{ctx: t.Context()}
		x.req.Method, x.req.Path, x.req.Host = "PURGE", []byte("/a"), []byte("site.example")
		r.Reset(x, nil, &balancer.Settings{}, nil, nil)
		r.Observed = netip.MustParseAddr("192.0.2.7")
		w.c.Serve(r, w.origin)
		if x.status != want {
			t.Errorf("PURGE %d: %d", i, x.status)
		}
	}
	if w.kept("/a") {
		t.Error("given after PURGE")
	}
	if x := w.ask("PURGE", "/a"); x.status != 403 {
		t.Errorf("from elsewhere: %d", x.status)
	}
}

// A stale answer is given while it is renewed, or in place of an error, for as long as it says, and never where it must be asked about.
func TestStale(t *testing.T) {
	for _, tt := range []struct {
		control string
		set     balancer.Cache
		after   time.Duration
		status  int // of the origin then
		body    string
	}{
		{"max-age=10, stale-if-error=20", balancer.Cache{}, 25 * time.Second, 503, "old"},
		{"max-age=10, stale-if-error=20", balancer.Cache{}, 35 * time.Second, 503, "new"},
		{"max-age=10, stale-if-error=20", balancer.Cache{}, 25 * time.Second, 404, "new"},
		{"max-age=10, stale-if-error=20", balancer.Cache{}, 25 * time.Second, 501, "new"},
		{"max-age=10", balancer.Cache{StaleIfError: 20 * time.Second}, 25 * time.Second, 500, "old"},
		{"max-age=10, stale-if-error=0", balancer.Cache{StaleIfError: 20 * time.Second}, 25 * time.Second, 500, "new"},
		{"max-age=10, must-revalidate, stale-if-error=20", balancer.Cache{}, 25 * time.Second, 503, "new"},
		{"max-age=10, proxy-revalidate", balancer.Cache{StaleIfError: 20 * time.Second}, 25 * time.Second, 503, "new"},
		{"s-maxage=10", balancer.Cache{StaleIfError: 20 * time.Second}, 25 * time.Second, 503, "new"},
		{"max-age=10, stale-while-revalidate=20", balancer.Cache{}, 25 * time.Second, 200, "old"},
		{"max-age=10, stale-while-revalidate=20", balancer.Cache{}, 35 * time.Second, 200, "new"},
		{"max-age=10", balancer.Cache{StaleWhileRev: 20 * time.Second}, 25 * time.Second, 200, "old"},
		{"max-age=10, must-revalidate, stale-while-revalidate=20", balancer.Cache{}, 25 * time.Second, 200, "new"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, tt.set)
			w.reply = reply{200, []string{"Cache-Control: " + tt.control, `ETag: "1"`}, "old"}
			w.ask("GET", "/")
			time.Sleep(tt.after)
			w.reply = reply{tt.status, []string{"Cache-Control: max-age=1000", `ETag: "2"`}, "new"}
			if x := w.ask("GET", "/"); x.body.String() != tt.body {
				t.Errorf("%s after %v, origin %d: %q; want %q", tt.control, tt.after, tt.status, x.body.String(), tt.body)
			}
			w.c.Wait()
			if tt.status == 200 {
				if x := w.ask("GET", "/"); x.body.String() != "new" || len(w.asked) != 2 {
					t.Errorf("%s: afterwards %q, asked %d times", tt.control, x.body.String(), len(w.asked))
				}
			}
		})
	}
}

// Renewal in the background asks for what plugins have made of the request, under the key that they gave it.
func TestRenewalAsPluginsHaveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, balancer.Cache{})
		w.reply = reply{200, []string{"Cache-Control: max-age=10, stale-while-revalidate=100"}, "body"}
		ask := func() {
			x := &exchange{ctx: t.Context()}
			x.req.Method, x.req.Target, x.req.Path, x.req.Host = "GET", []byte("/raw?q"), []byte("/raw"), []byte("alias.example")
			x.req.Query = []byte("q")
			r := new(balancer.Request)
			r.Reset(x, nil, &balancer.Settings{PersistClient: true}, nil, nil)
			r.Path, r.Host = []byte("/made"), []byte("real.example")
			r.Edits = append(r.Edits, balancer.HeaderEdit{Name: "X-Edit", Value: "1"})
			w.c.Serve(r, w.origin)
		}
		ask()
		time.Sleep(20 * time.Second)
		ask()
		w.c.Wait()
		if len(w.asked) != 2 {
			t.Fatalf("asked %d times", len(w.asked))
		}
		for i, out := range w.asked {
			if out.Target != "/made?q" || out.Host != "real.example" || out.Header.Get("X-Edit") != "1" {
				t.Errorf("%d: %s of %s, edit %q", i, out.Target, out.Host, out.Header.Get("X-Edit"))
			}
		}
	})
}
