// Package accesslog writes a line for each request, as combined (Apache's form, more behind it) or as JSON.
//
// A request never waits for a disk: lines are collected in memory and written by one goroutine. When a disk is full or does not
// keep up, lines are dropped and counted.
package accesslog

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/balancer"
)

const (
	// flushEvery is how long a line stays in memory at most, as long as the disk keeps up.
	flushEvery = time.Second
	flushSize  = 64 << 10 // bytes from which on lines are written at once
	// maxWaiting is how many bytes of one log wait for a disk; lines beyond are dropped.
	maxWaiting = 4 << 20
	// unusedTime is how long a file is kept open after its last line.
	unusedTime = time.Minute
)

// Options of Logs.
type Options struct {
	Log *slog.Logger // of what goes wrong; default: nothing is logged
	// Open opens a file for appending; default os.OpenFile. Stdout and stderr are never opened by it.
	Open func(path string) (File, error)
}

// File is what lines go to.
type File interface {
	Write(p []byte) (int, error)
	Stat() (os.FileInfo, error)
	Close() error
}

// Logs are the access logs of a process, by the name that access_log gives. Its methods are safe for concurrent use.
type Logs struct {
	o    Options
	log  *slog.Logger
	logs sync.Map // name to *output
	wake chan struct{}

	written, dropped atomic.Int64
}

// New makes the logs. Nothing is written until Run runs.
func New(o Options) *Logs {
	if o.Open == nil {
		o.Open = func(path string) (File, error) { return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640) }
	}
	return &Logs{o: o, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), wake: make(chan struct{}, 1)}
}

// Written and Dropped are how many lines were.
func (l *Logs) Written() int64 { return l.written.Load() }

// Dropped is how many lines could not be written.
func (l *Logs) Dropped() int64 { return l.dropped.Load() }

// Finished logs a request at its end, where its service has a log, or else the service that took its connection. It is what
// balancerd.Options.Finished wants.
func (l *Logs) Finished(r *balancer.Request) {
	set := r.Set
	if set.AccessLog == "" {
		if set = r.Entry; set.AccessLog == "" {
			return
		}
	}
	if set.AccessLogFormat == "json" {
		add(l, set.AccessLog, appendJSON, r)
	} else {
		add(l, set.AccessLog, appendCombined, r)
	}
}

// Refused logs a request that a listener has refused by itself, where its service has a log. It is what balancerd.Options.Refused wants.
func (l *Logs) Refused(r *balancer.Refusal) {
	switch {
	case r.Set.AccessLog == "":
	case r.Set.AccessLogFormat == "json":
		add(l, r.Set.AccessLog, appendRefusalJSON, r)
	default:
		add(l, r.Set.AccessLog, appendRefusal, r)
	}
}

// add appends a line to a log. Where there is no room for it, it is counted as dropped.
func add[T any](l *Logs, name string, line func([]byte, T, time.Time) []byte, of T) {
	v, ok := l.logs.Load(name)
	if !ok {
		v, _ = l.logs.LoadOrStore(name, &output{name: name})
	}
	out := v.(*output)
	now := time.Now()
	out.mu.Lock()
	defer out.mu.Unlock()
	before := len(out.lines)
	if before >= maxWaiting {
		l.dropped.Add(1)
		return
	}
	out.lines = line(out.lines, of, now)
	out.last = now
	if before < flushSize && len(out.lines) >= flushSize {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// Run writes until ctx ends, and what is left then.
func (l *Logs) Run(ctx context.Context) {
	t := time.NewTicker(flushEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			l.Flush()
			l.each(func(o *output) { o.close() })
			return
		case <-t.C:
		case <-l.wake:
		}
		l.Flush()
	}
}

// Flush writes what has been collected. A file that was renamed or removed meanwhile is opened anew first.
func (l *Logs) Flush() { l.each(func(o *output) { o.flush(l, false) }) }

// Reopen writes what has been collected, and opens the files anew.
func (l *Logs) Reopen() { l.each(func(o *output) { o.flush(l, true) }) }

func (l *Logs) each(f func(*output)) {
	l.logs.Range(func(_, v any) bool {
		f(v.(*output))
		return true
	})
}

// output is one log.
type output struct {
	name string

	mu    sync.Mutex // guards lines and last
	lines []byte
	last  time.Time // of the last line

	writing sync.Mutex // guards all below
	spare   []byte
	file    File
	torn    bool // what was written last did not end with its line
	failing bool
}

// flush writes what is there. A line that was dropped is counted.
func (o *output) flush(l *Logs, reopen bool) {
	o.writing.Lock()
	defer o.writing.Unlock()
	o.mu.Lock()
	lines, last := o.lines, o.last
	o.lines = o.spare[:0]
	o.mu.Unlock()
	if reopen || o.moved() {
		if len(lines) > 0 && reopen {
			o.write(l, lines) // what came before belongs to the file before
			lines = lines[:0]
		}
		o.close()
	}
	if len(lines) > 0 {
		o.write(l, lines)
	} else if o.file != nil && time.Since(last) > unusedTime {
		o.close()
	}
	if o.spare = lines[:0]; cap(o.spare) > 4*flushSize {
		o.spare = nil
	}
}

// moved reports whether the file's name now means another file, or none.
func (o *output) moved() bool {
	if o.file == nil || o.standard() != nil {
		return false
	}
	ours, err := o.file.Stat()
	if err != nil {
		return true
	}
	named, err := os.Stat(o.name)
	return err != nil || !os.SameFile(ours, named)
}

// standard is the stream that the name stands for, nil for a file's.
func (o *output) standard() File {
	switch o.name {
	case "stdout":
		return os.Stdout
	case "stderr":
		return os.Stderr
	}
	return nil
}

func (o *output) write(l *Logs, lines []byte) {
	total := bytes.Count(lines, []byte{'\n'})
	n, err := 0, error(nil)
	if o.file == nil {
		err = o.open(l)
	}
	if err == nil && o.torn {
		if _, err = o.file.Write([]byte{'\n'}); err == nil {
			o.torn = false
		}
	}
	if err == nil {
		n, err = o.file.Write(lines)
		o.torn = o.torn || n > 0 && lines[n-1] != '\n'
	}
	whole := bytes.Count(lines[:n], []byte{'\n'})
	l.written.Add(int64(whole))
	l.dropped.Add(int64(total - whole))
	switch {
	case err != nil && !o.failing:
		l.log.Error("access log cannot be written, lines are dropped", "file", o.name, "err", err)
	case err == nil && o.failing:
		l.log.Info("access log is written again", "file", o.name, "dropped", l.dropped.Load())
	}
	o.failing = err != nil
}

func (o *output) open(l *Logs) error {
	if o.file = o.standard(); o.file != nil {
		return nil
	}
	f, err := l.o.Open(o.name)
	if err == nil { // a file that is none must not become a File that is one
		o.file = f
	}
	return err
}

// close closes the file. o.writing is held, or nobody writes any more.
func (o *output) close() {
	if o.file != nil && o.standard() == nil {
		o.file.Close() // everything was written
	}
	o.file, o.torn = nil, false
}
