package http1

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestExpectContinue(t *testing.T) {
	_, addr := serve(t, echo, Options{})
	c := dialTest(t, addr)
	mustWrite(t, c, "PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	if got := readUntil(t, c, "\r\n\r\n"); got != continueLine {
		t.Fatalf("got %q; want 100", got)
	}
	mustWrite(t, c, "hello")
	if got := readUntil(t, c, "PUT /a hello"); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("got %q", got)
	}
	mustWrite(t, c, "GET /b HTTP/1.1\r\nHost: h\r\n\r\n") // the connection lives on
	readUntil(t, c, "GET /b ")
}

func TestPanicIsCountedAndLogged(t *testing.T) {
	var log syncBuffer
	var value atomic.Value
	s, addr := serve(t, site, Options{
		Log:     slog.New(slog.NewTextHandler(&log, nil)),
		OnPanic: func(v any, stack []byte) { value.Store(v) },
	})
	talk(t, addr, "GET /panic HTTP/1.1\r\nHost: h\r\n\r\n", false)
	if n := s.Stats().Panics; n != 1 || value.Load() != "on purpose" {
		t.Errorf("Panics = %d, OnPanic(%v)", n, value.Load())
	}
	if !strings.Contains(log.String(), "transcript_test.go") {
		t.Errorf("the log has no stack: %s", log.String())
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestExchangeMisuse(t *testing.T) {
	type step struct {
		what string
		err  error
	}
	steps := make(chan step, 20)
	_, addr := serve(t, HandlerFunc(func(x Exchange) {
		do := func(what string, err error) { steps <- step{what, err} }
		_, err := x.Write([]byte("x"))
		do("write before start: "+ErrNotStarted.Error(), err)
		do("interim: "+ErrStatus.Error(), x.Reply(100, nil))
		do("start", x.Start(200, 3))
		do("start again: "+ErrStarted.Error(), x.Start(200, 3))
		do("reply after start: "+ErrStarted.Error(), x.Reply(200, nil))
		n, err := x.Write([]byte("abcdef"))
		do("write too much: "+ErrTooLong.Error(), err)
		if n != 3 {
			do("write too much: n", nil)
		}
		_, err = x.Write([]byte("g"))
		do("write beyond: "+ErrTooLong.Error(), err)
		x.Abort()
		close(steps)
	}), Options{})
	got := noDate(talk(t, addr, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", false))
	if want := "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	for s := range steps {
		_, want, _ := strings.Cut(s.what, ": ")
		if s.err == nil && want != "" || s.err != nil && s.err.Error() != want {
			t.Errorf("%s: got %v", s.what, s.err)
		}
	}
}

func TestRequestIDsAndStats(t *testing.T) {
	var seq atomic.Uint64
	seq.Store(41)
	s, addr := serve(t, HandlerFunc(func(x Exchange) {
		x.Reply(200, appendDecimal(nil, int(x.Request().ID)))
	}), Options{Sequence: &seq})
	got := talk(t, addr, "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/3.1\r\nHost: h\r\n\r\n", false)
	if !strings.Contains(got, "\r\n\r\n42") || !strings.Contains(got, "\r\n\r\n43") {
		t.Errorf("got %q", got)
	}
	st := s.Stats()
	if st.Accepted != 1 || st.Requests != 2 || st.ProtocolErrors[505] != 1 || st.BytesOut != uint64(len(got)) || st.BytesIn == 0 {
		t.Errorf("stats %+v after %d bytes", st, len(got))
	}
	c := dialTest(t, addr)
	eventually(t, "an idle connection", func() bool { st := s.Stats(); return st.Idle == 1 && st.Active == 0 })
	c.Close()
	eventually(t, "no connection", func() bool { st := s.Stats(); return st.Idle == 0 })
}

func TestTimeouts(t *testing.T) {
	short := 30 * time.Millisecond
	never := -time.Second
	s, addr := serve(t, echo, Options{Limits: Limits{
		FirstByteTimeout: short, IdleTimeout: short, HeadTimeout: short, BodyTimeout: short, WriteTimeout: never,
	}})
	tests := []struct{ name, in, want string }{
		{"first byte", "", ""},
		{"head", "GET / HTTP/1.1\r\nHo", "HTTP/1.1 408"},
		{"idle", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200"},
		{"body", "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello", "HTTP/1.1 408"},
		{"chunk", "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "HTTP/1.1 408"},
		{"empty lines", "\r\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := talk(t, addr, tt.in, false)
			if got != tt.want && (tt.want == "" || !strings.HasPrefix(got, tt.want)) {
				t.Errorf("%q: got %q; want %q", tt.in, got, tt.want)
			}
		})
	}
	t.Cleanup(func() {
		if n := s.Stats().Timeouts; n < 5 {
			t.Errorf("Timeouts = %d", n)
		}
	})
}

func TestWriteTimeout(t *testing.T) {
	for _, raw := range []bool{true, false} {
		failed := make(chan error, 1)
		s := NewServer(HandlerFunc(func(x Exchange) {
			failed <- x.Reply(200, make([]byte, 64<<20))
		}), Options{Limits: Limits{WriteTimeout: 50 * time.Millisecond}})
		ln := listen(t)
		c := dialTest(t, ln.Addr().String())
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if !raw {
			nc = struct{ net.Conn }{nc}
		}
		s.ServeConn(nc)
		mustWrite(t, c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if err := <-failed; err != ErrWriteTimeout {
			t.Errorf("raw %v: Reply = %v; want ErrWriteTimeout", raw, err)
		}
		s.Close()
		ln.Close()
	}
}

// TestSlowReader: progress, however slow, is not cut.
func TestSlowReader(t *testing.T) {
	result := make(chan error, 1)
	_, addr := serve(t, HandlerFunc(func(x Exchange) {
		result <- x.Reply(200, make([]byte, 16<<20))
	}), Options{Limits: Limits{WriteTimeout: 200 * time.Millisecond}})
	c := dialTest(t, addr)
	c.SetReadBuffer(64 << 10)
	mustWrite(t, c, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	b := make([]byte, 128<<10)
	n := 0
	for range tick.C {
		m, err := c.Read(b)
		if n += m; err != nil {
			break
		}
	}
	if err := <-result; err != nil || n < 16<<20 {
		t.Errorf("Reply = %v after %d bytes", err, n)
	}
}

func TestSlowloris(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 100
	}
	s, addr := serve(t, echo, Options{})
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = dialTest(t, addr)
	}
	head := "GET / HTTP/1.1\r\n"
	for i := range len(head) {
		for _, c := range conns {
			mustWrite(t, c, head[i:i+1])
		}
		if i%4 == 0 { // another client is served all the same
			if got := talk(t, addr, "GET /ok HTTP/1.0\r\n\r\n", false); !strings.HasSuffix(got, "GET /ok ") {
				t.Fatalf("got %q", got)
			}
		}
	}
	eventually(t, "all heads begun", func() bool { return s.Stats().Active >= n })
}

// TestEarlyAnswer: a client that sends a large body and only then reads gets the answer, not a reset.
func TestEarlyAnswer(t *testing.T) {
	_, addr := serve(t, HandlerFunc(func(x Exchange) { x.Reply(403, []byte("no")) }), Options{})
	for range 4 {
		got := talk(t, addr, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\n\r\n"+strings.Repeat("x", 8000000), false)
		if !strings.HasPrefix(got, "HTTP/1.1 403") || !strings.HasSuffix(got, "no") || !strings.Contains(got, "Connection: close") {
			t.Fatalf("got %q", got)
		}
	}
}

func TestBodyLimit(t *testing.T) {
	_, addr := serve(t, echo, Options{Limits: Limits{Body: 10}})
	for _, in := range []string{
		"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nhello worldGET",
		"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n",
	} {
		if got := talk(t, addr, in, false); !strings.HasPrefix(got, "HTTP/1.1 413") || !strings.Contains(got, "Connection: close") {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

func TestClientGone(t *testing.T) {
	cause := make(chan error, 1)
	entered := make(chan bool, 1)
	_, addr := serve(t, HandlerFunc(func(x Exchange) {
		ctx := x.Context()
		entered <- true
		<-ctx.Done()
		cause <- ctx.Err()
	}), Options{})
	c := dialTest(t, addr)
	mustWrite(t, c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-entered
	c.Close()
	select {
	case <-cause:
	case <-time.After(wait):
		t.Error("the context did not end with the client")
	}
}

// The same over TLS, whose last word lies unread in the socket.
func TestClientGoneTLS(t *testing.T) {
	if !haveRaw {
		t.Skip("the socket cannot be looked at")
	}
	h := httptest.NewTLSServer(nil) // its certificate serves
	defer h.Close()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		entered, ended := make(chan bool, 1), make(chan bool, 1)
		s := NewServer(HandlerFunc(func(x Exchange) {
			ctx := x.Context()
			entered <- true
			<-ctx.Done()
			ended <- true
		}), Options{})
		t.Cleanup(func() { s.Close() })
		ln := listen(t)
		go s.Serve(tls.NewListener(ln, h.TLS))
		c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, NextProtos: []string{"http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		<-entered
		c.Close()
		select {
		case <-ended:
		case <-time.After(wait):
			t.Errorf("TLS %#x: the context did not end with the client", version)
		}
	}
}

// A client that has sent another request before it closed its side has not gone.
func TestLastWordOfTLS(t *testing.T) {
	record := func(kind byte, n int) []byte {
		return append([]byte{kind, 3, 3, byte(n >> 8), byte(n)}, make([]byte, n)...)
	}
	alert := record(23, 19)
	for name, v := range map[string]struct {
		b    []byte
		last bool
	}{
		"nothing": {nil, true}, "alert": {record(21, 26), true}, "alert of TLS 1.3": {alert, true},
		"data": {record(23, 40), false}, "two records": {append(record(23, 30), alert...), false}, "half a record": {alert[:10], false}, "half a head": {alert[:3], false},
	} {
		if got := onlyAlert(v.b); got != v.last {
			t.Errorf("%s: %v; want %v", name, got, v.last)
		}
	}
}

func TestBodyErrors(t *testing.T) {
	errs := make(chan error, 1)
	_, addr := serve(t, HandlerFunc(func(x Exchange) {
		_, err := io.ReadAll(x.Body())
		_, again := x.Body().Read(make([]byte, 1))
		if !errors.Is(again, err) {
			t.Errorf("second error %v; want %v", again, err)
		}
		errs <- err
	}), Options{})
	c := dialTest(t, addr)
	mustWrite(t, c, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe")
	c.CloseWrite()
	if err := <-errs; err != io.ErrUnexpectedEOF {
		t.Errorf("half a body: %v; want io.ErrUnexpectedEOF", err)
	}
	got := talk(t, addr, "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", false)
	if err := <-errs; err != errChunkSize {
		t.Errorf("bad chunk: %v", err)
	}
	if !strings.HasPrefix(got, "HTTP/1.1 400") { // the handler said nothing: the body's error is the answer
		t.Errorf("got %q", got)
	}
}

func TestMaxConns(t *testing.T) {
	s, addr := serve(t, echo, Options{Limits: Limits{MaxConns: 2}})
	idle := dialTest(t, addr)
	mustWrite(t, idle, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")
	readUntil(t, idle, "GET /1 ")
	busy := dialTest(t, addr)
	mustWrite(t, busy, "GET /2 HT")
	eventually(t, "a head has begun", func() bool { return s.Stats().Active == 1 && s.Stats().Idle == 1 })
	if got := talk(t, addr, "GET /3 HTTP/1.0\r\n\r\n", false); !strings.HasSuffix(got, "GET /3 ") {
		t.Errorf("third connection: %q", got)
	}
	if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the idle connection: %v; want EOF", err)
	}
	mustWrite(t, busy, "TP/1.1\r\nHost: h\r\n\r\n")
	readUntil(t, busy, "GET /2 ")
}

func TestErrorFormat(t *testing.T) {
	_, addr := serve(t, echo, Options{ErrorFormat: func(h *Header, e *Error) []byte {
		h.Set("X-Reason", e.Reason)
		return nil
	}})
	got := noDate(talk(t, addr, "GET / HTTP/1.1\r\n\r\n", false))
	want := "HTTP/1.1 400 Bad Request\r\nX-Reason: the Host field is missing\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	if got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

// TestCoalesce counts the writes that answers to pipelined requests take.
func TestCoalesce(t *testing.T) {
	for _, on := range []bool{false, true} {
		mem := newMemConn(strings.Repeat("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 10))
		s := NewServer(site, Options{Coalesce: on})
		s.ServeConn(mem)
		<-mem.closed
		want := 10
		if on {
			want = 1
		}
		if n := int(mem.writes.Load()); n != want || strings.Count(mem.String(), "404") != 10 {
			t.Errorf("Coalesce %v: %d writes; want %d: %q", on, n, want, mem.String())
		}
		s.Close()
	}
}

// memConn is a connection in memory: what the client sent is fixed, what it gets is recorded.
type memConn struct {
	net.Conn // nil: what is not overridden must not be used
	in       *strings.Reader
	mu       sync.Mutex
	out      bytes.Buffer
	writes   atomic.Int64
	closed   chan struct{}
	once     sync.Once
}

func newMemConn(in string) *memConn {
	return &memConn{in: strings.NewReader(in), closed: make(chan struct{})}
}

func (c *memConn) Read(p []byte) (int, error) { return c.in.Read(p) }

func (c *memConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *memConn) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

func (c *memConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *memConn) SetDeadline(time.Time) error      { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }
func (c *memConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *memConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
