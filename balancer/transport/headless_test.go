package transport

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/balancer"
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
				f.shake(server)
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
