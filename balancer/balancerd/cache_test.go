package balancerd_test

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/web"
)

// origin answers as it is told, and counts.
type origin struct {
	mu     sync.Mutex
	fields http.Header
	status int
	body   string
	asked  atomic.Int64
	gate   chan struct{} // waited for before an answer, nil: not
	last   http.Header
}

func (o *origin) set(status int, body string, fields ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.status, o.body, o.fields = status, body, http.Header{}
	for i := 0; i < len(fields); i += 2 {
		o.fields.Add(fields[i], fields[i+1])
	}
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.asked.Add(1)
	o.mu.Lock()
	gate, status, body := o.gate, o.status, o.body
	o.last = r.Header.Clone()
	for k, v := range o.fields {
		w.Header()[k] = v
	}
	o.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if tag := w.Header().Get("Etag"); tag != "" && r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(304)
		return
	}
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// cached starts a caching service in front of an origin.
func cached(t *testing.T, more string) (*balancertest.Balancer, *origin) {
	o := &origin{}
	o.set(200, "body")
	back := balancertest.Backend(t, o.ServeHTTP)
	return balancertest.Start(t, balancertest.Proxy([]string{back}, "SET backend_persist_cache = 20\nSET cache = on\n"+more), balancerd.Options{}), o
}

// What may be kept is, and what may not is not.
func TestCacheKeeps(t *testing.T) {
	b, o := cached(t, "")
	for i, tt := range []struct {
		status  int
		fields  []string
		request []string
		kept    bool
	}{
		{200, []string{"Cache-Control", "max-age=60"}, nil, true},
		{200, []string{"Cache-Control", "s-maxage=60, max-age=0"}, nil, true},
		{200, []string{"Cache-Control", "max-age=0, s-maxage=60"}, nil, true},
		{200, []string{"Expires", "Thu, 01 Jan 2099 00:00:00 GMT"}, nil, true},
		{200, []string{"Expires", "0"}, nil, false},
		{200, nil, nil, false},
		{200, []string{"Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT"}, nil, true},
		{404, []string{"Cache-Control", "max-age=60"}, nil, true},
		{302, []string{"Cache-Control", "max-age=60", "Location", "/"}, nil, true},
		{302, []string{"Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT"}, nil, false},
		{500, []string{"Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT"}, nil, false},
		{200, []string{"Cache-Control", "private, max-age=60"}, nil, false},
		{200, []string{"Cache-Control", "no-store, max-age=60"}, nil, false},
		{200, []string{"Cache-Control", `private="x, y", max-age=60`}, nil, false},
		{200, []string{"Cache-Control", "max-age=60", "Set-Cookie", "a=b"}, nil, false},
		{200, []string{"Cache-Control", "max-age=60", "Vary", "*"}, nil, false},
		{200, []string{"Cache-Control", "max-age=60"}, []string{"Authorization", "Basic x"}, false},
		{200, []string{"Cache-Control", "public, max-age=60"}, []string{"Authorization", "Basic x"}, true},
		{200, []string{"Cache-Control", "max-age=60"}, []string{"Cache-Control", "no-store"}, false},
		{200, []string{"Cache-Control", "max-age=60", "Age", "100"}, nil, false},
		{200, []string{"Cache-Control", "no-cache", "ETag", `"x"`}, nil, false},
		{206, []string{"Cache-Control", "max-age=60", "Content-Range", "bytes 0-3/9"}, nil, false},
	} {
		o.set(tt.status, "body", tt.fields...)
		before := o.asked.Load()
		var edits []func(*http.Request)
		for j := 0; j < len(tt.request); j += 2 {
			edits = append(edits, with(tt.request[j], tt.request[j+1]))
		}
		url := b.URL("rp", fmt.Sprint("/", i))
		for range 2 {
			if res, got := get(t, url, edits...); res.StatusCode != tt.status || got != "body" {
				t.Errorf("%v: %d %q", tt.fields, res.StatusCode, got)
			}
		}
		if n := o.asked.Load() - before; (n == 1) != tt.kept {
			t.Errorf("%d %v %v: asked %d times for two requests", tt.status, tt.fields, tt.request, n)
		}
	}
}

func TestCacheRequests(t *testing.T) {
	b, o := cached(t, "")
	o.set(200, letters(1000), "Cache-Control", "max-age=60", "ETag", `"v1"`, "Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT", "Vary", "X-Lang")
	url := b.URL("rp", "/a?b=c")
	get(t, url)
	for _, tt := range []struct {
		method string
		fields []string
		status int
		body   string
		asked  int64
	}{
		{"GET", nil, 200, letters(1000), 0},
		{"HEAD", nil, 200, "", 0},
		{"GET", []string{"If-None-Match", `"x", W/"v1"`}, 304, "", 0},
		{"GET", []string{"If-None-Match", `"x"`, "If-Modified-Since", "Thu, 01 Jan 2016 00:00:00 GMT"}, 200, letters(1000), 0},
		{"GET", []string{"If-Modified-Since", "Thu, 01 Jan 2015 00:00:00 GMT"}, 304, "", 0},
		{"GET", []string{"If-Match", `"x"`}, 200, letters(1000), 1}, // for the origin to decide
		{"GET", []string{"Range", "bytes=8-15"}, 206, "0000001,", 0},
		{"GET", []string{"Range", "bytes=-8"}, 206, "0000124,", 0},
		{"GET", []string{"Range", "bytes=990-2000"}, 206, letters(1000)[990:], 0},
		{"GET", []string{"Range", "bytes=1000-"}, 416, "", 0},
		{"GET", []string{"Range", "bytes=0-1,3-4"}, 200, letters(1000), 0},
		{"GET", []string{"Range", "bytes=8-15", "If-Range", `"v0"`}, 200, letters(1000), 0},
		{"GET", []string{"Range", "bytes=8-15", "If-Range", `"v1"`}, 206, "0000001,", 0},
		{"GET", []string{"Cache-Control", "no-cache"}, 200, letters(1000), 1},
		{"GET", []string{"Pragma", "no-cache"}, 200, letters(1000), 1},
		{"GET", []string{"Cache-Control", "min-fresh=100"}, 200, letters(1000), 1},
		{"GET", []string{"X-Lang", "de"}, 200, letters(1000), 1},
		{"GET", []string{"X-Lang", "de"}, 200, letters(1000), 0},
		{"GET", []string{"Cache-Control", "only-if-cached", "X-Lang", "fr"}, 504, "", 0},
		{"GET", []string{"Host", "other.host"}, 200, letters(1000), 1},
	} {
		before := o.asked.Load()
		var edits []func(*http.Request)
		for j := 0; j < len(tt.fields); j += 2 {
			edits = append(edits, with(tt.fields[j], tt.fields[j+1]))
		}
		res, got := do(t, tt.method, url, nil, edits...)
		if n := o.asked.Load() - before; res.StatusCode != tt.status || tt.body != "" && got != tt.body || n != tt.asked {
			t.Errorf("%s %v: %d, %d bytes, asked %d; want %d, %d, %d", tt.method, tt.fields, res.StatusCode, len(got), n, tt.status, len(tt.body), tt.asked)
		}
	}
	// What changes a resource makes the cache forget it; so does PURGE.
	for _, method := range []string{"PUT", "DELETE", "PURGE"} {
		get(t, url)
		if res, _ := do(t, method, url, nil); res.StatusCode != 200 {
			t.Errorf("%s: %d", method, res.StatusCode)
		}
		before := o.asked.Load()
		if get(t, url); o.asked.Load() != before+1 {
			t.Errorf("after %s the old answer was given", method)
		}
	}
	b.Do("SET rp.cache_purge_from = 10.0.0.0/8")
	if res, _ := do(t, "PURGE", url, nil); res.StatusCode != 403 {
		t.Errorf("PURGE from elsewhere: %d", res.StatusCode)
	}
	b.Do("SET rp.cache_purge_from = 127.0.0.0/8")
	b.Do("SET rp.trusted_upstream_proxies = 127.0.0.0/8")
	for client, want := range map[string]int{"8.8.8.8": 403, "127.0.0.2": 200} {
		if res, _ := do(t, "PURGE", url, nil, with("X-Forwarded-For", client)); res.StatusCode != want {
			t.Errorf("PURGE from %s through a trusted upstream: %d; want %d", client, res.StatusCode, want)
		}
	}
}

// Many requests at once for what is not there make one.
func TestCacheCollapses(t *testing.T) {
	b, o := cached(t, "")
	gate := make(chan struct{})
	o.set(200, "once", "Cache-Control", "max-age=60")
	o.gate = gate
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			res, err := http.Get(b.URL("rp", "/"))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if got, _ := io.ReadAll(res.Body); string(got) != "once" {
				t.Errorf("%q", got)
			}
		})
	}
	balancertest.Eventually(t, "29 wait for one", func() bool { return b.Service("rp").Cache().Collapsed.Load() == 29 })
	close(gate)
	all.Wait()
	if n := o.asked.Load(); n != 1 {
		t.Errorf("asked %d times; want 1", n)
	}
}

// A stale answer is given while it is renewed, or while the origin fails, where that is allowed; else it is asked about.
func TestCacheStale(t *testing.T) {
	b, o := cached(t, "SET retry_attempts = 0")
	url := b.URL("rp", "/")
	o.set(200, "old", "Cache-Control", "max-age=0, stale-while-revalidate=60", "ETag", `"1"`)
	get(t, url)
	o.set(200, "new", "Cache-Control", "max-age=60", "ETag", `"2"`)
	if res, got := get(t, url); got != "old" || !strings.HasPrefix(res.Header.Get("Cache-Status"), "wheelhouse; hit; ttl=-") {
		t.Errorf("while it is renewed: %q %v", got, res.Header)
	}
	balancertest.Eventually(t, "it is renewed", func() bool { _, got := get(t, url); return got == "new" })
	if o.asked.Load() != 2 {
		t.Errorf("asked %d times; want 2", o.asked.Load())
	}

	url = b.URL("rp", "/error")
	o.set(200, "good", "Cache-Control", "max-age=0, stale-if-error=60", "ETag", `"1"`)
	get(t, url)
	o.set(503, "failed")
	if res, got := get(t, url); res.StatusCode != 200 || got != "good" {
		t.Errorf("while the origin fails: %d %q", res.StatusCode, got)
	}
	b.Do("SET p.eject_errors = 0")

	url = b.URL("rp", "/asked")
	o.set(200, "same", "Cache-Control", "max-age=0", "ETag", `"1"`, "X-Version", "1")
	get(t, url)
	o.set(200, "same", "Cache-Control", "max-age=60", "ETag", `"1"`, "X-Version", "2")
	res, got := get(t, url, with("If-None-Match", `"other"`))
	if res.StatusCode != 200 || got != "same" || res.Header.Get("X-Version") != "2" || !strings.Contains(res.Header.Get("Cache-Status"), "fwd-status=304") {
		t.Errorf("asked about: %d %q %v", res.StatusCode, got, res.Header)
	}
	before := o.asked.Load()
	if get(t, url); o.asked.Load() != before {
		t.Error("what was asked about is not fresh")
	}
}

// A broken answer is not kept.
func TestCacheOfABrokenAnswer(t *testing.T) {
	var n atomic.Int64
	back := balancertest.Backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, strings.Repeat("x", 100000))
		w.(http.Flusher).Flush()
		if n.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET cache = on"), balancerd.Options{})
	res, err := http.Get(b.URL("rp", "/"))
	if err == nil {
		_, err = io.ReadAll(res.Body)
		res.Body.Close()
	}
	if err == nil {
		t.Error("the broken answer looked whole")
	}
	if res, got := get(t, b.URL("rp", "/")); len(got) != 100000 || strings.Contains(res.Header.Get("Cache-Status"), "hit") {
		t.Errorf("%d bytes, %v", len(got), res.Header)
	}
}

// The cache in front of a web_server asks it about a file that it keeps, and is told that it still holds, or given what there is now.
func TestCacheOfFiles(t *testing.T) {
	for _, compress := range []string{"off", "gzip"} {
		dir, files := t.TempDir(), web.New(web.Options{})
		t.Cleanup(files.Close)
		file := filepath.Join(dir, "f.txt")
		write := func(body string, modified time.Time) {
			t.Helper()
			if err := errors.Join(os.WriteFile(file+".new", []byte(body), 0o600), os.Chtimes(file+".new", modified, modified), os.Rename(file+".new", file)); err != nil {
				t.Fatal(err)
			}
		}
		now := time.Now()
		write(letters(5000), now.Add(time.Hour)) // from the future: nothing says how long it is fresh
		b := balancertest.Start(t, "CREATE SERVICE web\nSET role = web_server\nSET listen = 127.0.0.1:0\nSET cache = on\nSET docroot = "+dir+"\nSET compress = "+compress+"\nENABLE web\n", balancerd.Options{Web: files.Serve})
		ask := func(want, body string, status int, field ...string) {
			t.Helper()
			fields := append(field, "X-None", "")
			res, got := get(t, b.URL("web", "/f.txt"), with(fields[0], fields[1]))
			if res.StatusCode != status || got != body || !strings.Contains(res.Header.Get("Cache-Status"), want) {
				t.Errorf("compress = %s, %q: %d, %d bytes, %q; want %d, %d bytes, %q", compress, field, res.StatusCode, len(got), res.Header.Get("Cache-Status"), status, len(body), want)
			}
		}
		ask("fwd=miss; stored", letters(5000), 200)
		ask("fwd-status=304", letters(5000), 200)
		ask("fwd-status=304", letters(5000), 200, "If-None-Match", `"another"`)
		ask("fwd-status=304", "", 304, "If-None-Match", "*")
		if compress == "off" {
			ask("fwd-status=304", letters(5000)[:10], 206, "Range", "bytes=0-9")
		}
		write(letters(6000), now.Add(2*time.Hour))
		balancertest.Eventually(t, "the file is another", func() bool {
			res, got := get(t, b.URL("web", "/f.txt"), with("Cache-Control", "no-store"))
			return res.StatusCode == 200 && len(got) == 6000
		})
		ask("fwd=miss; stored", letters(6000), 200)
		ask("fwd-status=304", letters(6000), 200)
	}
}

// Memory is bounded; what it does not hold is on disk, also after a restart.
func TestCacheOnDisk(t *testing.T) {
	dir := t.TempDir()
	b, o := cached(t, "SET cache_memory = 50k\nSET cache_disk = "+dir+"\nSET cache_disk_size = 600k")
	o.set(200, letters(10000), "Cache-Control", "max-age=600", "ETag", `"1"`)
	for i := range 40 {
		get(t, b.URL("rp", fmt.Sprint("/", i)))
	}
	c := b.Service("rp").Cache()
	c.Wait()
	if st := c.Stats(); st.Bytes > 50<<10 || st.Entries == 0 || st.DiskEntries < 38 {
		t.Errorf("%+v", st)
	}
	before := o.asked.Load()
	for i := range 40 {
		if _, got := get(t, b.URL("rp", fmt.Sprint("/", i)), with("Range", "bytes=9000-9007")); got != letters(10000)[9000:9008] {
			t.Fatalf("%d: %q", i, got)
		}
	}
	if n := o.asked.Load() - before; n > 2 {
		t.Errorf("asked %d times for what is on disk", n)
	}
	url := b.Addr("rp")
	b2 := balancertest.Start(t, balancertest.Proxy([]string{"127.0.0.1:9"}, "SET queue_timeout = .2\nSET cache = on\nSET cache_disk = "+dir), balancerd.Options{})
	found := 0
	for i := range 40 {
		if res, got := get(t, b2.URL("rp", fmt.Sprint("/", i)), with("Host", url)); res.StatusCode == 200 && got == letters(10000) {
			found++
		}
	}
	if found < 38 {
		t.Errorf("after a restart %d of 40 were there", found)
	}
}

func TestCompress(t *testing.T) {
	text := strings.Repeat("some text that compresses well\n", 1000)
	o := &origin{}
	o.set(200, text, "Content-Type", "text/html; charset=utf-8", "ETag", `"1"`)
	back := balancertest.Backend(t, o.ServeHTTP)
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET compress = zstd, gzip"), balancerd.Options{})
	url := b.URL("rp", "/")
	plain := func(body string) string { return body }
	gz := func(body string) string {
		r, err := gzip.NewReader(strings.NewReader(body))
		if err != nil {
			return err.Error()
		}
		p, _ := io.ReadAll(r)
		return string(p)
	}
	zs := func(body string) string {
		r, err := zstd.NewReader(strings.NewReader(body))
		if err != nil {
			return err.Error()
		}
		defer r.Close()
		p, _ := io.ReadAll(r)
		return string(p)
	}
	for accept, want := range map[string]struct {
		coding string
		decode func(string) string
	}{
		"gzip": {"gzip", gz}, "gzip, zstd": {"zstd", zs}, "gzip;q=1, zstd;q=0.5": {"gzip", gz}, "*": {"zstd", zs}, "identity": {"", plain}, "gzip;q=0": {"", plain}, "br": {"", plain},
	} {
		res, got := get(t, url, with("Accept-Encoding", accept))
		if res.Header.Get("Content-Encoding") != want.coding || want.decode(got) != text || res.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: coding %q, vary %q, %d bytes", accept, res.Header.Get("Content-Encoding"), res.Header.Get("Vary"), len(got))
		}
		if tag := res.Header.Get("ETag"); (tag == `W/"1"`) != (want.coding != "") {
			t.Errorf("%q: ETag %s", accept, tag)
		}
	}
	for _, fields := range [][]string{
		{"Content-Type", "image/png"}, {"Content-Type", "text/html", "Cache-Control", "no-transform"}, {"Content-Type", "text/html", "Content-Encoding", "x"},
	} {
		o.set(200, text, fields...)
		if res, got := get(t, url, with("Accept-Encoding", "gzip")); res.Header.Get("Content-Encoding") == "gzip" || got != text {
			t.Errorf("%v was compressed", fields)
		}
	}
	o.set(200, "short", "Content-Type", "text/html")
	if res, _ := get(t, url, with("Accept-Encoding", "gzip")); res.Header.Get("Content-Encoding") != "" {
		t.Error("what is short was compressed")
	}
	// With a cache, what was compressed once is given again, to those who take it.
	b.Do("SET rp.cache = on")
	o.set(200, text, "Content-Type", "text/html", "Cache-Control", "max-age=60")
	before := o.asked.Load()
	for range 2 {
		for _, accept := range []string{"gzip", "gzip;q=0.9", "zstd", "br", ""} {
			res, got := get(t, url, with("Accept-Encoding", accept))
			if d := map[string]func(string) string{"gzip": gz, "zstd": zs, "": plain}[res.Header.Get("Content-Encoding")]; d(got) != text {
				t.Errorf("%q: %v", accept, res.Header)
			}
		}
	}
	if n := o.asked.Load() - before; n > 4 {
		t.Errorf("asked %d times for 4 variants", n)
	}
}

func TestRateLimit(t *testing.T) {
	b := balancertest.Start(t, balancertest.Proxy(names(t, 1), "SET rate_limit = .001 burst=3 key=header:X-Key"), balancerd.Options{})
	count := map[int]int{}
	for i := range 10 {
		res, _ := get(t, b.URL("rp", "/"), with("X-Key", fmt.Sprint("k", i%2)))
		count[res.StatusCode]++
		if res.StatusCode == 429 && res.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if count[200] != 6 || count[429] != 4 {
		t.Errorf("%v; want 3 of each of two keys", count)
	}
}
