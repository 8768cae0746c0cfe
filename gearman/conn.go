package gearman

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"wheelhouse/gearman/packet"
)

// conn is a client's connection to a server. It carries any number of jobs at a time: the server answers requests in their
// order, and names the job in all that follows.
type conn struct {
	server   string
	maxReply int64
	out      *outbox
	done     chan struct{} // closed when the reader has ended

	mu      sync.Mutex // guards what follows; taken inside out.mu
	replies []*reply   // requests that wait for their answer, in order
	jobs    map[string]*shared
	byKey   map[string]*shared // jobs with a key, from the request on
	load    int                // requests and tasks that wait
	err     error
}

// reply is a request that waits for its answer.
type reply struct {
	job    *shared // of a foreground job
	answer chan answer
}

// answer is what the server said, or why it did not.
type answer struct {
	typ  packet.Type
	args [][]byte
	err  error
}

// shared is a foreground job on this connection, and all who wait for it here. Equal jobs are not submitted twice on
// one connection: the server would send everything twice.
type shared struct {
	key     string
	handle  string
	created chan struct{} // closed when handle or err is known
	err     error
	tasks   []*Task
}

func newConn(server string, out *outbox, maxReply int64) *conn {
	return &conn{
		server: server, maxReply: maxReply, out: out, done: make(chan struct{}),
		jobs: make(map[string]*shared), byKey: make(map[string]*shared),
	}
}

// read takes what the server sends until the connection ends.
func (c *conn) read() {
	defer close(c.done)
	r := bufio.NewReaderSize(c.out.nc, 16<<10)
	for {
		typ, data, err := readPacket(r, c.maxReply)
		if err == nil {
			err = c.take(typ, data)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("closed by the server")
			}
			c.end(err)
			return
		}
	}
}

// end tells all who wait why they wait in vain.
func (c *conn) end(err error) {
	err = c.lost(c.out.close(err))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	for _, r := range c.replies {
		c.settle(r, answer{err: err})
	}
	c.replies = nil
	for _, j := range c.jobs {
		j.tell(Event{}, err)
	}
	clear(c.jobs)
	clear(c.byKey)
	c.load = 0
}

// lost says which server was lost, if it was that what has ended the connection.
func (c *conn) lost(err error) error {
	if errors.Is(err, ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrDisconnected, c.server, err)
}

// settle gives a request its answer. The lock is held.
func (c *conn) settle(r *reply, a answer) {
	if r.job != nil {
		c.created(r.job, a)
		return
	}
	c.load--
	r.answer <- a // has room
}

func (c *conn) created(j *shared, a answer) {
	switch {
	case a.err != nil:
		j.err = a.err
	case a.typ != packet.JobCreated:
		j.err = fmt.Errorf("gearman: job server answered a submission with %v", a.typ)
	default:
		j.handle = string(a.args[0])
		if have := c.jobs[j.handle]; have != nil { // the server joined it to one of ours all the same
			have.tasks = append(have.tasks, j.tasks...)
			if j.key != "" {
				c.byKey[j.key] = have
			}
		} else {
			c.jobs[j.handle] = j
		}
	}
	if j.err != nil {
		j.tell(Event{}, j.err)
		c.forget(j)
	}
	close(j.created)
}

// forget lets go of a job that has ended. The lock is held.
func (c *conn) forget(j *shared) {
	c.load -= len(j.tasks)
	j.tasks = nil
	if j.handle != "" {
		delete(c.jobs, j.handle)
	}
	if j.key != "" && c.byKey[j.key] == j {
		delete(c.byKey, j.key)
	}
}

// tell gives an event to all who wait. The lock is held.
func (j *shared) tell(e Event, end error) {
	for _, t := range j.tasks {
		t.put(e, end)
	}
}

// take does what a packet says.
func (c *conn) take(typ packet.Type, data []byte) error {
	var room [8][]byte
	args, err := packet.Split(typ, data, room[:])
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch typ {
	case packet.WorkData:
		c.event(args[0], Event{Type: EventData, Data: args[1]}, nil)
	case packet.WorkWarning:
		c.event(args[0], Event{Type: EventWarning, Data: args[1]}, nil)
	case packet.WorkStatus:
		num, _ := number(args[1]) // a worker that sends nonsense has made no progress
		den, _ := number(args[2])
		c.event(args[0], Event{Type: EventStatus, Num: num, Den: den}, nil)
	case packet.WorkComplete:
		c.event(args[0], Event{Type: EventComplete, Data: args[1]}, io.EOF)
	case packet.WorkFail:
		c.event(args[0], Event{}, ErrFailed)
	case packet.WorkException:
		c.event(args[0], Event{}, &Exception{args[1]})
	case packet.JobCreated, packet.StatusRes, packet.StatusResUnique, packet.EchoRes, packet.OptionRes, packet.Error:
		return c.answered(typ, args)
	default:
		return fmt.Errorf("gearman: job server sent a client %v", typ)
	}
	return nil
}

// event passes on what happened to a job, if anybody here waits for it.
func (c *conn) event(handle []byte, e Event, end error) {
	if n := len(handle); n > 0 && handle[n-1] == 0 { // gearmand 1.1.20 sends WORK_FAIL so for an exception
		handle = handle[:n-1]
	}
	j := c.jobs[string(handle)]
	if j == nil {
		return
	}
	j.tell(e, end)
	if end != nil {
		c.forget(j)
	}
}

// answered gives the answer to the request that waits longest.
func (c *conn) answered(typ packet.Type, args [][]byte) error {
	if len(c.replies) == 0 {
		return fmt.Errorf("gearman: job server sent %v to nobody: %q", typ, args)
	}
	r := c.replies[0]
	c.replies = c.replies[1:]
	a := answer{typ: typ}
	if typ == packet.Error {
		a.err = &ServerError{Code: string(args[0]), Text: string(args[1])}
	} else {
		a.args = make([][]byte, len(args))
		copy(a.args, args)
	}
	c.settle(r, a)
	return nil
}

// ask sends a request that has one answer, and waits for it.
func (c *conn) ask(ctx context.Context, build func(buf []byte) []byte) (answer, error) {
	r := &reply{answer: make(chan answer, 1)}
	err := c.out.send(func(buf []byte) []byte {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err != nil {
			r.answer <- answer{err: c.err}
			return buf
		}
		c.replies = append(c.replies, r)
		c.load++
		return build(buf)
	})
	if err != nil {
		return answer{}, c.lost(err)
	}
	select {
	case a := <-r.answer:
		return a, a.err
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// start submits a foreground job, or joins an equal one of this connection.
func (c *conn) start(ctx context.Context, job *Job) (*Task, error) {
	t := newTask()
	var j *shared
	err := c.out.send(func(buf []byte) []byte {
		c.mu.Lock()
		defer c.mu.Unlock()
		key := job.key()
		if j = c.byKey[key]; j == nil || key == "" {
			j = &shared{key: key, created: make(chan struct{})}
			if c.err != nil {
				j.err = c.err
				close(j.created)
				return buf
			}
			if key != "" {
				c.byKey[key] = j
			}
			c.replies = append(c.replies, &reply{job: j})
			buf = job.appendTo(buf, false)
		}
		j.tasks = append(j.tasks, t)
		c.load++
		return buf
	})
	if err != nil {
		return nil, c.lost(err)
	}
	t.leave = func() { c.leave(j, t) }
	select {
	case <-j.created:
	case <-ctx.Done():
		t.leave()
		return nil, ctx.Err()
	}
	t.handle = Handle{c.server, j.handle}
	return t, j.err
}

// leave takes a task off a job.
func (c *conn) leave(j *shared, t *Task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.jobs[j.handle]; have != nil {
		j = have
	}
	for i, other := range j.tasks {
		if other == t {
			j.tasks = append(j.tasks[:i], j.tasks[i+1:]...)
			c.load--
			return
		}
	}
}

// busy is how much waits on the connection; broken ones are endlessly busy.
func (c *conn) busy() (load int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.load, c.err == nil
}
