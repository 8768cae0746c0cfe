package gearmand

import "sync/atomic"

// counters are the live form of Stats.
type counters struct {
	accepted, turnedAway, slow, panics atomic.Uint64
	in, out, packets, refused          atomic.Uint64
	submitted, merged, completed       atomic.Uint64
	failed, requeued, timeouts, given  atomic.Uint64
	storeErrors                        atomic.Uint64
}

// Stats are a server's counters since its start, and gauges.
type Stats struct {
	Accepted, TurnedAway uint64 // connections
	Slow                 uint64 // connections closed because they did not read
	Panics               uint64
	BytesIn, BytesOut    uint64
	Packets              uint64 // received
	Refused              uint64 // ERROR packets sent
	Submitted            uint64 // jobs, those merged with another one included
	Merged               uint64
	Completed            uint64 // with WORK_COMPLETE
	Failed               uint64 // with WORK_FAIL or WORK_EXCEPTION
	Requeued             uint64 // lost by their worker
	Timeouts             uint64
	GivenUp              uint64 // failed because their worker was lost too often, or too late
	StoreErrors          uint64
	Connections          int
	Functions            int
	Jobs, Running        int
	Memory               int64 // bytes, as MaxMemory counts them
}

// Stats returns the counters as they are now.
func (s *Server) Stats() Stats {
	n := &s.counts
	st := Stats{
		Accepted: n.accepted.Load(), TurnedAway: n.turnedAway.Load(), Slow: n.slow.Load(), Panics: n.panics.Load(),
		BytesIn: n.in.Load(), BytesOut: n.out.Load(), Packets: n.packets.Load(), Refused: n.refused.Load(),
		Submitted: n.submitted.Load(), Merged: n.merged.Load(), Completed: n.completed.Load(), Failed: n.failed.Load(),
		Requeued: n.requeued.Load(), Timeouts: n.timeouts.Load(), GivenUp: n.given.Load(), StoreErrors: n.storeErrors.Load(),
		Memory: s.memory.Load(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Connections, st.Functions, st.Running = len(s.conns), len(s.functions), s.running
	st.Jobs = len(s.jobs) + len(s.foreign)
	return st
}
