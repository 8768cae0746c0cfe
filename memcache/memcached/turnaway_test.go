package memcached

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"wheelhouse/memcache/memcachetest"
)

// Who is turned away waits for nobody, and nobody for him, even if it takes a handshake to tell him.
func TestTooManyOfTLS(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{MaxConns: 1})
	c := s.dial(t)
	if got := c.Ask("mn"); got != "MN" {
		t.Fatal(got)
	}
	ours, theirs := net.Pipe()
	defer theirs.Close()
	done := make(chan struct{})
	go func() {
		s.ServeConn(tls.Server(ours, &tls.Config{}))
		close(done)
	}()
	_ = theirs.SetReadDeadline(time.Now().Add(memcachetest.Wait))
	if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the one too many: %v; want EOF", err)
	}
	theirs.Close()
	<-done
	if got := c.Ask("stats conns"); !strings.HasPrefix(got, "STAT") {
		t.Error(got)
	}
}
