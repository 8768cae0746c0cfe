package gearmand

import (
	"slices"
	"strconv"
	"time"

	"wheelhouse/gearman/packet"
)

// canDo adds a function to a worker's, or changes its timeout. s.mu is held.
func (s *Server) canDo(c *conn, name []byte, timeout time.Duration) {
	switch {
	case len(name) == 0:
		c.refuse(errFuncEmpty)
		return
	case len(name) > packet.MaxFunc:
		c.refuse(errFuncSize)
		return
	}
	f, err := s.function(name)
	if err != nil {
		c.refuse(errFunctions)
		return
	}
	if i := c.ability(f); i >= 0 {
		c.abilities[i].timeout = timeout
		return
	}
	if len(c.abilities) >= maxAbilities {
		c.refuse(errAbilities)
		return
	}
	if !s.reserve(abilitySize) {
		c.refuse(errMemory)
		return
	}
	a := &ability{c: c, fn: f, timeout: timeout, place: len(f.workers)}
	f.workers = append(f.workers, a)
	c.abilities = append(c.abilities, a)
	if c.asleep {
		f.asleep++
		if s.runnable(c) {
			s.awake(c)
			c.send(packetNoop)
		}
	}
}

func (c *conn) ability(f *function) int {
	return slices.IndexFunc(c.abilities, func(a *ability) bool { return a.fn == f })
}

// cantDo takes a function away from a worker. A job of it that the worker runs is queued again. s.mu is held.
func (s *Server) cantDo(c *conn, name []byte) {
	f := s.functions[string(name)]
	if f == nil {
		return
	}
	i := c.ability(f)
	if i < 0 {
		return
	}
	s.dropAbility(c.abilities[i])
	c.abilities = slices.Delete(c.abilities, i, i+1)
	for j := c.jobs.head; j != nil; {
		next := j.next
		if j.fn == f {
			s.requeue(j)
		}
		j = next
	}
}

// resetAbilities takes all functions away from a worker. s.mu is held.
func (s *Server) resetAbilities(c *conn) {
	for _, a := range c.abilities {
		s.dropAbility(a)
	}
	c.abilities = nil
	for c.jobs.head != nil {
		s.requeue(c.jobs.head)
	}
}

func (s *Server) dropAbility(a *ability) {
	s.memory.Add(-abilitySize)
	if a.c.asleep {
		a.fn.asleep--
	}
	list := a.fn.workers
	last := len(list) - 1
	list[a.place] = list[last]
	list[a.place].place = a.place
	list[last] = nil
	a.fn.workers = list[:last]
}

// best is the first of a worker's functions that has a job of the highest priority there is; -1 for none. s.mu is held.
func (c *conn) best() (place int, prio Priority) {
	place, prio = -1, priorities
	for i, a := range c.abilities {
		if a.fn.total == a.fn.running {
			continue
		}
		for p := range prio {
			if a.fn.queues[p].n > 0 {
				place, prio = i, p
				break
			}
		}
		if prio == High {
			break
		}
	}
	return place, prio
}

func (s *Server) runnable(c *conn) bool {
	if s.stopping {
		return false
	}
	i, _ := c.best()
	return i >= 0
}

// grab gives a worker a job. s.mu is held.
func (s *Server) grab(c *conn, t packet.Type) {
	s.awake(c)
	i, prio := c.best()
	if i < 0 || s.stopping || c.gone {
		if !s.park(c, t) {
			c.send(packetNoJob)
		}
		return
	}
	c.finished = false
	a := c.abilities[i]
	if s.opts.RoundRobin {
		copy(c.abilities[i:], c.abilities[i+1:])
		c.abilities[len(c.abilities)-1] = a
	}
	q := &a.fn.queues[prio]
	j := q.head
	q.remove(j)
	j.state, j.worker = running, c
	c.jobs.push(j)
	a.fn.running++
	s.running++
	if a.timeout > 0 {
		j.at = s.now().Add(a.timeout).UnixNano()
		s.times.push(j)
		s.wakeClock()
	}
	name := a.fn.label
	switch {
	case t == packet.GrabJobAll && j.reducer != "":
		c.sendLasting(packet.JobAssignAll, j.handle, name, j.unique, []byte(j.reducer), j.data)
	case t == packet.GrabJob:
		c.sendLasting(packet.JobAssign, j.handle, name, j.data)
	default:
		c.sendLasting(packet.JobAssignUniq, j.handle, name, j.unique, j.data)
	}
}

// unassign takes a job from its worker. s.mu is held.
func (s *Server) unassign(j *job) {
	s.times.remove(j)
	j.at = 0
	j.worker.jobs.remove(j)
	j.worker = nil
	j.fn.running--
	s.running--
	s.finished()
}

// requeue takes a job from a worker that will not finish it, and lets another one have it, unless nobody wants it any more
// or that has happened too often. s.mu is held.
func (s *Server) requeue(j *job) {
	s.unassign(j)
	s.counts.requeued.Add(1)
	j.num1, j.den = 0, 0
	j.retries++
	switch {
	case j.cancelled, s.opts.Retries > 0 && j.retries >= s.opts.Retries:
		s.counts.given.Add(1)
		s.log.Warn("job given up: its workers did not finish it", "job", string(j.handle), "func", j.fn.name, "retries", j.retries)
		s.fail(j)
		return
	case !j.background && j.listeners == nil && !j.writing:
		s.forgetJob(j)
		return
	}
	if s.opts.Retries > 0 && j.stored {
		s.updates = append(s.updates, j)
		s.wakeStore()
	}
	s.enqueue(j)
}

// late is called when a job's time is over. s.mu is held.
func (s *Server) late(j *job) {
	s.counts.timeouts.Add(1)
	s.log.Warn("job took too long", "job", string(j.handle), "func", j.fn.name, "addr", j.worker.addr())
	if !s.opts.TimeoutFails {
		s.requeue(j)
		return
	}
	s.unassign(j)
	s.counts.given.Add(1)
	s.fail(j)
}

// result handles what a worker has to say of a job. Only the worker that has it may speak of it: one whose job was queued
// again would end what another one does. s.mu is held.
func (s *Server) result(c *conn, t packet.Type, args [][]byte, data []byte) {
	j := s.find(args[0])
	if j == nil || j.worker != c {
		// Perl's workers follow an exception by WORK_FAIL, and end when that is refused.
		if t == packet.WorkFail && c.raised != "" && cString(args[0]) == c.raised {
			c.raised = ""
			return
		}
		switch t {
		case packet.WorkData, packet.WorkWarning:
			c.refuse(errDataJob)
		case packet.WorkException:
			c.refuse(errException)
		default:
			c.refuse(errWorkJob)
		}
		return
	}
	switch t {
	case packet.WorkStatus:
		j.num1, j.den = parseCount(args[1]), parseCount(args[2])
		s.forward(j, t, data)
	case packet.WorkData, packet.WorkWarning:
		s.forward(j, t, data)
	case packet.WorkException:
		for l := j.listeners; l != nil; l = l.next {
			if l.c.exceptions {
				l.c.send(t, data)
			} else {
				l.c.send(packet.WorkFail, j.handle)
			}
		}
		s.counts.failed.Add(1)
		c.raised = string(j.handle)
		s.finish(j)
	case packet.WorkFail:
		s.forward(j, t, j.handle)
		s.counts.failed.Add(1)
		s.finish(j)
	case packet.WorkComplete:
		s.forward(j, t, data)
		s.counts.completed.Add(1)
		s.finish(j)
	}
}

func (s *Server) forward(j *job, t packet.Type, data []byte) {
	for l := j.listeners; l != nil; l = l.next {
		if !s.lasting {
			l.c.send(t, data)
		} else if l.c.sendLasting(t, data) {
			j.worker.taken = true
		}
	}
}

func (s *Server) finish(j *job) {
	j.worker.finished = true
	s.unassign(j)
	s.forgetJob(j)
}

// parseCount reads a number as C's atoi would, which is what workers are used to: up to the first byte that is no digit.
func parseCount(b []byte) uint32 {
	end := 0
	for end < len(b) && b[end] >= '0' && b[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(string(b[:end]), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}
