package memcached

import (
	"path/filepath"
	"testing"
)

// A flush_all that is still to come comes after a warm restart, too.
func TestDelayedFlushOutlivesRestart(t *testing.T) {
	t.Parallel()
	o := Options{File: filepath.Join(t.TempDir(), "cache")}
	s := serve(t, o)
	c := s.dial(t)
	if got := c.Ask("set a 0 0 1\r\nx"); got != "STORED" {
		t.Fatal(got)
	}
	if got := c.Ask("flush_all 100"); got != "OK" {
		t.Fatal(got)
	}
	meta, err := s.Shutdown()
	if err != nil || meta == nil {
		t.Fatalf("Shutdown: %v, %v", meta, err)
	}
	o.Meta = meta
	s = serve(t, o)
	c = s.dial(t)
	c.Send("get a")
	c.Expect("VALUE a 0 1", "x", "END")
	s.clock.add(101)
	if got := c.Ask("get a"); got != "END" {
		t.Errorf("after flush_all's time: %q, want END", got)
	}
}
