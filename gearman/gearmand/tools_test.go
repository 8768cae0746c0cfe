package gearmand_test

import (
	"bytes"
	"context"
	"net"
	"os/exec"
	"strings"
	"testing"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/gearman/gearmantest"
	"wheelhouse/gearman/packet"
)

// tool runs a program of another Gearman against s.
func (s *server) tool(t *testing.T, stdin, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatal(name + " is not installed (make tools)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), gearmantest.Wait)
	defer cancel()
	host, port, _ := net.SplitHostPort(s.addr)
	cmd := exec.CommandContext(ctx, name, append([]string{"-h", host, "-p", port}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// startTool starts a program that is ended with the test.
func startTool(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatal(name + " is not installed (make tools)")
	}
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// Debian's gearman as client and worker.
func TestGearmanTool(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{})
	host, port, _ := net.SplitHostPort(s.addr)
	startTool(t, "gearman", "-h", host, "-p", port, "-w", "-f", "upper", "--", "tr", "a-z", "A-Z")
	startTool(t, "gearman", "-h", host, "-p", port, "-w", "-f", "false", "--", "false")
	if out, err := s.tool(t, "hello", "gearman", "-f", "upper"); out != "HELLO" || err != nil {
		t.Errorf("gearman -f upper: %q %v", out, err)
	}
	if out, err := s.tool(t, "a\nb\nc\n", "gearman", "-n", "-f", "upper"); out != "A\nB\nC\n" || err != nil {
		t.Errorf("gearman -n: %q %v", out, err)
	}
	big := strings.Repeat("x", 30<<10) // the tool writes all before it reads: more would not fit its pipes
	if out, err := s.tool(t, big, "gearman", "-I", "-f", "upper"); len(out) != len(big) || err != nil {
		t.Errorf("gearman -I with 30 KB: %d bytes, %v", len(out), err)
	}
	if out, err := s.tool(t, "x", "gearman", "-f", "false"); err == nil {
		t.Errorf("a job that fails: %q", out)
	}
	if out, err := s.tool(t, "x", "gearman", "-b", "-f", "upper"); err != nil {
		t.Errorf("gearman -b: %q %v", out, err)
	}
	eventually(t, "all is done", func() bool { return s.Stats().Jobs == 0 })
}

// Debian's gearadmin.
func TestGearadmin(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{})
	c := s.dial(t)
	h := c.Submit(packet.SubmitJobBG, "f", "u1", "x")
	c.Send(packet.SetClientID, "me")
	c.Nothing()
	for _, tt := range []struct{ flag, arg, want string }{
		{"--server-version", "", gearmand.Version},
		{"--status", "", "f\t1\t0\t0\n"},
		{"--priority-status", "", "f\t0\t1\t0\t0\n"},
		{"--workers", "", " 127.0.0.1 me :"},
		{"--show-jobs", "", h + "\t0\t0\t1\n"},
		{"--show-unique-jobs", "", "u1\n"},
		{"--server-verbose", "", "ERROR"},
		{"--cancel-job=" + h, "", ""},
		{"--create-function=abc", "", ""},
		{"--status", "", "abc\t0\t0\t0\n"},
		{"--drop-function=abc", "", ""},
		{"--getpid", "", ""},
	} {
		out, err := s.tool(t, "", "gearadmin", tt.flag)
		if err != nil || !strings.Contains(out, tt.want) {
			t.Errorf("gearadmin %s: %q %v; want %q", tt.flag, out, err, tt.want)
		}
	}
	if lines := c.Command("show jobs"); len(lines) != 0 {
		t.Errorf("left: %q", lines)
	}
	if lines := c.Command("status"); len(lines) != 1 {
		t.Errorf("status: %q; want f alone", lines)
	}
}

const perlWorker = `
use Gearman::Worker;
my $w = Gearman::Worker->new(job_servers => [$ARGV[0]]);
$w->register_function(upper => sub { my $j = shift; $j->set_status(1, 2); uc $j->arg });
$w->register_function(dies => sub { die "on purpose\n" });
$w->register_function(slow => 1, sub { sleep 60; 1 });
$w->work while 1;
`

const perlClient = `
use Gearman::Client;
my $c = Gearman::Client->new(job_servers => [$ARGV[0]], exceptions => 1);
my $r = $c->do_task(upper => "hello");
print "do_task: $$r\n";
my $set = $c->new_task_set;
my %got;
for my $i (1 .. 50) {
	$set->add_task(upper => "task$i", { uniq => "u$i", on_complete => sub { $got{$i} = ${ $_[0] } } });
}
$set->wait;
print "set: ", scalar(grep { $got{$_} eq "TASK$_" } 1 .. 50), "\n";
print "fails: ", (defined $c->do_task(dies => "x", { retry_count => 0 }) ? "no" : "yes"), "\n";
my $h = $c->dispatch_background(upper => "later");
print "background: ", ($h =~ m{//H:} ? "yes" : "no $h"), "\n";
`

// Perl's client and worker.
func TestPerl(t *testing.T) {
	t.Parallel()
	if err := exec.Command("perl", "-MGearman::Client", "-MGearman::Worker", "-e", "1").Run(); err != nil {
		t.Fatal("libgearman-client-perl is not installed (make tools)")
	}
	s := serve(t, gearmand.Options{TimeoutFails: true})
	startTool(t, "perl", "-e", perlWorker, s.addr)
	ctx, cancel := context.WithTimeout(t.Context(), gearmantest.Wait)
	defer cancel()
	cmd := exec.CommandContext(ctx, "perl", "-e", perlClient, s.addr)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	want := "do_task: HELLO\nset: 50\nfails: yes\nbackground: yes\n"
	if err != nil || string(out) != want {
		t.Errorf("perl: %v\n%s%s\nwant:\n%s", err, out, &stderr, want)
	}
	c := s.dial(t)
	h := c.Submit(packet.SubmitJob, "slow", "", "x") // its timeout is one second, and not one millisecond
	if p := c.Recv(); p.Type != packet.WorkFail || p.Args()[0] != h {
		t.Errorf("a job that takes too long: %v", p)
	}
	eventually(t, "all is done", func() bool { return s.Stats().Jobs == 0 })
}
