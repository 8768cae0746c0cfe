package memcached

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

// connsStep is how many connections are listed before others have a turn.
const connsStep = 100

func (c *conn) connStats() error {
	// Nothing is kept from one step to the next but a number: a client may take its time in between.
	for last, more := uint64(0), true; more; {
		c.s.gate.do(func() {
			list := c.s.connectionsAfter(last, connsStep)
			if c.connLines(list); len(list) > 0 {
				last = list[len(list)-1].id
			}
			more = len(list) == connsStep
		})
		if err := c.flushStep(); err != nil {
			return err
		}
	}
	c.listenerStats()
	return nil
}

func (c *conn) connLines(list []*conn) {
	now := time.Now().Unix()
	for _, x := range list {
		id := strconv.FormatUint(x.id, 10)
		network, local := "tcp:", x.local.String()
		remote := x.remote()
		if x.local.Network() == "unix" {
			network, remote = "unix:", local
		}
		c.stat(id+":addr", network+remote)
		c.stat(id+":listen_addr", network+local)
		state := "conn_read"
		switch {
		case x == c:
			state = "conn_parse_cmd"
		case x.watching.Load():
			state = "conn_watch"
		case x.writing.Load() != 0:
			state = "conn_mwrite"
		}
		c.stat(id+":state", state)
		c.stat(id+":secs_since_last_cmd", max(now-x.last.Load(), 0))
	}
}

// listenerStats are the lines of "stats conns" for what waits for connections or datagrams.
func (c *conn) listenerStats() {
	type row struct{ addr, state string }
	s, rows := c.s, map[uint64]row{}
	s.mu.Lock()
	for ln, id := range s.listeners {
		network := "tcp:"
		if ln.Addr().Network() == "unix" {
			network = "unix:"
		}
		rows[id] = row{network + ln.Addr().String(), "conn_listening"}
	}
	for p, id := range s.packets {
		rows[id] = row{"udp:" + p.LocalAddr().String(), "conn_read"}
	}
	s.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(rows)) {
		id := strconv.FormatUint(n, 10)
		c.stat(id+":addr", rows[n].addr)
		c.stat(id+":state", rows[n].state)
		c.stat(id+":secs_since_last_cmd", int(time.Since(s.started).Seconds()))
	}
}
