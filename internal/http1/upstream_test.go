package http1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// A connection on which something has come while it idled carries no request: not one byte of it is sent, and what came is not taken for
// its answer.
func TestStaleConn(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
	for name, disturb := range map[string]func(*net.TCPConn){
		"half closed":          func(c *net.TCPConn) { c.CloseWrite() },
		"an unasked answer":    func(c *net.TCPConn) { io.WriteString(c, answer+"no") },
		"a single stray octet": func(c *net.TCPConn) { io.WriteString(c, "x") },
	} {
		for _, used := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				disturbed, rest := make(chan struct{}), make(chan string, 1)
				begin := make(chan struct{})
				addr := script(t, func(c *net.TCPConn) {
					if used {
						say(t, c, answer+"ok")
					}
					<-begin
					disturb(c)
					close(disturbed)
					b, _ := io.ReadAll(c)
					rest <- string(b)
				})
				ended := 0
				conn := NewTransport(ClientOptions{}).NewConn(dialTest(t, addr), addr, func(bool) { ended++ })
				if used {
					res, err := conn.Do(testContext(t), &OutRequest{Method: "GET", Target: "/1"})
					if err != nil {
						t.Fatal(err)
					}
					if b, err := io.ReadAll(res.Body); string(b) != "ok" || err != nil {
						t.Fatalf("body %q, %v", b, err)
					}
					res.Body.Close()
				}
				close(begin)
				<-disturbed
				eventually(t, "the connection is stale", conn.Stale)
				before := ended
				_, err := conn.Do(testContext(t), &OutRequest{Method: "DELETE", Target: "/2"})
				var do *DoError
				if !errors.Is(err, ErrStale) || !errors.As(err, &do) || do.Op != "write" || do.Began {
					t.Errorf("Do: %v, want ErrStale of a write that began nothing", err)
				}
				if got := <-rest; got != "" {
					t.Errorf("the server got %q, want nothing", got)
				}
				if ended != before+1 {
					t.Errorf("the exchange ended %d times, want once", ended-before)
				}
			})
		}
	}
}

// A request that cannot be sent leaves the connection as it was, and ends its exchange.
func TestConnRefusesToSend(t *testing.T) {
	_, addr := serve(t, echo, Options{})
	var ended []bool
	conn := NewTransport(ClientOptions{}).NewConn(dialTest(t, addr), addr, func(reusable bool) { ended = append(ended, reusable) })
	for _, r := range []*OutRequest{{Method: "G T"}, {Method: "GET", Host: "a b"}, {Method: "GET", Target: "/a b"}} {
		if _, err := conn.Do(testContext(t), r); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	res, err := conn.Do(testContext(t), &OutRequest{Method: "PUT", Body: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "PUT / x" {
		t.Errorf("body %q, %v", b, err)
	}
	res.Body.Close()
	if !slices.Equal(ended, []bool{true, true, true, true}) {
		t.Errorf("the exchanges ended as %v", ended)
	}
}

// Requests that wait for their answers hold no buffers, and what they read then is theirs.
func TestWaitingTakesLittle(t *testing.T) {
	const requests = 200
	asked, answer := make(chan struct{}, requests), make(chan struct{})
	_, addr := serve(t, HandlerFunc(func(x Exchange) {
		asked <- struct{}{}
		<-answer
		x.Reply(200, x.Request().Path)
	}), Options{})
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // pools keep what they have for two
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	transport := NewTransport(ClientOptions{})
	var all sync.WaitGroup
	for i := range requests {
		conn := transport.NewConn(dialTest(t, addr), addr, nil)
		all.Go(func() {
			path := fmt.Sprintf("/%d", i)
			res, err := conn.Do(testContext(t), &OutRequest{Method: "GET", Target: path})
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if b, err := io.ReadAll(res.Body); string(b) != path || err != nil {
				t.Errorf("%s was answered %q, %v", path, b, err)
			}
		})
	}
	for range requests {
		<-asked
	}
	if got := (int64(heap()) - int64(before)) / requests; got > bufferSize/2 {
		t.Errorf("a request that waits takes %d bytes", got)
	}
	close(answer)
	all.Wait()
}
