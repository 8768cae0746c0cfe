package balancerd_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/http1"
)

// letters is a body of n bytes that shows where in it one is.
func letters(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%07d,", i)
	}
	return b.String()[:n]
}

// storage serves a body with ranges. breakAt is after how many bytes of each answer it breaks off, 0: never.
func storage(t *testing.T, body string, breakAt int) string {
	return balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		if breakAt == 0 {
			http.ServeContent(w, r, "a.bin", time.Unix(1, 0), strings.NewReader(body))
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Header().Set("Accept-Ranges", "bytes")
		w.Write([]byte(body[:breakAt]))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
}

// app answers with fields.
func app(t *testing.T, status int, body string, fields ...string) string {
	return balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}

func TestReproxyURL(t *testing.T) {
	body := letters(300 << 10)
	good, other := storage(t, body, 0), storage(t, "other", 0)
	broken := balancertest.Raw(t, func(nc net.Conn) {})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := ln.Addr().String()
	ln.Close()
	for _, tt := range []struct {
		name, urls, size, rng string
		status                int
		want                  string
	}{
		{"one", "http://" + good + "/x", "", "", 200, body},
		{"the first that works", "ftp://x http:// http://" + refused + "/ http://" + broken + "/ http://" + good, "", "", 200, body},
		{"the first of the right size", "http://" + other + "/ http://" + good + "/", fmt.Sprint(len(body)), "", 200, body},
		{"none of the right size", "http://" + other + "/ http://" + good + "/", "7", "", 503, ""},
		{"a range of the right size", "http://" + other + "/ http://" + good + "/", fmt.Sprint(len(body)), "bytes=1-3", 206, body[1:4]},
		{"a range, none of the right size", "http://" + other + "/ http://" + good + "/", "7", "bytes=1-3", 503, ""},
		{"several ranges: all of it, as the type is the application's", "http://" + good + "/", fmt.Sprint(len(body)), "bytes=1-3,5-7", 200, body},
		{"a range", "http://" + good + "/", fmt.Sprint(len(body)), "bytes=100000-100009", 206, body[100000:100010]},
		{"a range that is not there", "http://" + good + "/", fmt.Sprint(len(body)), "bytes=99999999-", 416, "invalid range: failed to overlap\n"},
	} {
		fields := []string{"X-REPROXY-URL", tt.urls, "X-App", "yes", "Content-Type", "image/x", "Set-Cookie", "a=b"}
		if tt.size != "" {
			fields = append(fields, "X-REPROXY-EXPECTED-SIZE", tt.size)
		}
		// An application that sends a body with it must not confuse the next answer on its connection.
		b := balancertest.Start(t, balancertest.Proxy([]string{app(t, 200, "a body that nobody wants", fields...)}, "SET enable_reproxy = on"), balancerd.Options{})
		for range 3 {
			res, got := get(t, b.URL("rp", "/"), with("Range", tt.rng))
			if res.StatusCode != tt.status || tt.want != "" && got != tt.want {
				t.Errorf("%s: %d and %d bytes; want %d and %d", tt.name, res.StatusCode, len(got), tt.status, len(tt.want))
			}
			if tt.status != 503 && (res.Header.Get("X-App") != "yes" || res.Header.Get("Content-Type") != "image/x" || res.Header.Get("X-Reproxy-Url") != "") {
				t.Errorf("%s: fields %v", tt.name, res.Header)
			}
		}
	}
	// If-Range is about the validators that the client sees, the application's.
	fields := []string{"X-REPROXY-URL", "http://" + good + "/", "ETag", `"new"`, "Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT"}
	b := balancertest.Start(t, balancertest.Proxy([]string{app(t, 200, "", fields...)}, "SET enable_reproxy = on"), balancerd.Options{})
	for cond, status := range map[string]int{
		`"new"`: 206, `"old"`: 200, `W/"new"`: 200, "Mon, 02 Nov 2026 10:00:00 GMT": 206, "Mon, 02 Nov 2026 10:00:01 GMT": 200, "new": 200,
	} {
		res, got := get(t, b.URL("rp", "/"), with("Range", "bytes=2-4"), with("If-Range", cond))
		if res.StatusCode != status || got != map[int]string{200: body, 206: body[2:5]}[status] {
			t.Errorf("If-Range %s: %d and %d bytes; want %d", cond, res.StatusCode, len(got), status)
		}
	}
	// X-REPROXY-CACHE-FOR alone says nothing.
	b = balancertest.Start(t, balancertest.Proxy([]string{app(t, 201, "plain", "X-REPROXY-CACHE-FOR", "60")}, "SET enable_reproxy = on"), balancerd.Options{})
	if res, got := get(t, b.URL("rp", "/")); res.StatusCode != 201 || got != "plain" || res.Header.Get("X-Reproxy-Cache-For") != "" {
		t.Errorf("X-REPROXY-CACHE-FOR alone: %d %q %v", res.StatusCode, got, res.Header)
	}
	// Without enable_reproxy the fields are nothing special.
	b = balancertest.Start(t, balancertest.Proxy([]string{app(t, 200, "plain", "X-REPROXY-URL", "http://"+good)}, ""), balancerd.Options{})
	if res, got := get(t, b.URL("rp", "/")); got != "plain" || res.Header.Get("X-Reproxy-Url") == "" {
		t.Errorf("without enable_reproxy: %q %v", got, res.Header)
	}
}

// A storage that breaks off in mid-body is followed by the next at the byte where it stopped; of a range, too.
func TestReproxyGoesOnWhereAStorageBrokeOff(t *testing.T) {
	body := letters(500 << 10)
	urls := fmt.Sprintf("http://%s/ http://%s/ http://%s/", storage(t, body, 100000), storage(t, "another body", 0), storage(t, body, 0))
	b := balancertest.Start(t, balancertest.Proxy([]string{app(t, 204, "", "X-REPROXY-URL", urls, "X-REPROXY-EXPECTED-SIZE", fmt.Sprint(len(body)))},
		"SET enable_reproxy = on"), balancerd.Options{})
	res, got := get(t, b.URL("rp", "/"))
	if res.StatusCode != 200 || got != body {
		t.Errorf("status %d, %d of %d bytes are right\n%s", res.StatusCode, len(got), len(body), b.Log)
	}
	if !strings.Contains(b.Log.String(), "the next goes on") {
		t.Error("no word of it in the log")
	}
}

func TestReproxyCache(t *testing.T) {
	var asked atomic.Int64
	good := storage(t, "content", 0)
	back := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("X-REPROXY-URL", "http://"+good+"/")
		w.Header().Set("X-REPROXY-CACHE-FOR", "60; Last-Modified X-Kept")
		w.Header().Set("Last-Modified", "Thu, 01 Jan 1970 00:00:09 GMT")
		w.Header().Set("X-Kept", "yes")
		w.Header().Set("X-Lost", "yes")
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET enable_reproxy = on\nSET reproxy_cache_maxsize = 2"), balancerd.Options{})
	for i := range 3 {
		res, got := get(t, b.URL("rp", "/a"))
		if got != "content" || res.Header.Get("X-Kept") != "yes" || (i > 0) != (res.Header.Get("X-Lost") == "") {
			t.Errorf("request %d: %q %v", i, got, res.Header)
		}
	}
	if res, _ := get(t, b.URL("rp", "/a"), with("If-Modified-Since", "Thu, 01 Jan 1970 00:00:09 GMT")); res.StatusCode != 304 || asked.Load() != 1 {
		t.Errorf("conditional: %d, the application was asked %d times", res.StatusCode, asked.Load())
	}
	do(t, "POST", b.URL("rp", "/a"), nil)
	get(t, b.URL("rp", "/b"))
	get(t, b.URL("rp", "/c"))
	if get(t, b.URL("rp", "/a")); asked.Load() != 5 {
		t.Errorf("after two others in a cache of two, and a POST: asked %d times; want 5", asked.Load())
	}
	if st := b.Service("rp").Proxy().ReproxyCache(); st.Size != 2 || st.Hits != 3 {
		t.Errorf("stats %+v", st)
	}
}

// When none of the URLs that are kept can be fetched, the application is asked, which may know better ones: no client sees an error.
func TestReproxyCacheOfWhatHasGone(t *testing.T) {
	var url atomic.Pointer[string]
	set := func(s string) { url.Store(&s) }
	back := balancertest.Backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-REPROXY-URL", "http://"+*url.Load()+"/")
		w.Header().Set("X-REPROXY-CACHE-FOR", "60; X-Kept")
		w.Header().Set("X-Kept", *url.Load())
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET enable_reproxy = on\nSET reproxy_cache_maxsize = 2"), balancerd.Options{})
	var n atomic.Int64
	gone := balancertest.Engine(t, func(x http1.Exchange) {
		if n.Add(1) == 1 {
			x.Reply(200, []byte("old"))
			return
		}
		x.Reply(404, nil)
	})
	set(gone)
	if _, got := get(t, b.URL("rp", "/")); got != "old" {
		t.Fatalf("%q", got)
	}
	now := storage(t, "new", 0)
	set(now)
	for range 2 {
		if res, got := get(t, b.URL("rp", "/")); res.StatusCode != 200 || got != "new" || !slices.Equal(res.Header.Values("X-Kept"), []string{now}) {
			t.Errorf("%d %q %v", res.StatusCode, got, res.Header)
		}
	}
}

func TestReproxyService(t *testing.T) {
	back := balancertest.Backend(t, echo)
	conf := balancertest.Proxy([]string{app(t, 200, "", "X-REPROXY-SERVICE", "Second")}, "SET enable_reproxy = on") +
		"CREATE POOL q\nPOOL q ADD " + back + "\nCREATE SERVICE second\nSET role = reverse_proxy\nSET pool = q\nENABLE second\n"
	b := balancertest.Start(t, conf, balancerd.Options{Local: map[string]http1.Handler{"echo": http1.HandlerFunc(func(x http1.Exchange) {
		body, _ := io.ReadAll(x.Body())
		x.Reply(200, body)
	})}})
	if _, got := do(t, "PUT", b.URL("rp", "/x"), strings.NewReader("body")); !strings.Contains(got, "PUT "+b.Addr("rp")+" /x len=4") || !strings.HasSuffix(got, "\n\nbody") {
		t.Errorf("the second service's backend: %s", got)
	}
	b.Do("POOL q REMOVE " + back + "\nPOOL q ADD local:echo")
	if _, got := do(t, "PUT", b.URL("rp", "/x"), strings.NewReader("body")); got != "body" {
		t.Errorf("the second service's handler in this process: %q", got)
	}
	b.Do("SET second.pool = p\nSET second.enable_reproxy = on") // the two now send each other round
	if res, _ := get(t, b.URL("rp", "/x")); res.StatusCode != 404 {
		t.Errorf("a circle: %d; want 404", res.StatusCode)
	}
}

// X-REPROXY-URL is followed only into the networks that are allowed.
func TestReproxyNetworks(t *testing.T) {
	b := balancertest.Start(t, balancertest.Proxy([]string{app(t, 200, "", "X-REPROXY-URL", "http://"+storage(t, "secret", 0)+"/")},
		"SET enable_reproxy = on\nSET reproxy_url_networks = 10.0.0.0/8"), balancerd.Options{})
	if res, got := get(t, b.URL("rp", "/")); res.StatusCode != 503 || strings.Contains(got, "secret") {
		t.Errorf("%d %q", res.StatusCode, got)
	}
}

func TestMaxReproxyConnections(t *testing.T) {
	var now, most atomic.Int64
	slow := balancertest.Engine(t, func(x http1.Exchange) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		timer := time.NewTimer(20 * time.Millisecond)
		<-timer.C
		now.Add(-1)
		x.Reply(200, []byte("ok"))
	})
	b := balancertest.Start(t, "SERVER max_reproxy_connections("+slow+") = 2\n"+
		balancertest.Proxy([]string{app(t, 200, "", "X-REPROXY-URL", "http://"+slow+"/")}, "SET enable_reproxy = on\nSET backend_persist_cache = 9"), balancerd.Options{})
	done := make(chan string, 10)
	for range 10 {
		go func() {
			res, err := http.Get(b.URL("rp", "/"))
			if err == nil {
				res.Body.Close()
				done <- res.Status
				return
			}
			done <- err.Error()
		}()
	}
	for range 10 {
		if got := <-done; got != "200 OK" {
			t.Error(got)
		}
	}
	if most.Load() != 2 {
		t.Errorf("at most %d at once; want 2", most.Load())
	}
}

// A node that is a handler of the process answers without a connection, and what it names in X-Reproxy-URL is fetched.
func TestLocalHandler(t *testing.T) {
	good := storage(t, "from the storage", 0)
	local := http1.HandlerFunc(func(x http1.Exchange) {
		if string(x.Request().Path) == "/there" {
			x.Header().Set("X-Reproxy-URL", "http://"+good+"/")
			x.Header().Set("ETag", `"1"`)
			x.Reply(200, nil)
			return
		}
		x.Header().Set("X-Client", x.RemoteAddr().String())
		x.Header().Set("X-Host", string(x.Request().Host)+" "+x.Request().Header.Get("Host"))
		x.Reply(201, []byte("from here"))
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{"local:store"}, "SET enable_reproxy = on"),
		balancerd.Options{Local: map[string]http1.Handler{"store": local}})
	if res, got := get(t, b.URL("rp", "/here")); res.StatusCode != 201 || got != "from here" || !strings.HasPrefix(res.Header.Get("X-Client"), "127.0.0.1:") {
		t.Errorf("%d %q %v", res.StatusCode, got, res.Header)
	}
	b.Do("HEADER rp INSERT Host: store.example")
	if res, _ := get(t, b.URL("rp", "/here")); res.Header.Get("X-Host") != "store.example store.example" {
		t.Errorf("HEADER INSERT Host: %q", res.Header.Get("X-Host"))
	}
	if res, got := get(t, b.URL("rp", "/there"), with("Range", "bytes=-7")); res.StatusCode != 206 || got != "storage" || res.Header.Get("ETag") != `"1"` {
		t.Errorf("%d %q %v", res.StatusCode, got, res.Header)
	}
}
