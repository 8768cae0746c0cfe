package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// balancerFile writes a configuration with a proxy to node, a console, an access log and a pidfile, and more.
func balancerFile(t *testing.T, node, more string) string {
	t.Helper()
	dir := t.TempDir()
	return writeFile(t, filepath.Join(dir, "perlbal.conf"), fmt.Sprintf(`SERVER pidfile = %[1]s/pid
SERVER metrics_listen = 127.0.0.1:0
CREATE POOL p
  POOL p ADD %[2]s
CREATE SERVICE rp
  SET role = reverse_proxy
  SET listen = 127.0.0.1:0
  SET pool = p
  SET persist_client = on
  SET persist_backend = on
  SET access_log = %[1]s/access.log
  SET access_log_format = json
ENABLE rp
CREATE SERVICE mgmt
  SET role = management
  SET listen = 127.0.0.1:0
ENABLE mgmt
%[3]s
`, dir, node, more))
}

func httpNode(t *testing.T, text string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func webText(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// consoleSays sends one command to a console and returns the first line of its answer.
func consoleSays(t *testing.T, url, command string) string {
	t.Helper()
	nc, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(wait))
	fmt.Fprintf(nc, "%s\r\n", command)
	line, err := bufio.NewReader(nc).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func TestBalancerProcess(t *testing.T) {
	file := balancerFile(t, httpNode(t, "one"), "")
	p := start(t, "balancer", "-c", file)
	pidFile, logFile := filepath.Join(filepath.Dir(file), "pid"), filepath.Join(filepath.Dir(file), "access.log")
	if got := webText(t, p.ready["rp"]+"/x"); got != "one" {
		t.Errorf("the proxy answers %q", got)
	}
	if text, err := os.ReadFile(pidFile); err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(p.cmd.Process.Pid) {
		t.Errorf("pidfile has %q, %v", text, err)
	}
	if got := consoleSays(t, p.ready["mgmt"], "use rp"); got != "OK" {
		t.Errorf("the console answers %q", got)
	}
	eventually(t, "the request is logged", func() bool { text, _ := os.ReadFile(logFile); return strings.Contains(string(text), `"uri":"/x"`) })

	if nc, err := net.Dial("tcp", strings.TrimPrefix(p.ready["rp"], "http://")); err != nil {
		t.Fatal(err)
	} else {
		fmt.Fprint(nc, "GET / HTTP/1.1\r\n\r\n") // without Host
		if got, err := io.ReadAll(nc); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 400 ") {
			t.Errorf("%q %v", got, err)
		}
		nc.Close()
	}
	for _, base := range []string{p.ready["mgmt"], p.ready["metrics_listen"]} {
		eventually(t, "metrics of "+base, func() bool {
			text := webText(t, base+"/metrics")
			for _, want := range []string{
				`(?m)^wheelhouse_balancer_requests_total 1$`, `(?m)^wheelhouse_balancer_answers_total{class="2xx",service="rp"} 1$`,
				`(?m)^wheelhouse_balancer_answers_total{class="5xx",service="rp"} 0$`, `(?m)^wheelhouse_balancer_node_up{node="[\d.:]+",pool="p"} 1$`,
				`(?m)^wheelhouse_balancer_malformed_requests_total{service="rp"} 1$`, `(?m)^wheelhouse_balancer_panics_total{service="rp"} 0$`,
				`(?m)^wheelhouse_balancer_client_timeouts_total{service="rp"} 0$`,
				`(?m)^wheelhouse_balancer_upload_spool_bytes{service="rp"} 0$`, `(?m)^wheelhouse_balancer_uploads_refused_total{service="rp"} 0$`,
				`(?m)^wheelhouse_balancer_request_duration_seconds_bucket{service="rp",le="\+Inf"} 1$`,
				`(?m)^wheelhouse_balancer_access_log_lines_total{result="written"} 2$`, `(?m)^wheelhouse_balancer_queued_requests{queue="low",service="rp"} 0$`,
			} {
				if !regexp.MustCompile(want).MatchString(text) {
					return false
				}
			}
			return true
		})
		if got := webText(t, base+"/healthz"); got != "ok\n" {
			t.Errorf("%s/healthz: %q", base, got)
		}
	}

	// USR1 after a rename: the next lines are in a new file.
	if err := os.Rename(logFile, logFile+".1"); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new file has requests", func() bool {
		webText(t, p.ready["rp"]+"/y") // one that comes before the signal belongs to the old file
		text, _ := os.ReadFile(logFile)
		return strings.Contains(string(text), `"uri":"/y"`)
	})
	p.stop()
	if _, err := os.Stat(pidFile); !os.IsNotExist(err) {
		t.Errorf("the pidfile is still there: %v", err)
	}
}

// HUP reads the file again; one that is wrong changes nothing, and the log says where it is wrong.
func TestBalancerReload(t *testing.T) {
	one, two := httpNode(t, "one"), httpNode(t, "two")
	file := balancerFile(t, one, "")
	p := start(t, "balancer", "--config", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, strings.Replace(string(text), one, two, 1)+"SET rp.nonsense = 1\n")
	hup := func() {
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	hup()
	lines := strings.Count(string(text), "\n") + 1
	eventually(t, "the bad file is refused", func() bool {
		return strings.Contains(p.output(), fmt.Sprintf("%s:%d: Unknown service parameter 'nonsense'", file, lines))
	})
	if got := webText(t, p.ready["rp"]+"/"); got != "one" {
		t.Errorf("after a bad file the proxy answers %q", got)
	}
	writeFile(t, file, strings.Replace(string(text), one, two, 1))
	hup()
	eventually(t, "the good file is in force", func() bool { return webText(t, p.ready["rp"]+"/") == "two" })
	p.stop()
}

func TestBalancerShutdownFromConsole(t *testing.T) {
	for _, command := range []string{"shutdown graceful", "shutdown graceful 30", "shutdown"} {
		t.Run(command, func(t *testing.T) {
			arrived, release := make(chan struct{}, 1), make(chan struct{})
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived <- struct{}{}
				<-release
				io.WriteString(w, "late")
			}))
			defer s.Close()
			p := start(t, "balancer", "-c", balancerFile(t, strings.TrimPrefix(s.URL, "http://"), ""))
			got := make(chan string, 1)
			go func() {
				res, err := http.Get(p.ready["rp"] + "/")
				if err != nil {
					got <- "error"
					return
				}
				defer res.Body.Close()
				b, _ := io.ReadAll(res.Body)
				got <- string(b)
			}()
			<-arrived
			if command == "shutdown" {
				nc, err := net.Dial("tcp", strings.TrimPrefix(p.ready["mgmt"], "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				fmt.Fprintf(nc, "shutdown\r\n")
				<-p.done
				close(release)
				if r := <-got; r != "error" {
					t.Errorf("the request got %q", r)
				}
			} else {
				if a := consoleSays(t, p.ready["mgmt"], command); a != "OK" {
					t.Errorf("%s: %q", command, a)
				}
				eventually(t, "the listener is closed", func() bool {
					nc, err := net.Dial("tcp", strings.TrimPrefix(p.ready["rp"], "http://"))
					if err == nil {
						nc.Close()
					}
					return err != nil
				})
				close(release)
				if r := <-got; r != "late" {
					t.Errorf("the request got %q", r)
				}
				<-p.done
			}
			if p.err != nil {
				t.Errorf("it ended with %v", p.err)
			}
		})
	}
}

// A binary upgrade takes metrics_listen along.
func TestBalancerUpgradeKeepsMetrics(t *testing.T) {
	file := balancerFile(t, httpNode(t, "one"), "")
	p := start(t, "balancer", "-c", file)
	before := p.cmd.Process.Pid
	if err := p.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if p.err != nil {
		t.Fatalf("the old process ended with %v\n%s", p.err, p.output())
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid == before {
		t.Fatalf("pidfile has %q", text)
	}
	next, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Kill()
	if got := webText(t, p.ready["rp"]+"/"); got != "one" {
		t.Errorf("the proxy answers %q", got)
	}
	if got := webText(t, p.ready["metrics_listen"]+"/healthz"); got != "ok\n" {
		t.Errorf("metrics_listen answers %q", got)
	}
}

func TestBalancerCheck(t *testing.T) {
	good := balancerFile(t, "127.0.0.1:1", "")
	bad := writeFile(t, filepath.Join(t.TempDir(), "bad.conf"), "CREATE SERVICE x\nSET role = nothing\n")
	noKey := balancerFile(t, "127.0.0.1:1", "SET rp.enable_ssl = on\nSET rp.ssl_cert_file = "+bad+"\nSET rp.ssl_key_file = "+bad)
	noNodes := balancerFile(t, "127.0.0.1:1", "SET p.nodefile = "+bad)
	noLog := balancerFile(t, "127.0.0.1:1", "SET rp.access_log = /no/such/log")
	noPid := balancerFile(t, "127.0.0.1:1", "SERVER pidfile = /no/such/pid")
	unused := writeFile(t, filepath.Join(t.TempDir(), "unused.conf"), "CREATE POOL x\n")
	for _, c := range []struct {
		args     []string
		code     int
		out, err string
	}{
		{[]string{"check", good}, 0, good + " is good: 2 services, 1 pools\n", ""},
		{[]string{"check", bad}, 1, "", bad + ":2: Role not valid for service x"},
		{[]string{"check", noKey}, 1, "", noKey + ":5: service rp: certificate " + bad + " with key " + bad + ": "},
		{[]string{"check", noNodes}, 1, "", bad + ":1: invalid node address 'CREATE SERVICE x'"},
		{[]string{"check", noLog}, 1, "", noLog + ":5: service rp: access_log: there is no directory /no/such"},
		{[]string{"check", noPid}, 1, "", noPid + ":18: pidfile: there is no directory /no/such"},
		{[]string{"check", "/no/such"}, 1, "", "/no/such"},
		{[]string{"check"}, 2, "", "check takes one file"},
		{[]string{"-c", bad}, 1, "", bad + ":2: Role not valid for service x"},
		{[]string{"-c", unused}, 1, "", "no services or management port configured"},
		{[]string{"-c", good, "more"}, 2, "", "unexpected argument: more"},
		{[]string{"--help"}, 0, "", "\n  check FILE\t"},
		{[]string{"--version"}, 0, "wheelhouse balancer ", ""},
		{[]string{"tunables"}, 0, "\n  balance_method = random\n", ""},
	} {
		code, out, errOut := runOnce(t, append([]string{"balancer"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errOut, c.err) {
			t.Errorf("balancer %s: %d %q %q; want %d %q %q", strings.Join(c.args, " "), code, out, errOut, c.code, c.out, c.err)
		}
	}
}

// The process in the background is ready when the command returns.
func TestBalancerDaemon(t *testing.T) {
	file := balancerFile(t, httpNode(t, "one"), "")
	code, out, errOut := runOnce(t, "balancer", "-c", file, "--daemon")
	if code != 0 || !strings.HasPrefix(out, "ready ") {
		t.Fatalf("%d %q %q", code, out, errOut)
	}
	mgmt := regexp.MustCompile(`mgmt=(\S+)`).FindStringSubmatch(out)[1]
	text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	if got := consoleSays(t, mgmt, "use rp"); got != "OK" {
		t.Errorf("the console answers %q", got)
	}
	if got := consoleSays(t, mgmt, "shutdown graceful"); got != "OK" {
		t.Errorf("shutdown: %q", got)
	}
	eventually(t, "process "+strings.TrimSpace(string(text))+" has ended", func() bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(file), "pid"))
		return os.IsNotExist(err)
	})
}

// unusedAddr is an address that nobody listened on a moment ago.
func unusedAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// metrics_listen moves by the console at once; to where it cannot be it does not, and nothing changes.
func TestMetricsListenMoves(t *testing.T) {
	p := start(t, "balancer", "-c", balancerFile(t, httpNode(t, "one"), ""))
	next := unusedAddr(t)
	if got := consoleSays(t, p.ready["mgmt"], "server metrics_listen = "+next); got != "OK" {
		t.Fatalf("the console answers %q", got)
	}
	if got := webText(t, "http://"+next+"/healthz"); got != "ok\n" {
		t.Errorf("at the new address: %q", got)
	}
	if nc, err := net.Dial("tcp", strings.TrimPrefix(p.ready["metrics_listen"], "http://")); err == nil {
		nc.Close()
		t.Error("the old address is still listened on")
	}
	taken := strings.TrimPrefix(p.ready["rp"], "http://")
	if got := consoleSays(t, p.ready["mgmt"], "server metrics_listen = "+taken); !strings.HasPrefix(got, "ERROR: metrics_listen: ") || !strings.Contains(got, "in use") {
		t.Errorf("an address that is taken: %q", got)
	}
	if got := webText(t, "http://"+next+"/healthz"); got != "ok\n" {
		t.Errorf("after a wrong one: %q", got)
	}
}
