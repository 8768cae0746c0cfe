package balancerd_test

import (
	"fmt"
	"strings"
	"testing"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
)

// Each parameter of the cache changes what it says that it changes.
func TestCacheParameters(t *testing.T) {
	b, o := cached(t, "SET retry_attempts = 0\nSET cache_memory = 50k\nSET cache_max_object = 10000")
	asks := func(url string, want int64, status int, body string) {
		t.Helper()
		before := o.asked.Load()
		if res, got := get(t, url); res.StatusCode != status || got != body {
			t.Errorf("%s: %d, %d bytes; want %d, %d", url, res.StatusCode, len(got), status, len(body))
		}
		if n := o.asked.Load() - before; n != want {
			t.Errorf("%s: the origin was asked %d times; want %d", url, n, want)
		}
	}
	for size, kept := range map[int]int64{10000: 0, 10001: 1} {
		url := b.URL("rp", fmt.Sprint("/size", size))
		o.set(200, letters(size), "Cache-Control", "max-age=3600")
		asks(url, 1, 200, letters(size))
		asks(url, kept, 200, letters(size))
	}
	b.Do("SET rp.cache_max_object = 10001")
	url := b.URL("rp", "/size10001")
	o.set(200, letters(10001), "Cache-Control", "max-age=3600")
	asks(url, 1, 200, letters(10001))
	asks(url, 0, 200, letters(10001))

	// Memory, when it is full and when it becomes less.
	for i := range 20 {
		get(t, b.URL("rp", fmt.Sprint("/", i)))
	}
	if st := b.Service("rp").Cache().Stats(); st.Bytes > 50<<10 || st.Entries < 3 || st.Entries > 5 {
		t.Errorf("50k of memory: %+v", st)
	}
	b.Do("SET rp.cache_memory = 25k")
	if st := b.Service("rp").Cache().Stats(); st.Bytes > 25<<10 || st.Entries < 1 || st.Entries > 2 {
		t.Errorf("25k of memory: %+v", st)
	}

	// What is stale, where the answer itself does not say.
	stale := func(path string) string {
		o.set(200, "old", "Cache-Control", "max-age=0", "ETag", `"1"`)
		url := b.URL("rp", path)
		asks(url, 1, 200, "old")
		return url
	}
	url = stale("/none")
	o.set(503, "failed")
	asks(url, 1, 503, "failed")
	b.Do("SET rp.cache_stale_if_error = 3600\nSET p.eject_errors = 0")
	url = stale("/error")
	o.set(503, "failed")
	asks(url, 1, 200, "old")
	b.Do("SET rp.cache_stale_if_error = 0\nSET rp.cache_stale_while_revalidate = 3600")
	url = stale("/while")
	o.set(200, "new", "Cache-Control", "max-age=3600", "ETag", `"2"`)
	if _, got := get(t, url); got != "old" {
		t.Errorf("while it is renewed: %q; want the old answer", got)
	}
	balancertest.Eventually(t, "it is renewed", func() bool { _, got := get(t, url); return got == "new" })

	// Whatever the answer says of itself.
	b.Do("SET rp.cache_ask_always = on")
	o.set(200, "one", "Cache-Control", "private, max-age=3600", "ETag", `"3"`)
	url = b.URL("rp", "/always")
	asks(url, 1, 200, "one")
	o.set(304, "", "ETag", `"3"`)
	asks(url, 1, 200, "one")
	o.set(403, "no more")
	asks(url, 1, 403, "no more")
}

// What is on disk takes cache_disk_size at most, also when that becomes less.
func TestCacheDiskSize(t *testing.T) {
	b, o := cached(t, "SET cache_memory = 0\nSET cache_disk = "+t.TempDir()+"\nSET cache_disk_size = 100k")
	o.set(200, letters(10000), "Cache-Control", "max-age=3600")
	c := b.Service("rp").Cache()
	for i := range 20 {
		get(t, b.URL("rp", fmt.Sprint("/", i)))
	}
	c.Wait()
	if st := c.Stats(); st.DiskBytes > 100<<10 || st.DiskEntries < 7 || st.DiskEntries > 10 || st.Entries != 0 {
		t.Errorf("100k: %+v", st)
	}
	b.Do("SET rp.cache_disk_size = 35k")
	if st := c.Stats(); st.DiskBytes > 35<<10 || st.DiskEntries < 2 || st.DiskEntries > 3 {
		t.Errorf("35k: %+v", st)
	}
}

// Answers are compressed from compress_min_size on, if they are of compress_types.
func TestCompressParameters(t *testing.T) {
	o := &origin{}
	b := balancertest.Start(t, balancertest.Proxy([]string{balancertest.Backend(t, o.ServeHTTP)}, "SET compress = gzip"), balancerd.Options{})
	for _, tt := range []struct {
		conf, kind string
		size       int
		want       bool
	}{
		{"", "text/html", 1023, false},
		{"", "text/html", 1024, true},
		{"", "application/x-own", 1024, false},
		{"SET rp.compress_min_size = 200", "text/html", 199, false},
		{"", "text/html", 200, true},
		{"SET rp.compress_min_size = 2k", "text/html", 2047, false},
		{"", "text/html", 2048, true},
		{"SET rp.compress_types = application/x-own, font/*", "text/html", 4096, false},
		{"", "application/x-own; v=1", 4096, true},
		{"", "font/ttf", 4096, true},
		{"SET rp.compress = off", "font/ttf", 4096, false},
	} {
		b.Do(tt.conf)
		o.set(200, strings.Repeat("x", tt.size), "Content-Type", tt.kind)
		res, _ := get(t, b.URL("rp", "/"), with("Accept-Encoding", "gzip"))
		if got := res.Header.Get("Content-Encoding") == "gzip"; got != tt.want {
			t.Errorf("%q: %s of %d bytes is compressed: %v; want %v", tt.conf, tt.kind, tt.size, got, tt.want)
		}
	}
}
