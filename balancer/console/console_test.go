package console_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/console"
)

// long is more than anything here takes.
const long = time.Minute

// site is the configuration that the transcripts are about.
func site(a, rp, sel, mgmt, dir string) string {
	return strings.NewReplacer("{A}", a, "{RP}", rp, "{SEL}", sel, "{MGMT}", mgmt, "{DIR}", dir).Replace(`
CREATE POOL a
  POOL a ADD {A}
CREATE POOL b
CREATE SERVICE rp
  SET role = reverse_proxy
  SET listen = {RP}
  SET pool = a
  SET persist_client = on
  SET persist_backend = on
ENABLE rp
CREATE SERVICE w
  SET role = web_server
  SET docroot = {DIR}
CREATE SERVICE sel
  SET role = selector
  SET listen = {SEL}
ENABLE sel
CREATE SERVICE mgmt
  SET role = management
  SET listen = {MGMT}
ENABLE mgmt
`)
}

type stopCall struct {
	graceful bool
	limit    time.Duration
}

// start starts a balancer with a console.
func start(t *testing.T, conf string) (*balancertest.Balancer, *console.Console, chan stopCall) {
	t.Helper()
	stats := console.NewStats()
	c := console.New(console.Options{Version: "test"}, stats)
	stops := make(chan stopCall, 4)
	b := balancertest.Start(t, conf, balancerd.Options{
		Console: c.Serve, Finished: stats.Finished, Stop: func(graceful bool, limit time.Duration) { stops <- stopCall{graceful, limit} },
	})
	return b, c, stops
}

func okBackend(t *testing.T) string {
	return balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok\n") })
}

// twice makes two requests on one connection, so that there is one backend connection with two uses. Their client closes.
func twice(t *testing.T, addr string) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	r := bufio.NewReader(nc)
	for i := range 2 {
		fmt.Fprintf(nc, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
		nc.SetReadDeadline(time.Now().Add(long))
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
	}
}

type place struct{ a, rp, sel, mgmt, dir string }

func (p place) replace(s string) string {
	pad := strings.Repeat(" ", max(0, 21-len(p.a)))
	return strings.NewReplacer("{A+}", pad+" ", "{A}", p.a, "{RP}", p.rp, "{SEL}", p.sel, "{MGMT}", p.mgmt, "{DIR}", p.dir).Replace(s)
}

// talk holds a conversation as a file has it.
func talk(t *testing.T, file string, p place) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", p.mgmt)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(long))
	r := bufio.NewReader(nc)
	var unordered []string
	line := func() string {
		s, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v after %q", file, err, s)
		}
		if !strings.HasSuffix(s, "\r\n") {
			t.Errorf("%q does not end in CRLF", s)
		}
		return strings.TrimRight(s, "\r\n")
	}
	balancertest.Eventually(t, "no connection to the console but this one", func() bool {
		fmt.Fprint(nc, "socks summary\r\n")
		var summary []string
		for s := line(); s != "."; s = line() {
			summary = append(summary, strings.TrimSpace(s))
		}
		return slices.Contains(summary, "1 Perlbal::ClientManage")
	})
	last := ""
	for n, raw := range strings.Split(strings.TrimRight(string(text), "\n"), "\n") {
		if strings.HasPrefix(raw, "#") {
			continue
		}
		kind, want := raw[:2], strings.TrimPrefix(raw[2:], " ")
		if len(unordered) > 0 && kind != "U:" && kind != "U~" {
			for range len(unordered) {
				got := line()
				i := 0
				for i < len(unordered) && !matches(unordered[i], got, p) {
					i++
				}
				if i == len(unordered) {
					t.Fatalf("%s:%d: %s\ngot  %q\nwant one of %q", file, n+1, last, got, unordered)
				}
				unordered = append(unordered[:i], unordered[i+1:]...)
			}
		}
		switch kind {
		case "C:":
			last = want
			fmt.Fprintf(nc, "%s\r\n", p.replace(want))
		case "U:", "U~":
			unordered = append(unordered, raw)
		case "S:", "S~":
			if got := line(); !matches(raw, got, p) {
				t.Fatalf("%s:%d: %s\ngot  %q\nwant %q", file, n+1, last, got, p.replace(want))
			}
		default:
			t.Fatalf("%s:%d: %q", file, n+1, raw)
		}
	}
}

func matches(rule, got string, p place) bool {
	kind, want := rule[:2], p.replace(strings.TrimPrefix(rule[2:], " "))
	if kind[1] == '~' {
		return regexp.MustCompile("^(?:" + want + ")$").MatchString(got)
	}
	return got == want
}

// settled waits until the client of twice is gone and its backend connection idles.
func settled(t *testing.T, mgmt string) {
	t.Helper()
	balancertest.Eventually(t, "one idle backend connection and nothing else", func() bool {
		return strings.Contains(ask(t, mgmt, "states"), "Perlbal::BackendHTTP bored 1\r\n.") && !strings.Contains(ask(t, mgmt, "states"), "Client")
	})
	ask(t, mgmt, "proc x") // changes nothing
}

// ask sends one command on a connection of its own and returns everything that comes until it is answered.
func ask(t *testing.T, mgmt, command string) string {
	t.Helper()
	nc, err := net.Dial("tcp", mgmt)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(long))
	fmt.Fprintf(nc, "%s\nno_such_command\n", command)
	var all bytes.Buffer
	r := bufio.NewReader(nc)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v after %q", command, err, all.String())
		}
		if strings.Contains(line, "unknown command: no_such_command") {
			return all.String()
		}
		all.WriteString(line)
	}
}

func TestTranscripts(t *testing.T) {
	for _, file := range []string{"shared.txt", "ours.txt"} {
		t.Run(file, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "bad.conf"), []byte("CREATE POOL x\nfrobnicate\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			a := okBackend(t)
			b, _, stops := start(t, site(a, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", dir))
			p := place{a, b.Addr("rp"), b.Addr("sel"), b.Addr("mgmt"), dir}
			twice(t, p.rp)
			settled(t, p.mgmt)
			talk(t, filepath.Join("testdata", file), p)
			if file == "ours.txt" {
				if got := <-stops; got != (stopCall{true, 7 * time.Second}) {
					t.Errorf("shutdown graceful 7 asked for %+v", got)
				}
			}
		})
	}
}

// Debian's perlbal gives the same answers.
func TestTranscriptOfPerlbal(t *testing.T) {
	dir, a := t.TempDir(), okBackend(t)
	p := startPerlbal(t, a, dir)
	twice(t, p.rp)
	settled(t, p.mgmt)
	talk(t, filepath.Join("testdata", "shared.txt"), p)
}

// startPerlbal starts Debian's perlbal on ports that are free, as far as one can know.
func startPerlbal(t *testing.T, a, dir string) place {
	t.Helper()
	addrs := balancertest.Perlbal(t, 3, func(addr []string) string { return site(a, addr[0], addr[1], addr[2], dir) })
	return place{a: a, rp: addrs[0], sel: addrs[1], mgmt: addrs[2], dir: dir}
}
