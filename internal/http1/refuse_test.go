package http1

import (
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// refusals collects what a server refuses.
type refusals struct {
	mu   sync.Mutex
	list []Refusal
	line []string
	news chan struct{}
}

func newRefusals() *refusals { return &refusals{news: make(chan struct{}, 100)} }

func (r *refusals) on(x *Refusal) {
	r.mu.Lock()
	r.list, r.line = append(r.list, *x), append(r.line, string(x.Line))
	r.mu.Unlock()
	r.news <- struct{}{}
}

// next waits for one, and returns it and its line.
func (r *refusals) next(t *testing.T) (Refusal, string) {
	t.Helper()
	select {
	case <-r.news:
	case <-time.After(wait):
		t.Fatal("nothing was told")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list[len(r.list)-1], r.line[len(r.line)-1]
}

// What is refused is told of once, with what came of the request line.
func TestOnRefuse(t *testing.T) {
	got := newRefusals()
	s, addr := serve(t, HandlerFunc(func(x Exchange) { x.Reply(204, nil) }), Options{OnRefuse: got.on, Limits: Limits{Line: 4000, Head: 8000}})
	n := 0
	for _, tt := range []struct {
		raw, line string
		err       *Error
	}{
		{"GET /a HTTP/1.1\r\n\r\n", "GET /a HTTP/1.1", errNoHost},
		{"GET /a HTTP/1.1\nHost: x\n\n", "GET /a HTTP/1.1", errBareLF},
		{"GET /a HTTP/3.0\r\nHost: x\r\n\r\n", "GET /a HTTP/3.0", errVersionOther},
		{"\x16\x03\x01\x02\x00\x01", "\x16\x03\x01\x02\x00\x01", errMethod},
		{"GET /ok HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\nmore nonsense\r\n\r\n", "nonsense", errRequestLine},
		{"\r\n\r\n\r\n\r\n", "", errEmptyLines},
		{"GET /" + strings.Repeat("x", 5000) + " HTTP/1.1\r\n", "GET /" + strings.Repeat("x", maxRefusedLine-5), errLineLong},
		{"GET /b HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("x", 9000) + "\r\n\r\n", "GET /b HTTP/1.1", errHeadLong},
		{"HEAD /c HTTP/1.1\r\nHost: x\r\nExpect: y\r\n\r\n", "HEAD /c HTTP/1.1", errExpect},
	} {
		answer := talk(t, addr, tt.raw, true)
		r, line := got.next(t)
		n++
		_, body, _ := strings.Cut(answer, "Connection: close\r\n\r\n")
		if r.Err != tt.err || line != tt.line || r.TLS || r.Sent != int64(len(body)) || r.Sent == 0 {
			t.Errorf("%.40q: %v, line %q, %d sent; want %v, %q, %d", tt.raw, r.Err, line, r.Sent, tt.err, tt.line, len(body))
		}
		if a, ok := r.Client.(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
			t.Errorf("client is %v", r.Client)
		}
	}
	s.Close()
	if len(got.news) != 0 || len(got.list) != n {
		t.Errorf("%d refusals for %d connections", len(got.list), n)
	}
}

// A head that takes too long is told of with the time that it took, and with what came.
func TestOnRefuseLate(t *testing.T) {
	got := newRefusals()
	_, addr := serve(t, HandlerFunc(func(x Exchange) { x.Reply(204, nil) }), Options{OnRefuse: got.on, Limits: Limits{HeadTimeout: 40 * time.Millisecond}})
	c := dialTest(t, addr)
	io.WriteString(c, "GET /slow HT")
	if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 408 ") {
		t.Fatalf("%q, %v", b, err)
	}
	if r, line := got.next(t); r.Err != errHeadTimeout || line != "GET /slow HT" || r.Took < 40*time.Millisecond {
		t.Errorf("%v, line %q after %v", r.Err, line, r.Took)
	}
}

// A request that a handler has seen is not told of, whatever is wrong with its body.
func TestOnRefuseBody(t *testing.T) {
	got := newRefusals()
	_, addr := serve(t, HandlerFunc(func(x Exchange) { io.Copy(io.Discard, x.Body()) }), Options{OnRefuse: got.on})
	if a := talk(t, addr, "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", true); !strings.HasPrefix(a, "HTTP/1.1 400 ") {
		t.Fatal(a)
	}
	if len(got.list) != 0 {
		t.Errorf("%v", got.list[0].Err)
	}
}

// RefuseConn answers what somebody else has read.
func TestRefuseConn(t *testing.T) {
	got := newRefusals()
	s := NewServer(HandlerFunc(func(Exchange) { t.Error("the handler is called") }), Options{OnRefuse: got.on})
	defer s.Close()
	ln := listen(t)
	defer ln.Close()
	why, client := &Error{400, "not here"}, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}
	c := dialTest(t, ln.Addr().String())
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.RefuseConn(nc, client, []byte("GET / HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("x", 2*readBuffer)), why)
	if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 400 ") || !strings.Contains(string(b), "not here") || !strings.Contains(string(b), "Connection: close") {
		t.Errorf("%q, %v", b, err)
	}
	if r, line := got.next(t); r.Err != why || line != "GET / HTTP/1.1" || r.Client != client {
		t.Errorf("%+v, line %q", r, line)
	}
	if n := s.Stats().ProtocolErrors[400]; n != 1 {
		t.Errorf("%d are counted", n)
	}
	s.Close()
	c = dialTest(t, ln.Addr().String())
	if nc, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	s.RefuseConn(nc, client, nil, why)
	if b, _ := io.ReadAll(c); len(b) != 0 {
		t.Errorf("a server that has stopped answers %q", b)
	}
}

// What is refused over net/http is counted and told of as the server's own.
func TestOnRefuseNetHTTP(t *testing.T) {
	got := newRefusals()
	s := NewServer(HandlerFunc(func(x Exchange) { x.Reply(204, nil) }), Options{OnRefuse: got.on})
	for _, target := range []string{"/ok", "/a#b"} {
		r := httptest.NewRequest("GET", "https://x/", nil)
		r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor = target, "HTTP/2.0", 2, 0
		s.NetHTTP().ServeHTTP(httptest.NewRecorder(), r)
	}
	r, line := got.next(t)
	if r.Err != errFragment || line != "GET /a#b HTTP/2.0" || !r.TLS || r.Sent == 0 || len(got.list) != 1 || s.Stats().ProtocolErrors[400] != 1 {
		t.Errorf("%+v, line %q; %d told of", r, line, len(got.list))
	}
}
