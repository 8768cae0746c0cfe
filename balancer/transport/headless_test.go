package transport

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// Connections without a PROXY header, of which there may be thousands a second, have one line a minute in the log, with their number.
func TestRefusedConnectionsInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f, err := New("www", &balancer.Settings{ProxyProtocol: true}, nil, nil, NewTickets(), slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		refuse := func(n int) string {
			t.Helper()
			log.Reset()
			for range n {
				client, server := net.Pipe()
				go func() {
					io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
					client.Close()
				}()
				f.shake(server, f.add(server))
			}
			return log.String()
		}
		for i, v := range []struct {
			after time.Duration
			conns int
			want  string // the end of the one line; none: ""
		}{{0, 100, "count=1\n"}, {time.Minute - 1, 5, ""}, {1, 2, "count=105\n"}, {time.Hour, 1, "count=2\n"}} {
			time.Sleep(v.after) // the bubble's clock
			got := refuse(v.conns)
			if strings.Count(got, "\n") != strings.Count(v.want, "\n") || !strings.HasSuffix(got, v.want) ||
				v.want != "" && !strings.Contains(got, "does not begin with a PROXY header") {
				t.Errorf("step %d: the log has %q; want one line with %q", i, got, v.want)
			}
		}
	})
}

// pipes is a listener of pipes.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	nc, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return nc, nil
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial is a connection to the listener.
func (p pipes) dial() net.Conn {
	client, server := net.Pipe()
	p <- server
	return client
}

// Who connects does not wait for thousands that say nothing: the oldest of those is cut.
func TestSilentClientsDoNotKeepOthersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		set := &balancer.Settings{ProxyProtocol: true}
		srv := http1.NewServer(http1.HandlerFunc(func(x http1.Exchange) { x.Reply(200, []byte("served")) }), http1.Options{})
		f, err := New("www", set, srv, nil, NewTickets(), slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ln := make(pipes)
		var serving sync.WaitGroup
		serving.Go(func() { f.Serve(ln) })
		began := time.Now()
		var silent []net.Conn
		for range maxHandshakes + 1 {
			silent = append(silent, ln.dial())
		}
		client := ln.dial()
		go io.WriteString(client, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.0\r\n\r\n")
		got, _ := io.ReadAll(client)
		if !strings.HasSuffix(string(got), "served") || time.Since(began) > 0 {
			t.Errorf("%q after %v", got, time.Since(began))
		}
		synctest.Wait()
		cut := 0
		for _, nc := range silent {
			if nc.SetReadDeadline(time.Now()); !isTimeout(nc) {
				cut++
			}
		}
		if cut != 2 || !isTimeout(silent[2]) || !strings.Contains(log.String(), "handshakes are cut") {
			t.Errorf("%d are cut; want the 2 oldest; %s", cut, &log)
		}
		f.Shutdown(t.Context())
		srv.Shutdown(t.Context())
		ln.Close()
		serving.Wait()
	})
}

// isTimeout reports whether a connection is open, and nothing has come on it.
func isTimeout(nc net.Conn) bool {
	_, err := nc.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}
