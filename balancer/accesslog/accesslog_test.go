package accesslog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/internal/http1"
)

func serve(t *testing.T, l *Logs, node, more string) *balancertest.Balancer {
	t.Helper()
	return balancertest.Start(t, balancertest.Proxy([]string{node}, more), balancerd.Options{Finished: l.Finished})
}

func get(t *testing.T, url string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res
}

// lines waits until a file has n lines, and returns them.
func lines(t *testing.T, l *Logs, file string, n int) []string {
	t.Helper()
	var got []string
	balancertest.Eventually(t, fmt.Sprintf("%d lines in %s", n, file), func() bool {
		l.Flush()
		b, _ := os.ReadFile(file)
		got = strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
		return bytes.Count(b, []byte{'\n'}) >= n
	})
	if len(got) != n {
		t.Fatalf("%d lines; want %d:\n%s", len(got), n, strings.Join(got, "\n"))
	}
	return got
}

func TestCombined(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	l := New(Options{})
	node := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	b := serve(t, l, node, "SET access_log = "+file)
	get(t, b.URL("rp", `/a?b="c"`), "User-Agent", `x "y" \z`, "Referer", "http://r/")
	form := `^127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /a\?b=\\x22c\\x22 HTTP/1\.1" 200 5 "http://r/" "x \\x22y\\x22 \\x5cz" ` +
		`service=rp total=0\.\d{6} queued=0\.\d{6} head=0\.\d{6} backend=` + regexp.QuoteMeta(node) + ` attempts=1 id="[0-9a-f-]+"$`
	if got := lines(t, l, file, 1)[0]; !regexp.MustCompile(form).MatchString(got) {
		t.Errorf("line is\n%s\nwant\n%s", got, form)
	}
	if l.Written() != 1 || l.Dropped() != 0 {
		t.Errorf("written %d, dropped %d", l.Written(), l.Dropped())
	}
}

// traceparent goes on unchanged, and stands in the log; so does why there was no answer.
func TestJSON(t *testing.T) {
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	file := filepath.Join(t.TempDir(), "access.log")
	l := New(Options{})
	saw := make(chan string, 4)
	node := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		saw <- r.Header.Get("Traceparent")
		if r.URL.Path == "/die" {
			panic(http.ErrAbortHandler)
		}
	})
	b := serve(t, l, node, "SET access_log = "+file+"\nSET access_log_format = json\nSET always_trusted = on\nSET retry_attempts = 0")
	get(t, b.URL("rp", "/x"), "Traceparent", trace, "X-Forwarded-For", "10.0.0.9", "X-Request-Id", "mine")
	get(t, b.URL("rp", "/die"), "User-Agent", "\x80\u00e4\tz")
	if got := <-saw; got != trace {
		t.Errorf("the backend got traceparent %q", got)
	}
	var first, second map[string]any
	got := lines(t, l, file, 2)
	for i, m := range []*map[string]any{&first, &second} {
		if err := json.Unmarshal([]byte(got[i]), m); err != nil {
			t.Fatalf("%v: %s", err, got[i])
		}
	}
	for k, want := range map[string]any{
		"service": "rp", "method": "GET", "uri": "/x", "status": 200.0, "sent": 0.0, "backend": node, "attempts": 1.0, "id": "mine",
		"traceparent": trace, "observed_ip": "10.0.0.9", "host": b.Addr("rp"), "http_minor": 1.0,
	} {
		if first[k] != want {
			t.Errorf("%s is %v; want %v", k, first[k], want)
		}
	}
	total, _ := first["total_ms"].(float64)
	head, _ := first["head_ms"].(float64)
	if total <= 0 || head <= 0 || head > total {
		t.Errorf("total %v ms, head %v ms", first["total_ms"], first["head_ms"])
	}
	if reason, _ := second["reason"].(string); second["status"] != 502.0 || !strings.Contains(reason, node) {
		t.Errorf("second line: %s", got[1])
	}
	if second["user_agent"] != "\ufffd\u00e4\tz" {
		t.Errorf("user_agent is %q", second["user_agent"])
	}
}

// A service that has no log uses that of the service which took the connection.
func TestLogOfTheSelector(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	l := New(Options{})
	b := serve(t, l, balancertest.Backend(t, func(http.ResponseWriter, *http.Request) {}),
		"CREATE SERVICE sel\nSET role = selector\nSET listen = 127.0.0.1:0\nSET default_service = rp\nSET access_log = "+file+"\nENABLE sel")
	get(t, b.URL("sel", "/"))
	get(t, b.URL("rp", "/unlogged"))
	if got := lines(t, l, file, 1)[0]; !strings.Contains(got, "service=rp ") {
		t.Errorf("line is %s", got)
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	file, old := filepath.Join(dir, "access.log"), filepath.Join(dir, "access.log.1")
	l := New(Options{})
	b := serve(t, l, balancertest.Backend(t, func(http.ResponseWriter, *http.Request) {}), "SET access_log = "+file)
	get(t, b.URL("rp", "/1"))
	lines(t, l, file, 1)
	if err := os.Rename(file, old); err != nil {
		t.Fatal(err)
	}
	get(t, b.URL("rp", "/2")) // seen at the next flush
	if got := lines(t, l, file, 1)[0]; !strings.Contains(got, "GET /2 ") {
		t.Errorf("new file has %s", got)
	}
	// As logrotate does it: what was collected before the signal belongs to the old file.
	if err := os.Rename(file, old+"b"); err != nil {
		t.Fatal(err)
	}
	get(t, b.URL("rp", "/3"))
	balancertest.Eventually(t, "a line is collected", func() bool { return waiting(l, file) })
	l.Reopen()
	get(t, b.URL("rp", "/4"))
	if got := lines(t, l, file, 1)[0]; !strings.Contains(got, "GET /4 ") {
		t.Errorf("new file has %s", got)
	}
	if b, err := os.ReadFile(old + "b"); err != nil || !strings.Contains(string(b), "GET /3 ") {
		t.Errorf("old file has %q, %v", b, err)
	}
}

func waiting(l *Logs, name string) bool {
	v, ok := l.logs.Load(name)
	if !ok {
		return false
	}
	o := v.(*output)
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.lines) > 0
}

// fullDisk takes only so many bytes.
type fullDisk struct {
	mu   sync.Mutex
	room int
	got  bytes.Buffer
}

func (d *fullDisk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(p), d.room)
	d.room -= n
	d.got.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (d *fullDisk) Stat() (os.FileInfo, error) { return nil, errors.New("gone") }
func (d *fullDisk) Close() error               { return nil }

// unmoved is a fullDisk whose file stays where it is.
type unmoved struct {
	*fullDisk
	path string
}

func (u unmoved) Stat() (os.FileInfo, error) { return os.Stat(u.path) }

func request(uri string) *balancer.Request {
	r := &balancer.Request{
		X: &exchange{q: http1.Request{Method: "GET", Target: []byte(uri), Minor: 1}}, Set: &balancer.Settings{AccessLog: "x"},
		Service: service{}, Began: time.Now(), Observed: netip.MustParseAddr("10.0.0.1"), Status: 200,
	}
	r.Entry = r.Set
	return r
}

type service struct{ balancer.Service }

func (service) Name() string { return "rp" }

type exchange struct {
	http1.Exchange
	q http1.Request
}

func (x *exchange) Request() *http1.Request { return &x.q }
func (x *exchange) TLS() bool               { return false }

// A full disk costs the lines that it has no room for, each of them counted, and no other; nobody waits.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	disk := &fullDisk{room: 250}
	l := New(Options{Open: func(string) (File, error) { return unmoved{disk, path}, nil }})
	log := func(from, to int) {
		for i := from; i < to; i++ {
			r := request(fmt.Sprintf("/%d", i))
			r.Set.AccessLog = path
			l.Finished(r)
		}
		l.Flush()
	}
	log(0, 10)
	if l.Written()+l.Dropped() != 10 || l.Dropped() == 0 {
		t.Errorf("written %d, dropped %d", l.Written(), l.Dropped())
	}
	log(10, 20)
	if l.Written()+l.Dropped() != 20 {
		t.Errorf("written %d, dropped %d", l.Written(), l.Dropped())
	}
	disk.mu.Lock()
	disk.room = 1 << 20
	disk.mu.Unlock()
	log(20, 25)
	if l.Written()+l.Dropped() != 25 {
		t.Errorf("written %d, dropped %d", l.Written(), l.Dropped())
	}
	whole := regexp.MustCompile(`(?m)^10\.0\.0\.1 - - .* total=\S+$`).FindAllString(disk.got.String(), -1)
	if int64(len(whole)) != l.Written() || !strings.Contains(whole[len(whole)-1], "GET /24 ") {
		t.Errorf("%d whole lines; %d were written:\n%s", len(whole), l.Written(), disk.got.String())
	}
}

// A disk that hangs costs no more memory than maxWaiting and a line.
func TestDiskThatHangs(t *testing.T) {
	l := New(Options{})
	r := request("/" + strings.Repeat("x", 8000))
	n := maxWaiting/8000 + 100
	for range n {
		l.Finished(r)
	}
	v, _ := l.logs.Load("x")
	if got := len(v.(*output).lines); got > maxWaiting+9000 {
		t.Errorf("%d bytes wait", got)
	}
	if l.Dropped() == 0 || l.Dropped() > int64(n-maxWaiting/9000) {
		t.Errorf("dropped %d of %d", l.Dropped(), n)
	}
}

func TestUnwritableFile(t *testing.T) {
	l := New(Options{})
	r := request("/")
	r.Set.AccessLog = filepath.Join(t.TempDir(), "missing", "x")
	l.Finished(r)
	l.Flush()
	if l.Dropped() != 1 {
		t.Errorf("dropped %d; want 1", l.Dropped())
	}
	if err := os.Mkdir(filepath.Dir(r.Set.AccessLog), 0o700); err != nil {
		t.Fatal(err)
	}
	l.Finished(r)
	l.Flush()
	if l.Written() != 1 {
		t.Errorf("written %d; want 1", l.Written())
	}
}

// What is collected is written at the end.
func TestRunEnds(t *testing.T) {
	l := New(Options{})
	r := request("/")
	r.Set.AccessLog = filepath.Join(t.TempDir(), "x")
	ctx, cancel := context.WithCancel(t.Context())
	l.Finished(r)
	cancel()
	l.Run(ctx)
	if b, err := os.ReadFile(r.Set.AccessLog); err != nil || !strings.Contains(string(b), "GET / ") {
		t.Errorf("file has %q, %v", b, err)
	}
}

// Whatever clients send, a request is one line, and JSON is JSON that says the same.
func FuzzLine(f *testing.F) {
	f.Add("/", "curl", "reason", "id")
	f.Add("/\r\nX: y\"\\\x00\x7f\xff", "\u2028\n\"", "a\nb", "\x1b[2J\"")
	f.Fuzz(func(t *testing.T, uri, agent, reason, id string) {
		r := request(uri)
		h := &r.X.(*exchange).q.Header
		h.Set("User-Agent", agent)
		r.Reason, r.ID = reason, id
		for _, line := range [][]byte{appendCombined(nil, r, r.Began), appendJSON(nil, r, r.Began)} {
			if bytes.Count(line, []byte{'\n'}) != 1 || bytes.ContainsAny(line[:len(line)-1], "\x00\r\n\x1b\x7f") {
				t.Fatalf("%q", line)
			}
		}
		var m map[string]any
		if err := json.Unmarshal(appendJSON(nil, r, r.Began), &m); err != nil {
			t.Fatal(err)
		}
		if len(uri) <= maxField {
			if want := string([]rune(uri)); m["uri"] != want {
				t.Fatalf("uri is %q; want %q", m["uri"], want)
			}
		}
		if q := bytes.Count(appendCombined(nil, r, r.Began), []byte{'"'}); q != 6+2*count(reason != "", id != "") {
			t.Fatalf("%d quotes in %q", q, appendCombined(nil, r, r.Began))
		}
	})
}

func count(list ...bool) (n int) {
	for _, b := range list {
		if b {
			n++
		}
	}
	return n
}

func BenchmarkFinished(b *testing.B) {
	for _, format := range []string{"combined", "json"} {
		b.Run(format, func(b *testing.B) {
			l := New(Options{Open: func(string) (File, error) { return os.OpenFile("/dev/null", os.O_WRONLY, 0) }})
			r := request("/some/path?x=y")
			r.Set.AccessLogFormat = format
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				l.Finished(r)
				if n++; n%100 == 0 {
					l.Flush()
				}
			}
		})
	}
}
