package gearmand

import "time"

// timeHeap holds jobs by the time at which something is to happen to them: delayed ones are due, running ones late.
type timeHeap []*job

func (h timeHeap) swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].place, h[k].place = i, k
}

func (h timeHeap) less(i, k int) bool {
	if h[i].at != h[k].at {
		return h[i].at < h[k].at
	}
	return h[i].num < h[k].num // jobs for the same time come in their order
}

func (h *timeHeap) push(j *job) {
	j.place = len(*h)
	*h = append(*h, j)
	h.up(j.place)
}

func (h *timeHeap) remove(j *job) {
	i, last := j.place, len(*h)-1
	if i < 0 {
		return
	}
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	if i < last {
		h.down(i)
		h.up(i)
	}
	j.place = -1
}

func (h timeHeap) up(i int) {
	for p := (i - 1) / 2; i > 0 && h.less(i, p); i, p = p, (p-1)/2 {
		h.swap(i, p)
	}
}

func (h timeHeap) down(i int) {
	for {
		k := 2*i + 1
		if k >= len(h) {
			return
		}
		if k+1 < len(h) && h.less(k+1, k) {
			k++
		}
		if !h.less(k, i) {
			return
		}
		h.swap(i, k)
		i = k
	}
}

func (s *Server) now() time.Time { return time.Now() }

// wakeClock has the clock look at the heap again. s.mu is held.
func (s *Server) wakeClock() {
	select {
	case s.tick <- struct{}{}:
	default: // it will
	}
}

// clock does what is to be done at certain times, until the server is closed.
func (s *Server) clock() {
	const never = time.Hour
	t := time.NewTimer(never)
	defer t.Stop()
	for {
		t.Reset(min(s.due(), never))
		select {
		case <-t.C:
		case <-s.tick:
		case <-s.quit:
			return
		}
	}
}

// dueAtOnce bounds how many jobs become due under one lock.
const dueAtOnce = 256

// due handles the jobs whose time has come, and returns how long it is to the next.
func (s *Server) due() time.Duration {
	s.mu.Lock()
	defer s.unlock(nil)
	wait := time.Hour
	for range dueAtOnce {
		if len(s.times) == 0 {
			break
		}
		j := s.times[0]
		now := s.now()
		if j.at > now.UnixNano() {
			wait = time.Duration(j.at - now.UnixNano())
			break
		}
		wait = 0
		s.times.remove(j)
		if j.state == running {
			s.late(j)
		} else {
			s.enqueue(j)
		}
	}
	if s.opts.IdleTimeout > 0 {
		wait = min(wait, s.sweepIdle())
	}
	return wait
}

// sweepIdle closes connections that have been silent for too long, and returns when to look again. s.mu is held.
func (s *Server) sweepIdle() time.Duration {
	now := s.now()
	every := max(s.opts.IdleTimeout/4, 10*time.Millisecond)
	if d := s.nextSweep.Sub(now); d > 0 {
		return d
	}
	s.nextSweep = now.Add(every)
	for c := range s.conns {
		if len(c.abilities) > 0 || c.waits != nil || c.jobs.n > 0 || len(c.held) > 0 {
			continue
		}
		if c.seen != c.packets {
			c.seen, c.since = c.packets, now
		} else if now.Sub(c.since) >= s.opts.IdleTimeout {
			c.kill("idle")
		}
	}
	return every
}
