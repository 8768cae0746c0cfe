package memcached

import (
	"testing"

	"wheelhouse/memcache/memcachetest"
)

// closeGate has everybody wait at the gate, until what it returns is called.
func closeGate(s *testServer) (open func()) {
	in, out := make(chan struct{}), make(chan struct{})
	go s.gate.do(func() { close(in); <-out })
	<-in
	return func() { close(out) }
}

// atGate is how many connections wait at the gate with and without a goroutine, and how many are on their way.
func (s *testServer) atGate() (queued, parked, called int) {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.gate.queued, len(s.gate.parked), s.gate.called
}

// Of very many that ask for statistics most wait without a goroutine. All get what they have asked for, in order, and what was before it at once.
func TestManyWaitForStatistics(t *testing.T) {
	t.Parallel()
	const many = 300
	for name, tt := range map[string]struct {
		ask   string
		ended func(t *testing.T, c *memcachetest.Conn)
	}{
		"text": {"mn\r\nstats\r\nstats conns\r\nlru_crawler metadump all\r\nmn\r\n", func(t *testing.T, c *memcachetest.Conn) {
			for range 3 {
				for c.Line() != "END" {
				}
			}
			c.Expect("MN")
		}},
		"binary": {packet(opNoop, "", "", "") + packet(opStat, "", "", "") + packet(opStat, "items", "", "") + packet(opNoop, "", "", ""), func(t *testing.T, c *memcachetest.Conn) {
			for ends := 0; ends < 3; { // an empty one ends statistics, and is the answer to opNoop
				if _, body := binAnswer(t, c); body == "" {
					ends++
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, Options{Threads: 1, MaxConns: 2 * many})
			open := closeGate(s)
			var crowd []*memcachetest.Conn
			for range many {
				c := s.dial(t)
				crowd = append(crowd, c)
				c.Raw(tt.ask)
				if name == "text" {
					c.Expect("MN")
				} else if _, body := binAnswer(t, c); body != "" {
					t.Fatalf("no-op: %q", body)
				}
			}
			eventually(t, "all wait", func() bool {
				queued, parked, _ := s.atGate()
				return queued+parked == many+1
			})
			if queued, _, _ := s.atGate(); queued > gateMost {
				t.Errorf("%d of %d wait with a goroutine; want at most %d", queued, many, gateMost)
			}
			for _, c := range crowd[many-20:] { // who is parked, and gone when it is his turn, has nobody wait
				c.Close()
			}
			open()
			for _, c := range crowd[:many-20] {
				tt.ended(t, c)
			}
			eventually(t, "nobody waits", func() bool {
				queued, parked, called := s.atGate()
				return queued+parked+called == 0
			})
		})
	}
}

// Connections that end while they are parked, or have been called, leave the gate to others.
func TestParkedConnectionsEnd(t *testing.T) {
	t.Parallel()
	const many = 200
	s := serve(t, Options{Threads: 1, MaxConns: 2 * many})
	open := closeGate(s)
	for range many {
		s.dial(t).Send("stats settings")
	}
	eventually(t, "all wait", func() bool {
		queued, parked, _ := s.atGate()
		return queued+parked == many+1
	})
	release := stopLeader(t, s)
	s.gate.mu.Lock()
	parked := append([]*conn(nil), s.gate.parked...)
	s.gate.mu.Unlock()
	for i, c := range parked {
		if i%2 == 0 {
			c.close("test")
		}
	}
	open() // those that are closed are called, too
	release()
	eventually(t, "nobody waits", func() bool {
		queued, parked, called := s.atGate()
		return queued+parked+called == 0
	})
	if len(s.dial(t).Stats("")) == 0 {
		t.Error("no statistics for another")
	}
}
