package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"wheelhouse/gearman"
	"wheelhouse/internal/bridge/storeimages"
	"wheelhouse/internal/imaging"
)

// gearmanFlags are those of Debian's gearman and gearadmin, under their names, and a few of our own.
type gearmanFlags struct {
	hosts []string
	port  string
	ssl   bool

	funcs      []string
	worker     bool
	background bool
	high, low  bool
	perLine    bool
	stripLine  bool
	prefix     bool
	noInput    bool
	unique     string
	timeout    int // milliseconds
	count      int
	pidFile    string
	verbose    bool
	jobs       int
	rest       []string

	admin []string // text commands, in the order given
}

// runGearman is gearman and gearadmin.
func runGearman(ctx context.Context, env *environment, args []string) error {
	if len(args) > 0 && args[0] == "worker" {
		return runGearmanWorker(ctx, env, args[1:])
	}
	f, err := parseGearman(env, args)
	if err != nil {
		return err
	}
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(f.timeout)*time.Millisecond, fmt.Errorf("no answer within %d ms", f.timeout))
		defer cancel()
	}
	if f.pidFile != "" {
		if err := os.WriteFile(f.pidFile, fmt.Appendln(nil, os.Getpid()), 0o644); err != nil {
			return err
		}
		defer os.Remove(f.pidFile)
	}
	switch {
	case len(f.admin) > 0:
		err = f.administer(ctx, env)
	case f.worker:
		err = f.work(ctx, env)
	default:
		err = f.call(ctx, env)
	}
	if cause := context.Cause(ctx); f.timeout > 0 && errors.Is(err, context.DeadlineExceeded) {
		return cause
	}
	return err
}

// parseGearman reads the command line. Short flags may be joined (-nP), as getopt allows.
func parseGearman(env *environment, args []string) (*gearmanFlags, error) {
	f := &gearmanFlags{port: gearman.DefaultPort}
	fs := newFlags("gearman", env.stderr)
	list := func(to *[]string) func(string) error {
		return func(s string) error { *to = append(*to, s); return nil }
	}
	for _, name := range []string{"h", "host"} {
		fs.Func(name, "job server, `HOST[:PORT]` or unix:PATH; may be given several times (default GEARMAN_SERVERS, or 127.0.0.1)", list(&f.hosts))
	}
	for _, name := range []string{"p", "port"} {
		fs.StringVar(&f.port, name, f.port, "`port` of servers that are given without one")
	}
	for _, name := range []string{"S", "ssl"} {
		fs.BoolVar(&f.ssl, name, false, "TLS; GEARMAN_CA_CERTIFICATE, GEARMAN_CLIENT_PEM and GEARMAN_CLIENT_KEY name files")
	}
	fs.Func("f", "`function` to call, or to serve with -w; may be given several times", list(&f.funcs))
	fs.BoolVar(&f.worker, "w", false, "be a worker: job on COMMAND's standard input, result from its output; without COMMAND the job is the result")
	fs.IntVar(&f.count, "c", 0, "worker: stop after `N` jobs")
	fs.IntVar(&f.jobs, "j", 1, "worker: do `N` jobs at a time")
	fs.BoolVar(&f.background, "b", false, "leave the job to the server and print its handle")
	fs.BoolVar(&f.high, "I", false, "high priority")
	fs.BoolVar(&f.low, "L", false, "low priority")
	fs.BoolVar(&f.perLine, "n", false, "one job for each line; worker: send the result line by line")
	fs.BoolVar(&f.stripLine, "N", false, "as -n, without the newline")
	fs.BoolVar(&f.prefix, "P", false, "print the function's name before each line of results")
	fs.BoolVar(&f.noInput, "s", false, "send a job without reading standard input")
	fs.StringVar(&f.unique, "u", "", "unique `key`; - is the job's own content")
	fs.IntVar(&f.timeout, "t", 0, "give up after `MS` milliseconds")
	fs.StringVar(&f.pidFile, "i", "", "write the process id to `FILE`")
	fs.BoolVar(&f.verbose, "v", false, "tell on standard error what happens")
	command := func(name, usage, text string) {
		fs.BoolFunc(name, usage, func(string) error { f.admin = append(f.admin, text); return nil })
	}
	withArg := func(name, usage, text string) {
		fs.Func(name, usage, func(v string) error {
			if strings.ContainsAny(v, "\r\n ") {
				return errors.New("blanks and line ends cannot be sent")
			}
			f.admin = append(f.admin, text+" "+v)
			return nil
		})
	}
	command("status", "functions: jobs, running jobs, workers", "status")
	command("priority-status", "functions: queued jobs by priority, workers", "prioritystatus")
	command("workers", "connections and what they can do", "workers")
	command("show-jobs", "all jobs: handle, retries, ignored, queued", "show jobs")
	command("show-unique-jobs", "unique keys of all jobs", "show unique jobs")
	command("getpid", "the server's process id", "getpid")
	command("server-version", "the server's version", "version")
	command("server-verbose", "the server's log level", "verbose")
	withArg("create-function", "make a `function` known", "create function")
	withArg("drop-function", "forget a `function`", "drop function")
	withArg("cancel-job", "take the job with a `handle` out of the queue", "cancel job")
	if err := fs.Parse(unjoin(fs, args)); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, &usageError{""} // the flag set has said what is wrong
	}
	f.rest = fs.Args()
	if len(f.admin) == 0 && len(f.funcs) == 0 {
		return nil, usagef("no function is given (-f), and no question to the server (--status, --workers, ...)")
	}
	if f.high && f.low {
		return nil, usagef("-I and -L exclude each other")
	}
	f.perLine = f.perLine || f.stripLine
	return f, nil
}

// unjoin takes joined short flags apart (-nP, -fwc), as getopt does, up to the first argument that is no flag.
func unjoin(fs *flag.FlagSet, args []string) (out []string) {
	for len(args) > 0 {
		a := args[0]
		if len(a) < 2 || a[0] != '-' || a == "--" {
			return append(out, args...)
		}
		args = args[1:]
		name, _, hasValue := strings.Cut(strings.TrimLeft(a, "-"), "=")
		wants := wantsValue(fs, name) && !hasValue
		if strings.HasPrefix(a, "--") || fs.Lookup(name) != nil {
			out = append(out, a)
		} else {
			out, wants = takeApart(fs, a[1:], out)
		}
		if wants && len(args) > 0 {
			out, args = append(out, args[0]), args[1:]
		}
	}
	return out
}

// takeApart appends a flag for each letter; what follows one that wants a value is the value. wants says that it is still to come.
func takeApart(fs *flag.FlagSet, letters string, out []string) (flags []string, wants bool) {
	for i := range len(letters) {
		out = append(out, "-"+letters[i:i+1])
		if !wantsValue(fs, letters[i:i+1]) {
			continue
		}
		if rest := letters[i+1:]; rest != "" {
			return append(out, rest), false
		}
		return out, true
	}
	return out, false
}

func wantsValue(fs *flag.FlagSet, name string) bool {
	f := fs.Lookup(name)
	if f == nil {
		return false
	}
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return !ok || !b.IsBoolFlag()
}

// servers are the addresses that are asked.
func (f *gearmanFlags) servers() []string {
	hosts := f.hosts
	if len(hosts) == 0 {
		hosts = strings.FieldsFunc(os.Getenv("GEARMAN_SERVERS"), func(r rune) bool { return r == ',' || r == ' ' })
	}
	if len(hosts) == 0 {
		hosts = []string{"127.0.0.1"}
	}
	list := make([]string, len(hosts))
	for i, h := range hosts {
		list[i] = h
		if _, _, err := net.SplitHostPort(h); err != nil && !strings.HasPrefix(h, "unix:") {
			list[i] = net.JoinHostPort(strings.Trim(h, "[]"), f.port)
		}
	}
	return list
}

func (f *gearmanFlags) tls() (*tls.Config, error) {
	if !f.ssl {
		return nil, nil
	}
	return gearmanTLS(os.Getenv("GEARMAN_CA_CERTIFICATE"), os.Getenv("GEARMAN_CLIENT_PEM"), os.Getenv("GEARMAN_CLIENT_KEY"))
}

// gearmanTLS trusts the authorities of a file, or the system's, and shows a certificate where one is given.
func gearmanTLS(ca, cert, key string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		var err error
		if conf.RootCAs, err = authorities(ca); err != nil {
			return nil, err
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, cmp.Or(key, cert))
		if err != nil {
			return nil, err
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// administer asks the first server, in the text protocol.
func (f *gearmanFlags) administer(ctx context.Context, env *environment) error {
	conf, err := f.tls()
	if err != nil {
		return err
	}
	for _, command := range f.admin {
		lines, err := gearman.Admin(ctx, f.servers()[0], conf, command)
		for _, l := range lines {
			fmt.Fprintln(env.stdout, l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// call sends jobs and prints results.
func (f *gearmanFlags) call(ctx context.Context, env *environment) error {
	conf, err := f.tls()
	if err != nil {
		return err
	}
	c, err := gearman.NewClient(f.servers(), gearman.ClientOptions{TLS: conf})
	if err != nil {
		return err
	}
	defer c.Close()
	var failed error
	err = f.inputs(env, func(arg []byte) error {
		for _, fn := range f.funcs {
			job := gearman.Job{Func: fn, Arg: arg, Unique: f.unique}
			if f.high {
				job.Priority = gearman.High
			} else if f.low {
				job.Priority = gearman.Low
			}
			err := f.one(ctx, env, c, job)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil { // the other jobs are done all the same
				fmt.Fprintf(env.stderr, "wheelhouse gearman: %s: %v\n", fn, err)
				failed = errUnhealthy
			}
		}
		return nil
	})
	return cmp.Or(err, failed)
}

// inputs gives the jobs' contents to f: what is on the command line, or standard input as a whole, or line by line.
func (f *gearmanFlags) inputs(env *environment, do func(arg []byte) error) error {
	switch {
	case len(f.rest) > 0:
		for _, a := range f.rest {
			if err := do([]byte(a)); err != nil {
				return err
			}
		}
		return nil
	case f.noInput:
		return do(nil)
	case !f.perLine:
		all, err := io.ReadAll(env.stdin)
		if err != nil {
			return err
		}
		return do(all)
	}
	r := bufio.NewReader(env.stdin)
	for {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			if f.stripLine {
				line = bytes.TrimSuffix(line, []byte{'\n'})
			}
			if err := do(line); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// one does one job.
func (f *gearmanFlags) one(ctx context.Context, env *environment, c *gearman.Client, job gearman.Job) error {
	if f.background {
		h, err := c.Submit(ctx, job)
		if err == nil {
			fmt.Fprintln(env.stdout, h)
		}
		return err
	}
	t, err := c.Start(ctx, job)
	if err != nil {
		return err
	}
	if f.verbose {
		fmt.Fprintf(env.stderr, "%s: %s\n", job.Func, t.Handle())
	}
	out := &prefixer{w: env.stdout, begin: true}
	if f.prefix {
		out.prefix = job.Func + ": "
	}
	for {
		e, err := t.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch e.Type {
		case gearman.EventStatus:
			fmt.Fprintf(env.stderr, "%s: %d of %d\n", job.Func, e.Num, e.Den)
		case gearman.EventWarning:
			_, err = env.stderr.Write(e.Data)
		default:
			_, err = out.Write(e.Data)
		}
		if err != nil {
			return err
		}
	}
}

// prefixer puts something before each line.
type prefixer struct {
	w      io.Writer
	prefix string
	begin  bool // of a line
}

func (p *prefixer) Write(b []byte) (int, error) {
	if p.prefix == "" {
		return p.w.Write(b)
	}
	for line := range bytes.Lines(b) {
		if p.begin {
			if _, err := io.WriteString(p.w, p.prefix); err != nil {
				return 0, err
			}
		}
		if _, err := p.w.Write(line); err != nil {
			return 0, err
		}
		p.begin = bytes.HasSuffix(line, []byte{'\n'})
	}
	return len(b), nil
}

// work serves functions with a command, until it is interrupted or has done what was asked for.
func (f *gearmanFlags) work(ctx context.Context, env *environment) error {
	conf, err := f.tls()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := gearman.NewWorker(f.servers(), gearman.WorkerOptions{
		Concurrency: max(1, f.jobs), TLS: conf, Logger: slog.New(slog.NewTextHandler(env.stderr, nil)),
	})
	if err != nil {
		return err
	}
	left := &countdown{end: cancel}
	left.n.Store(int64(f.count))
	for _, fn := range f.funcs {
		err := w.Handle(fn, func(ctx context.Context, c *gearman.Call) ([]byte, error) {
			defer left.done(f.count > 0)
			return f.run(ctx, env, c)
		}, 0)
		if err != nil {
			return err
		}
	}
	return w.Run(ctx)
}

// countdown ends something after a number of jobs.
type countdown struct {
	n   atomic.Int64
	end func()
}

func (c *countdown) done(counts bool) {
	if counts && c.n.Add(-1) <= 0 {
		c.end()
	}
}

// run does one job: with the command, if there is one.
func (f *gearmanFlags) run(ctx context.Context, env *environment, c *gearman.Call) ([]byte, error) {
	if f.verbose {
		fmt.Fprintf(env.stderr, "%s: %s: %d bytes\n", c.Func, c.Handle, len(c.Arg))
	}
	if len(f.rest) == 0 {
		return c.Arg, nil
	}
	cmd := exec.CommandContext(ctx, f.rest[0], f.rest[1:]...)
	cmd.Stdin = bytes.NewReader(c.Arg)
	cmd.Stderr = env.stderr
	cmd.Env = append(os.Environ(), "GEARMAN_FUNCTION="+c.Func, "GEARMAN_HANDLE="+c.Handle, "GEARMAN_UNIQUE="+c.Unique)
	var out bytes.Buffer
	cmd.Stdout = &out
	if f.perLine {
		cmd.Stdout = &lineSender{c: c, strip: f.stripLine}
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(env.stderr, "wheelhouse gearman: %s: %v\n", f.rest[0], err)
		return nil, gearman.ErrFailed
	}
	if l, ok := cmd.Stdout.(*lineSender); ok {
		return l.rest, nil
	}
	return out.Bytes(), nil
}

// lineSender sends each line as a part of the result of its own.
type lineSender struct {
	c     *gearman.Call
	strip bool
	rest  []byte
}

func (l *lineSender) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		line := l.rest[:i+1]
		if l.strip {
			line = l.rest[:i]
		}
		if err := l.c.Data(line); err != nil {
			return 0, err
		}
		l.rest = l.rest[i+1:]
	}
}

// runGearmanWorker serves the functions that this program brings along.
func runGearmanWorker(ctx context.Context, env *environment, args []string) error {
	f := &gearmanFlags{port: gearman.DefaultPort}
	fs := newFlags("gearman worker images", env.stderr)
	fs.Func("h", "job server, `HOST[:PORT]` or unix:PATH; may be given several times (default GEARMAN_SERVERS, or 127.0.0.1)", func(s string) error {
		f.hosts = append(f.hosts, s)
		return nil
	})
	fs.StringVar(&f.port, "p", f.port, "`port` of servers that are given without one")
	fs.BoolVar(&f.ssl, "S", false, "TLS; GEARMAN_CA_CERTIFICATE, GEARMAN_CLIENT_PEM and GEARMAN_CLIENT_KEY name files")
	fs.IntVar(&f.jobs, "j", runtime.GOMAXPROCS(0), "images at a `time`")
	pixels := fs.Int64("max-pixels", imaging.DefaultMaxPixels, "refuse images of more `pixels`")
	rest, err := parseFlags(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 || rest[0] != "images" {
		return usagef("want one kind of worker; there is: images")
	}
	conf, err := f.tls()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(env.stderr, nil))
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	w, err := gearman.NewWorker(f.servers(), gearman.WorkerOptions{
		Concurrency: max(1, f.jobs), TLS: conf, Logger: log, ClientID: fmt.Sprintf("images-%s-%d", host, os.Getpid()),
	})
	if err != nil {
		return err
	}
	if err := w.Handle(storeimages.FuncName, storeimages.Func(imaging.Limits{MaxPixels: *pixels}), time.Minute); err != nil {
		return err
	}
	fmt.Fprintln(env.stdout, "ready", storeimages.FuncName, "of", strings.Join(f.servers(), " "))
	return w.Run(ctx)
}
