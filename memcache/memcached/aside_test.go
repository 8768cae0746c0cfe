package memcached

import (
	"crypto/tls"
	"net"
	"strconv"
	"strings"
	"testing"
)

// Items give up what many connections take, and have it back when these are gone. A few cost them nothing.
func TestItemsGiveUpForConnections(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Limit: 16 << 20, MaxConns: 5000})
	c := s.dial(t)
	value := strings.Repeat("x", 1000)
	for i := range 20_000 {
		c.Send("set k"+strconv.Itoa(i)+" 0 0 1000 noreply", value)
	}
	if _, ok := c.Stats("")["limit_given_up"]; ok {
		t.Error("one connection cost something")
	}
	used := func() int64 { n := s.Counts(); return n.Used }
	before := used()
	var list []net.Conn
	open := func(n int, wrap func(net.Conn) net.Conn) {
		for range n {
			ours, theirs := net.Pipe()
			list = append(list, theirs)
			s.ServeConn(wrap(ours))
		}
	}
	open(2047, func(nc net.Conn) net.Conn { return nc }) // these are not in the poller
	if got := s.Counts().Aside; got != 0 {
		t.Errorf("2047 connections cost %d bytes", got)
	}
	open(1, func(nc net.Conn) net.Conn { return nc })
	if got := s.Counts().Aside; got != asideStep {
		t.Errorf("2048 connections cost %d bytes; want %d", got, asideStep)
	}
	open(300, func(nc net.Conn) net.Conn { return tls.Server(nc, &tls.Config{}) }) // they wait for the handshake
	want := int64(3 * asideStep)
	if got := s.Counts().Aside; got != want || s.ConnectionMemory() != polledTakes+2048*plainTakes+300*tlsTakes {
		t.Errorf("300 of TLS besides: %d bytes given up for %d; want %d", got, s.ConnectionMemory(), want)
	}
	eventually(t, "items are forgotten", func() bool { return used() <= before-want+asideStep })
	if st := c.Stats(""); st["limit_given_up"] != strconv.FormatInt(want, 10) || st["limit_maxbytes"] != strconv.Itoa(16<<20) {
		t.Errorf("stats: %s of %s", st["limit_given_up"], st["limit_maxbytes"])
	}
	for _, nc := range list {
		nc.Close()
	}
	eventually(t, "nothing is given up any more", func() bool { return s.Counts().Aside == 0 })
	if got := s.ConnectionMemory(); got != polledTakes {
		t.Errorf("one connection takes %d bytes", got)
	}
}
