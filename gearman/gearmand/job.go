package gearmand

import (
	"bytes"
	"crypto/sha256"
	"strconv"
)

// jobState is where a job is.
type jobState uint8

const (
	storing jobState = iota // new, and not durable yet
	queued                  // in its function's queue
	delayed                 // until its time
	running                 // with a worker
	done
)

// job is one job. Everything in it is guarded by Server.mu, but handle, unique and data do not change and may be read
// without it by whoever holds the job.
type job struct {
	fn         *function
	num        uint64 // 0 when the handle is not of this server's form
	handle     []byte // these three share an array
	unique     []byte
	data       []byte
	coalesce   string // what jobs are merged by, "" for never; see mergeKey
	reducer    string
	prio       Priority
	state      jobState
	background bool // somebody was promised that it will be run
	cancelled  bool // while running: not to be run again
	retries    int

	next, prev *job   // in a queue, or among those of a worker
	twin       *job   // another job with the same merge key, of another function
	worker     *conn  // while running
	at         int64  // Unix time in ns: when it is due, or late
	place      int    // in the server's heap of times, -1 outside
	key        string // in the store, "" while it is not there and not on its way
	stored     bool
	writing    bool    // on its way into the store
	verdict    error   // why it could not be stored
	waiters    []*conn // connections whose answers wait for the store

	listeners *listener
	first     listener // saves an allocation for the usual case of one
	num1, den uint32   // progress
	size      int64    // of Server.memory
}

// jobOverhead is what a job takes beside its bytes.
const jobOverhead = 512

// listener is a client that waits for a job.
type listener struct {
	c          *conn
	j          *job
	next       *listener // of the same job
	cnext      *listener // of the same connection
	cprev      *listener
	registered bool
}

const listenerSize = 64

// mergeKey is what jobs of a function are merged by: the unique, or for the unique "-" the workload.
func mergeKey(unique, data []byte) string {
	switch {
	case len(unique) == 1 && unique[0] == '-':
		if len(data) == 0 {
			return ""
		}
		sum := sha256.Sum256(data)
		return "\x00" + string(sum[:]) // no unique has a NUL
	default:
		return string(unique)
	}
}

// fill gives a job its bytes, which it copies.
func (j *job) fill(prefix string, num uint64, handle string, unique, data []byte) {
	b := make([]byte, 0, max(len(prefix)+21, len(handle))+len(unique)+len(data))
	if handle != "" {
		b = append(b, handle...)
	} else {
		b = append(append(b, prefix...), ':')
		b = strconv.AppendUint(b, num, 10)
	}
	h := len(b)
	b = append(b, unique...)
	u := len(b)
	b = append(b, data...)
	j.num, j.handle, j.unique, j.data = num, b[:h:h], b[h:u:u], b[u:len(b):len(b)]
	j.size = jobOverhead + int64(cap(b)) + int64(len(j.coalesce)+len(j.reducer))
}

// handleNumber reads the number of a handle of this server; 0 when it is none.
func handleNumber(prefix string, handle []byte) uint64 {
	if len(handle) < len(prefix)+2 || string(handle[:len(prefix)]) != prefix || handle[len(prefix)] != ':' {
		return 0
	}
	digits := handle[len(prefix)+1:]
	if len(digits) > 19 || digits[0] == '0' {
		return 0
	}
	var n uint64
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0
		}
		n = n*10 + uint64(d-'0')
	}
	return n
}

// find is the job of a handle, nil for none. s.mu is held.
func (s *Server) find(handle []byte) *job {
	handle = bytes.TrimSuffix(handle, nul) // some clients send it
	if n := handleNumber(s.opts.HandlePrefix, handle); n > 0 {
		return s.jobs[n]
	}
	return s.foreign[string(handle)]
}

var nul = []byte{0}

// register makes a job known. s.mu is held.
func (s *Server) register(j *job) {
	if j.num > 0 {
		s.jobs[j.num] = j
	} else {
		s.foreign[string(j.handle)] = j
	}
	if j.coalesce != "" {
		j.twin = s.merge[j.coalesce]
		s.merge[j.coalesce] = j
	}
	j.fn.total++
	s.memory.Add(j.size)
}

// matching is the job of a function that a new one is merged with, nil for none. s.mu is held.
func (s *Server) matching(fn *function, key string) *job {
	for j := s.merge[key]; j != nil; j = j.twin {
		if j.fn == fn {
			return j
		}
	}
	return nil
}

// forgetJob takes a job, which is in no queue any more, out of all lists. s.mu is held.
func (s *Server) forgetJob(j *job) {
	j.state = done
	if j.num > 0 {
		delete(s.jobs, j.num)
	} else {
		delete(s.foreign, string(j.handle))
	}
	if j.coalesce != "" {
		s.unmerge(j)
	}
	for l := j.listeners; l != nil; l = l.next {
		s.unlisten(l)
	}
	j.listeners = nil
	j.fn.total--
	s.memory.Add(-j.size)
	s.unstore(j)
}

// unstore has the store forget a job. s.mu is held.
func (s *Server) unstore(j *job) {
	if j.stored {
		j.stored = false
		s.removes = append(s.removes, j.key)
		s.wakeStore()
	}
}

func (s *Server) unmerge(j *job) {
	head := s.merge[j.coalesce]
	if head == j {
		if j.twin == nil {
			delete(s.merge, j.coalesce)
		} else {
			s.merge[j.coalesce] = j.twin
		}
		return
	}
	for p := head; p != nil; p = p.twin {
		if p.twin == j {
			p.twin = j.twin
			return
		}
	}
}

// listen has a connection wait for a job. s.mu is held.
func (s *Server) listen(c *conn, j *job) {
	l := &j.first
	if l.c != nil {
		l = new(listener)
	}
	*l = listener{c: c, j: j, next: j.listeners, cnext: c.waits, registered: true}
	if c.waits != nil {
		c.waits.cprev = l
	}
	c.waits, j.listeners = l, l
	s.memory.Add(listenerSize)
}

// unlisten takes a listener off its connection's list, not off its job's. s.mu is held.
func (s *Server) unlisten(l *listener) {
	if !l.registered {
		return
	}
	l.registered = false
	if l.cprev != nil {
		l.cprev.cnext = l.cnext
	} else {
		l.c.waits = l.cnext
	}
	if l.cnext != nil {
		l.cnext.cprev = l.cprev
	}
	s.memory.Add(-listenerSize)
}

// dropListeners takes a connection that has ended off the lists of the jobs that it waited for. s.mu is held.
func (s *Server) dropListeners(c *conn) {
	for c.waits != nil {
		j := c.waits.j
		s.unlisten(c.waits)
		for p := &j.listeners; *p != nil; {
			if (*p).c == c {
				s.unlisten(*p)
				*p = (*p).next
			} else {
				p = &(*p).next
			}
		}
		s.abandoned(j)
	}
}

// abandoned gives up a job for which nobody waits any more, unless somebody was promised that it is run, or it runs already.
func (s *Server) abandoned(j *job) {
	if j.listeners == nil && !j.background && !j.writing && (j.state == queued || j.state == delayed) {
		s.dequeue(j)
		s.forgetJob(j)
	}
}
