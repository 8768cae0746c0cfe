package gearmand

import "bytes"

// jobList is a list of jobs, first in first out.
type jobList struct {
	head, tail *job
	n          int
}

func (l *jobList) push(j *job) {
	j.prev, j.next = l.tail, nil
	if l.tail != nil {
		l.tail.next = j
	} else {
		l.head = j
	}
	l.tail = j
	l.n++
}

func (l *jobList) remove(j *job) {
	if j.prev != nil {
		j.prev.next = j.next
	} else {
		l.head = j.next
	}
	if j.next != nil {
		j.next.prev = j.prev
	} else {
		l.tail = j.prev
	}
	j.prev, j.next = nil, nil
	l.n--
}

// function is what is known by one name. It is guarded by Server.mu.
type function struct {
	name    string
	label   []byte // the same
	queues  [priorities]jobList
	total   int // all jobs, running ones too
	running int
	workers []*ability
	asleep  int             // of workers
	turn    int             // of workers: whom to wake next
	limits  [priorities]int // by maxqueue; 0: none
	limited bool            // limits were set
	created bool            // by an administrator: it stays
}

// used reports whether anything would be lost with the function.
func (f *function) used() bool {
	return f.total > 0 || len(f.workers) > 0 || f.limited || f.created
}

// function finds or makes a function. The error is a *refusal. s.mu is held.
func (s *Server) function(name []byte) (*function, error) {
	if f := s.functions[string(name)]; f != nil {
		return f, nil
	}
	if len(s.functions) >= s.opts.MaxFunctions {
		s.forgetFunctions()
		if len(s.functions) >= s.opts.MaxFunctions {
			return nil, errFunctions
		}
	}
	f := &function{name: string(name), label: bytes.Clone(name)}
	s.functions[f.name] = f
	return f, nil
}

// forgetFunctions makes room by forgetting functions of which only the name is left. s.mu is held.
func (s *Server) forgetFunctions() {
	for name, f := range s.functions {
		if !f.used() {
			delete(s.functions, name)
		}
	}
}

// full reports whether the function takes no more jobs of the priority.
func (s *Server) full(f *function, p Priority) bool {
	limit := s.opts.MaxQueue
	if f.limited {
		limit = f.limits[p]
	}
	return limit > 0 && f.total >= limit
}

// enqueue makes a job available to workers, at its time. s.mu is held.
func (s *Server) enqueue(j *job) {
	if j.at > 0 && j.at > s.now().UnixNano() {
		j.state = delayed
		s.times.push(j)
		s.wakeClock()
		return
	}
	j.at = 0
	j.state = queued
	j.fn.queues[j.prio].push(j)
	if !s.offer(j.fn) {
		s.wake(j.fn)
	}
}

// dequeue takes a job that waits out of where it waits. s.mu is held.
func (s *Server) dequeue(j *job) {
	switch j.state {
	case queued:
		j.fn.queues[j.prio].remove(j)
	case delayed:
		s.times.remove(j)
	}
}

// wake sends NOOP to workers of a function that sleep. s.mu is held.
func (s *Server) wake(f *function) {
	if f.asleep == 0 {
		return
	}
	left := s.opts.Wakeup
	if left == 0 {
		left = f.asleep
	}
	for i := 0; i < len(f.workers) && left > 0 && f.asleep > 0; i++ {
		if f.turn++; f.turn >= len(f.workers) {
			f.turn = 0
		}
		if c := f.workers[f.turn].c; c.asleep {
			s.awake(c)
			c.send(packetNoop)
			left--
		}
	}
}

// awake counts a worker as awake. s.mu is held.
func (s *Server) awake(c *conn) {
	if c.asleep {
		c.asleep = false
		for _, a := range c.abilities {
			a.fn.asleep--
		}
	}
}

// sleep counts a worker as asleep. s.mu is held.
func (s *Server) sleep(c *conn) {
	if !c.asleep {
		c.asleep = true
		for _, a := range c.abilities {
			a.fn.asleep++
		}
	}
}
