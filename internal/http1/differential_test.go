package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

// verdict is what a server made of a row: of the request itself, and whether it went on to the next one.
type verdict struct {
	status int    // 0: no answer
	echo   string // what the handler saw, when the request was accepted
	next   bool   // the probe after it was answered as well
}

func (v verdict) String() string {
	return fmt.Sprintf("status %d, next %v, echo %q", v.status, v.next, v.echo)
}

func (v verdict) accepted() bool { return v.status == 200 }

// same reports whether two servers agree. Refused is refused: the very status may differ within its class.
func (v verdict) same(o verdict) bool {
	if !v.accepted() && !o.accepted() {
		return v.status/100 == o.status/100 || v.status >= 400 && o.status >= 400
	}
	return v.accepted() == o.accepted() && v.echo == o.echo && v.next == o.next
}

const probe = "GET /probe HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

// TestDifferential sends the same bytes to this engine and to net/http. A row that says why is one on which they differ
// on purpose, and it must say so: should they come to agree, the row is out of date.
func TestDifferential(t *testing.T) {
	_, ours := serve(t, HandlerFunc(echoHere), Options{Limits: Limits{Body: 1 << 20}})
	theirs := httptest.NewUnstartedServer(http.HandlerFunc(echoNet))
	theirs.Config.MaxHeaderBytes = 60 << 10 // net/http adds 4 KiB
	theirs.Config.DisableGeneralOptionsHandler = true
	theirs.Config.ErrorLog = log.New(io.Discard, "", 0)
	theirs.Start()
	defer theirs.Close()

	rows := differentialRows()
	if len(rows) < 300 {
		t.Errorf("%d rows; want 300", len(rows))
	}
	var wg sync.WaitGroup
	work := make(chan row)
	for range 8 {
		wg.Go(func() {
			for r := range work {
				a := judge(r.raw, talk(t, ours, r.raw+probe, true))
				b := judge(r.raw, talkLeniently(theirs.Listener.Addr().String(), r.raw+probe))
				switch {
				case r.why == "" && !a.same(b):
					t.Errorf("%s: the engines differ\n%shere     %v\nnet/http %v\n", r.name, transcript("C: ", r.raw), a, b)
				case r.why != "" && a.same(b):
					t.Errorf("%s: said to differ (%s), but both: %v", r.name, r.why, a)
				case r.status != 0 && a.status != r.status:
					t.Errorf("%s: status %d; want %d\n%s", r.name, a.status, r.status, transcript("C: ", r.raw))
				}
			}
		})
	}
	seen := make(map[string]bool)
	for _, r := range rows {
		if seen[r.name] {
			t.Errorf("two rows are named %q", r.name)
		}
		seen[r.name] = true
		work <- r
	}
	close(work)
	wg.Wait()
}

// talkLeniently is talk with a server that may end the connection by a reset, as net/http does when bytes are unread.
func talkLeniently(addr, raw string) string {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	io.WriteString(c, raw)
	c.(*net.TCPConn).CloseWrite()
	b, _ := io.ReadAll(c)
	return string(b)
}

// judge reads the answers to raw and to the probe after it.
func judge(raw, answers string) (v verdict) {
	br := bufio.NewReader(strings.NewReader(answers))
	for {
		method := "GET"
		if v.status == 0 && strings.HasPrefix(raw, "HEAD") {
			method = "HEAD"
		}
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return v
		}
		b, _ := io.ReadAll(res.Body)
		if res.StatusCode == 100 {
			continue
		}
		if v.status == 0 {
			v.status = res.StatusCode
			if v.accepted() {
				v.echo = string(b)
				if method == "HEAD" {
					v.echo = res.Header.Get("X-Echo")
				}
			}
		} else if res.StatusCode == 200 && bytes.Contains(b, []byte("/probe")) {
			v.next = true
		}
	}
}

// echoHere and echoNet answer with what they saw of a request, in the same words.
func echoHere(x Exchange) {
	r := x.Request()
	body, err := io.ReadAll(x.Body())
	if err != nil {
		x.Reply(400, nil)
		return
	}
	h := make(http.Header)
	for n, v := range r.Header.All() {
		if !foldEqual(n, "host") && !foldEqual(n, "transfer-encoding") {
			h.Add(string(n), string(v))
		}
	}
	path, err := url.PathUnescape(string(r.Path))
	if err != nil {
		path = err.Error()
	}
	if r.Path == nil {
		path = ""
	}
	s := echoText(r.Method, string(r.Target), path, string(r.Query), string(r.Host), r.ContentLength, h, body)
	x.Header().Set("X-Echo", strings.ReplaceAll(s, "\n", " "))
	x.Reply(200, []byte(s))
}

func echoNet(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(400)
		return
	}
	path := r.URL.Path
	if r.URL.Host != "" && r.Method != "CONNECT" && path == "" {
		path = "/"
	}
	s := echoText(r.Method, r.RequestURI, path, r.URL.RawQuery, r.Host, r.ContentLength, r.Header, body)
	w.Header().Set("X-Echo", strings.ReplaceAll(s, "\n", " "))
	w.Write([]byte(s))
}

func echoText(method, target, path, query, host string, length int64, h http.Header, body []byte) string {
	var lines []string
	for n, vs := range h {
		for _, v := range vs {
			lines = append(lines, fmt.Sprintf("%s=%q", n, v))
		}
	}
	sort.Strings(lines)
	return fmt.Sprintf("%s %s path=%q query=%q host=%q length=%d %s\n%q", method, target, path, query, host, length,
		strings.Join(lines, " "), body)
}
