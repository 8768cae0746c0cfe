package plugin_test

import (
	"bytes"
	"image"
	"image/color"
	"image/gif"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/plugin"
)

func TestAutoRemoveLeadingDir(t *testing.T) {
	dir := files(t, map[string]string{"a": "A", "index.html": "I", "staticfoo": "F"}) // its name is static
	b := start(t, webService("w", dir, listening+"SET plugins = autoremoveleadingdir"))
	for path, want := range map[string]string{"/static/a": "A", "/a": "A", "/staticfoo": "F", "/static/": "I", "/static": "I", "/": "I"} {
		if a := get(t, b.URL("w", path)); a.body != want {
			t.Errorf("%s: %d %q; want %q", path, a.status, a.body, want)
		}
	}
}

// grayGIF is a picture with the palette 000000 555555 aaaaaa ffffff.
func grayGIF(t testing.TB) string {
	t.Helper()
	img := image.NewPaletted(image.Rect(0, 0, 2, 2), color.Palette{color.Gray{0}, color.Gray{0x55}, color.Gray{0xaa}, color.Gray{0xff}})
	var b bytes.Buffer
	must(t, gif.Encode(&b, img, nil))
	return b.String()
}

func TestPalimgAsPerlbal(t *testing.T) {
	dir := files(t, map[string]string{"palimg/d/a.gif": grayGIF(t), "palimg/no.gif": "not a picture at all", "palimg/a.txt": "text"})
	b := start(t, webService("w", dir, listening+"SET plugins = palimg"))
	addr := perlbal(t, "LOAD palimg\nCREATE SERVICE w\nSET role = web_server\nSET listen = LISTEN\nSET docroot = "+dir+"\nSET plugins = palimg\nENABLE w\n")
	for _, v := range []struct {
		path   string
		status int // where perlbal sends two answers in one
	}{
		{"/palimg/d/a.gif", 0},
		{"/palimg/d/a.gif/p0ff0000", 0},
		{"/palimg/d/a.gif/pt00ff00", 0},
		{"/palimg/d/a.gif/pt00ff00ff0000", 0},
		{"/palimg/d/a.gif/pg01ff000003000000", 0},
		{"/palimg/a.txt/p0ff0000", 0},
		{"/palimg/none.gif/p0ff0000", 0},
		{"/palimg/d/a.gif/x", 404},
		{"/palimg/d/a.gif/pxyz", 404},
		{"/palimg/d/a.gif/p0ff", 404},
		{"/palimg/no.gif/p0ff0000", 404},
	} {
		got := get(t, b.URL("w", v.path))
		if v.status != 0 {
			if got.status != v.status || strings.Contains(got.body, "GIF8") {
				t.Errorf("%s: %d %q; want %d", v.path, got.status, got.body, v.status)
			}
			continue
		}
		want := get(t, "http://"+addr+v.path)
		if got.status != want.status || got.body != want.body || got.header.Get("Content-Type") != want.header.Get("Content-Type") {
			t.Errorf("%s: %d %x %v; perlbal %d %x", v.path, got.status, got.body, got.header, want.status, want.body)
		}
	}
	whole := get(t, b.URL("w", "/palimg/d/a.gif/p0ff0000")).body
	if part := get(t, b.URL("w", "/palimg/d/a.gif/p0ff0000"), "Range: bytes=10-40"); part.status != 206 || part.body != whole[10:41] {
		t.Errorf("a range: %d %x; want %x", part.status, part.body, whole[10:41])
	}
}

// perlbal starts Debian's with a configuration in which LISTEN stands for its address, and returns that.
func perlbal(t testing.TB, conf string) (addr string) {
	t.Helper()
	return balancertest.Perlbal(t, 1, func(a []string) string { return strings.ReplaceAll(conf, "LISTEN", a[0]) })[0]
}

func TestLazyCDN(t *testing.T) {
	pings, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	defer pings.Close()
	dir := files(t, map[string]string{"a.js": "old", "b.js": "B"})
	stamp := time.Unix(1000, 0)
	for _, f := range []string{"a.js", "b.js"} {
		must(t, os.Chtimes(filepath.Join(dir, f), stamp, stamp))
	}
	node := mirror(t)
	b := start(t, "CREATE POOL p\nPOOL p ADD "+node+"\nCREATE SERVICE origin\nSET role = reverse_proxy\nSET pool = p\nENABLE origin\n"+
		webService("w", dir, listening+"SET enable_concatenate_get = on\nSET plugins = lazycdn\nSET fallback_service = origin\nSET fallback_udp_ping_addr = "+pings.LocalAddr().String()))
	for _, v := range []struct {
		target string
		lazy   bool
	}{
		{"/a.js", false},
		{"/a.js?v=1000", false},
		{"/a.js?v=1001", true},
		{"/a.js?rev=1001", false},
		{"/missing.js", true},
		{"/??a.js,b.js", false},
		{"/??a.js,missing.js", true},
		{"/??a.js,b.js?v=2000", true},
	} {
		a := get(t, b.URL("w", v.target))
		if got := strings.HasPrefix(a.body, v.target+" "); got != v.lazy || a.status != 200 {
			t.Errorf("%s: %d %q; from the fallback: want %v", v.target, a.status, a.body, v.lazy)
		}
		if v.lazy {
			buf := make([]byte, 100)
			must(t, pings.SetReadDeadline(time.Now().Add(time.Minute)))
			n, _, err := pings.ReadFrom(buf)
			if err != nil || string(buf[:n]) != v.target {
				t.Errorf("%s: ping %q, %v", v.target, buf[:n], err)
			}
		}
	}
	b.Do("SET w.fallback_service = nobody")
	if a := get(t, b.URL("w", "/missing.js")); a.status != 404 {
		t.Errorf("without the fallback: %d; want 404", a.status)
	}
	if err := b.Try("SET w.fallback_udp_ping_addr = localhost:1"); err == nil || !strings.Contains(err.Error(), "Expecting IP:port of form a.b.c.d:port.") {
		t.Errorf("%v", err)
	}
}

func TestNotModified(t *testing.T) {
	b := start(t, webService("w", files(t, map[string]string{"a": "A"}), listening+"SET plugins = notmodified\nSET w.notmodified.host_pattern = ^img\\."))
	for _, v := range []struct {
		host, field string
		want        int
	}{
		{"img.test", "If-Modified-Since: whenever", 304}, {"img.test", "", 200}, {"www.test", "If-Modified-Since: whenever", 200},
	} {
		fields := []string{"Host: " + v.host}
		if v.field != "" {
			fields = append(fields, v.field)
		}
		if a := get(t, b.URL("w", "/a"), fields...); a.status != v.want {
			t.Errorf("%s %s: %d; want %d", v.host, v.field, a.status, v.want)
		}
	}
	b.Do("SET w.notmodified.host_pattern = none")
	if a := get(t, b.URL("w", "/a"), "Host: img.test", "If-Modified-Since: whenever"); a.status != 200 {
		t.Errorf("none: %d", a.status)
	}
}

func TestMaxContentLength(t *testing.T) {
	b := start(t, webService("w", files(t, map[string]string{"a": "A"}), listening+"SET enable_put = on\nSET plugins = maxcontentlength\nSET max_content_length = 3"))
	for body, want := range map[string]int{"123": 201, "1234": 413} {
		if a := ask(t, "PUT", b.URL("w", "/f"+body), body); a.status != want || want == 413 && a.body != "<h1>413 - Request Entity Too Large</h1>\nContent too long.\n" {
			t.Errorf("%s: %d %q; want %d", body, a.status, a.body, want)
		}
	}
	b.Do("SET w.max_content_length = 0")
	if a := ask(t, "PUT", b.URL("w", "/f"), "12345"); a.status != 201 {
		t.Errorf("no limit: %d", a.status)
	}
}

func TestStats(t *testing.T) {
	dir := files(t, map[string]string{"a": "A"})
	node := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/file" {
			w.Header().Set("X-Reproxy-File", filepath.Join(dir, "a"))
		}
	})
	b := start(t, webService("w", dir, listening+"SET plugins = stats")+balancertest.Proxy([]string{node}, "SET plugins = stats, highpri\nSET enable_reproxy = on\nSET rp.highpri.uri_pattern = ^/high"))
	for _, url := range []string{b.URL("w", "/a"), b.URL("w", "/none"), b.URL("rp", "/x?y"), b.URL("rp", "/high"), b.URL("rp", "/file")} {
		get(t, url)
	}
	want := map[string]string{
		"w":  "files_reproxied 0,files_sent 1,proxy_requests 0,proxy_requests_highpri 0,web_requests 2",
		"rp": "files_reproxied 1,files_sent 1,proxy_requests 2,proxy_requests_highpri 1,web_requests 0",
	}
	check := func() {
		t.Helper()
		// A request is counted after its answer was sent.
		for _, service := range []string{"w", "rp"} {
			balancertest.Eventually(t, "the counts of "+service+" are "+want[service], func() bool {
				return strings.Join(short(info(b, service, "stats")), ",") == want[service]
			})
		}
	}
	check()
	b.Do("SET w.dirindexing = on\nSET rp.idle_timeout = 40") // counts outlive a change
	check()
	if line := info(b, "w", "stats")[4]; line != "w               web_requests                         2" {
		t.Errorf("line %q", line)
	}
	balancertest.Eventually(t, "the requests are remembered", func() bool { // after they are counted
		return len(info(b, "rp", "recent")) >= 3
	})
	recent := info(b, "rp", "recent")
	if len(recent) != 3 || !strings.HasPrefix(recent[0], "rp 0.") || !strings.HasSuffix(recent[0], " http://"+b.Addr("rp")+"/x?y") {
		t.Errorf("recent: %q", recent)
	}
	for range 110 {
		get(t, b.URL("rp", "/more"))
	}
	balancertest.Eventually(t, "a hundred are remembered", func() bool {
		r := info(b, "rp", "recent")
		return len(r) == 100 && strings.HasSuffix(r[0], "/more")
	})
}

// short are lines of stats without service and padding.
func short(lines []string) (out []string) {
	for _, l := range lines {
		f := strings.Fields(l)
		out = append(out, f[1]+" "+f[2])
	}
	return out
}

func TestXFFExtras(t *testing.T) {
	node := mirror(t, "X-Forwarded-Port", "X-Forwarded-Proto")
	b := start(t, balancertest.Proxy([]string{node}, "SET plugins = xffextras"))
	_, port, err := net.SplitHostPort(b.Addr("rp"))
	must(t, err)
	for _, v := range []struct{ lines, want string }{
		{"", "X-Forwarded-Port= X-Forwarded-Proto="},
		{"SET rp.send_backend_port = on", "X-Forwarded-Port=" + port + " X-Forwarded-Proto="},
		{"SET rp.send_backend_proto = on", "X-Forwarded-Port=" + port + " X-Forwarded-Proto=http"},
		{"SET rp.always_trusted = on", "X-Forwarded-Port=" + port + " X-Forwarded-Proto=http"},
		{"SET rp.blind_proxy = on", "X-Forwarded-Port= X-Forwarded-Proto="},
	} {
		b.Do(v.lines)
		if a := get(t, b.URL("rp", "/")); !strings.HasSuffix(a.body, v.want) {
			t.Errorf("%s: %q; want %q", v.lines, a.body, v.want)
		}
	}
}

func TestFlvStreaming(t *testing.T) {
	film := strings.Repeat("0123456789", 10)
	node := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/whole.flv" {
			r.Header.Del("Range")
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(film))
	})
	b := start(t, balancertest.Proxy([]string{node}, "SET plugins = flvstreaming"))
	const head = "FLV\x01\x01\x00\x00\x00\x09\x00\x00\x00\x09"
	for target, want := range map[string]string{
		"/a.flv?start=90": head + film[90:], "/a.flv?x=1&start=95": head + film[95:], "/a.flv": film, "/a.flv?start=0": film, "/a.flv?start=5-9,1": film,
		"/a.mp4?start=90": film, "/whole.flv?start=90": film,
	} {
		a := get(t, b.URL("rp", target))
		if a.status != 200 || a.body != want || a.header.Get("Content-Range") != "" {
			t.Errorf("%s: %d %q %v; want %q", target, a.status, a.body, a.header, want)
		}
		if strings.HasPrefix(want, "FLV") && (a.header.Get("Content-Type") != "video/x-flv" || a.header.Get("Accept-Ranges") != "") {
			t.Errorf("%s: %v", target, a.header)
		}
	}
	if a := get(t, b.URL("rp", "/a.flv?start=100")); a.status != 416 {
		t.Errorf("behind the end: %d; want 416", a.status)
	}
}

func TestCgilike(t *testing.T) {
	handlers := plugin.Handlers{
		"My::hello": func(r *balancer.Request) bool {
			r.Reply(200, []byte("hello "+string(r.Path)))
			return true
		},
		"My::decline": func(*balancer.Request) bool { return false },
	}
	b := startWith(t, webService("w", files(t, map[string]string{"a": "A"}), listening+"SET plugins = cgilike"), plugin.Options{Handlers: handlers})
	if a := get(t, b.URL("w", "/a")); a.status != 500 || !strings.HasSuffix(a.body, "No perlhandler is configured for this service") {
		t.Errorf("without a handler: %d %q", a.status, a.body)
	}
	b.Do("USE w\nPERLREQUIRE = My\nPERLHANDLER = My::hello")
	if a := get(t, b.URL("w", "/a")); a.body != "hello /a" {
		t.Errorf("%d %q", a.status, a.body)
	}
	b.Do("PERLHANDLER=My::decline")
	if a := get(t, b.URL("w", "/a")); a.body != "A" {
		t.Errorf("declined: %d %q", a.status, a.body)
	}
	for line, want := range map[string]string{
		"PERLHANDLER = Your::x": "no handler 'Your::x' is compiled in", "PERLREQUIRE = Your": "Failed to load Your: no handler of that module is compiled in",
		"PERLHANDLER x": "usage: PERLHANDLER=<package::subroutine>",
	} {
		if err := b.Try(line); err == nil || err.Error() != want {
			t.Errorf("%s: %v; want %s", line, err, want)
		}
	}
}

func TestEchoService(t *testing.T) {
	b := start(t, "CREATE SERVICE e\nSET role = echo\n"+listening+"ENABLE e\nCREATE SERVICE slow\nSET role = echo\nSET echo_delay = 0.01\n"+listening+"ENABLE slow\n")
	for _, service := range []string{"e", "slow"} {
		nc, err := net.Dial("tcp", b.Addr(service))
		must(t, err)
		defer nc.Close()
		must(t, nc.SetDeadline(time.Now().Add(time.Minute)))
		_, err = nc.Write([]byte("one\r\n\ntwo\nthr"))
		must(t, err)
		got := make([]byte, len("one\r\n\r\ntwo\r\n"))
		if _, err := readFull(nc, got); err != nil || string(got) != "one\r\n\r\ntwo\r\n" {
			t.Errorf("%s: %q, %v", service, got, err)
		}
		_, err = nc.Write([]byte("ee\n"))
		must(t, err)
		got = got[:len("three\r\n")]
		if _, err := readFull(nc, got); err != nil || string(got) != "three\r\n" {
			t.Errorf("%s: %q, %v", service, got, err)
		}
	}
}

func readFull(nc net.Conn, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = nc.Read(p[n:])
		n += m
	}
	return n, err
}

// TestAllLoad: every plugin can be named in any case, and listed by a service of the role that it is for.
func TestAllLoad(t *testing.T) {
	b := start(t, "CREATE SERVICE w\nSET role = web_server\nENABLE w\nCREATE SERVICE rp\nSET role = reverse_proxy\nENABLE rp\nCREATE SERVICE s\nSET role = selector\nENABLE s\n")
	for _, name := range b.Language().PluginNames() {
		b.Do("LOAD " + strings.ToLower(name))
		service := map[string]string{"Vhosts": "s", "Vpaths": "s", "FlvStreaming": "rp", "Throttle": "rp", "Queues": "rp"}[name]
		if service == "" {
			service = "w"
		}
		b.Do("SET " + service + ".plugins = " + name)
		if got := b.Service(service).Chain().Names; len(got) != 1 || got[0] != name {
			t.Errorf("plugins of %s: %v; want %s", service, got, name)
		}
	}
	if n := len(b.Language().PluginNames()); n != 19 {
		t.Errorf("%d plugins; want 19", n)
	}
}
