package memcached

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wheelhouse/memcache/memcachetest"
)

// tool runs a program of others.
func tool(t *testing.T, name string, args ...string) (out string, err error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatal(name + " is not installed (make tools)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*memcachetest.Wait)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// All of memccapable's cases, of the text and the binary protocol.
func TestMemccapable(t *testing.T) {
	t.Parallel()
	for _, suite := range []struct{ flag, name string }{{"-a", "ascii"}, {"-b", "binary"}} {
		t.Run(suite.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, Options{})
			host, port, _ := strings.Cut(s.addr, ":")
			out, err := tool(t, "memccapable", "-h", host, "-p", port, suite.flag)
			if err != nil || !strings.Contains(out, "All tests passed") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// libmemcached's tools, by both protocols.
func TestLibmemcachedTools(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"", "--binary"} {
		t.Run("protocol="+strings.TrimLeft(protocol, "-"), func(t *testing.T) {
			t.Parallel()
			testLibmemcached(t, protocol)
		})
	}
}

func testLibmemcached(t *testing.T, protocol string) {
	s := serve(t, Options{})
	dir := t.TempDir()
	big := make([]byte, 900<<10)
	rand.Read(big)
	for name, text := range map[string][]byte{"small": []byte("hello\n"), "empty": {}, "big": big} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) (string, error) {
		t.Helper()
		all := []string{"--servers=" + s.addr}
		if protocol != "" && name != "memcstat" && name != "memcping" {
			all = append(all, protocol)
		}
		return tool(t, name, append(all, args...)...)
	}
	must := func(want, name string, args ...string) {
		t.Helper()
		if out, err := run(name, args...); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s %v: %v %.300q; want %q", name, args, err, out, want)
		}
	}
	must("", "memcping")
	must("", "memccp", filepath.Join(dir, "small"), filepath.Join(dir, "empty"), filepath.Join(dir, "big"))
	must("hello\n", "memccat", "small")
	got := filepath.Join(dir, "got")
	must("", "memccat", "--file="+got, "big")
	if b, err := os.ReadFile(got); err != nil || !bytes.Equal(b, big) {
		t.Errorf("the large file came back with %d bytes, %v", len(b), err)
	}
	must("", "memcexist", "small")
	must("", "memctouch", "--expire=100", "small")
	must("", "memctouch", "small")
	must("", "memcrm", "small")
	if _, err := run("memcexist", "small"); err == nil {
		t.Error("a file that was removed is there")
	}
	must("curr_items", "memcstat")
	if protocol == "" {
		must("big", "memcdump")
	}
	must("", "memcslap", "--concurrency=5", "--execute-number=200", "--test=set")
	must("", "memcslap", "--concurrency=5", "--execute-number=200", "--test=get")
	must("", "memcflush")
	if _, err := run("memcexist", "big"); err == nil {
		t.Error("after memcflush there is something")
	}
}

const perlTest = `
use strict; use warnings;
my ($class, $addr) = @ARGV;
eval "require $class" or die $@;
my $m = $class->new({ servers => [$addr], compress_threshold => 10_000 });
my @r;
push @r, $m->set("a", "hello"), $m->get("a"), $m->add("a", "x") ? 1 : 0, $m->replace("a", { list => [1, 2, 3] }), $m->get("a")->{list}[2];
push @r, $m->set("n", 41), $m->incr("n"), $m->decr("n", 2), $m->delete("n") ? 1 : 0, defined $m->get("n") ? 1 : 0;
my $long = join ",", 1 .. 50000;
push @r, $m->set("long", $long), $m->get("long") eq $long ? 1 : 0;
$m->set("k$_", "v$_", 100) for 1 .. 500;
my $all = $m->get_multi(map { "k$_" } 1 .. 600);
push @r, scalar(keys %$all), $all->{k77};
$m->flush_all;
push @r, defined $m->get("k1") ? 1 : 0;
print join(" ", @r), "\n";
`

func TestPerlClients(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	for _, class := range []string{"Cache::Memcached", "Cache::Memcached::Fast"} {
		out, err := tool(t, "perl", "-e", perlTest, class, s.addr)
		if want := "1 hello 0 1 3 1 42 40 1 0 1 1 500 v77 0\n"; err != nil || out != want {
			t.Errorf("%s: %v %q; want %q", class, err, out, want)
		}
	}
}

const pythonTest = `
import sys
from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheClientError
host, port = sys.argv[1].split(":")
c = Client((host, int(port)), timeout=60, connect_timeout=60)
r = [c.set("a", b"hello"), c.get("a"), c.add("a", b"x", noreply=False), c.append("a", b"!", noreply=False), c.get("a")]
value, cas = c.gets("a")
r += [value, c.cas("a", b"new", cas), c.cas("a", b"newer", cas), c.cas("none", b"x", cas), c.get("a")]
r += [c.set("n", b"10", noreply=False), c.incr("n", 5), c.decr("n", 100), c.incr("none", 1), c.touch("n", 100, noreply=False)]
c.set_many({"k%d" % i: b"x" * i for i in range(300)}, noreply=False)
m = c.get_many(["k%d" % i for i in range(400)])
r += [len(m), len(m["k299"]), c.delete("n", noreply=False), c.delete("n", noreply=False), c.get("k5"), c.get("n")]
r += [int(c.stats()[b"curr_items"]), c.version().startswith(b"1.6."), c.flush_all(noreply=False), c.get("k1")]
try:
    c.incr("x" * 251, 1)
except Exception as e:
    r.append(type(e).__name__)
print(r)
`

func TestPymemcache(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	out, err := tool(t, "/usr/bin/python3", "-c", pythonTest, s.addr)
	want := "[True, b'hello', False, True, b'hello!', b'hello!', True, False, None, b'new', True, 15, 0, None, True, " +
		"300, 299, True, False, b'xxxxx', None, 301, True, True, None, 'MemcacheIllegalInputError']\n"
	if err != nil || out != want {
		t.Errorf("%v %s\nwant %s", err, out, want)
	}
}
