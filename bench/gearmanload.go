package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"wheelhouse/gearman/packet"
)

// gearmanLoad asks a job server for work and does the work too: an echo. All its connections belong to one thread that waits
// for them by epoll and makes one read and one write for each that is ready: with goroutines, it would need more of the
// machine than the server does, and that is what would be measured.
type gearmanLoad struct {
	addr       string
	clients    int
	workers    int
	size       int // bytes of a workload
	background bool
}

const gearmanFunc = "echo"

// gearmanAhead is how many background jobs may be submitted and not done; beyond, their clients pause.
const gearmanAhead = 2000

// gearmanSilence is how long nothing may happen.
const gearmanSilence = 5 * time.Second

// gearmanRun is a load that runs.
type gearmanRun struct {
	*gearmanLoad
	epoll   int
	conns   map[int32]*gearmanConn
	paused  []*gearmanConn
	request []byte // of a client
	over    bool   // no more requests
	asked   int64
	done    int64
	waiting int // clients that wait for an answer
	times   []time.Duration
}

// gearmanConn is one connection, of a client or a worker.
type gearmanConn struct {
	fd     int
	worker bool
	in     []byte // what has been read; complete packets are taken from its front
	out    []byte
	begun  time.Time
	given  int // jobs completed whose GRAB_JOB has not been answered
}

// run works for a time. In the foreground, times are those from SUBMIT_JOB to WORK_COMPLETE; in the background, to JOB_CREATED.
func (g *gearmanLoad) run(ctx context.Context, span time.Duration) (times []time.Duration, jobs int64, elapsed time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := &gearmanRun{gearmanLoad: g, conns: map[int32]*gearmanConn{}}
	defer r.close()
	if err := r.open(); err != nil {
		return nil, 0, 0, err
	}
	begun := time.Now()
	if err := r.loop(ctx, begun.Add(span)); err != nil {
		return nil, 0, 0, err
	}
	return r.times, r.done, time.Since(begun), nil
}

func (r *gearmanRun) close() {
	for _, c := range r.conns {
		unix.Close(c.fd)
	}
	if r.epoll > 0 {
		unix.Close(r.epoll)
	}
}

// open makes the connections: workers first, which are ready when it returns.
func (r *gearmanRun) open() (err error) {
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	t := packet.SubmitJob
	if r.background {
		t = packet.SubmitJobBG
	}
	r.request = packet.Append(nil, packet.Req, t, []byte(gearmanFunc), nil, content(1, r.size))
	for range r.workers {
		c, err := r.dial(true)
		if err != nil {
			return err
		}
		if err := c.announce(gearmanFunc); err != nil {
			return err
		}
	}
	for range r.clients {
		if _, err := r.dial(false); err != nil {
			return err
		}
	}
	for _, c := range r.conns {
		if err := unix.SetNonblock(c.fd, true); err != nil {
			return err
		}
		if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd)}); err != nil {
			return err
		}
	}
	return nil
}

func (r *gearmanRun) dial(worker bool) (*gearmanConn, error) {
	addr, err := netip.ParseAddrPort(r.addr)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	c := &gearmanConn{fd: fd, worker: worker}
	r.conns[int32(fd)] = c
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		return nil, err
	}
	return c, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

var (
	gearmanGrab  = packet.Append[string](nil, packet.Req, packet.GrabJob)
	gearmanSleep = packet.Append[string](nil, packet.Req, packet.PreSleep)
)

// announce makes the connection a worker that sleeps, and waits until it is. The socket still waits for its peer.
func (c *gearmanConn) announce(name string) error {
	out := append(packet.Append(nil, packet.Req, packet.CanDo, name), gearmanSleep...)
	if _, err := unix.Write(c.fd, packet.Append(out, packet.Req, packet.EchoReq, "x")); err != nil {
		return err
	}
	var answer [packet.HeaderSize + 1]byte
	n, err := unix.Read(c.fd, answer[:])
	if err != nil {
		return err
	}
	if n != len(answer) || packet.ParseHeader(answer[:]).Type != packet.EchoRes {
		return fmt.Errorf("the server answers %q to ECHO_REQ", answer[:n])
	}
	return nil
}

// loop submits until the time is over, and goes on until all jobs are done.
func (r *gearmanRun) loop(ctx context.Context, end time.Time) error {
	for _, c := range r.conns {
		if !c.worker {
			r.ask(c, time.Now())
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	events := make([]unix.EpollEvent, 128)
	for !r.over || r.waiting > 0 || r.done < r.asked {
		n, err := unix.EpollWait(r.epoll, events, int(gearmanSilence.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		switch {
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("nothing happens: %d jobs submitted, %d done", r.asked, r.done)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		now := time.Now()
		r.over = r.over || now.After(end)
		for _, e := range events[:n] {
			if err := r.serve(r.conns[e.Fd], now); err != nil {
				return err
			}
		}
		if err := r.resume(now); err != nil {
			return err
		}
	}
	return nil
}

// ask submits a job.
func (r *gearmanRun) ask(c *gearmanConn, now time.Time) {
	switch {
	case r.over:
		return
	case r.background && r.asked-r.done >= gearmanAhead:
		r.paused = append(r.paused, c)
		return
	}
	c.out, c.begun = append(c.out, r.request...), now
	r.asked++
	r.waiting++
}

// resume lets paused clients go on.
func (r *gearmanRun) resume(now time.Time) error {
	if len(r.paused) == 0 || r.asked-r.done > gearmanAhead/2 {
		return nil
	}
	list := r.paused
	r.paused = nil
	for _, c := range list {
		r.ask(c, now)
		if err := c.flush(); err != nil {
			return err
		}
	}
	return nil
}

// serve reads once, handles what is complete, and writes once.
func (r *gearmanRun) serve(c *gearmanConn, now time.Time) error {
	if cap(c.in)-len(c.in) < 4<<10 {
		c.in = append(make([]byte, 0, max(64<<10, 2*len(c.in))), c.in...)
	}
	n, err := unix.Read(c.fd, c.in[len(c.in):cap(c.in)])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err != nil:
		return err
	case n == 0:
		return errors.New("the server has closed a connection")
	}
	c.in = c.in[:len(c.in)+n]
	b := c.in
	for len(b) >= packet.HeaderSize {
		h := packet.ParseHeader(b)
		end := packet.HeaderSize + int(h.Size)
		if len(b) < end {
			break
		}
		if err := r.packet(c, h.Type, b[packet.HeaderSize:end], now); err != nil {
			return err
		}
		b = b[end:]
	}
	c.in = c.in[:copy(c.in, b)]
	return c.flush()
}

func (r *gearmanRun) packet(c *gearmanConn, t packet.Type, data []byte, now time.Time) error {
	if c.given > 0 && t != packet.Noop { // the answer to a GRAB_JOB says that the WORK_COMPLETE before it has arrived
		c.given--
		if r.background {
			r.done++
		}
	}
	switch t {
	case packet.Noop:
		c.out = append(c.out, gearmanGrab...)
	case packet.NoJob:
		c.out = append(c.out, gearmanSleep...)
	case packet.JobAssign:
		handle := 0
		for data[handle] != 0 {
			handle++
		}
		workload := handle + 1 + len(gearmanFunc) + 1
		c.out = packet.AppendHeader(c.out, packet.Req, packet.WorkComplete, handle+1+len(data)-workload)
		c.out = append(append(c.out, data[:handle+1]...), data[workload:]...)
		c.out = append(c.out, gearmanGrab...)
		c.given++
	case packet.JobCreated:
		if r.background {
			r.answered(c, now)
		}
	case packet.WorkComplete:
		if len(data) < r.size {
			return errors.New("a result is short")
		}
		r.done++
		r.answered(c, now)
	default:
		return fmt.Errorf("the server answers %v %.100q", t, data)
	}
	return nil
}

func (r *gearmanRun) answered(c *gearmanConn, now time.Time) {
	r.waiting--
	r.times = append(r.times, now.Sub(c.begun))
	r.ask(c, now)
}

// flush writes what is to be written. A socket that does not take it all is waited for: there is never more than a few
// packets on the way.
func (c *gearmanConn) flush() error {
	for len(c.out) > 0 {
		n, err := unix.Write(c.fd, c.out)
		if err == unix.EAGAIN {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}, int(gearmanSilence.Milliseconds()))
		}
		if err != nil && err != unix.EINTR {
			return err
		}
		c.out = c.out[:copy(c.out, c.out[max(n, 0):])]
	}
	return nil
}
