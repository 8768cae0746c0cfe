package memcached

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// All connections that are open are listed, those of more than one step and after others have ended.
func TestConnectionsAreListed(t *testing.T) {
	s := serve(t, Options{})
	c := s.dial(t)
	open := map[string]bool{} // by number
	c.Nothing()
	for i := range 3*connsStep + 5 {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		var list []*conn
		eventually(t, "it is on the list", func() bool { list = s.connections(); return len(list) == len(open)+2 })
		if i%3 > 0 {
			open[strconv.FormatUint(list[len(list)-1].id, 10)] = true
			continue
		}
		nc.Close()
		eventually(t, "it has ended", func() bool { return len(s.connections()) == len(open)+1 })
	}
	listed := map[string]bool{}
	for name, state := range c.Stats("conns") {
		if id, ok := strings.CutSuffix(name, ":state"); ok && state == "conn_read" {
			listed[id] = true
		}
	}
	if !maps.Equal(listed, open) {
		t.Errorf("%d connections are listed, %v; want %d", len(listed), slices.Sorted(maps.Keys(listed)), len(open))
	}
	if got := s.connectionsAfter(s.lastConn, connsStep); len(got) != 0 {
		t.Errorf("after the last there are %d", len(got))
	}
}
