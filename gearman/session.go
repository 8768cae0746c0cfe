package gearman

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/gearman/packet"
)

// session is a worker's connection to a server: one that asks for jobs, one that reads, and the jobs that run.
type session struct {
	w    *Worker
	addr string
	out  *outbox

	in      pulse
	granted chan bool     // the answer to GRAB_JOB_ALL: there was a job, or none
	wake    chan struct{} // NOOP; capacity 1
	lost    chan struct{} // closed when reading has ended
	err     error         // why; read after lost
	calls   sync.WaitGroup
}

func newSession(w *Worker, addr string, nc net.Conn) *session {
	return &session{
		w: w, addr: addr, out: newOutbox(nc), in: pulse{nc: nc, first: make(chan struct{})},
		granted: make(chan bool, 1), wake: make(chan struct{}, 1), lost: make(chan struct{}),
	}
}

// pulse is a connection's reading side, which tells when something was read.
type pulse struct {
	nc    net.Conn
	last  atomic.Int64 // Unix time in ns; 0: nothing yet
	first chan struct{}
}

func (p *pulse) Read(b []byte) (int, error) {
	n, err := p.nc.Read(b)
	if n > 0 && p.last.Swap(time.Now().UnixNano()) == 0 {
		close(p.first)
	}
	return n, err
}

// run does jobs until ctx ends or the connection does. Then it waits for those that run.
func (s *session) run(ctx, base context.Context) error {
	jobs, cancel := context.WithCancel(base)
	defer cancel()
	go func() {
		defer close(s.lost)
		s.err = s.read(jobs)
		cancel() // the server gives what runs to others
	}()
	err := s.greet(ctx)
	if err == nil {
		err = s.ask(ctx)
	}
	if err != nil {
		_ = s.out.close(err) // the server gives what runs to others
	}
	s.calls.Wait()
	_ = s.out.close(errors.New("gearman: worker has stopped"))
	<-s.lost
	if err == nil {
		err = s.err
	}
	return err
}

// hello tells the server what this worker can do.
func (s *session) hello(buf []byte) []byte {
	if id := s.w.opts.ClientID; id != "" {
		buf = packet.Append(buf, packet.Req, packet.SetClientID, id)
	}
	for name, f := range s.w.funcs {
		if f.timeout > 0 {
			// Milliseconds, says the PROTOCOL; a value that is no whole second is raised, so that all servers agree.
			ms := (f.timeout + time.Second - 1) / time.Second * 1000
			buf = packet.Append(buf, packet.Req, packet.CanDoTimeout, name, strconv.FormatInt(int64(ms), 10))
		} else {
			buf = packet.Append(buf, packet.Req, packet.CanDo, name)
		}
	}
	return packet.Append(buf, packet.Req, packet.EchoReq, "")
}

// errSilent says that a server takes connections, or has, and does nothing.
var errSilent = errors.New("gearman: job server does not answer")

// greet introduces the worker, and waits for a sign of life: a server that hangs gets no slot.
func (s *session) greet(ctx context.Context) error {
	if err := s.out.send(s.hello); err != nil {
		return err
	}
	late := time.NewTimer(s.w.opts.DialTimeout)
	defer late.Stop()
	select {
	case <-s.in.first:
	case <-late.C:
		return errSilent
	case <-s.lost:
	case <-ctx.Done():
	}
	return nil
}

// ask asks for jobs as long as there is a slot free, and sleeps when there are none.
func (s *session) ask(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case s.w.slots <- struct{}{}:
		case <-s.lost:
			return nil
		case <-ctx.Done():
			return nil
		}
		got, err := s.grab()
		if err != nil || !got {
			<-s.w.slots
		}
		if err != nil {
			return err
		}
		if got {
			continue // the slot is the job's now
		}
		if err := s.sleep(ctx); err != nil {
			return err
		}
	}
	return nil
}

var errLost = errors.New("gearman: connection lost")

// grab asks for a job. What was asked for is waited for even when the worker stops, since it may come, but not longer than
// AnswerTimeout from when something was read last: others can use the slot.
func (s *session) grab() (bool, error) {
	err := s.out.send(func(buf []byte) []byte { return packet.AppendHeader(buf, packet.Req, packet.GrabJobAll, 0) })
	if err != nil {
		return false, err
	}
	asked := time.Now()
	late := time.NewTimer(s.w.opts.AnswerTimeout)
	defer late.Stop()
	err = errLost
	for {
		select {
		case got := <-s.granted:
			return got, nil
		case <-late.C:
			since := time.Since(asked)
			if last := s.in.last.Load(); last > asked.UnixNano() {
				since = time.Since(time.Unix(0, last))
			}
			if left := s.w.opts.AnswerTimeout - since; left > 0 {
				late.Reset(left)
				continue
			}
			err = errSilent
			_ = s.out.close(err)
			<-s.lost
		case <-s.lost:
		}
		select {
		case got := <-s.granted: // it came just before; its goroutine has the slot
			return got, nil
		default:
			return false, err
		}
	}
}

func (s *session) sleep(ctx context.Context) error {
	err := s.out.send(func(buf []byte) []byte { return packet.AppendHeader(buf, packet.Req, packet.PreSleep, 0) })
	if err != nil {
		return err
	}
	again := time.NewTimer(s.w.opts.Poll)
	defer again.Stop()
	select {
	case <-s.wake:
	case <-again.C:
	case <-s.lost:
	case <-ctx.Done():
	}
	return nil
}

// read takes what the server sends until the connection ends.
func (s *session) read(jobs context.Context) error {
	r := bufio.NewReaderSize(&s.in, 16<<10)
	for {
		typ, data, err := readPacket(r, s.w.opts.MaxJob)
		if err == nil {
			err = s.take(jobs, typ, data)
		}
		if err != nil {
			return s.out.close(err)
		}
	}
}

func (s *session) take(jobs context.Context, typ packet.Type, data []byte) error {
	args, err := packet.Split(typ, data, nil)
	if err != nil {
		return err
	}
	switch typ {
	case packet.Noop:
		select {
		case s.wake <- struct{}{}:
		default:
		}
		return nil
	case packet.EchoRes:
		return nil
	case packet.NoJob:
		return s.grant(false)
	case packet.JobAssign:
		return s.begin(jobs, &Call{Handle: string(args[0]), Func: string(args[1]), Arg: args[2]})
	case packet.JobAssignUniq:
		return s.begin(jobs, &Call{Handle: string(args[0]), Func: string(args[1]), Unique: string(args[2]), Arg: args[3]})
	case packet.JobAssignAll:
		return s.begin(jobs, &Call{
			Handle: string(args[0]), Func: string(args[1]), Unique: string(args[2]), Reducer: string(args[3]), Arg: args[4],
		})
	case packet.Error:
		// A result came too late: the server has given the job to another worker, after a timeout or so.
		s.w.opts.Logger.Warn("job server refused something", "addr", s.addr, "code", string(args[0]), "err", string(args[1]))
		return nil
	}
	return fmt.Errorf("gearman: job server sent a worker %v", typ)
}

func (s *session) grant(got bool) error {
	select {
	case s.granted <- got:
		return nil
	default:
		return errors.New("gearman: job server answered what was not asked")
	}
}

// begin runs a job in a goroutine of its own; its slot is free when it has ended.
func (s *session) begin(jobs context.Context, c *Call) error {
	s.calls.Add(1) // before who asked learns of it, who may wait for all calls next
	if err := s.grant(true); err != nil {
		s.calls.Done()
		return err
	}
	c.session = s
	go func() {
		defer s.calls.Done()
		out, err := s.w.call(jobs, c)
		c.finish(out, err)
		<-s.w.slots
	}()
	return nil
}

// Call is a job that a worker does.
type Call struct {
	Func    string
	Arg     []byte // the function's own
	Handle  string // on the server it came from
	Unique  string
	Reducer string // the function that what it makes goes to, if the client wanted that

	session *session
}

// Status tells the clients how far it is, num of den, and the server, for those who ask later.
func (c *Call) Status(num, den uint64) error {
	return c.send(packet.WorkStatus, strconv.AppendUint(nil, num, 10), strconv.AppendUint(nil, den, 10))
}

// Data sends a part of the result ahead.
func (c *Call) Data(part []byte) error { return c.send(packet.WorkData, part) }

// Warning tells the clients what they should know and what is no failure.
func (c *Call) Warning(text []byte) error { return c.send(packet.WorkWarning, text) }

func (c *Call) send(typ packet.Type, args ...[]byte) error {
	args = append([][]byte{[]byte(c.Handle)}, args...)
	return c.session.out.send(func(buf []byte) []byte { return packet.Append(buf, packet.Req, typ, args...) })
}

// finish tells the server how it went. One that is lost knows without being told.
func (c *Call) finish(out []byte, err error) {
	handle := []byte(c.Handle)
	_ = c.session.out.send(func(buf []byte) []byte {
		switch ex := (*Exception)(nil); {
		case err == nil:
			return packet.Append(buf, packet.Req, packet.WorkComplete, handle, out)
		case errors.Is(err, ErrFailed):
			return packet.Append(buf, packet.Req, packet.WorkFail, handle)
		case errors.As(err, &ex):
			return packet.Append(buf, packet.Req, packet.WorkException, handle, ex.Data)
		}
		return packet.Append(buf, packet.Req, packet.WorkException, handle, []byte(err.Error()))
	})
}
