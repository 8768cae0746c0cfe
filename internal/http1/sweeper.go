package http1

import (
	"math"
	"net/http"
	"time"
)

// A connection's word says in one atomic integer what the connection is doing and since when: the phase in the low bits,
// one bit by which another goroutine claims the connection because its time is over, and the time in ms. Each change
// of phase swaps the word, so a claim is either seen by the connection's goroutine or fails: no connection is cut that
// has just made progress.
type phase uint64

const (
	phaseHandle phase = iota // the handler runs; its time is its own
	phaseFresh               // nothing has arrived yet
	phaseIdle                // waiting for the next request
	phaseHead                // a head has begun
	phaseBody                // reading a body
	phaseWrite               // in a write
	phaseLinger              // answered for the last time, dropping what still arrives
	phaseGone                // closed or handed over
	phases

	phaseMask = 1<<3 - 1
	claimed   = 1 << 3
	timeShift = 4
)

var past = time.Unix(1, 0)

func phaseOf(w uint64) phase { return phase(w & phaseMask) }

// serverLimits are the limits in the form in which they are looked up.
type serverLimits struct {
	Limits
	phase [phases]int64 // ms that a connection may be in each phase, 0 for ever
}

// phases are the limits by phase in ms, 0: none.
func (l *Limits) phases() (limits [phases]int64) {
	set := func(p phase, d time.Duration) {
		if d < math.MaxInt64 {
			limits[p] = max(1, d.Milliseconds())
		}
	}
	set(phaseFresh, l.FirstByteTimeout)
	set(phaseIdle, l.IdleTimeout)
	set(phaseHead, l.HeadTimeout)
	set(phaseBody, l.BodyTimeout)
	set(phaseWrite, l.WriteTimeout)
	set(phaseLinger, lingerTime)
	return limits
}

// tick is the sweeper's interval.
func (l *serverLimits) tick() time.Duration {
	tick := 250 * time.Millisecond
	for _, ms := range l.phase {
		if ms > 0 {
			tick = min(tick, time.Duration(ms)*time.Millisecond/4)
		}
	}
	return max(tick, 5*time.Millisecond)
}

// enter moves the connection to phase p, which begins now. It reports whether the time of the phase that ends was over, in
// which case a deadline in the past was set or is about to be.
func (c *conn) enter(p phase) (late bool) {
	now := uint64(c.srv.clock.Load())
	if c.word.Swap(now<<timeShift|uint64(p))&claimed != 0 {
		c.late = true
		return true
	}
	return false
}

// touch restarts the time of the present phase.
func (c *conn) touch(p phase) { c.enter(p) }

// claim takes the connection if its word is still w and of one of the phases, and wakes its goroutine.
func (c *conn) claim(w uint64, of ...phase) bool {
	for _, p := range of {
		if phaseOf(w) == p && w&claimed == 0 && c.word.CompareAndSwap(w, w|claimed) {
			if p == phaseWrite || p == phaseFresh { // a TLS handshake may be stuck in either direction
				c.nc.SetWriteDeadline(past)
			}
			c.nc.SetReadDeadline(past)
			return true
		}
	}
	return false
}

// startSweeper starts the sweeper if it does not run yet. s.mu is held.
func (s *Server) startSweeper() {
	if s.sweeping || s.state.Load() == int32(closed) {
		return
	}
	s.sweeping = true
	now := time.Now() // the server may have been made long ago
	s.clock.Store(now.Sub(s.born).Milliseconds())
	s.setDate(now)
	s.sweeper.Go(func() {
		t := time.NewTicker(s.tick)
		defer t.Stop()
		for {
			select {
			case <-s.quit:
				return
			case now := <-t.C:
				s.sweep(now)
			}
		}
	})
}

// sweep sets the clock and ends what has taken too long.
func (s *Server) sweep(now time.Time) {
	ms := now.Sub(s.born).Milliseconds()
	limits := &s.lim.Load().phase
	s.clock.Store(ms)
	s.setDate(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		w := c.word.Load()
		p := phaseOf(w)
		age := ms - int64(w>>timeShift)
		limit := limits[p]
		switch {
		case p == phaseWrite && limit > 0 && age > limit/2 && c.drains(w):
			c.word.CompareAndSwap(w, uint64(ms)<<timeShift|uint64(p))
		// The time was stamped by a clock that lags by up to a tick: only what exceeds the limit by one is surely late.
		case limit > 0 && age > limit+s.tick.Milliseconds():
			c.claim(w, p)
		case p == phaseHandle && age > 0:
			c.watch()
		}
	}
}

// drains reports whether the peer has taken some of what the socket holds since it was last asked about the same stall.
// The kernel lets a writer go on only when a good part of the socket's buffer is free, for which a slow peer can need
// longer than the timeout.
func (c *conn) drains(w uint64) bool {
	if c.raw == nil {
		return false
	}
	n, last := unsent(c.raw), c.unsent
	same := c.stall == w
	c.stall, c.unsent = w, n
	return same && n < last
}

// setDate renders the Date field (RFC 9110 §6.6.1) if the second has changed.
func (s *Server) setDate(now time.Time) {
	line := "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"
	if old := s.date.Load(); old == nil || *old != line {
		s.date.Store(&line)
	}
}
