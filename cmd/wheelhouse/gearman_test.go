package main

import (
	"flag"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/gearman/gearmantest"
)

func TestUnjoin(t *testing.T) {
	fs := flag.NewFlagSet("x", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	for _, name := range []string{"n", "P", "w", "status"} {
		fs.Bool(name, false, "")
	}
	for _, name := range []string{"f", "c", "host"} {
		fs.String(name, "", "")
	}
	for _, tt := range []struct{ in, want string }{
		{"-nP -f x data -n", "-n -P -f x data -n"},
		{"-fwc -n", "-f wc -n"},
		{"-nfwc", "-n -f wc"},
		{"-nf wc -P", "-n -f wc -P"},
		{"-w -f x wc -l", "-w -f x wc -l"},
		{"--status", "--status"},
		{"-status", "-status"},
		{"--host=a -n", "--host=a -n"},
		{"-f=x -n", "-f=x -n"},
		{"--host -n -P", "--host -n -P"},
		{"-n -- -P", "-n -- -P"},
		{"-", "-"},
		{"-zn", "-z -n"},
	} {
		if diff := cmp.Diff(strings.Fields(tt.want), unjoin(fs, strings.Fields(tt.in))); diff != "" {
			t.Errorf("%s: %s", tt.in, diff)
		}
	}
}

// tool runs one of Debian's programs or ours, with the same arguments and input, and returns what it prints.
func tool(t *testing.T, name string, stdin string, args ...string) (out string, status int) {
	t.Helper()
	cmd := exec.Command(name, args...)
	if name == "wheelhouse" {
		cmd = program(append([]string{"gearman"}, args...)...)
	}
	cmd.Stdin = strings.NewReader(stdin)
	var b strings.Builder
	cmd.Stdout = &b
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return b.String(), cmd.ProcessState.ExitCode()
}

// What Debian's gearman and gearadmin print, ours prints too.
func TestGearmanLikeDebians(t *testing.T) {
	t.Parallel()
	addr := gearmantest.StartDebian(t)
	_, port, _ := strings.Cut(addr, ":")
	worker := func(name string, args ...string) {
		cmd := exec.Command(name, args...)
		if name == "wheelhouse" {
			cmd = program(append([]string{"gearman"}, args...)...)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	worker("gearman", "-h", "127.0.0.1", "-p", port, "-w", "-f", "theirs-up", "tr", "a-z", "A-Z")
	worker("wheelhouse", "-h", "127.0.0.1", "-p", port, "-w", "-f", "ours-up", "tr", "a-z", "A-Z")
	worker("gearman", "-h", "127.0.0.1", "-p", port, "-w", "-f", "theirs-false", "false")
	worker("wheelhouse", "-h", "127.0.0.1", "-p", port, "-w", "-f", "ours-false", "false")
	worker("wheelhouse", "-h", "127.0.0.1", "-p", port, "-wn", "-f", "ours-lines", "cat")
	for _, tt := range []struct {
		stdin string
		args  string
	}{
		{"", "-f ours-up hello"},
		{"", "-f theirs-up hello"},
		{"", "-f ours-up one two"},
		{"from stdin\nin two lines\n", "-f theirs-up"},
		{"one\ntwo\n", "-n -f ours-up"},
		{"one\ntwo\n", "-N -f ours-up"},
		{"one\ntwo\n", "-n -P -f ours-up"},
		{"one\ntwo\n", "-f ours-lines"},
		{"", "-s -f ours-up"},
		{"", "-f ours-false x"},
		{"", "-f theirs-false x"},
		{"", "-I -u key -f ours-up high"},
	} {
		args := append([]string{"-h", "127.0.0.1", "-p", port}, strings.Fields(tt.args)...)
		want, wantStatus := tool(t, "gearman", tt.stdin, args...)
		got, status := tool(t, "wheelhouse", tt.stdin, args...)
		if got != want || status != wantStatus {
			t.Errorf("%s: %q, status %d; Debian's: %q, status %d", tt.args, got, status, want, wantStatus)
		}
	}
	for _, args := range []string{
		"--status", "--priority-status", "--show-jobs", "--show-unique-jobs", "--getpid", "--server-version", "--server-verbose",
	} {
		want, wantStatus := tool(t, "gearadmin", "", "-h", "127.0.0.1", "-p", port, args)
		got, status := tool(t, "wheelhouse", "", "-h", "127.0.0.1", "-p", port, args)
		trim := strings.NewReplacer("\n.\n", "\n", ".\n", "", "OK ", "")
		if trim.Replace(got) != trim.Replace(want) || status != wantStatus {
			t.Errorf("%s: %q, status %d; Debian's: %q, status %d", args, got, status, want, wantStatus)
		}
	}
	if out, status := tool(t, "wheelhouse", "", "-h", addr, "--create-function", "f1", "--drop-function", "nobody"); status != 1 {
		t.Errorf("dropping what is not there: %q, status %d", out, status)
	}
	if _, status := tool(t, "wheelhouse", "", "-h", addr, "-t", "200", "-f", "nobody", "x"); status != 1 {
		t.Errorf("a call that is never answered: status %d", status)
	}
	if _, status := tool(t, "wheelhouse", ""); status != 2 {
		t.Errorf("no arguments: status %d", status)
	}
}

// A worker that was told to do two jobs does two.
func TestGearmanWorkerCount(t *testing.T) {
	t.Parallel()
	addr := gearmantest.StartDebian(t)
	for range 3 {
		if out, status := tool(t, "wheelhouse", "", "-h", addr, "-b", "-f", "f", "x"); status != 0 || !strings.HasPrefix(out, addr+"//H:") {
			t.Fatalf("%q, status %d", out, status)
		}
	}
	if out, status := tool(t, "wheelhouse", "", "-h", addr, "-w", "-c", "2", "-f", "f"); status != 0 || out != "" {
		t.Errorf("%q, status %d", out, status)
	}
	if out, _ := tool(t, "wheelhouse", "", "-h", addr, "--status"); out != "f\t1\t0\t0\n" {
		t.Errorf("status = %q", out)
	}
}
