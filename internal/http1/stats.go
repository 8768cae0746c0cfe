package http1

import "sync/atomic"

// Stats are a server's counters since its start, and two gauges.
type Stats struct {
	Accepted uint64 // connections taken in
	Active   int    // connections with a request in work
	Idle     int    // connections without
	Requests uint64 // heads parsed
	BytesIn  uint64
	BytesOut uint64
	// SendfileBytes and SpliceBytes are those of BytesOut that never entered this process's memory.
	SendfileBytes, SpliceBytes uint64
	Timeouts                   uint64         // connections whose time was over, in any phase
	ProtocolErrors             map[int]uint64 // requests refused by the engine, by status
	Panics                     uint64         // handlers' panics
}

// counters are the live form of Stats.
type counters struct {
	accepted, requests, in, out atomic.Uint64
	sendfile, splice            atomic.Uint64
	timeouts, panics            atomic.Uint64
	refused                     [600]atomic.Uint64
}

func (n *counters) refuse(status int) {
	if status >= 0 && status < len(n.refused) {
		n.refused[status].Add(1)
	}
}

// Stats returns the counters as they are now.
func (s *Server) Stats() Stats {
	n := &s.counts
	st := Stats{
		Accepted: n.accepted.Load(), Requests: n.requests.Load(),
		BytesIn: n.in.Load(), BytesOut: n.out.Load(),
		SendfileBytes: n.sendfile.Load(), SpliceBytes: n.splice.Load(),
		Timeouts: n.timeouts.Load(), Panics: n.panics.Load(),
		ProtocolErrors: make(map[int]uint64),
	}
	for i := range n.refused {
		if v := n.refused[i].Load(); v > 0 {
			st.ProtocolErrors[i] = v
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		switch phaseOf(c.word.Load()) {
		case phaseIdle, phaseFresh:
			st.Idle++
		case phaseGone:
		default:
			st.Active++
		}
	}
	return st
}
