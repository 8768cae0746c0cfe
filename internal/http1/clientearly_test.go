package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A server's answer to half a body is heard while the other half cannot be sent, and an interim one is no reason to stop.
func TestClientAnswerDuringBody(t *testing.T) {
	const size = 20 << 20
	const final = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"
	body := make([]byte, size)
	for _, tt := range []struct {
		name   string
		answer func(c *net.TCPConn) // after the head has come
		status int                  // 0: an error
		idle   int                  // connections that can be used again
	}{
		{"at once", func(c *net.TCPConn) { io.WriteString(c, final) }, 413, 0},
		{"in pieces", func(c *net.TCPConn) {
			io.WriteString(c, final[:10])
			time.Sleep(10 * time.Millisecond)
			io.WriteString(c, final[10:])
		}, 413, 0},
		{"when nothing more can be sent", func(c *net.TCPConn) {
			time.Sleep(100 * time.Millisecond)
			io.WriteString(c, final)
		}, 413, 0},
		{"behind an interim one", func(c *net.TCPConn) { io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n"+final) }, 413, 0},
		{"behind two", func(c *net.TCPConn) {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
			io.CopyN(io.Discard, c, size/2)
			io.WriteString(c, final)
		}, 413, 0},
		{"no more than interim ones until it is there", func(c *net.TCPConn) {
			for range 4 {
				io.WriteString(c, "HTTP/1.1 102 Processing\r\nX-A: b\r\n\r\n")
				io.CopyN(io.Discard, c, size/5)
			}
			discardTo(c, "END")
			io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
		}, 201, 1},
		{"the end", func(c *net.TCPConn) { c.CloseWrite() }, 0, 0},
		{"nonsense", func(c *net.TCPConn) { io.WriteString(c, "no HTTP at all\r\n\r\n") }, 0, 0},
	} {
		for kind, r := range map[string]*OutRequest{
			"bytes":   {Body: append(body[:size-3:size-3], "END"...)},
			"fixed":   {BodyReader: io.MultiReader(bytes.NewReader(body[:size-3]), bytes.NewReader([]byte("END"))), Size: size},
			"chunked": {BodyReader: io.MultiReader(bytes.NewReader(body[:size-3]), bytes.NewReader([]byte("END"))), Size: -1},
		} {
			t.Run(tt.name+", "+kind, func(t *testing.T) {
				c := NewClient(ClientOptions{WriteTimeout: -1})
				defer c.Close()
				over := make(chan struct{})
				defer close(over)
				r.Method, r.Addr = "PUT", script(t, func(s *net.TCPConn) {
					discardTo(s, "\r\n\r\n")
					tt.answer(s)
					if tt.idle > 0 {
						io.Copy(io.Discard, s)
					}
					<-over
				})
				res, _, err := doTest(t, c, r)
				switch {
				case tt.status == 0 && (err == nil || errors.Is(err, errAnswered)):
					t.Errorf("= %+v, %v; want an error that says what has come", res, err)
				case tt.status != 0 && (err != nil || res.Status != tt.status):
					t.Errorf("= %+v, %v; want %d", res, err, tt.status)
				}
				if n := c.Stats().Idle; n != tt.idle && kind != "chunked" { // of which the end may come after the answer
					t.Errorf("%d connections are idle; want %d", n, tt.idle)
				}
			})
		}
	}
}

// The same where the body is spliced from a client's connection: the client gets the answer.
func TestProxyAnswerDuringBody(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	up := script(t, func(s *net.TCPConn) {
		discardTo(s, "\r\n\r\n")
		io.WriteString(s, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
		<-over
	})
	c := NewClient(ClientOptions{WriteTimeout: -1})
	defer c.Close()
	_, addr := serve(t, proxy(t, c, up), Options{})
	nc := dialTest(t, addr)
	mustWrite(t, nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
	go nc.Write(make([]byte, 50000000)) // which ends with the connection
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil || res.StatusCode != 413 {
		t.Errorf("= %+v, %v; want 413", res, err)
	}
}

// discardTo reads until a word has come.
func discardTo(r io.Reader, word string) {
	b := make([]byte, 1<<20)
	for keep := 0; ; {
		n, err := r.Read(b[keep:])
		if err != nil || bytes.Contains(b[:keep+n], []byte(word)) {
			return
		}
		keep = copy(b, b[max(0, keep+n-len(word)):keep+n])
	}
}

// slowly gives a piece of a body a second.
type slowly struct{ pieces int }

func (s *slowly) Read(p []byte) (int, error) {
	if s.pieces == 0 {
		return 0, io.EOF
	}
	time.Sleep(time.Second)
	s.pieces--
	return copy(p, "some"), nil
}

// A body that comes slowly may take longer than any timeout of the connection to the server: these count from when there is something to
// send, and from the end of the request.
func TestClientSlowBody(t *testing.T) {
	for _, size := range []int64{40, -1} {
		synctest.Test(t, func(t *testing.T) {
			here, there := net.Pipe()
			defer there.Close()
			go func() {
				req, err := http.ReadRequest(bufio.NewReader(there))
				if err == nil {
					_, err = io.Copy(io.Discard, req.Body)
				}
				if err == nil {
					io.WriteString(there, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}()
			conn := NewTransport(ClientOptions{WriteTimeout: time.Second, HeadTimeout: time.Second}).NewConn(here, "a", nil)
			res, err := conn.Do(t.Context(), &OutRequest{Method: "PUT", BodyReader: &slowly{10}, Size: size, Now: time.Now()})
			if err != nil || res.Status != 200 {
				t.Errorf("size %d: %+v, %v", size, res, err)
				return
			}
			res.Body.Close()
		})
	}
}

// The same by splice.
func TestProxySlowBody(t *testing.T) {
	up, _ := upstream(t)
	c := NewClient(ClientOptions{WriteTimeout: time.Second, HeadTimeout: time.Second})
	defer c.Close()
	_, addr := serve(t, proxy(t, c, up), Options{})
	nc := dialTest(t, addr)
	mustWrite(t, nc, "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
	for range 30 {
		mustWrite(t, nc, string(make([]byte, 100000)))
		time.Sleep(100 * time.Millisecond)
	}
	if res, err := http.ReadResponse(bufio.NewReader(nc), nil); err != nil || res.StatusCode != 200 {
		t.Errorf("= %+v, %v", res, err)
	}
}

// A client whose upload stalls is told so, also where the body goes through the kernel alone; one whose connection was only woken goes on.
func TestProxyStalledBody(t *testing.T) {
	up, _ := upstream(t)
	c := NewClient(ClientOptions{})
	defer c.Close()
	s, addr := serve(t, proxy(t, c, up), Options{Limits: Limits{BodyTimeout: 500 * time.Millisecond}})
	nc := dialTest(t, addr)
	const size = 3000000
	mustWrite(t, nc, fmt.Sprintf("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size))
	mustWrite(t, nc, string(make([]byte, size/2)))
	eventually(t, "some of it is spliced", func() bool { return c.Stats().SpliceBytes > size/4 })
	s.mu.Lock()
	for c := range s.conns {
		c.nc.SetReadDeadline(past)
	}
	s.mu.Unlock()
	mustWrite(t, nc, string(make([]byte, size/2)))
	r := bufio.NewReader(nc)
	if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != 200 {
		t.Fatalf("woken: %+v, %v", res, err)
	} else if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, nc, fmt.Sprintf("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size))
	mustWrite(t, nc, string(make([]byte, size/2)))
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("stalled: %v", err)
	}
	if why, _ := io.ReadAll(res.Body); !strings.Contains(string(why), "the body stopped arriving") {
		t.Errorf("stalled: %d %s", res.StatusCode, why)
	}
}
