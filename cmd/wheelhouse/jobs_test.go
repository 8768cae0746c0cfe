package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"wheelhouse/jobs"
	"wheelhouse/jobs/memqueue"
	"wheelhouse/store/control"
)

func TestParseRate(t *testing.T) {
	for in, want := range map[string]jobs.Rate{
		"100/1m": {N: 100, Per: time.Minute}, "5/s": {N: 5, Per: time.Second}, "1/1h30m": {N: 1, Per: 90 * time.Minute}, "": {}, "none": {}, "0": {},
	} {
		got, err := parseRate(in)
		if err != nil || got != want {
			t.Errorf("parseRate(%q) = %+v, %v; want %+v", in, got, err, want)
		}
		if want.N > 0 {
			if again, err := parseRate(formatRate(got)); again != got || err != nil {
				t.Errorf("parseRate(%q) = %+v, %v; want %+v", formatRate(got), again, err, got)
			}
		}
	}
	for _, in := range []string{"5", "5/", "x/1m", "-5/1m", "0/1m", "5/1x", "5/m/s", "/1m"} {
		if got, err := parseRate(in); err == nil {
			t.Errorf("parseRate(%q) = %+v", in, got)
		}
	}
}

func TestLastLine(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "one": "one", "one\ntwo\n": "two", "one\r\ntwo\r\n\n\n": "two", "10%\r100%\rfailed": "failed", "x\n" + strings.Repeat("y", 5000): strings.Repeat("y", 4*jobs.MaxMessage),
	} {
		for _, step := range []int{1, 3, 10000} {
			var out bytes.Buffer
			l := &lastLine{w: &out}
			for rest := []byte(in); len(rest) > 0; {
				n := min(step, len(rest))
				if _, err := l.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if l.text() != want || out.String() != in {
				t.Errorf("last line of %.20q = %.20q; want %.20q", in, l.text(), want)
			}
		}
	}
}

func TestBrief(t *testing.T) {
	for in, want := range map[string]string{"": "-", "a\tb\x1b": "a b ", "üüüüü": "üüüüü", "üüüüüü": "üüüü…"} {
		if got := brief(in, 5); got != want {
			t.Errorf("brief(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestCommandVerdicts(t *testing.T) {
	for script, check := range map[string]func(err error) bool{
		"exit 0":                func(err error) bool { return err == nil },
		"cat >/dev/null":        func(err error) bool { return err == nil },
		"exit 75":               func(err error) bool { return errors.Is(err, jobs.Later(time.Hour)) },
		"echo bad >&2; exit 65": func(err error) bool { return jobs.IsPermanent(err) && err.Error() == "bad" },
		"echo x >&2; exit 9":    func(err error) bool { return err.Error() == "x" && !jobs.IsPermanent(err) },
		"exit 9":                func(err error) bool { return err.Error() == "exit status 9" },
		"kill -9 $$":            func(err error) bool { return err.Error() == "signal: killed" },
	} {
		c := &commandWorker{command: []string{"sh", "-c", script}, later: time.Hour, stdout: new(bytes.Buffer), stderr: new(bytes.Buffer)}
		if err := c.work(t.Context(), &jobs.Job{Arg: bytes.Repeat([]byte("x"), 1<<20)}); !check(err) {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// TestCommandIsCancelled: the command and its children are gone when the job is lost.
func TestCommandIsCancelled(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	c := &commandWorker{
		command: []string{"sh", "-c", "sleep 100 & echo $! > " + pidFile + ".new; mv " + pidFile + ".new " + pidFile + "; wait"},
		stdout:  new(bytes.Buffer), stderr: new(bytes.Buffer),
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.work(ctx, &jobs.Job{}) }()
	var text []byte
	for deadline := time.Now().Add(20 * time.Second); len(text) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the command has not begun")
		}
		<-time.After(5 * time.Millisecond)
		text, _ = os.ReadFile(pidFile)
	}
	cancel(jobs.ErrLost)
	if err := <-done; !errors.Is(err, jobs.ErrLost) {
		t.Errorf("work = %v; want %v", err, jobs.ErrLost)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !gone(pid); {
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives", pid)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// gone reports whether a process has ended, though nobody may have asked yet how.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// TestJobsHarshInput: what clients send reaches the queue only if it makes sense, and is called their mistake.
func TestJobsHarshInput(t *testing.T) {
	l := localJobs{memqueue.New(nil)}
	ctx := t.Context()
	minus, bad := -1, "5 per minute"
	_, e1 := l.Insert(ctx, control.NewJob{})
	_, e2 := l.List(ctx, control.JobFilter{Limit: 1 << 30})
	_, e3 := l.Change(ctx, "retry", control.JobFilter{})
	_, e4 := l.Change(ctx, "explode", control.JobFilter{Func: "f"})
	e5 := l.SetControl(ctx, control.JobControl{Func: "f", MaxRunning: &minus})
	e6 := l.SetControl(ctx, control.JobControl{Func: "f", Rate: &bad})
	e7 := l.SetControl(ctx, control.JobControl{Func: "f", KeepDone: &bad})
	e8 := l.Schedule(ctx, control.PeriodicJob{Name: "p", Func: "f", Spec: "x"})
	e9 := l.Schedule(ctx, control.PeriodicJob{Name: "p", Func: "f", Spec: "@daily", Zone: "Nowhere"})
	_, e10 := l.Show(ctx, 5)
	e11 := l.Unschedule(ctx, "p")
	want := fmt.Sprintf("%T", control.BadRequest(errors.New("x")))
	for i, err := range []error{e1, e2, e3, e4, e5, e6, e7, e8, e9, e10, e11} {
		if err == nil || fmt.Sprintf("%T", err) != want {
			t.Errorf("mistake %d: %v", i+1, err)
		}
	}
	if c, err := l.q.Controls(ctx); len(c) != 0 || err != nil {
		t.Errorf("Controls = %v, %v", c, err)
	}
}

func TestJobsCollector(t *testing.T) {
	w := jobs.New(memqueue.New(nil), jobs.Options{})
	if err := w.Handle("f", jobs.Handler{Work: func(context.Context, *jobs.Job) error { return nil }}); err != nil {
		t.Fatal(err)
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(jobsCollector{w.Stats})
	families, err := r.Gather()
	if err != nil || len(families) != 4 {
		t.Errorf("%d families, %v; want 4", len(families), err)
	}
}
