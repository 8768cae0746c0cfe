package gearmand

import (
	"bytes"
	"strconv"
	"time"

	"wheelhouse/gearman/packet"
)

// submission is what a client wants to have done. The slices belong to the client's buffer.
type submission struct {
	fn, unique, reducer, data []byte
	prio                      Priority
	background                bool
	at                        int64 // Unix time in ns, 0: at once
}

// submitKinds says what the simple types of submission mean.
var submitKinds = [packet.SubmitJobLowBG + 1]struct {
	prio       Priority
	background bool
}{
	packet.SubmitJob:       {Normal, false},
	packet.SubmitJobBG:     {Normal, true},
	packet.SubmitJobHigh:   {High, false},
	packet.SubmitJobHighBG: {High, true},
	packet.SubmitJobLow:    {Low, false},
	packet.SubmitJobLowBG:  {Low, true},
}

func (s *Server) submitEpoch(c *conn, args [][]byte) {
	at, err := strconv.ParseInt(cString(args[2]), 10, 64)
	if err != nil || at < 0 || at > maxEpoch {
		c.refuse(errEpoch)
		return
	}
	s.submit(c, &submission{fn: args[0], unique: args[1], data: args[3], prio: Normal, background: true, at: at * int64(time.Second)})
}

// maxEpoch is the last second whose nanoseconds have a number: in the year 2262.
const maxEpoch = 1<<63/1_000_000_000 - 1

func (s *Server) submitSched(c *conn, args [][]byte) {
	sch, err := parseSchedule(args[2:7])
	if err == nil {
		var at time.Time
		if at, err = sch.next(s.now()); err == nil {
			s.submit(c, &submission{fn: args[0], unique: args[1], data: args[7], prio: Normal, background: true, at: at.UnixNano()})
			return
		}
	}
	c.refuse(&refusal{"INVALID_ARGUMENTS", "SUBMIT_JOB_SCHED: " + err.Error()})
}

// check looks at what can be wrong with a submission by itself.
func (u *submission) check() *refusal {
	switch {
	case len(u.fn) == 0:
		return errFuncEmpty
	case len(u.fn) > packet.MaxFunc:
		return errFuncSize
	case len(u.unique) > packet.MaxUnique:
		return errUniqueSize
	case len(u.reducer) > packet.MaxFunc:
		return errReducerSize
	}
	return nil
}

// submit handles a submission and answers it, unless the answer has to wait for the store. s.mu is held.
func (s *Server) submit(c *conn, u *submission) {
	s.counts.submitted.Add(1)
	if r := u.check(); r != nil {
		c.refuse(r)
		return
	}
	if s.stopping {
		c.refuse(errStopping)
		return
	}
	f, err := s.function(u.fn)
	if err != nil {
		c.refuse(errFunctions)
		return
	}
	if s.memory.Load()+jobOverhead+int64(len(u.data)) > s.opts.MaxMemory {
		c.refuse(errMemory)
		return
	}
	key := mergeKey(u.unique, u.data)
	if key != "" {
		if j := s.matching(f, key); j != nil {
			s.counts.merged.Add(1)
			s.join(c, j, u.background)
			return
		}
	}
	if u.background {
		if r := s.storable(f, u.data, u.at); r != nil {
			c.refuse(r)
			return
		}
	}
	if s.full(f, u.prio) {
		c.refuse(errQueueFull)
		return
	}
	s.lastJob++
	j := &job{
		fn: f, coalesce: key, reducer: string(u.reducer), prio: u.prio, background: u.background, at: u.at, place: -1,
	}
	if s.lasting && len(u.data) >= lendSize {
		j.fill(s.opts.HandlePrefix, s.lastJob, "", u.unique, nil)
		j.data, c.taken = u.data[:len(u.data):len(u.data)], true
		j.size += int64(len(u.data))
	} else {
		j.fill(s.opts.HandlePrefix, s.lastJob, "", u.unique, u.data)
	}
	s.register(j)
	if !u.background {
		s.listen(c, j)
	}
	if u.background && s.opts.Store != nil {
		j.state = storing
		s.write(j)
		s.wait(c, j)
		return
	}
	s.enqueue(j)
	if u.background {
		c.send(packet.JobCreated, j.handle)
	} else {
		s.sendCreated(c, j)
	}
}

// join has a submission be merged with a job that is there. Its data and priority are lost; a client that waits gets all
// that comes, and a background submission makes sure that the job is run. s.mu is held.
func (s *Server) join(c *conn, j *job, background bool) {
	if background && j.cancelled { // it is promised anew
		j.cancelled, j.background = false, false
	}
	if !background {
		s.listen(c, j)
	} else if !j.background {
		// It is promised to be run only when this submission is acknowledged.
		if s.opts.Store != nil {
			if r := s.storable(j.fn, j.data, 0); r != nil {
				c.refuse(r)
				return
			}
			if !j.writing {
				s.write(j)
			}
			s.wait(c, j)
			return
		}
		j.background = true
	}
	if j.state == storing || (background && j.writing) {
		s.wait(c, j)
		return
	}
	c.send(packet.JobCreated, j.handle)
}

// storable says why the store, if there is one, would not take a job. s.mu is held.
func (s *Server) storable(f *function, data []byte, at int64) *refusal {
	if s.opts.Store == nil {
		return nil
	}
	st := StoredJob{Func: f.name, Arg: data}
	if at > 0 {
		st.RunAt = time.Unix(0, at)
	}
	if err := s.opts.Store.Check(&st); err != nil {
		return &refusal{errNotStored.code, errNotStored.text + ": " + err.Error()}
	}
	return nil
}

// wait holds back the answer to a submission, and all that follows it, until the job is in the store. s.mu is held.
func (s *Server) wait(c *conn, j *job) {
	c.held = append(c.held, held{j: j})
	j.waiters = append(j.waiters, c)
}

// release sends the answers of a connection that do not wait any more. s.mu is held.
func (c *conn) release() {
	list := c.held
	for len(list) > 0 && !list[0].j.writing {
		h := list[0]
		list[0] = held{}
		list = list[1:]
		c.held = nil
		if h.j.verdict != nil {
			c.refuse(errNotStored)
		} else {
			c.send(packet.JobCreated, h.j.handle)
		}
		if len(h.tail) > 0 {
			c.sendText(h.tail)
			c.heldBytes -= len(h.tail)
		}
	}
	c.held = list
}

// cancel ends a job by an administrator's word: one that waits is failed and forgotten, one that runs is not run again.
func (s *Server) cancel(handle []byte) bool {
	j := s.find(bytes.TrimSpace(handle))
	if j == nil {
		return false
	}
	if j.state == running || j.state == storing {
		j.cancelled = true
		s.unstore(j) // nor after a crash
		return true
	}
	s.dequeue(j)
	s.fail(j)
	return true
}

// fail tells all clients of a job that it failed, and forgets it. s.mu is held.
func (s *Server) fail(j *job) {
	for l := j.listeners; l != nil; l = l.next {
		l.c.send(packet.WorkFail, j.handle)
	}
	s.forgetJob(j)
}
