package gearman

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"wheelhouse/gearman/packet"
)

// Func does a job. What it returns is the result. An error is sent to the clients as an exception with its text, an
// *[Exception] as it is, and ErrFailed as a plain failure; a panic is an exception. ctx ends when the worker must stop at once,
// or the server is lost, which gives the job to another worker.
type Func func(ctx context.Context, call *Call) ([]byte, error)

// WorkerOptions are the choices of a [Worker]. The zero value is usable.
type WorkerOptions struct {
	// Concurrency is how many jobs run at a time, from all servers together. Default 1.
	Concurrency int
	// ClientID is shown in the servers' list of workers. Default: none.
	ClientID string
	// StopTimeout is how long Run waits for running jobs when its context ends, before it ends theirs. Default 30 s;
	// negative: not at all.
	StopTimeout time.Duration
	// Poll is how often a server that said it had no job is asked again although it did not call: gearmand 1.1.20 does not when a
	// job's time has come. Default 10 s.
	Poll time.Duration
	// DialTimeout bounds opening a connection, and the wait for a server's first sign of life then. Default 3 s.
	DialTimeout time.Duration
	// AnswerTimeout is how long a server may be silent when it was asked for a job; then it counts as lost. Default 10 s.
	AnswerTimeout time.Duration
	// MaxJob is the largest packet that is taken from a server, in bytes. Default 256 MiB.
	MaxJob int64
	// TLS is as in ClientOptions.
	TLS *tls.Config
	// Logger takes servers that cannot be reached (Warn) and panics (Error). Default: nothing is logged.
	Logger *slog.Logger
}

func (o WorkerOptions) withDefaults() WorkerOptions {
	o.Concurrency = max(1, o.Concurrency)
	o.StopTimeout = max(0, cmp.Or(o.StopTimeout, 30*time.Second))
	o.Poll = cmp.Or(o.Poll, 10*time.Second)
	o.DialTimeout = cmp.Or(o.DialTimeout, 3*time.Second)
	o.AnswerTimeout = cmp.Or(o.AnswerTimeout, 10*time.Second)
	o.MaxJob = cmp.Or(o.MaxJob, 256<<20)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Worker serves functions to the clients of some job servers.
type Worker struct {
	servers []string
	opts    WorkerOptions
	slots   chan struct{} // one for each job that runs or is asked for

	mu      sync.Mutex // guards what follows
	funcs   map[string]function
	running bool
}

type function struct {
	do      Func
	timeout time.Duration
}

// NewWorker returns a worker for servers, given as in [NewClient]. It does nothing until Run.
func NewWorker(servers []string, opts WorkerOptions) (*Worker, error) {
	if len(servers) == 0 {
		return nil, errors.New("gearman: no job servers are given")
	}
	if len(opts.ClientID) > packet.MaxClientID || strings.ContainsAny(opts.ClientID, "\x00 \n") {
		return nil, fmt.Errorf("gearman: client id %.40q: want at most %d bytes without blanks", opts.ClientID, packet.MaxClientID)
	}
	w := &Worker{opts: opts.withDefaults(), funcs: make(map[string]function)}
	for _, a := range servers {
		w.servers = append(w.servers, normalize(a))
	}
	w.slots = make(chan struct{}, w.opts.Concurrency)
	return w, nil
}

// Handle says what does a function's jobs. A timeout above zero ends ctx after it, and tells the server, which gives the job to
// another worker when it is over (in whole seconds, rounded up). Before Run only.
func (w *Worker) Handle(name string, do Func, timeout time.Duration) error {
	job := Job{Func: name}
	if err := job.validate(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running {
		return fmt.Errorf("gearman: function %s comes after Run", name)
	}
	if _, ok := w.funcs[name]; ok {
		return fmt.Errorf("gearman: function %s stands there twice", name)
	}
	w.funcs[name] = function{do, timeout}
	return nil
}

// Run does jobs until ctx ends; then it asks for no more, waits for those that run (StopTimeout), and returns nil. Servers that
// cannot be reached are tried again and again. All its goroutines are gone then. Once.
func (w *Worker) Run(ctx context.Context) error {
	w.mu.Lock()
	if w.running {
		w.mu.Unlock()
		return errors.New("gearman: worker is running already, or has")
	}
	w.running = true
	w.mu.Unlock()

	// Jobs outlive ctx by StopTimeout.
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(w.opts.StopTimeout, cancel) })
	defer stop()
	var wg sync.WaitGroup
	for _, addr := range w.servers {
		wg.Go(func() { w.serve(ctx, base, addr) })
	}
	wg.Wait()
	return nil
}

// serve keeps a connection to a server while ctx lasts.
func (w *Worker) serve(ctx, base context.Context, addr string) {
	d := dialer{w.opts.DialTimeout, w.opts.TLS}
	for failures := 0; ctx.Err() == nil; {
		nc, err := d.dial(ctx, addr)
		if err == nil {
			s := newSession(w, addr, nc)
			if err = s.run(ctx, base); s.in.last.Load() != 0 {
				failures = 0
			}
		}
		if ctx.Err() != nil {
			return
		}
		failures++
		wait := min(10*time.Second, 100*time.Millisecond<<min(failures, 10))
		wait += rand.N(wait / 4)
		w.opts.Logger.Warn("job server lost; trying again", "addr", addr, "after", wait, "err", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// call runs a function.
func (w *Worker) call(ctx context.Context, c *Call) (out []byte, err error) {
	f, ok := w.funcs[c.Func]
	if !ok {
		return nil, fmt.Errorf("this worker has no function %s", c.Func)
	}
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	defer func() {
		if v := recover(); v != nil {
			w.opts.Logger.Error("function panicked", "func", c.Func, "job", c.Handle, "err", v, "stack", string(debug.Stack()))
			out, err = nil, fmt.Errorf("panic: %v", v)
		}
	}()
	return f.do(ctx, c)
}
