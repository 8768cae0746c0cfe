package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How long a process may take to be ready, and to end after it was asked to.
const (
	readyWithin = time.Minute
	endWithin   = 30 * time.Second
)

// child is a process that serves while a line is measured.
type child struct {
	name   string
	cmd    *exec.Cmd
	out    *output
	exited chan struct{}
	err    error // valid once exited is closed
}

// output collects the beginning of what a process prints, and tells when a line that begins with "ready" is complete.
type output struct {
	mu    sync.Mutex // guards the rest
	text  []byte
	ready chan string // capacity 1
	told  bool
}

const maxOutput = 16 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.text) < maxOutput {
		o.text = append(o.text, p...)
	}
	if o.told {
		return len(p), nil
	}
	for line := range bytes.Lines(o.text) {
		if s := string(line); strings.HasPrefix(s, "ready ") && strings.HasSuffix(s, "\n") {
			o.told = true
			o.ready <- strings.TrimSpace(s)
			break
		}
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.TrimSpace(string(o.text))
}

// command prepares a process that dies with this one: SIGTERM is sent to it when this process is gone, however that came.
// (The kernel means the thread that starts it; the threads of this process last as long as it does.)
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endWithin
	return cmd
}

// start starts a process that belongs to the current line.
func (l *lab) start(name string, args ...string) (*child, error) {
	// Not bound to the line's context: close ends it, and in the right order.
	cmd := command(context.Background(), name, args...)
	c := &child{name: name, cmd: cmd, out: &output{ready: make(chan string, 1)}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = c.out, c.out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		c.err = cmd.Wait()
		close(c.exited)
	}()
	l.children = append(l.children, c)
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// waitReady waits for the line "ready NAME=URL …" and returns the URLs by name.
func (c *child) waitReady(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("%s is not ready after %v", c.name, readyWithin))
	defer cancel()
	select {
	case line := <-c.out.ready:
		urls := map[string]string{}
		for _, f := range strings.Fields(line)[1:] {
			name, url, _ := strings.Cut(f, "=")
			urls[name] = url
		}
		return urls, nil
	case <-c.exited:
		return nil, fmt.Errorf("%s ended: %w: %s", c.name, c.err, c.out)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// end asks the process to end, and kills it if it does not.
func (c *child) end() error {
	select {
	case <-c.exited:
		return nil // it was ended before, or whoever used it has noticed
	default:
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended meanwhile
	t := time.NewTimer(endWithin)
	defer t.Stop()
	select {
	case <-c.exited:
	case <-t.C:
		_ = c.cmd.Process.Kill()
		<-c.exited
		return fmt.Errorf("%s did not end within %v and was killed", c.name, endWithin)
	}
	if status, ok := errors.AsType[*exec.ExitError](c.err); ok && status.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		return fmt.Errorf("%s: %w: %s", c.name, c.err, c.out)
	}
	return nil
}

// waitAnswers waits until something answers on addr, for a program that prints no line when it is ready.
func (c *child) waitAnswers(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("%s does not answer after %v", c.name, readyWithin))
	defer cancel()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		if nc, err := net.Dial("tcp", addr); err == nil {
			return nc.Close()
		}
		select {
		case <-c.exited:
			return fmt.Errorf("%s ended: %w: %s", c.name, c.err, c.out)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}

// measureProcess lets run load a process for a while: how often something was done, how long each took, and the processor's time for each.
func measureProcess(pid int, run func() (times []time.Duration, done int64, elapsed time.Duration, err error)) (reading, error) {
	before, err := cpuTime([]int{pid})
	if err != nil {
		return reading{}, err
	}
	times, done, elapsed, err := run()
	if err != nil {
		return reading{}, err
	}
	after, err := cpuTime([]int{pid})
	if err != nil {
		return reading{}, err
	}
	if done == 0 {
		return reading{}, errors.New("nothing was done")
	}
	return reading{
		Rate: float64(done) / elapsed.Seconds(), CPU: micros(after-before) / float64(done),
		P50: micros(percentile(times, 0.5)), P99: micros(percentile(times, 0.99)),
	}, nil
}
