package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/gearman/packet"
)

// gearmanLoad asks a job server for work, over raw packets so that it costs little itself, and does the work too: an echo.
type gearmanLoad struct {
	addr       string
	clients    int
	workers    int
	size       int // bytes of a workload
	background bool
}

const gearmanFunc = "echo"

// gearmanAhead is how many background jobs may be submitted and not done.
const gearmanAhead = 2000

// run works for a time. In the foreground, times are those from SUBMIT_JOB to WORK_COMPLETE; in the background, to JOB_CREATED.
func (g *gearmanLoad) run(ctx context.Context, span time.Duration) (times []time.Duration, jobs int64, elapsed time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all, working sync.WaitGroup
	var submitted, done atomic.Int64
	var mu sync.Mutex // guards times
	stopped := make(chan struct{})
	ready := make(chan struct{}, g.workers)
	for range g.workers {
		working.Go(func() {
			if err := g.work(ctx, stopped, &done, ready); err != nil {
				cancel(fmt.Errorf("worker: %w", err))
			}
		})
	}
	for range g.workers {
		select {
		case <-ready:
		case <-ctx.Done():
		}
	}
	begun := time.Now()
	end := begun.Add(span)
	for i := range g.clients {
		all.Go(func() {
			own, err := g.ask(ctx, i, end, &submitted, &done)
			if err != nil {
				cancel(fmt.Errorf("client: %w", err))
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, own...)
		})
	}
	all.Wait()
	for g.background && ctx.Err() == nil && done.Load() < submitted.Load() {
		time.Sleep(time.Millisecond)
	}
	jobs, elapsed = done.Load(), time.Since(begun)
	close(stopped)
	working.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, 0, 0, err
	}
	if n := submitted.Load(); jobs != n {
		return nil, 0, 0, fmt.Errorf("%d jobs submitted, %d done", n, jobs)
	}
	return times, jobs, elapsed, nil
}

// gearmanConn is one connection.
type gearmanConn struct {
	net.Conn
	r   *bufio.Reader
	buf []byte
}

func (g *gearmanLoad) dial(ctx context.Context) (*gearmanConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", g.addr)
	if err != nil {
		return nil, err
	}
	return &gearmanConn{Conn: c, r: bufio.NewReaderSize(c, 64<<10)}, nil
}

// read reads a packet; its data is valid until the next one.
func (c *gearmanConn) read() (packet.Type, []byte, error) {
	head, err := c.r.Peek(packet.HeaderSize)
	if err != nil {
		return 0, nil, err
	}
	h := packet.ParseHeader(head)
	c.r.Discard(packet.HeaderSize) // they are there
	c.buf = slices.Grow(c.buf[:0], int(h.Size))[:h.Size]
	if _, err := io.ReadFull(c.r, c.buf); err != nil {
		return 0, nil, err
	}
	if h.Type == packet.Error {
		return 0, nil, fmt.Errorf("the server answers %q", c.buf)
	}
	return h.Type, c.buf, nil
}

// ask submits jobs one after the other until the time is over.
func (g *gearmanLoad) ask(ctx context.Context, id int, end time.Time, submitted, done *atomic.Int64) (times []time.Duration, err error) {
	c, err := g.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	t := packet.SubmitJob
	if g.background {
		t = packet.SubmitJobBG
	}
	data := content(int64(id), g.size)
	request := packet.Append(nil, packet.Req, t, []byte(gearmanFunc), nil, data)
	for begun := time.Now(); begun.Before(end); begun = time.Now() {
		if g.background && submitted.Load()-done.Load() > gearmanAhead {
			time.Sleep(time.Millisecond)
			continue
		}
		submitted.Add(1)
		if _, err := c.Write(request); err != nil {
			return nil, err
		}
		for {
			t, answer, err := c.read()
			if err != nil {
				return nil, err
			}
			if g.background && t == packet.JobCreated {
				break
			}
			if t == packet.WorkComplete {
				if len(answer) < g.size {
					return nil, errors.New("the result is short")
				}
				done.Add(1)
				break
			}
		}
		times = append(times, time.Since(begun))
	}
	return times, nil
}

// work echoes jobs until it is stopped.
func (g *gearmanLoad) work(ctx context.Context, stopped chan struct{}, done *atomic.Int64, ready chan<- struct{}) error {
	c, err := g.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	go func() {
		<-stopped
		c.Close()
	}()
	out := packet.Append(nil, packet.Req, packet.CanDo, gearmanFunc)
	grab := packet.Append[string](nil, packet.Req, packet.GrabJob)
	sleep := packet.Append[string](nil, packet.Req, packet.PreSleep)
	echo := packet.Append(nil, packet.Req, packet.EchoReq, "")
	out = append(append(out, echo...), grab...)
	given := 0
	for {
		if len(out) > 0 {
			if _, err = c.Write(out); err != nil {
				break
			}
			out = out[:0]
		}
		var t packet.Type
		var data []byte
		if t, data, err = c.read(); err != nil {
			break
		}
		if g.background && given > 0 && t != packet.Noop { // the answer to a GRAB_JOB says that the WORK_COMPLETE before it has arrived
			done.Add(1)
			given--
		}
		switch t {
		case packet.EchoRes:
			ready <- struct{}{}
		case packet.Noop:
			out = append(out, grab...)
		case packet.NoJob:
			out = append(out, sleep...)
		case packet.JobAssign:
			handle := slices.Index(data, 0)
			workload := handle + 1 + len(gearmanFunc) + 1
			out = packet.AppendHeader(out, packet.Req, packet.WorkComplete, handle+1+len(data)-workload)
			out = append(append(out, data[:handle+1]...), data[workload:]...)
			out = append(out, grab...)
			given++
		}
	}
	select {
	case <-stopped:
		return nil
	default:
		return err
	}
}

// fallAsleep makes the connection a worker that waits for a job.
func (c *gearmanConn) fallAsleep() error {
	out := packet.Append(nil, packet.Req, packet.CanDo, "idle")
	out = packet.Append[string](out, packet.Req, packet.PreSleep)
	if _, err := c.Write(packet.Append(out, packet.Req, packet.EchoReq, "x")); err != nil {
		return err
	}
	if t, _, err := c.read(); err != nil || t != packet.EchoRes {
		return fmt.Errorf("%v: %w", t, err)
	}
	c.r, c.buf = nil, nil
	return nil
}
