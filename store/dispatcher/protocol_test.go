package dispatcher_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/dispatcher"
)

// Each row of the STF protocol's table, in the order in which a client would go through them.
func TestSTFProtocol(t *testing.T) {
	ts := newStore(t, setup{})
	for _, step := range []struct {
		method, path, body string
		headers            []string
		status             int
		want               string // what the body contains
	}{
		{"PUT", "/b/early", "x", nil, 404, "no such bucket"},
		{"PUT", "/b", "", nil, 201, "Created bucket"},
		{"PUT", "/b", "", nil, 204, ""},
		{"PUT", "/b/", "", nil, 204, ""},
		{"PUT", "/b", "body", nil, 400, "could not extract an object name"},
		{"PUT", "/b/o", "hello", []string{"X-STF-Replication-Count: 3", "X-STF-Consistency: 3"}, 201, "Created /b/o"},
		{"GET", "/b/o", "", nil, 200, "hello"},
		{"PUT", "/b/o", "again", nil, 201, "Created /b/o"},
		{"GET", "/b/o", "", nil, 200, "again"},
		{"PUT", "/b/zero", "", nil, 201, "Created /b/zero"},
		{"GET", "/b/zero", "", nil, 200, ""},
		{"PUT", "/b//slash", "s", nil, 201, "Created /b//slash"},
		{"GET", "/b//slash", "", nil, 200, "s"},
		{"PUT", "/b/o", "x", []string{"X-STF-Replication-Count: 4"}, 400, "the largest cluster has 3 storages"},
		{"PUT", "/b/o", "x", []string{"X-Replication-Count: 4"}, 400, "the largest cluster has 3 storages"},
		{"PUT", "/b/o", "x", []string{"X-STF-Consistency: 4"}, 400, "the largest cluster has 3 storages"},
		{"PUT", "/b/o", "x", []string{"X-STF-Consistency: many"}, 400, "X-STF-Consistency is not a number"},
		{"GET", "/b/none", "", nil, 404, "no such object: /b/none"},
		{"GET", "/none/o", "", nil, 404, "no such bucket: /none/o"},
		{"POST", "/b/o", "", []string{"X-STF-Replication-Count: 2"}, 204, ""},
		{"POST", "/b/none", "", nil, 404, "no such object"},
		{"POST", "/none/o", "", nil, 404, "no such bucket"},
		{"POST", "/b/o", "", []string{"X-STF-Replication-Count: 9"}, 400, "the object's cluster has 3 storages"},
		{"MOVE", "/b/o", "", nil, 400, "X-STF-Move-Destination was not specified"},
		{"MOVE", "/b/o", "", []string{"X-STF-Move-Destination: /none/p"}, 404, "no such bucket: /none/p"},
		{"MOVE", "/b/none", "", []string{"X-STF-Move-Destination: /b/p"}, 404, "no such object: /b/none"},
		{"MOVE", "/b/o", "", []string{"X-STF-Move-Destination: /b/zero"}, 409, "something has that name already: /b/zero"},
		{"MOVE", "/b/o", "", []string{"X-STF-Move-Destination: /b/p%20q", `If-Match: "00000000000000000000000000000000"`}, 400, "If-Match is not supported with MOVE"},
		{"MOVE", "/b/o", "", []string{"X-STF-Move-Destination: /b/p%20q"}, 201, "Created /b/o"},
		{"GET", "/b/p%20q", "", nil, 200, "again"},
		{"GET", "/b/o", "", nil, 404, ""},
		{"MOVE", "/b", "", nil, 400, "was not specified"},
		{"MOVE", "/b", "", []string{"X-STF-Move-Destination: /c/x"}, 400, "contains an object name"},
		{"MOVE", "/b", "", []string{"X-STF-Move-Destination: /c"}, 201, "Moved"},
		{"GET", "/c/p%20q", "", nil, 200, "again"},
		{"GET", "/b/p%20q", "", nil, 404, "no such bucket"},
		{"PUT", "/b", "", nil, 201, ""},
		{"MOVE", "/b", "", []string{"X-STF-Move-Destination: /c"}, 409, "/c"},
		{"DELETE", "/c/p%20q", "", nil, 204, ""},
		{"DELETE", "/c/p%20q", "", nil, 404, "no such object"},
		{"DELETE", "/none/p", "", nil, 404, "no such bucket"},
		{"DELETE", "/c", "", nil, 403, "X-STF-Recursive-Delete"},
		{"DELETE", "/c", "", []string{"X-STF-Recursive-Delete: true"}, 204, ""},
		{"DELETE", "/c", "", nil, 404, "no such bucket"},
		{"DELETE", "/b", "", nil, 204, ""},
		{"PATCH", "/b/o", "", nil, 405, "PATCH means nothing here"},
		{"PATCH", "/b", "", nil, 405, "PATCH means nothing here"},
		{"OPTIONS", "/b/o", "", nil, 204, ""},
	} {
		a := ts.do(step.method, step.path, strings.NewReader(step.body), step.headers...)
		if a.status != step.status || !strings.Contains(a.body, step.want) {
			t.Fatalf("%s %s %q = %d %q; want %d with %q", step.method, step.path, step.headers, a.status, a.body, step.status, step.want)
		}
		if a.status != 204 && a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: no X-Content-Type-Options", step.method, step.path)
		}
	}
}

func TestNames(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	for _, name := range []string{
		"a", "a/b/c", "/lead", "trail/", "..", "a/../b", ".", "x%y", "sp ace", "plus+", "q?uery", "#hash", "\x01\x7f\xff\xfe", "日本語/写真.jpg",
		strings.Repeat("n", store.MaxObjectName), "\\", "a//b", ";", "&=",
	} {
		path := store.ObjectPath("b", name)
		ts.want(201, "PUT", path, "content of "+name)
		if a := ts.want(200, "GET", path, ""); a.body != "content of "+name {
			t.Errorf("%q: got %q", name, a.body)
		}
	}
	for _, tt := range []struct{ path, want string }{
		{"/b/" + strings.Repeat("n", store.MaxObjectName+1), "the object name is 1025 bytes long"},
		{"/" + strings.Repeat("b", store.MaxBucketName+1), "the bucket name is 256 bytes long"},
		{"/b/a%00b", "NUL"},
		{"/a%2Fb", "contains a slash"},
		{"/b/%zz", "percent-encoding"},
		{"/b/%4", "percent-encoding"},
		{"/%2E%2E", "means another path"},
		{"/-", "reserved"},
	} {
		if a := raw(t, ts, "PUT", tt.path); a.status != 400 || !strings.Contains(a.body, tt.want) {
			t.Errorf("PUT %.40s = %d %q; want 400 with %q", tt.path, a.status, a.body, tt.want)
		}
	}
	ts.bucket(strings.Repeat("b", store.MaxBucketName))
}

func TestWhatIsSaidOfAnObject(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b", "X-Bucket-Cache-Control: max-age=60", "X-Bucket-Access: public-read")
	ts.want(201, "PUT", "/b/photo.JPG", "jpeg", "X-Object-Meta-Camera: Nikon", "X-Object-Meta-Place: Kyōto")
	sum := md5.Sum([]byte("jpeg"))
	a := ts.as(store.AccessKey{}, "GET", "/b/photo.JPG", nil)
	for name, want := range map[string]string{
		"Content-Type": "image/jpeg", "ETag": `"` + hex.EncodeToString(sum[:]) + `"`, "Cache-Control": "max-age=60",
		"X-Object-Meta-Camera": "Nikon", "X-Object-Meta-Place": "Kyōto", "Accept-Ranges": "bytes", "Content-Length": "4",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s = %q; want %q", name, got, want)
		}
	}
	if when, err := http.ParseTime(a.header.Get("Last-Modified")); err != nil || time.Since(when).Abs() > time.Minute {
		t.Errorf("Last-Modified = %q", a.header.Get("Last-Modified"))
	}
	if h := ts.do("HEAD", "/b/photo.JPG", nil); h.status != 200 || h.header.Get("Content-Length") != "4" || h.header.Get("ETag") != a.header.Get("ETag") || h.body != "" {
		t.Errorf("HEAD = %d %v %q", h.status, h.header, h.body)
	}
	ts.want(201, "PUT", "/b/odd", "x", "Content-Type: application/x-mine", "Cache-Control: no-store")
	if a := ts.want(200, "GET", "/b/odd", ""); a.header.Get("Content-Type") != "application/x-mine" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("given headers were not kept: %v", a.header)
	}
	ts.want(204, "POST", "/b/odd", "", "Content-Type: text/x-new", "X-Object-Meta-A: 1")
	if a := ts.want(200, "GET", "/b/odd", ""); a.header.Get("Content-Type") != "text/x-new" || a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Object-Meta-A") != "1" || a.body != "x" {
		t.Errorf("after POST: %v %q", a.header, a.body)
	}
	ts.want(400, "PUT", "/b/o", "x", "X-Object-Meta-Big: "+strings.Repeat("m", store.MaxMetaSize))
	ts.want(400, "PUT", "/b/o", "x", "Content-Type: "+strings.Repeat("t", 300))
	ts.want(400, "PUT", "/b/o", "x", "Content-Range: bytes 0-0/10")
}

// What would be lost without a word is refused: nobody could tell that the bytes are coded.
func TestContentEncoding(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	for _, coding := range []string{"gzip", "GZIP, br", "identity, gzip"} {
		a := ts.want(415, "PUT", "/b/o", "x", "Content-Encoding: "+coding)
		if a.header.Get("Accept-Encoding") != "identity" || !strings.Contains(a.body, coding) {
			t.Errorf("%s: %v %q", coding, a.header, a.body)
		}
	}
	ts.want(404, "GET", "/b/o", "")
	ts.want(201, "PUT", "/b/o", "x", "Content-Encoding: identity")
}

func TestConditions(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	ts.want(201, "PUT", "/b/o", "one")
	a := ts.want(200, "GET", "/b/o", "")
	etag, modified := a.header.Get("ETag"), a.header.Get("Last-Modified")
	when, _ := http.ParseTime(modified)
	before, after := when.Add(-time.Hour).UTC().Format(http.TimeFormat), when.Add(time.Hour).UTC().Format(http.TimeFormat)
	other := `"00000000000000000000000000000000"`
	for _, tt := range []struct {
		status  int
		headers []string
	}{
		{304, []string{"If-None-Match: " + etag}},
		{304, []string{"If-None-Match: W/" + etag}},
		{304, []string{"If-None-Match: " + other + ", " + etag}},
		{304, []string{"If-None-Match: *"}},
		{200, []string{"If-None-Match: " + other}},
		{304, []string{"If-Modified-Since: " + modified}},
		{304, []string{"If-Modified-Since: " + after}},
		{200, []string{"If-Modified-Since: " + before}}, // STF had it the wrong way round
		{200, []string{"If-Modified-Since: yesterday"}},
		{200, []string{"If-None-Match: " + other, "If-Modified-Since: " + after}},
		{200, []string{"If-Match: " + etag}},
		{200, []string{"If-Match: *"}},
		{412, []string{"If-Match: " + other}},
		{412, []string{"If-Match: W/" + etag}},
		{200, []string{"If-Unmodified-Since: " + modified}},
		{412, []string{"If-Unmodified-Since: " + before}},
		{400, []string{"If-Match: unquoted"}},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := ts.do(method, "/b/o", nil, tt.headers...)
			if a.status != tt.status {
				t.Errorf("%s %q = %d; want %d", method, tt.headers, a.status, tt.status)
			}
			if tt.status == 304 && (a.header.Get("ETag") != etag || a.body != "") {
				t.Errorf("%s %q: ETag %q, body %q", method, tt.headers, a.header.Get("ETag"), a.body)
			}
		}
	}
	ts.want(412, "PUT", "/b/o", "two", "If-None-Match: *")
	ts.want(412, "PUT", "/b/o", "two", "If-Match: "+other)
	ts.want(412, "PUT", "/b/new", "two", "If-Match: *")
	ts.want(412, "PUT", "/b/o", "two", "If-Unmodified-Since: "+before)
	ts.want(412, "DELETE", "/b/o", "", "If-Match: "+other)
	if a := ts.want(200, "GET", "/b/o", ""); a.body != "one" {
		t.Fatalf("a refused PUT changed the object: %q", a.body)
	}
	ts.want(201, "PUT", "/b/new", "two", "If-None-Match: *")
	ts.want(201, "PUT", "/b/o", "two", "If-Match: "+etag)
	ts.want(412, "PUT", "/b/o", "three", "If-Match: "+etag)
	ts.want(204, "DELETE", "/b/new", "", "If-Match: *")
}

func TestRanges(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	small := []byte("0123456789abcdefghij")
	large := make([]byte, 3<<20+17)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(large)
	for name, data := range map[string][]byte{"small": small, "large": large} {
		if a := ts.do("PUT", "/b/"+name, bytes.NewReader(data)); a.status != 201 {
			t.Fatal(a)
		}
		n := len(data)
		for _, tt := range []struct {
			spec     string
			from, to int // exclusive
		}{
			{"bytes=0-0", 0, 1},
			{"bytes=5-9", 5, 10},
			{"bytes=10-", 10, n},
			{"bytes=-5", n - 5, n},
			{"bytes=3-99999999999999999999", 3, n},
			{"bytes=-99999999", 0, n},
			{fmt.Sprintf("bytes=%d-", n-1), n - 1, n},
			{fmt.Sprintf("bytes=%d-%d", n/2, n/2+3), n / 2, n/2 + 4},
		} {
			a := ts.want(206, "GET", "/b/"+name, "", "Range: "+tt.spec)
			if a.body != string(data[tt.from:tt.to]) {
				t.Errorf("%s %s: %d bytes are not [%d, %d)", name, tt.spec, len(a.body), tt.from, tt.to)
			}
			if want := fmt.Sprintf("bytes %d-%d/%d", tt.from, tt.to-1, n); a.header.Get("Content-Range") != want {
				t.Errorf("%s %s: Content-Range %q; want %q", name, tt.spec, a.header.Get("Content-Range"), want)
			}
		}
		for _, spec := range []string{"bytes=5-4", "chars=0-1", "bytes=", "bytes=x-y", "bytes=0-9," + strings.Repeat("0-1,", 40), "bytes=0-,0-,0-"} {
			if a := ts.want(200, "GET", "/b/"+name, "", "Range: "+spec); a.body != string(data) {
				t.Errorf("%s %s: not the whole object", name, spec)
			}
		}
		for _, spec := range []string{fmt.Sprintf("bytes=%d-", n), "bytes=99999999999-", "bytes=-0"} {
			a := ts.want(416, "GET", "/b/"+name, "", "Range: "+spec)
			if want := fmt.Sprintf("bytes */%d", n); a.header.Get("Content-Range") != want {
				t.Errorf("%s %s: Content-Range %q; want %q", name, spec, a.header.Get("Content-Range"), want)
			}
		}
		a := ts.want(206, "GET", "/b/"+name, "", "Range: bytes=0-1, 4-5 ,-2")
		checkMultipart(t, a, [][]byte{data[0:2], data[4:6], data[n-2:]})
	}
	a := ts.want(200, "GET", "/b/small", "")
	ts.want(206, "GET", "/b/small", "", "Range: bytes=0-1", "If-Range: "+a.header.Get("ETag"))
	ts.want(206, "GET", "/b/small", "", "Range: bytes=0-1", "If-Range: "+a.header.Get("Last-Modified"))
	ts.want(200, "GET", "/b/small", "", "Range: bytes=0-1", `If-Range: "00000000000000000000000000000000"`)
	ts.want(200, "GET", "/b/small", "", "Range: bytes=0-1", "If-Range: W/"+a.header.Get("ETag"))
}

func TestDigests(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	body := "digest me"
	m, s := md5.Sum([]byte(body)), sha256.Sum256([]byte(body))
	good, wrong := base64.StdEncoding.EncodeToString(m[:]), base64.StdEncoding.EncodeToString(make([]byte, 16))
	sha, shaWrong := base64.StdEncoding.EncodeToString(s[:]), base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, tt := range []struct {
		header string
		status int
	}{
		{"Content-MD5: " + good, 201},
		{"Content-MD5: " + wrong, 400},
		{"Content-MD5: nonsense", 400},
		{"Digest: SHA-256=" + sha, 201},
		{"Digest: md5=" + good + ",sha-256=" + sha, 201},
		{"Digest: SHA-256=" + shaWrong, 400},
		{"Digest: crc64=xyz", 201},
		{"Digest: nonsense", 400},
		{"Repr-Digest: sha-256=:" + sha + ":", 201},
		{"Repr-Digest: sha-256=:" + shaWrong + ":", 400},
		{"Repr-Digest: sha-256=" + sha, 400},
	} {
		ts.do("DELETE", "/b/o", nil)
		ts.want(tt.status, "PUT", "/b/o", body, tt.header)
		after := 404
		if tt.status == 201 {
			after = 200
		}
		ts.want(after, "GET", "/b/o", "")
	}
	// The same for a body that is streamed.
	large := strings.Repeat("x", 3<<20)
	l := md5.Sum([]byte(large))
	ts.want(400, "PUT", "/b/large", large, "Content-MD5: "+wrong)
	ts.want(404, "GET", "/b/large", "")
	ts.want(201, "PUT", "/b/large", large, "Content-MD5: "+base64.StdEncoding.EncodeToString(l[:]))
}

func TestListing(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	names := []string{"a", "a/1", "a/2", "a/b/3", "b/4", "c", "c-", "c/", "d\xff", "é"}
	for _, n := range names {
		ts.want(201, "PUT", store.ObjectPath("b", n), n)
	}
	type page struct {
		Objects         []struct{ Name, Path, ETag string }
		Prefixes        []string
		EncodedPrefixes []string `json:"encoded_prefixes"`
		Truncated       bool
		Next            string
	}
	get := func(query string) page {
		t.Helper()
		var p page
		if err := json.Unmarshal([]byte(ts.want(200, "GET", "/b"+query, "").body), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	collect := func(query string) (objects, prefixes []string) {
		t.Helper()
		for range 50 {
			p := get(query)
			for _, o := range p.Objects {
				if o.Path != "" {
					o.Name = o.Path
				}
				objects = append(objects, o.Name)
			}
			prefixes = append(prefixes, p.Prefixes...)
			if !p.Truncated {
				return objects, prefixes
			}
			query = p.Next
		}
		t.Fatal("the listing does not end")
		return nil, nil
	}
	all := []string{"a", "a/1", "a/2", "a/b/3", "b/4", "c", "c-", "c/", "/b/d%FF", "é"}
	for _, tt := range []struct {
		query             string
		objects, prefixes []string
	}{
		{"?list", all, nil},
		{"?list&prefix=a", all[:4], nil},
		{"?list&prefix=a/", all[1:4], nil},
		{"?list&after=a/2", all[3:], nil},
		{"?list&after=zzz&prefix=a", nil, nil},
		{"?list&delimiter=/", []string{"a", "c", "c-", "/b/d%FF", "é"}, []string{"a/", "b/", "c/"}},
		{"?list&delimiter=/&prefix=a/", []string{"a/1", "a/2"}, []string{"a/b/"}},
		{"?list&prefix=nothing", nil, nil},
	} {
		for limit := 1; limit <= 11; limit++ {
			objects, prefixes := collect(fmt.Sprintf("%s&limit=%d", tt.query, limit))
			if !slices.Equal(objects, tt.objects) || !slices.Equal(prefixes, tt.prefixes) {
				t.Errorf("%s, limit %d: %q, %q; want %q, %q", tt.query, limit, objects, prefixes, tt.objects, tt.prefixes)
			}
		}
	}
	ts.want(400, "GET", "/b?list&limit=0", "")
	ts.want(400, "GET", "/b?list&limit=x", "")
	if got := ts.want(200, "GET", "/?list", "").body; !strings.Contains(got, `"name":"b"`) {
		t.Errorf("buckets: %s", got)
	}
}

func TestErrorsAsJSON(t *testing.T) {
	ts := newStore(t, setup{})
	a := ts.want(404, "GET", "/b/o", "", "Accept: application/json")
	var e struct {
		Status int
		Error  string
	}
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || e.Status != 404 || e.Error != "no such bucket: /b/o" {
		t.Errorf("%q, %v", a.body, err)
	}
}

func TestReproxy(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options dispatcher.Options
		headers []string
		urls    int
		accel   string
	}{
		{"asked", dispatcher.Options{Proxies: loopback}, []string{"X-Proxy-Capabilities: reproxy-file"}, 3, ""},
		{"not asked", dispatcher.Options{Proxies: loopback}, nil, 0, ""},
		{"always", dispatcher.Options{Proxies: loopback, Reproxy: dispatcher.ReproxyAlways}, nil, 3, ""},
		{"never", dispatcher.Options{Proxies: loopback, Reproxy: dispatcher.ReproxyNever}, []string{"X-Proxy-Capabilities: reproxy-file"}, 0, ""},
		{"from a stranger", dispatcher.Options{}, []string{"X-Proxy-Capabilities: reproxy-file"}, 0, ""},
		{"nginx", dispatcher.Options{Proxies: loopback, Reproxy: dispatcher.ReproxyAlways, AccelRedirect: "/reproxy"}, nil, 1, "/reproxy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ts := newStore(t, setup{options: tt.options})
			ts.bucket("b")
			ts.want(201, "PUT", "/b/o.txt", "hello")
			a := ts.want(200, "GET", "/b/o.txt", "", tt.headers...)
			urls := strings.Fields(a.header.Get("X-Reproxy-URL"))
			if len(urls) != tt.urls || a.header.Get("X-Accel-Redirect") != tt.accel {
				t.Fatalf("headers %v; want %d URLs", a.header, tt.urls)
			}
			if tt.urls == 0 {
				if a.body != "hello" {
					t.Errorf("body %q", a.body)
				}
				return
			}
			if a.body != "" || a.header.Get("X-Reproxy-Expected-Size") != "5" || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%v %q", a.header, a.body)
			}
			for _, u := range urls {
				if !strings.HasSuffix(u, store.EntityPath(1)) {
					t.Errorf("URL %s", u)
				}
			}
			ts.want(304, "GET", "/b/o.txt", "", append(tt.headers, "If-None-Match: "+a.header.Get("ETag"))...)
		})
	}
}
