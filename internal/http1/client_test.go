package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// script is a server whose n-th connection is handled by the n-th function.
func script(t testing.TB, steps ...func(c *net.TCPConn)) (addr string) {
	ln := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, step := range steps {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(wait))
			wg.Go(func() {
				defer c.Close()
				step(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// say waits for a head and answers.
func say(t testing.TB, c net.Conn, answer string) string {
	got := readUntil(t, c, "\r\n\r\n")
	io.WriteString(c, answer)
	return got
}

func doTest(t testing.TB, c *Client, r *OutRequest) (*Response, string, error) {
	t.Helper()
	res, err := c.Do(testContext(t), r)
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(res.Body)
	res.Body.Close()
	return res, string(b), err
}

func TestClientSends(t *testing.T) {
	heads := make(chan string, 1)
	read := func(c *net.TCPConn) {
		b, _ := io.ReadAll(io.LimitReader(c, 1)) // the first byte, then what is there
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		rest, _ := io.ReadAll(c)
		heads <- string(b) + string(rest)
		io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	}
	tests := []struct {
		name string
		r    OutRequest
		want string
	}{
		{"least", OutRequest{Method: "GET"}, "GET / HTTP/1.1\r\nHost: ADDR\r\n\r\n"},
		{"host", OutRequest{Method: "HEAD", Host: "e.org", Target: "/a?b"}, "HEAD /a?b HTTP/1.1\r\nHost: e.org\r\n\r\n"},
		{"body", OutRequest{Method: "PUT", Body: []byte("hello")}, "PUT / HTTP/1.1\r\nHost: ADDR\r\nContent-Length: 5\r\n\r\nhello"},
		{"no body", OutRequest{Method: "POST"}, "POST / HTTP/1.1\r\nHost: ADDR\r\nContent-Length: 0\r\n\r\n"},
		{
			"reader",
			OutRequest{Method: "PUT", BodyReader: strings.NewReader("hello, more"), Size: 5},
			"PUT / HTTP/1.1\r\nHost: ADDR\r\nContent-Length: 5\r\n\r\nhello",
		},
		{
			"chunked",
			OutRequest{Method: "PUT", BodyReader: strings.NewReader("hello"), Size: -1},
			"PUT / HTTP/1.1\r\nHost: ADDR\r\nTransfer-Encoding: chunked\r\n\r\n000005\r\nhello\r\n0\r\n\r\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := NewClient(ClientOptions{})
			defer c.Close()
			tt.r.Addr = script(t, read)
			if _, _, err := doTest(t, c, &tt.r); err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(tt.want, "ADDR", tt.r.Addr)
			if got := <-heads; got != want {
				t.Errorf("sent\n%swant\n%s", transcript("C: ", got), transcript("C: ", want))
			}
		})
	}
	t.Run("fields", func(t *testing.T) {
		c := NewClient(ClientOptions{})
		defer c.Close()
		r := OutRequest{Method: "GET", Addr: script(t, read)}
		for _, n := range []string{"Content-Length", "Transfer-Encoding", "Connection", "Expect", "Keep-Alive"} {
			r.Header.Add(n, "evil")
		}
		r.Header.Add("hOsT", "e.org")
		r.Header.Add("x-Mine", "a\r\nb")
		if _, _, err := doTest(t, c, &r); err != nil {
			t.Fatal(err)
		}
		if got, want := <-heads, "GET / HTTP/1.1\r\nHost: e.org\r\nx-Mine: a  b\r\n\r\n"; got != want {
			t.Errorf("sent %q; want %q", got, want)
		}
	})
}

func TestClientRefusesToSend(t *testing.T) {
	c := NewClient(ClientOptions{})
	defer c.Close()
	for _, r := range []*OutRequest{
		{Method: ""},
		{Method: "G T"},
		{Method: "GET\r\nX:"},
		{Method: "GET", Target: "/a b"},
		{Method: "GET", Target: "/\r\nX: y"},
		{Method: "GET", Host: "a\r\nb"},
		{Method: "GET", Host: "a/b"},
	} {
		if _, err := c.Do(testContext(t), r); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func TestClientReads(t *testing.T) {
	tests := []struct {
		name, in, want string
		reused         bool
		err            string
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", true, ""},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n", "hello", true, ""},
		{"until close", "HTTP/1.1 200 OK\r\n\r\nhello", "hello", false, ""},
		{"empty", "HTTP/1.1 204 No Content\r\n\r\n", "", true, ""},
		{"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", "hello", false, ""},
		{"interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "x", true, ""},
		{"more than asked for", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n", "x", false, ""},
		{"switched", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "", false, errSwitched.Reason},
		{"endless interim", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), "", false, errManyInterim.Reason},
		{"short", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "hell", false, "unexpected EOF"},
		{"short chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell", "hell", false, "unexpected EOF"},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "", false, errChunkSize.Reason},
		{"no head", "", "", false, "unexpected EOF"},
		{"half a head", "HTTP/1.1 200 OK\r\nConte", "", false, "unexpected EOF"},
		{"bad head", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "", false, errBareLF.Reason},
		{"smuggled", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", "", false, errLengthCoding.Reason},
		{"large head", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 70<<10) + "\r\n\r\n", "", false, errHeadLong.Reason},
		{
			"head of 60K", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nA: " + strings.Repeat("a", 60<<10) + "\r\n\r\n" + strings.Repeat("b", 100000),
			strings.Repeat("b", 100000), true, "",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := NewClient(ClientOptions{})
			defer c.Close()
			addr := script(t, func(s *net.TCPConn) {
				say(t, s, tt.in)
				if !tt.reused {
					s.CloseWrite()
				}
				io.Copy(io.Discard, s)
			})
			_, got, err := doTest(t, c, &OutRequest{Method: "GET", Addr: addr})
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("= %.100q, %v; want %.100q, %s", got, err, tt.want, tt.err)
			}
			if idle := c.Stats().Idle; (idle == 1) != tt.reused {
				t.Errorf("%d connections in the pool", idle)
			}
		})
	}
}

// TestClientRetries: what a dying connection does to the next request on it.
func TestClientRetries(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	dying := func(c *net.TCPConn) { // closes when the second request has been read
		say(t, c, ok)
		readUntil(t, c, "\r\n\r\n")
	}
	good := func(c *net.TCPConn) { say(t, c, ok) }
	tests := []struct {
		name  string
		r     OutRequest
		again bool
	}{
		{"GET", OutRequest{Method: "GET"}, true},
		{"DELETE", OutRequest{Method: "DELETE"}, true},
		{"PUT", OutRequest{Method: "PUT"}, true},
		{"POST", OutRequest{Method: "POST"}, false},
		{"POST that is idempotent", OutRequest{Method: "POST", Idempotent: true}, true},
		{"PUT of a reader", OutRequest{Method: "PUT", BodyReader: strings.NewReader("")}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := NewClient(ClientOptions{})
			defer c.Close()
			tt.r.Addr = script(t, dying, good)
			if _, _, err := doTest(t, c, &OutRequest{Method: "GET", Addr: tt.r.Addr}); err != nil {
				t.Fatal(err)
			}
			_, got, err := doTest(t, c, &tt.r)
			if tt.again && (err != nil || got != "ok") {
				t.Errorf("= %q, %v", got, err)
			}
			var de *DoError
			if !tt.again && (!errors.As(err, &de) || !de.Reused || de.Began) {
				t.Errorf("= %q, %v; want an error", got, err)
			}
			if n := c.Stats().Retries; (n == 1) != tt.again {
				t.Errorf("%d retries", n)
			}
		})
	}
	t.Run("closed while idle", func(t *testing.T) { // which is seen before anything is sent
		closed := make(chan bool)
		addr := script(t, func(c *net.TCPConn) {
			say(t, c, ok)
			readUntil(t, c, "\r\n\r\n")
			io.WriteString(c, ok)
			c.Close()
			close(closed)
		}, good)
		c := NewClient(ClientOptions{})
		defer c.Close()
		for range 2 {
			if _, _, err := doTest(t, c, &OutRequest{Method: "GET", Addr: addr}); err != nil {
				t.Fatal(err)
			}
		}
		<-closed
		eventually(t, "the close to arrive", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return readable(c.idle[addr][0].raw)
		})
		if _, _, err := doTest(t, c, &OutRequest{Method: "POST", Addr: addr}); err != nil {
			t.Error(err)
		}
		if st := c.Stats(); st.Retries != 0 || st.Dials != 2 {
			t.Errorf("stats %+v", st)
		}
	})
	t.Run("not after bytes of the response", func(t *testing.T) {
		addr := script(t, func(c *net.TCPConn) {
			say(t, c, ok)
			say(t, c, "HTTP/1.1 2")
		})
		c := NewClient(ClientOptions{})
		defer c.Close()
		doTest(t, c, &OutRequest{Method: "GET", Addr: addr})
		_, _, err := doTest(t, c, &OutRequest{Method: "GET", Addr: addr})
		var de *DoError
		if !errors.As(err, &de) || !de.Began || c.Stats().Retries != 0 {
			t.Errorf("= %v", err)
		}
	})
}

func TestClientTimeoutsAndCancel(t *testing.T) {
	silent := func(c *net.TCPConn) { io.Copy(io.Discard, c) }
	half := func(c *net.TCPConn) {
		say(t, c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		io.Copy(io.Discard, c)
	}
	deaf := func(c *net.TCPConn) { c.Read(make([]byte, 1)); <-time.After(300 * time.Millisecond) }
	big := make([]byte, 64<<20)
	short := ClientOptions{
		HeadTimeout: 30 * time.Millisecond, BodyTimeout: 30 * time.Millisecond, WriteTimeout: 30 * time.Millisecond,
		ContinueTimeout: 10 * time.Millisecond,
	}
	for name, tt := range map[string]struct {
		step func(*net.TCPConn)
		r    OutRequest
		o    ClientOptions
		want error
	}{
		"head timeout":  {silent, OutRequest{Method: "GET"}, short, os.ErrDeadlineExceeded},
		"body timeout":  {half, OutRequest{Method: "GET"}, short, os.ErrDeadlineExceeded},
		"write timeout": {deaf, OutRequest{Method: "PUT", Body: big}, short, os.ErrDeadlineExceeded},
		"head cancel":   {silent, OutRequest{Method: "GET"}, ClientOptions{}, context.DeadlineExceeded},
		"body cancel":   {half, OutRequest{Method: "GET"}, ClientOptions{}, context.DeadlineExceeded},
		"write cancel":  {deaf, OutRequest{Method: "PUT", Body: big}, ClientOptions{}, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := NewClient(tt.o)
			defer c.Close()
			tt.r.Addr = script(t, tt.step)
			d := wait
			if tt.want == context.DeadlineExceeded {
				d = 30 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			res, err := c.Do(ctx, &tt.r)
			if err == nil {
				_, err = io.ReadAll(res.Body)
				res.Body.Close()
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("= %v; want %v", err, tt.want)
			}
			if c.Stats().Idle != 0 {
				t.Error("the connection went back to the pool")
			}
		})
	}
	t.Run("dial cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := NewClient(ClientOptions{}).Do(ctx, &OutRequest{Method: "GET", Addr: "127.0.0.1:1"})
		var de *DoError
		if !errors.Is(err, context.Canceled) || !errors.As(err, &de) || de.Op != "dial" {
			t.Errorf("= %v", err)
		}
	})
}

func TestClientExpect(t *testing.T) {
	up := func(t testing.TB, interim, final string) string {
		return script(t, func(c *net.TCPConn) {
			say(t, c, interim)
			if final != "" {
				readUntil(t, c, "body")
				io.WriteString(c, final)
			}
			io.Copy(io.Discard, c)
		})
	}
	for _, tt := range []struct {
		name, interim, final string
		status, idle         int
	}{
		{"granted", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", 201, 1},
		{"refused", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "", 403, 0},
		{"no word", "", "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", 201, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewClient(ClientOptions{ContinueTimeout: 20 * time.Millisecond})
			defer c.Close()
			res, _, err := doTest(t, c, &OutRequest{Method: "PUT", Addr: up(t, tt.interim, tt.final), Body: []byte("body"), Expect100: true})
			if err != nil || res.Status != tt.status || c.Stats().Idle != tt.idle {
				t.Errorf("= %+v, %v; %d idle", res, err, c.Stats().Idle)
			}
		})
	}
}

// TestClientEarlyAnswer: a server that refuses a body and closes is heard.
func TestClientEarlyAnswer(t *testing.T) {
	_, addr := serve(t, HandlerFunc(func(x Exchange) { x.Reply(413, []byte("too large")) }), Options{})
	c := NewClient(ClientOptions{})
	defer c.Close()
	res, got, err := doTest(t, c, &OutRequest{Method: "PUT", Addr: addr, Body: make([]byte, 100<<20)})
	if err != nil || res.Status != 413 || got != "too large" {
		t.Errorf("= %q, %v", got, err)
	}
}

func TestClientBodyReaderFails(t *testing.T) {
	_, addr := serve(t, echo, Options{})
	c := NewClient(ClientOptions{})
	defer c.Close()
	boom := errors.New("boom")
	for _, size := range []int64{10, -1} {
		r := io.MultiReader(strings.NewReader("abc"), errReader{boom})
		_, err := c.Do(testContext(t), &OutRequest{Method: "PUT", Addr: addr, BodyReader: r, Size: size})
		var read *BodyReadError
		if !errors.As(err, &read) || !errors.Is(err, boom) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	_, err := c.Do(testContext(t), &OutRequest{Method: "PUT", Addr: addr, BodyReader: strings.NewReader("abc"), Size: 10})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short: %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestClientPool(t *testing.T) {
	_, addr := serve(t, HandlerFunc(func(x Exchange) { x.Reply(200, []byte("ok")) }), Options{})
	c := NewClient(ClientOptions{MaxIdlePerHost: 2, IdleTimeout: 50 * time.Millisecond})
	defer c.Close()
	var open []*Response
	for range 4 {
		res, err := c.Do(testContext(t), &OutRequest{Method: "GET", Addr: addr})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, res)
	}
	for _, res := range open {
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		res.Body.Close() // a second time does nothing
	}
	if st := c.Stats(); st.Idle != 2 || st.Dials != 4 {
		t.Errorf("stats %+v", st)
	}
	eventually(t, "the idle ones to expire", func() bool { return c.Stats().Idle == 0 })
	doTest(t, c, &OutRequest{Method: "GET", Addr: addr})
	if c.CloseIdle(); c.Stats().Idle != 0 {
		t.Error("CloseIdle left some")
	}
	res, err := c.Do(testContext(t), &OutRequest{Method: "GET", Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if b, err := io.ReadAll(res.Body); string(b) != "ok" || err != nil {
		t.Errorf("an exchange under way at Close: %q, %v", b, err)
	}
	res.Body.Close()
	if c.Stats().Idle != 0 {
		t.Error("a closed client keeps a connection")
	}
	if _, err := c.Do(testContext(t), &OutRequest{Method: "GET", Addr: addr}); !errors.Is(err, ErrClientClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestClientUnreadBodyClosesTheConnection(t *testing.T) {
	_, addr := serve(t, HandlerFunc(func(x Exchange) { x.Reply(200, make([]byte, 1<<20)) }), Options{})
	c := NewClient(ClientOptions{})
	defer c.Close()
	res, err := c.Do(testContext(t), &OutRequest{Method: "GET", Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Read(make([]byte, 10))
	res.Body.Close()
	if _, err := res.Body.Read(make([]byte, 10)); err == nil {
		t.Error("a closed body can be read")
	}
	if c.Stats().Idle != 0 {
		t.Error("a connection with a body on it went to the pool")
	}
}

func TestBodyWriteTo(t *testing.T) {
	data := randomBytes(300 << 10)
	_, addr := serve(t, HandlerFunc(func(x Exchange) {
		if string(x.Request().Path) == "/chunked" {
			x.Start(200, -1)
			x.ReadFrom(bytes.NewReader(data))
			return
		}
		x.Reply(200, data)
	}), Options{})
	c := NewClient(ClientOptions{})
	defer c.Close()
	for _, target := range []string{"/", "/chunked"} {
		for name, w := range map[string]interface {
			io.Writer
			Bytes() []byte
		}{"ReaderFrom": new(bytes.Buffer), "Writer": &onlyWriter{}, "looping": &looper{}} {
			res, err := c.Do(testContext(t), &OutRequest{Method: "GET", Addr: addr, Target: target})
			if err != nil {
				t.Fatal(err)
			}
			n, err := res.Body.WriteTo(w)
			res.Body.Close()
			if n != int64(len(data)) || err != nil || !bytes.Equal(w.Bytes(), data) {
				t.Errorf("%s %s: %d, %v", target, name, n, err)
			}
		}
	}
}

type onlyWriter struct{ b []byte }

func (w *onlyWriter) Write(p []byte) (int, error) { w.b = append(w.b, p...); return len(p), nil }
func (w *onlyWriter) Bytes() []byte               { return w.b }

// looper's ReadFrom hands the body back by io.Copy, which prefers the body's WriteTo.
type looper struct{ onlyWriter }

func (w *looper) ReadFrom(r io.Reader) (int64, error) { return io.Copy(&w.onlyWriter, r) }

// inLoop is a connection of an event loop.
type inLoop struct {
	net.Conn
	loop int
}

func (l inLoop) Loop() int { return l.loop }

// Of the idle connections that which was used last is taken: of the loop that is wanted, if one was used not long ago.
func TestNewest(t *testing.T) {
	list := make([]*clientConn, sameLoopTries+4)
	for i := range list {
		list[i] = &clientConn{nc: inLoop{loop: 1}}
	}
	last := len(list) - 1
	list[1] = &clientConn{nc: inLoop{loop: 3}}
	list[last-3] = &clientConn{nc: inLoop{loop: 2}}
	list[last-5] = &clientConn{nc: inLoop{loop: 2}}
	for loop, want := range map[int]int{0: last, 1: last, 2: last - 3, 3: last, 4: last} {
		if got := newest(list, loop); got != want {
			t.Errorf("of loop %d it is number %d, want %d", loop, got, want)
		}
	}
}
