package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"wheelhouse/jobs"
)

const jobsWorkHelp = `
Runs COMMAND for each job of FUNC, until it is interrupted: then jobs that run are waited for.

The job's argument is COMMAND's standard input; what it writes goes where this program writes. It finds in its environment
JOB_ID, JOB_FUNC, JOB_FAILURES (how often it has failed so far), JOB_PRIORITY, JOB_UNIQUE, JOB_COALESCE and JOB_KEY.

Its exit status says what becomes of the job:
  0      done
  75     not now (EX_TEMPFAIL): it comes back after --later, and this is no failure
  65     it never will be done (EX_DATAERR): dead at once
  other  it failed: tried again after 2 s, 4 s, 8 s … up to an hour; with --max-failures failures it is dead
The last line that COMMAND writes on standard error is kept as the text of the failure. The exit status of a dead job is
COMMAND's, or 128 and the number of the signal that killed it.

When the job is cancelled, or its lease is lost, COMMAND and its children get SIGTERM and, ten seconds later, SIGKILL.
`

// Exit statuses of commands, those of sysexits(3).
const (
	exitDataErr  = 65
	exitTempFail = 75
)

// jobsWork does jobs by running a command.
func jobsWork(ctx context.Context, env *environment, args []string) error {
	f := newDatabaseFlags("work", env)
	var funcs []string
	f.Func("func", "do jobs of this `function`; may be repeated", func(s string) error { funcs = append(funcs, s); return nil })
	h := jobs.Handler{}
	f.IntVar(&h.Concurrency, "concurrency", 1, "commands that run at a time, for each function")
	f.DurationVar(&h.Lease, "lease", time.Minute, "how long a job waits for another worker when this one dies; renewed while COMMAND runs")
	f.IntVar(&h.MaxFailures, "max-failures", 25, "failures that a job may have; -1: any number")
	later := f.Duration("later", time.Minute, "when a job comes back whose command ended with 75")
	stopTimeout := f.Duration("stop-timeout", 30*time.Second, "how long running commands are waited for at the end")
	untilDone := f.Bool("until-done", false, "end when no job is ready or running")
	usage := f.Usage
	f.Usage = func() { usage(); fmt.Fprint(env.stderr, jobsWorkHelp) }
	command, err := parseFlags(f.FlagSet, args)
	if err != nil {
		return err
	}
	if len(command) == 0 {
		return usagef("too few arguments: which command?")
	}
	if f.database == "" {
		return usagef("--database URL is wanted: the store does its own jobs")
	}
	if len(funcs) == 0 {
		return usagef("--func is wanted")
	}
	if h.Lease < jobs.MinLease || h.Lease > jobs.MaxLease {
		return usagef("--lease %v: want %v to %v", h.Lease, jobs.MinLease, jobs.MaxLease)
	}
	if _, err := exec.LookPath(command[0]); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	q, err := f.openDatabase(ctx)
	if err != nil {
		return err
	}
	c := &commandWorker{command: command, later: *later, stdout: &lockedWriter{w: env.stdout}, stderr: &lockedWriter{w: env.stderr}}
	w := jobs.New(q, jobs.Options{StopTimeout: *stopTimeout, Logger: slog.New(slog.NewTextHandler(c.stderr, nil))})
	h.Work = c.work
	for _, fn := range funcs {
		if err := w.Handle(fn, h); err != nil {
			return errors.Join(err, q.Close())
		}
	}
	fmt.Fprintf(c.stdout, "ready jobs=%s\n", strings.Join(funcs, ","))
	if *untilDone {
		err = runUntilDone(ctx, w, q, funcs)
	} else {
		err = w.Run(ctx)
	}
	return errors.Join(err, q.Close())
}

// runUntilDone ends when no job of the functions is ready or running.
func runUntilDone(ctx context.Context, w *jobs.Worker, q jobs.Inspector, funcs []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
		}
		left, err := jobsLeft(ctx, q, funcs)
		if err != nil || left == 0 {
			cancel()
			return errors.Join(err, <-done)
		}
	}
}

func jobsLeft(ctx context.Context, q jobs.Inspector, funcs []string) (n int64, err error) {
	stats, err := q.Stats(ctx)
	for _, s := range stats {
		for _, fn := range funcs {
			if s.Func == fn && !s.Paused {
				n += s.Ready + s.Running
			}
		}
	}
	return n, err
}

// commandWorker does jobs by running a command.
type commandWorker struct {
	command        []string
	later          time.Duration
	stdout, stderr io.Writer
}

// killAfter is how long a command may take to end once it has been asked to.
const killAfter = 10 * time.Second

func (c *commandWorker) work(ctx context.Context, j *jobs.Job) error {
	cmd := exec.CommandContext(ctx, c.command[0], c.command[1:]...)
	last := &lastLine{w: c.stderr}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(j.Arg), c.stdout, last
	cmd.Env = append(os.Environ(), "JOB_ID="+strconv.FormatInt(int64(j.ID), 10), "JOB_FUNC="+j.Func, "JOB_FAILURES="+strconv.Itoa(j.Failures),
		"JOB_PRIORITY="+strconv.Itoa(j.Priority), "JOB_UNIQUE="+j.Unique, "JOB_COALESCE="+j.Coalesce, "JOB_KEY="+j.Key)
	// A group of its own: an interrupt at the terminal is for us, who wait for it, and it ends with its children.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var kill *time.Timer
	cmd.Cancel = func() error {
		group := -cmd.Process.Pid
		kill = time.AfterFunc(killAfter, func() { _ = syscall.Kill(group, syscall.SIGKILL) })
		return syscall.Kill(group, syscall.SIGTERM)
	}
	cmd.WaitDelay = killAfter + time.Second
	err := cmd.Run()
	if kill != nil {
		kill.Stop()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return c.verdict(err, last.text())
}

// verdict says what a command's end means.
func (c *commandWorker) verdict(err error, text string) error {
	if err == nil || errors.Is(err, exec.ErrWaitDelay) { // a child that it left behind holds its output
		return nil
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err // it could not be started
	}
	status := exit.ExitCode()
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		status = 128 + int(s.Signal())
	}
	if text == "" {
		text = exit.Error()
	}
	switch err = jobs.WithStatus(errors.New(text), status); status {
	case exitTempFail:
		return jobs.Later(c.later)
	case exitDataErr:
		return jobs.Permanent(err)
	}
	return err
}

// lockedWriter lets several commands write to one place.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// lastLine passes on what is written, and remembers the last line of it that is not empty.
type lastLine struct {
	w    io.Writer
	line []byte
	next bool // the line is complete: what comes begins another
}

func (l *lastLine) Write(p []byte) (int, error) {
	for _, b := range p {
		switch {
		case b == '\n' || b == '\r':
			l.next = true
		default:
			if l.next {
				l.line, l.next = l.line[:0], false
			}
			if len(l.line) < 4*jobs.MaxMessage {
				l.line = append(l.line, b)
			}
		}
	}
	return l.w.Write(p)
}

func (l *lastLine) text() string { return strings.TrimSpace(string(l.line)) }
