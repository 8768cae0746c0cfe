package gearmand_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/gearman/packet"
)

func serveHTTP(t *testing.T, opts gearmand.Options) (*server, string) {
	s := serve(t, opts)
	web := httptest.NewServer(s.HTTPHandler())
	t.Cleanup(web.Close)
	return s, web.URL
}

// echoing works on all jobs: what the workload says happens.
func echoing(t *testing.T, s *server, fn string) {
	w := s.dial(t).Worker(fn)
	w.Send(packet.GrabJob)
	go func() {
		for {
			p, err := w.TryRecv()
			if err != nil {
				return
			}
			switch p.Type {
			case packet.NoJob:
				w.Write(packet.Append[string](nil, packet.Req, packet.PreSleep))
				continue
			case packet.JobAssign:
				h, data := p.Args()[0], p.Args()[2]
				var b []byte
				switch data {
				case "fail":
					b = packet.Append(b, packet.Req, packet.WorkFail, h)
				case "exception":
					b = packet.Append(b, packet.Req, packet.WorkException, h, "boom")
				case "parts":
					b = packet.Append(b, packet.Req, packet.WorkStatus, h, "1", "2")
					b = packet.Append(b, packet.Req, packet.WorkData, h, "one\n")
					b = packet.Append(b, packet.Req, packet.WorkWarning, h, "careful")
					b = packet.Append(b, packet.Req, packet.WorkComplete, h, "two")
				default:
					b = packet.Append(b, packet.Req, packet.WorkComplete, h, "<"+data+">")
				}
				w.Write(b)
			}
			w.Write(packet.Append[string](nil, packet.Req, packet.GrabJob))
		}
	}()
}

func call(t *testing.T, method, url, body string, fields ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	s, url := serveHTTP(t, gearmand.Options{MaxPacket: 1 << 20})
	echoing(t, s, "f")
	for _, tt := range []struct {
		method, path, body string
		fields             []string
		status             int
		command, want      string
	}{
		{"POST", "/f", "hello", nil, 200, "WORK_COMPLETE", "<hello>"},
		{"PUT", "/f", "hello", nil, 200, "WORK_COMPLETE", "<hello>"},
		{"GET", "/f", "", nil, 200, "WORK_COMPLETE", "<>"},
		{"POST", "/f", "parts", nil, 200, "WORK_COMPLETE", "one\ntwo"},
		{"POST", "/f", "fail", nil, 500, "WORK_FAIL", "the job failed\n"},
		{"POST", "/f", "exception", nil, 500, "WORK_EXCEPTION", "boom"},
		{"POST", "/f", "x", []string{"X-Gearman-Background", "true"}, 200, "JOB_CREATED", ""},
		{"POST", "/f", "x", []string{"X-Gearman-Priority", "HIGH", "X-Gearman-Unique", "u"}, 200, "WORK_COMPLETE", "<x>"},
		{"POST", "/f", "x", []string{"X-Gearman-Priority", "urgent"}, 400, "", "X-Gearman-Priority is \"urgent\"; want high, normal or low\n"},
		{"POST", "/f", "x", []string{"X-Gearman-Background", "perhaps"}, 400, "", "X-Gearman-Background is \"perhaps\"; want true or false\n"},
		{"POST", "/f", "x", []string{"X-Gearman-Unique", strings.Repeat("u", 65)}, 400, "", "Unique value too large\n"},
		{"POST", "/", "x", nil, 404, "", "no function: the path names it, as in /reverse\n"},
		{"DELETE", "/f", "", nil, 405, "", "method DELETE is not known here\n"},
		{"POST", "/f", strings.Repeat("x", 1<<20+1), nil, 413, "", "a workload has at most 1048576 bytes here\n"},
	} {
		resp, got := call(t, tt.method, url+tt.path, tt.body, tt.fields...)
		if resp.StatusCode != tt.status || got != tt.want || resp.Header.Get("X-Gearman-Command") != tt.command {
			t.Errorf("%s %s %.20q %q = %d %q %q; want %d %q %q", tt.method, tt.path, tt.body, tt.fields,
				resp.StatusCode, resp.Header.Get("X-Gearman-Command"), got, tt.status, tt.command, tt.want)
		}
		if h := resp.Header.Get("X-Gearman-Job-Handle"); (tt.command != "") != strings.HasPrefix(h, "H:") {
			t.Errorf("%s %s %.20q: handle %q", tt.method, tt.path, tt.body, h)
		}
	}
	eventually(t, "nothing is left", func() bool { st := s.Stats(); return st.Memory < 1000 && st.Connections == 1 })
}

func TestHTTPEvents(t *testing.T) {
	t.Parallel()
	s, url := serveHTTP(t, gearmand.Options{})
	echoing(t, s, "f")
	for body, want := range map[string]string{
		"parts":     "event: status\ndata: 1/2\n\nevent: data\ndata: one\ndata: \n\nevent: warning\ndata: careful\n\nevent: complete\ndata: two\n\n",
		"fail":      "event: fail\ndata: \n\n",
		"exception": "event: exception\ndata: boom\n\n",
	} {
		resp, got := call(t, "POST", url+"/f", body, "Accept", "text/event-stream")
		created, rest, _ := strings.Cut(got, "\n\n")
		if !strings.HasPrefix(created, "event: created\ndata: H:") || rest != want || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%s: %q; want created and %q", body, got, want)
		}
	}
}

// A client that goes takes a queued job with it.
func TestHTTPClientLeaves(t *testing.T) {
	t.Parallel()
	s, url := serveHTTP(t, gearmand.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", url+"/f", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != "event: created\n" {
		t.Fatalf("%q %v", line, err)
	}
	cancel()
	eventually(t, "the job is gone", func() bool { return s.Stats().Jobs == 0 })
}

// A server that ends does not leave HTTP clients waiting.
func TestHTTPAtTheEnd(t *testing.T) {
	t.Parallel()
	s, url := serveHTTP(t, gearmand.Options{})
	status := make(chan int, 1)
	go func() {
		resp, _ := call(t, "POST", url+"/f", "x")
		status <- resp.StatusCode
	}()
	eventually(t, "the job is there", func() bool { return s.Stats().Jobs == 1 })
	s.Close()
	if got := <-status; got != 503 {
		t.Errorf("status %d; want 503", got)
	}
	if resp, _ := call(t, "POST", url+"/f", "x"); resp.StatusCode != 503 {
		t.Errorf("after the end: status %d; want 503", resp.StatusCode)
	}
}

// A result that comes faster than it is taken is no reason to end the call: what waits is bounded by what a result may have.
func TestHTTPFastResult(t *testing.T) {
	t.Parallel()
	s, url := serveHTTP(t, gearmand.Options{MaxOutput: 4 << 10})
	part := strings.Repeat("x", 1<<10)
	for _, c := range []struct{ accept, want string }{
		{"", strings.Repeat(part, 30)},
		{"text/event-stream", "event: error\ndata: more waits for the client than may wait\n\n"},
	} {
		w := s.dial(t).Worker("f")
		answer := make(chan string, 1)
		go func() {
			_, body := call(t, "POST", url+"/f", "go", "Accept", c.accept)
			answer <- body
		}()
		var h string
		eventually(t, "there is a job", func() bool { h, _ = w.Grab(); return h != "" })
		var b []byte // all in one packet of the network, and so in one batch
		for range 30 {
			b = packet.Append(b, packet.Req, packet.WorkData, h, part)
		}
		w.Raw(string(b))
		w.Nothing()
		w.Send(packet.WorkComplete, h, "")
		if got := <-answer; !strings.HasSuffix(got, c.want) || c.accept == "" && got != c.want {
			t.Errorf("%q: %.100q of %d bytes; want %.100q", c.accept, got[max(0, len(got)-100):], len(got), c.want)
		}
		w.Close()
	}
}
