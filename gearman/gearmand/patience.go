package gearmand

import (
	"slices"
	"time"

	"wheelhouse/gearman/packet"
)

// A packet costs a system call and a wake-up at its other end, which is more than all that the server does with it. Two kinds
// are worth a short wait, because what comes next usually makes them cheaper or needless:
//
//   - JOB_CREATED of a foreground job, when its client waits for no other: the result will often go out in the same write.
//   - NO_JOB, when the worker has just finished a job here: a job that comes now can be handed to it without PRE_SLEEP, NOOP
//     and another GRAB_JOB. The worker is parked meanwhile.
//
// Both wait for one to two times patience.
const patience = time.Millisecond

// Bounds on parked workers, since all are looked at for each job that comes while there are any.
const (
	maxParked          = 32
	maxParkedAbilities = 16
)

// patient holds what waits so. It is guarded by Server.mu.
type patient struct {
	parked  []*conn // workers whose GRAB_JOB has not been answered
	created []*conn // clients to whom JOB_CREATED has not been sent
	round   uint32  // counts up with each look
}

// sendCreated answers a submission in the foreground. s.mu is held.
func (s *Server) sendCreated(c *conn, j *job) {
	// With two jobs on the way, the client may be one that sends the next when it knows the handle of the last.
	if c.nc == nil || c.touched || c.waits == nil || c.waits.cnext != nil || len(c.held) > 0 || len(j.fn.workers) == 0 {
		c.send(packet.JobCreated, j.handle)
		return
	}
	c.touched = true // so that send does not
	c.send(packet.JobCreated, j.handle)
	c.touched = false
	if !c.late {
		c.late, c.lateAt = true, s.patient.round
		s.patient.created = append(s.patient.created, c)
		s.impatience()
	}
}

// park leaves a worker's GRAB_JOB unanswered for a moment, if that may be worth it. s.mu is held.
func (s *Server) park(c *conn, t packet.Type) bool {
	if !c.finished || s.stopping || len(s.patient.parked) >= maxParked || len(c.abilities) > maxParkedAbilities || len(c.abilities) == 0 {
		return false
	}
	c.finished = false
	c.parked, c.parkedAt = t, s.patient.round
	s.patient.parked = append(s.patient.parked, c)
	s.impatience()
	return true
}

// unpark answers the GRAB_JOB of a parked worker. s.mu is held.
func (s *Server) unpark(c *conn) {
	if c.parked == 0 {
		return
	}
	t := c.parked
	c.parked = 0
	i := slices.Index(s.patient.parked, c)
	s.patient.parked = slices.Delete(s.patient.parked, i, i+1)
	s.grab(c, t)
}

// offer gives a parked worker the job that has just been queued for f. s.mu is held.
func (s *Server) offer(f *function) bool {
	for _, c := range s.patient.parked {
		if c.ability(f) >= 0 {
			s.unpark(c)
			return true
		}
	}
	return false
}

// impatience sees to it that the wait ends. s.mu is held.
func (s *Server) impatience() {
	select {
	case s.hurry <- struct{}{}:
	default: // it will look
	}
}

// hurryUp ends the waits, until the server is closed.
func (s *Server) hurryUp() {
	t := time.NewTimer(patience)
	defer t.Stop()
	for {
		select {
		case <-s.hurry:
		case <-s.quit:
			return
		}
		t.Reset(patience)
		select {
		case <-t.C:
		case <-s.quit:
			return
		}
		s.endWaits()
	}
}

func (s *Server) endWaits() {
	s.mu.Lock()
	defer s.unlock(nil)
	p := &s.patient
	for len(p.parked) > 0 && p.parked[0].parkedAt != p.round { // the oldest come first
		s.unpark(p.parked[0])
	}
	n := 0
	for n < len(p.created) && p.created[n].lateAt != p.round {
		c := p.created[n]
		c.late = false
		if !c.touched {
			c.touched = true
			s.touched = append(s.touched, c)
		}
		n++
	}
	p.created = slices.Delete(p.created, 0, n)
	p.round++
	if len(p.parked)+len(p.created) > 0 {
		s.impatience()
	}
}
