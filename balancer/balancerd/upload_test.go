package balancerd_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/proxy"
	"wheelhouse/internal/http1"
)

// A slow upload is taken in before a backend is asked for, for the reason that the settings name.
func TestUploadsAreTakenIn(t *testing.T) {
	back := balancertest.Backend(t, echo)
	dir := t.TempDir()
	for _, tt := range []struct {
		conf, request string
		want          string
	}{
		{"SET buffer_upload_threshold_size = 10", "Content-Length: 20\r\n\r\n01234567890123456789", "size"},
		{"SET buffer_upload_threshold_size = 0\nSET buffer_backend_connect = 5\nSET buffer_upload_threshold_time = 0\nSET buffer_upload_threshold_rate = 1000000000", "Content-Length: 20\r\n\r\n01234567890123456789", "rate"},
		{"SET buffer_upload_threshold_size = 0\nSET buffer_backend_connect = 5\nSET buffer_upload_threshold_time = .000000001", "Content-Length: 20\r\n\r\n01234567890123456789", "time"},
		{"SET buffer_upload_threshold_size = 0\nSET buffer_backend_connect = 5\nSET buffer_upload_threshold_time = 0", "Content-Length: 20\r\n\r\n01234567890123456789", ""},
		{"", "Transfer-Encoding: chunked\r\n\r\n14;x=y\r\n01234567890123456789\r\n0\r\n\r\n", "chunked"},
	} {
		b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET buffer_uploads = on\nSET buffer_uploads_path = "+dir+"\n"+tt.conf), balancerd.Options{})
		b.Service("rp").Proxy().DebugUploads = true
		got := balancertest.Send(t, b.Addr("rp"), "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+tt.request, 20*time.Second)
		line := "X-Perlbal-Buffered-Upload-Reason: " + tt.want + "\n"
		if tt.want == "" && strings.Contains(got, "Buffered-Upload") || tt.want != "" && !strings.Contains(got, line) ||
			!strings.Contains(got, "POST a / len=20 te=[]") || !strings.Contains(got, "\n\n01234567890123456789") {
			t.Errorf("%s: want reason %q, got\n%s", tt.conf, tt.want, got)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// When the client of a spooled upload goes away, so does the file. It has no name meanwhile: one that a killed process leaves takes no room.
func TestSpooledUploadOfAClientThatGoes(t *testing.T) {
	dir := t.TempDir()
	b := balancertest.Start(t, balancertest.Proxy([]string{balancertest.Backend(t, echo)}, "SET buffer_uploads = on\nSET buffer_uploads_path = "+dir+"\nSET buffer_upload_threshold_size = 1"), balancerd.Options{})
	nc, err := net.Dial("tcp", b.Addr("rp"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 200000))
	spooled := b.Service("rp").Proxy().Spooled
	balancertest.Eventually(t, "the upload is in a file", func() bool { return spooled() == proxy.SpoolStats{Files: 1, Bytes: 200000} })
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("the directory has %v, %v", left, err)
	}
	nc.Close()
	balancertest.Eventually(t, "the file is gone", func() bool { return spooled() == proxy.SpoolStats{} })
}

// Uploads take no more on disk than buffer_uploads_total_size. What has no room is refused by that name, and when one ends, however it
// does, its room is another's.
func TestRoomForUploads(t *testing.T) {
	begun, release := make(chan struct{}, 10), make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	back := balancertest.Engine(t, func(x http1.Exchange) {
		if string(x.Request().Path) == "/held" {
			begun <- struct{}{}
			<-release
		}
		io.Copy(io.Discard, x.Body())
		x.Reply(200, nil)
	})
	reasons := make(chan string, 100)
	b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET buffer_uploads = on\nSET buffer_uploads_path = "+t.TempDir()+
		"\nSET buffer_upload_threshold_size = 1\nSET buffer_uploads_total_size = 100k\nSET backend_persist_cache = 10"),
		balancerd.Options{Finished: func(r *request) { reasons <- r.Reason }})
	defer let()
	spooled := b.Service("rp").Proxy().Spooled
	upload := func(size int, chunked bool, status int, reason string) {
		t.Helper()
		var body io.Reader = strings.NewReader(strings.Repeat("x", size))
		if chunked {
			body = struct{ io.Reader }{body}
		}
		res, _ := do(t, "PUT", b.URL("rp", "/"), body)
		if got := <-reasons; res.StatusCode != status || !strings.Contains(got, reason) {
			t.Errorf("%d bytes, chunked %v: %d, %q; want %d, %q", size, chunked, res.StatusCode, got, status, reason)
		}
	}
	for _, chunked := range []bool{false, true} {
		upload(100<<10, chunked, 200, "")
		upload(100<<10+1, chunked, 413, "larger than buffer_uploads_total_size (102400 bytes)")
	}
	if got := spooled(); got != (proxy.SpoolStats{Refused: 2}) {
		t.Errorf("after all have ended: %+v", got)
	}
	nc, err := net.Dial("tcp", b.Addr("rp")) // one upload whose client goes on slowly
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprint(nc, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n"+strings.Repeat("x", 50000))
	balancertest.Eventually(t, "it is on disk", func() bool { return spooled().Bytes == 50000 })
	held := make(chan int, 1) // and one that its backend has not answered
	go func() {
		res, err := http.Post(b.URL("rp", "/held"), "text/plain", strings.NewReader(strings.Repeat("x", 40000)))
		if err != nil {
			held <- 0
			return
		}
		res.Body.Close()
		held <- res.StatusCode
	}()
	<-begun
	for _, chunked := range []bool{false, true} {
		upload(12400, chunked, 200, "")
		upload(12401, chunked, 503, "have reached buffer_uploads_total_size (102400 bytes)")
	}
	if !strings.Contains(b.Log.String(), `level=WARN msg="upload refused"`) || !strings.Contains(b.Log.String(), "buffer_uploads_total_size") {
		t.Errorf("the log says\n%s", b.Log)
	}
	nc.Close()
	if got := <-reasons; !strings.Contains(got, "the client is gone") {
		t.Errorf("of the one that went: %q", got)
	}
	upload(62400, false, 200, "")
	upload(62401, true, 503, "buffer_uploads_total_size")
	let()
	if got := <-held; got != 200 {
		t.Errorf("the one that was held: %d", got)
	}
	if got := <-reasons; got != "" {
		t.Errorf("the one that was held: %q", got)
	}
	upload(100<<10, true, 200, "")
	b.Do("SET rp.buffer_uploads_total_size = 0")
	upload(200<<10, true, 200, "")
	if got := spooled(); got != (proxy.SpoolStats{Refused: 5}) {
		t.Errorf("in the end: %+v", got)
	}
}

func TestTooLargeUploads(t *testing.T) {
	back := balancertest.Backend(t, echo)
	for _, spool := range []string{"", "\nSET buffer_uploads = on\nSET buffer_uploads_path = " + t.TempDir()} {
		b := balancertest.Start(t, balancertest.Proxy([]string{back}, "SET max_chunked_request_size = 1000\nSET max_request_size = 2000"+spool), balancerd.Options{})
		if res, _ := do(t, "PUT", b.URL("rp", "/"), struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 1001))}); res.StatusCode != 413 {
			t.Errorf("%q: chunked body of 1001: %d; want 413", spool, res.StatusCode)
		}
		if res, _ := do(t, "PUT", b.URL("rp", "/"), strings.NewReader(strings.Repeat("x", 2001))); res.StatusCode != 413 {
			t.Errorf("%q: body of 2001: %d; want 413", spool, res.StatusCode)
		}
		if res, _ := do(t, "PUT", b.URL("rp", "/"), struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 1000))}); res.StatusCode != 200 {
			t.Errorf("%q: chunked body of 1000: %d; want 200", spool, res.StatusCode)
		}
	}
}

// Clients that announce large bodies and send next to nothing cost little memory each.
func TestSlowUploadsCostLittle(t *testing.T) {
	const n, each = 300, 20 << 10
	back := balancertest.Backend(t, echo)
	for _, conf := range []string{"SET buffer_backend_connect = 1m", "SET buffer_uploads = on\nSET buffer_upload_threshold_size = 1\nSET buffer_uploads_path = " + t.TempDir()} {
		for _, length := range []string{"Content-Length: 1000000\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\nfffff\r\nx"} {
			if strings.HasPrefix(length, "T") && !strings.Contains(conf, "buffer_uploads") {
				continue // it is streamed
			}
			b := balancertest.Start(t, balancertest.Proxy([]string{back}, conf), balancerd.Options{})
			before := heapInUse()
			for range n {
				nc, err := net.Dial("tcp", b.Addr("rp"))
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: a\r\n"+length)
			}
			balancertest.Eventually(t, "all have begun", func() bool { return b.Requests() == n })
			if grown := (heapInUse() - before) / n; grown > each {
				t.Errorf("%q, %q: %d bytes for each; want at most %d", conf, length, grown, each)
			} else {
				t.Logf("%q: %d bytes for each", length, grown)
			}
		}
	}
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
