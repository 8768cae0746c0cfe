package accesslog

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
)

// say sends raw bytes, and returns the answer's status line.
func say(t *testing.T, addr, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, raw)
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b), "\r\n")
	return line
}

// What the engine refuses by itself has its line, one for each connection that ends with it, whatever the client has sent.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	combined, object := filepath.Join(dir, "combined"), filepath.Join(dir, "json")
	l := New(Options{})
	node := balancertest.Backend(t, func(http.ResponseWriter, *http.Request) {})
	b := balancertest.Start(t, balancertest.Proxy([]string{node}, "SET access_log = "+combined), balancerd.Options{Finished: l.Finished, Refused: l.Refused})
	ask := func(raw, status string) {
		t.Helper()
		if got := say(t, b.Addr("rp"), raw); !strings.HasPrefix(got, "HTTP/1.1 "+status+" ") {
			t.Errorf("%q: %s", raw, got)
		}
	}
	const bad = "GET /a\"b\x1b HTTP/1.1\r\n\r\n"
	ask(bad+bad+bad, "400")
	ask("\r\n\r\n\r\n\r\n", "400")
	ask("GET /"+strings.Repeat("x", 40<<10)+" HTTP/1.1\r\nHost: x\r\n\r\n", "414")
	form := `^127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "%LINE" %STATUS [1-9]\d* "-" "-" service=rp total=0\.\d{6} reason="%REASON"$`
	got := lines(t, l, combined, 3)
	for i, want := range [][3]string{
		{`GET /a\\x22b\\x1b HTTP/1\.1`, "400", "the request target holds an octet that it must not"},
		{`-`, "400", "too many empty lines precede the request"},
		{`GET /x+`, "414", "the request line is too long"},
	} {
		re := strings.NewReplacer("%LINE", want[0], "%STATUS", want[1], "%REASON", want[2]).Replace(form)
		if !regexp.MustCompile(re).MatchString(got[i]) {
			t.Errorf("line is\n%s\nwant\n%s", got[i], re)
		}
	}
	b.Do("SET rp.access_log = " + object + "\nSET rp.access_log_format = json")
	ask(bad, "400")
	var m map[string]any
	if err := json.Unmarshal([]byte(lines(t, l, object, 1)[0]), &m); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]any{"service": "rp", "request_line": "GET /a\"b\x1b HTTP/1.1", "status": 400.0, "reason": "the request target holds an octet that it must not"} {
		if m[k] != want {
			t.Errorf("%s is %v; want %v", k, m[k], want)
		}
	}
	if client, _ := m["client"].(string); !strings.HasPrefix(client, "127.0.0.1:") || m["sent"] == 0.0 || m["tls"] != nil {
		t.Errorf("%v", m)
	}
	b.Do("SET rp.access_log = none")
	ask(bad, "400")
	if l.Flush(); l.Written() != 4 || l.Dropped() != 0 {
		t.Errorf("written %d, dropped %d", l.Written(), l.Dropped())
	}
}

// A flood of what is refused costs no more memory than other lines.
func TestFloodOfRefusals(t *testing.T) {
	l := New(Options{})
	r := refusal(bytes.Repeat([]byte{0}, 1024))
	for range 2 * maxWaiting / 1024 {
		l.Refused(r)
	}
	v, _ := l.logs.Load("x")
	if got := len(v.(*output).lines); got > maxWaiting+8192 || l.Dropped() == 0 {
		t.Errorf("%d bytes wait, %d lines dropped", got, l.Dropped())
	}
}

func refusal(line []byte) *balancer.Refusal {
	return &balancer.Refusal{
		Service: service{}, Set: &balancer.Settings{AccessLog: "x"}, Client: netip.MustParseAddrPort("[2001:db8::1]:7"), TLS: true,
		Began: time.Now(), Line: line, Status: 400, Sent: 7, Reason: "why",
	}
}

// Whatever clients send, a refusal is one line, and JSON is JSON that says the same.
func FuzzRefusal(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1"))
	f.Add([]byte("\x16\x03\x01\"\\\r\n\x7f\xff\u2028"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, sent []byte) {
		r := refusal(sent)
		for _, line := range [][]byte{appendRefusal(nil, r, r.Began), appendRefusalJSON(nil, r, r.Began)} {
			if bytes.Count(line, []byte{'\n'}) != 1 || bytes.ContainsAny(line[:len(line)-1], "\x00\r\n\x1b\x7f") {
				t.Fatalf("%q", line)
			}
		}
		if q := bytes.Count(appendRefusal(nil, r, r.Began), []byte{'"'}); q != 8 {
			t.Fatalf("%d quotes", q)
		}
		var m map[string]any
		if err := json.Unmarshal(appendRefusalJSON(nil, r, r.Began), &m); err != nil {
			t.Fatal(err)
		}
		if want := string([]rune(string(sent))); m["request_line"] != want || m["tls"] != true || m["client"] != "[2001:db8::1]:7" {
			t.Fatalf("%v; want %q", m, want)
		}
	})
}
