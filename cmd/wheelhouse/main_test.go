package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// asProgram makes the test binary behave as the program itself, so that tests can start, signal and kill real processes.
const asProgram = "RUN_AS_WHEELHOUSE"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:], &environment{os.Stdin, os.Stdout, os.Stderr}))
	}
	testscript.Main(m, map[string]func(){
		"wheelhouse": func() { os.Exit(run(os.Args[1:], &environment{os.Stdin, os.Stdout, os.Stderr})) },
	})
}

// process is a running server. Its output goes to files of its own: a process that takes over from it writes there too,
// and must not keep anybody waiting for the end of a pipe.
type process struct {
	t     *testing.T
	args  []string
	cmd   *exec.Cmd
	ready map[string]string // endpoint → URL
	out   string            // file with what it prints
	log   string            // file with what it logs
	done  chan struct{}     // closed when it has ended
	err   error             // how; valid once done is closed
}

// wait bounds everything that a test waits for; a machine that is busy needs it.
const wait = 60 * time.Second

// start runs a server and returns when it is ready.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := launch(t, args...)
	p.waitReady()
	return p
}

func launch(t *testing.T, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{t: t, args: args, out: dir + "/out", log: dir + "/log", done: make(chan struct{})}
	out, err := os.Create(p.out)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = program(args...)
	p.cmd.Stdout, p.cmd.Stderr = out, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(args, " "), p.output())
		}
	})
	return p
}

func program(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// output is what it has logged so far.
func (p *process) output() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// waitReady waits for the line "ready …" and reads the addresses from it.
func (p *process) waitReady() {
	p.t.Helper()
	eventually(p.t, strings.Join(p.args, " ")+" is ready", func() bool {
		select {
		case <-p.done:
			p.t.Fatalf("%s ended before it was ready:\n%s", strings.Join(p.args, " "), p.output())
		default:
		}
		text, err := os.ReadFile(p.out)
		if err != nil {
			p.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "ready"); ok && strings.HasSuffix(line, "\n") {
				p.ready = map[string]string{}
				for _, f := range strings.Fields(rest) {
					name, url, _ := strings.Cut(f, "=")
					p.ready[name] = url
				}
				return true
			}
		}
		return false
	})
}

// kill ends it with SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.done
}

// stop ends it with SIGTERM and demands that it ends well.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(wait):
		p.t.Fatalf("%s has not stopped after %v:\n%s", strings.Join(p.args, " "), wait, p.output())
	}
	if p.err != nil {
		p.t.Errorf("%s: %v\n%s", strings.Join(p.args, " "), p.err, p.output())
	}
}

// runOnce runs a command to its end.
func runOnce(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd := program(args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

// upArgs are the arguments of an up that keeps little and forgets soon.
func upArgs(dir string, more ...string) []string {
	return append([]string{
		"up", "--data", dir, "--listen", "127.0.0.1:0", "--auth", "none", "--set", "catalog.grace=2s",
		"--set", "worker.interval=200ms", "--set", "log.level=warn",
	}, more...)
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually polls until ok reports true. It is for what happens by itself in another process.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(wait)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("not after %v: %s", wait, what)
		}
	}
}

func fmtName(w, i int) string { return fmt.Sprintf("w%02d/%06d", w, i) }

func shell(script string) (string, error) {
	out, err := exec.Command("sh", "-c", script).CombinedOutput()
	return string(out), err
}
