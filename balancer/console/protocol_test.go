package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/config"
	"wheelhouse/balancer/console"
	"wheelhouse/internal/freeport"
)

const consoleOnly = "CREATE SERVICE mgmt\nSET role = management\nSET listen = 127.0.0.1:0\nENABLE mgmt\n"

func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(long))
	return nc, bufio.NewReader(nc)
}

// all reads until the other side closes.
func all(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%v after %q", err, b)
	}
	return string(b)
}

func TestLines(t *testing.T) {
	b, _, _ := start(t, consoleOnly)
	for name, c := range map[string]struct{ send, want string }{
		"bare LF first":          {"\nverbose on\nquit\n", "OK\r\n"},
		"CR and LF alone":        {"\r\n\r\nverbose on\r\nquit\r\n", "OK\r\n"},
		"pipelined":              {"verbose on\nuse mgmt\nplugins\nexit\nverbose on\n", "OK\r\nOK\r\n.\r\n"},
		"in pieces":              {"v\x00erbose on\nquit\n", "OK\r\n"},
		"last line without end":  {"verbose on", "OK\r\n"},
		"begins like HTTP":       {"GE\nquit\n", "ERROR: unknown command: ge\r\n"},
		"lower case is no HTTP":  {"get / http/1.0\nquit\n", "ERROR: unknown command: get\r\n"},
		"control character":      {"set a.b = \x01\nquit\n", "ERROR: control character '\\x01' in a command\r\n"},
		"another method":         {"PUT / HTTP/1.1\r\nHost: x\r\n\r\nverbose off\nquit\n", "ERROR: this is a console; over HTTP it answers GET and HEAD\r\n"},
		"shutdown in a body":     {"OPTIONS /shutdown HTTP/1.0\r\n\r\nshutdown\r\n", "ERROR: this is a console; over HTTP it answers GET and HEAD\r\n"},
		"too long":               {strings.Repeat("x", config.MaxLine) + "\n", "ERROR: line is over 65536 bytes\r\n"},
		"no answers when silent": {"verbose off\nuse mgmt\nverbose on\nquit\n", "OK\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			nc, r := dial(t, b.Addr("mgmt"))
			for _, piece := range strings.Split(c.send, "\x00") {
				if _, err := io.WriteString(nc, piece); err != nil {
					t.Fatal(err)
				}
			}
			nc.(*net.TCPConn).CloseWrite()
			got, err := io.ReadAll(r)
			if string(got) != c.want {
				t.Errorf("got %q (%v); want %q", got, err, c.want)
			}
		})
	}
}

// What a browser can be made to post is not executed.
func TestPostIsNoCommand(t *testing.T) {
	b, _, stops := start(t, consoleOnly)
	res, err := http.Post("http://"+b.Addr("mgmt")+"/", "text/plain", strings.NewReader("\nshutdown\r\n\r\nshutdown graceful\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("status %d; want 404", res.StatusCode)
	}
	select {
	case s := <-stops:
		t.Errorf("it stopped: %+v", s)
	default:
	}
}

// A command that is wrong leaves the configuration as it was.
func TestWrongCommandsChangeNothing(t *testing.T) {
	a := okBackend(t)
	b, _, _ := start(t, site(a, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", t.TempDir()))
	before := ask(t, b.Addr("mgmt"), "dumpconfig")
	commands := []string{
		"create service rp", "create pool b", "set rp.role = nope", "set rp.role = web_server x", "set rp.listen = 1.2.3.4:1",
		"set sel.listen = " + b.Addr("rp"), "set rp.buffer_uploads = on", "pool a add 1.2.3.4:99999",
		"pool a add 1.2.3.4 weight=0", "header rp insert x y: z", "remove pool a", "remove service nope", "set rp.plugins",
		"server nice_level = 99", "server console_networks = 1.2.3.4/99", "load nope", "set rp.pool = b c", "mime set", "set sel.default_service = nope",
	}
	for _, c := range commands {
		if got := ask(t, b.Addr("mgmt"), c); !strings.HasPrefix(got, "ERROR: ") || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: %q; want one line of error", c, got)
		}
	}
	if after := ask(t, b.Addr("mgmt"), "dumpconfig"); after != before {
		t.Errorf("the configuration has changed from\n%s\nto\n%s", before, after)
	}
	balancertest.Eventually(t, "it serves as before", func() bool {
		res, err := http.Get(b.URL("rp", "/"))
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == 200
	})
}

// Everything can be changed while requests run, and the console shows them.
func TestSocks(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 4)
	a := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	b, _, _ := start(t, site(a, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", t.TempDir())+"SET rp.verify_backend = off\nSET rp.always_trusted = on\n")
	done := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), "GET", b.URL("rp", "/slow?x=1"), nil)
		if err == nil {
			req.Host = "example.org"
			req.Header.Set("X-Forwarded-For", "10.1.2.3")
			var res *http.Response
			if res, err = http.DefaultTransport.RoundTrip(req); err == nil {
				res.Body.Close()
			}
		}
		done <- err
	}()
	<-arrived
	got := ask(t, b.Addr("mgmt"), "socks")
	// perlbal-check's own expression, and what it looks for in what follows.
	form := regexp.MustCompile(`^\s+(\d+)\s+(\d+)s\s+Perlbal::(\w+)\((\w+)\): (\w+) to ([^:]+):(\d+):\s+(.*)`)
	seen := map[string][]string{}
	for line := range strings.Lines(got) {
		if m := form.FindStringSubmatch(strings.TrimRight(line, "\r\n")); m != nil {
			if m[1] == "0" {
				t.Errorf("no descriptor: %q", line)
			}
			seen[m[3]] = strings.Split(m[8], "; ")
		}
	}
	_, port, _ := net.SplitHostPort(b.Addr("rp"))
	want := fmt.Sprintf("localport=%s|observed_ip=10.1.2.3|reqs=1|wait_res|http://example.org/slow?x=1|backend=%s", port, a)
	if c := strings.Join(seen["ClientProxy"], "|"); c != want {
		t.Errorf("client is %q; want %q\n%s", c, want, got)
	}
	if be := seen["BackendHTTP"]; len(be) != 3 || be[1] != "uses=0" && be[1] != "uses=1" || be[2] != "wait_res" && be[2] != "sending_req" {
		t.Errorf("backend is %q", be)
	}
	if st := ask(t, b.Addr("mgmt"), "states rp"); !strings.Contains(st, "Perlbal::ClientProxy wait_res 1\r\n") {
		t.Errorf("states: %q", st)
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestQueuedRequestsAreSeen(t *testing.T) {
	dead := freeport.ForTest(t)
	b, c, _ := start(t, site(dead, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", t.TempDir())+"SET rp.idle_timeout = 600\n")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		req, err := http.NewRequestWithContext(ctx, "GET", b.URL("rp", "/"), nil)
		if err == nil {
			if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
				res.Body.Close()
			}
		}
	}()
	balancertest.Eventually(t, "a queued request", func() bool {
		return strings.Contains(ask(t, b.Addr("mgmt"), "queues"), "rp-normal.count 1\r\n") &&
			strings.Contains(ask(t, b.Addr("mgmt"), "states"), "Perlbal::ClientProxy wait_backend 1\r\n") &&
			strings.Contains(ask(t, b.Addr("mgmt"), "show service rp"), "  pend clients: 1\r\n")
	})
	if st := c.Status(b.Balancer); st.Services[1].Queues[balancer.Normal].Count != 1 {
		t.Errorf("status: %+v", st.Services[1])
	}
	cancel()
	<-done
}

// Only this machine, and the networks that are set, may talk to a console.
func TestNetworks(t *testing.T) {
	b, c, _ := start(t, consoleOnly)
	from := func(addr string) string {
		ours, theirs := net.Pipe()
		got := make(chan string)
		go func() {
			theirs.SetDeadline(time.Now().Add(long))
			go io.WriteString(theirs, "verbose on\nquit\n") // a console that refuses does not read
			s, _ := io.ReadAll(theirs)
			got <- string(s)
		}()
		c.Serve(b.Balancer, &fromAddr{ours, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))})
		return <-got
	}
	refused := "ERROR: this address may not use the console (SERVER console_networks)\r\n"
	check := func(addr, want string) {
		t.Helper()
		if got := from(addr); got != want {
			t.Errorf("%s gets %q; want %q", addr, got, want)
		}
	}
	check("127.0.0.1:5", "OK\r\n")
	check("[::1]:5", "OK\r\n")
	check("[::ffff:127.0.0.1]:5", "OK\r\n")
	check("10.0.0.1:5", refused)
	check("[2001:db8::1]:5", refused)
	b.Do("SERVER console_networks = 10.0.0.0/8, 2001:db8::/32")
	check("10.0.0.1:5", "OK\r\n")
	check("[::ffff:10.0.0.1]:5", "OK\r\n")
	check("[2001:db8::1]:5", "OK\r\n")
	check("11.0.0.1:5", refused)
	check("127.0.0.1:5", "OK\r\n")
}

type fromAddr struct {
	net.Conn
	addr net.Addr
}

func (c *fromAddr) RemoteAddr() net.Addr { return c.addr }

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode, all(t, res.Body)
}

func TestPages(t *testing.T) {
	a := okBackend(t)
	b, _, _ := start(t, site(a, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", t.TempDir()))
	twice(t, b.Addr("rp"))
	for path, want := range map[string]string{
		"/":              "<td>2</td>", // the backend's requests, without any script
		"/socks":         `listening on ` + b.Addr("rp") + ` for <a href="/service?rp">rp</a>`,
		"/obj":           "<b>obj</b>",
		"/service?rp":    "          role: reverse_proxy",
		"/service?nope":  "ERROR: Unknown service",
		"/healthz":       "ok\n",
		"/status.json":   `"requests_per_second"`,
		"/nope":          "404 Not found",
		"/service?a+b":   "404 Not found",
		"/service":       "404 Not found",
		"/service?<rp>x": "404 Not found",
	} {
		balancertest.Eventually(t, path+" contains "+want, func() bool {
			status, body := get(t, b.URL("mgmt", path))
			return strings.Contains(body, want) && (status == 404) == strings.Contains(want, "404")
		})
	}
	// Perlbal's HTTP is 1.0, without Host.
	nc, r := dial(t, b.Addr("mgmt"))
	fmt.Fprint(nc, "GET /service?mgmt HTTP/1.0\r\n\r\n")
	if got := all(t, r); !strings.HasPrefix(got, "HTTP/1.0 200 OK\r\n") || !strings.Contains(got, "SERVICE mgmt\n") {
		t.Errorf("HTTP/1.0: %q", got)
	}
}

// What clients send is shown, never taken for markup or for a line of its own.
func TestEscaping(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 1)
	a := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) { arrived <- struct{}{}; <-release })
	b, _, _ := start(t, site(a, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", t.TempDir()))
	nc, r := dial(t, b.Addr("rp"))
	fmt.Fprint(nc, "GET /<script>alert(1)</script> HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	<-arrived
	_, body := get(t, b.URL("mgmt", "/socks"))
	if strings.Contains(body, "<script>alert") || !strings.Contains(body, "&lt;script&gt;alert(1)") {
		t.Errorf("not escaped:\n%s", body)
	}
	close(release)
	all(t, r)
}

func TestStatus(t *testing.T) {
	a := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			w.WriteHeader(503)
		}
	})
	b, _, _ := start(t, site(a, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", t.TempDir())+"POOL a ADD "+freeport.ForTest(t)+"\nSET rp.connect_ahead = 4\n")
	b.Do("SET rp.buffer_uploads_path = " + t.TempDir() + "\nSET rp.buffer_uploads = on\nSET rp.buffer_upload_threshold_size = 1\nSET rp.buffer_uploads_total_size = 2k")
	res, err := http.Post(b.URL("rp", "/"), "text/plain", strings.NewReader(strings.Repeat("x", 2049)))
	if err != nil {
		t.Fatal(err)
	}
	if res.Body.Close(); res.StatusCode != 413 {
		t.Errorf("an upload for which there is no room: %d", res.StatusCode)
	}
	if _, body := get(t, b.URL("mgmt", "/")); !strings.Contains(body, "0 uploads on disk, 0 B of 2.0 KiB") || !strings.Contains(body, ">1 refused<") {
		t.Errorf("the page says nothing of uploads:\n%s", body)
	}
	for _, path := range []string{"/", "/", "/", "/bad"} {
		get(t, b.URL("rp", path))
	}
	var st console.Status
	balancertest.Eventually(t, "status shows five requests, an error, and a node that is not up", func() bool {
		_, body := get(t, b.URL("mgmt", "/status.json"))
		st = console.Status{}
		if err := json.Unmarshal([]byte(body), &st); err != nil {
			t.Fatal(err)
		}
		return st.Services[1].Requests == 5 && st.Services[1].Errors == 1 && st.Services[1].Latency.P99 > 0 && len(st.Trouble) > 0 &&
			(st.Pools[0].Nodes[0].State != "up" || st.Pools[0].Nodes[1].State != "up")
	})
	if v := st.Services[1].Uploads; v == nil || *v != (console.UploadState{Limit: 2048, Refused: 1}) {
		t.Errorf("uploads: %+v", v)
	}
	if v := st.Services[1]; v.Name != "rp" || v.Rate <= 0 || v.ErrorRate <= 0 || v.Latency.P50 > v.Latency.P99 {
		t.Errorf("service: %+v", v)
	}
	if len(st.Pools) != 2 || st.Pools[0].Nodes[0].Addr != a || st.Pools[0].Nodes[0].Requests != 4 {
		t.Errorf("pools: %+v", st.Pools)
	}
}

// A browser runs the page: the tables are filled from /status.json again and again.
func TestPageInBrowser(t *testing.T) {
	a := okBackend(t)
	b, _, _ := start(t, site(a, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", t.TempDir()))
	twice(t, b.Addr("rp"))
	dying := balancertest.Raw(t, func(nc net.Conn) { nc.Read(make([]byte, 1)) })
	b.Do("SET rp.rate_limit = 1 burst=20\nSET a.balance_method = round_robin\nSET a.eject_errors = 1\nSET a.eject_time = 600\nPOOL a ADD " + dying +
		"\nSET rp.buffer_uploads_path = " + t.TempDir() + "\nSET rp.buffer_uploads = on\nSET rp.buffer_uploads_total_size = 1m")
	for range 40 { // the node is ejected, the client is refused
		if res, err := http.Get(b.URL("rp", "/")); err == nil {
			res.Body.Close()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--user-data-dir="+t.TempDir(), "--virtual-time-budget=4000", "--dump-dom", b.URL("mgmt", "/"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium: %v", err)
	}
	dom := string(out)
	m := regexp.MustCompile(`data-live="(\d+)"`).FindStringSubmatch(dom)
	if m == nil || m[1] == "1" {
		t.Errorf("the script has not run twice: %v", m)
	}
	for _, want := range []string{`<a href="/service?rp">rp</a>`, "<td>" + a, "<path d=", "waiting for a backend", "0 uploads on disk, 0 B of 1.0 MiB", `<span class="who">127.0.0.1 <span class="soft">`, `<p>pool a: ` + dying + ` ejected</p>`, `<span class="pill bad">ejected</span> <span class="why" title="`} {
		if !strings.Contains(dom, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if t.Failed() {
		t.Log(dom)
	}
}

// fake is a plugin that informs.
type fake struct{ balancer.Base }

func (fake) Name() string { return "Fake" }

func (fake) New(svc balancer.Service, _ *balancer.Settings, _ *balancer.PluginConf, _ any) (any, error) {
	return informer{svc.Name()}, nil
}

type informer struct{ name string }

func (i informer) Info(verb, _ string) ([]string, bool) {
	switch verb {
	case "stats":
		return []string{fmt.Sprintf("%-15s %-25s %12d", i.name, "proxy_requests", 21)}, true
	case "patterns":
		return []string{"High priority pattern buffer:", "SET " + i.name + ".highpri.uri_pattern = x"}, true
	}
	return nil, false
}

func TestInformers(t *testing.T) {
	c := console.New(console.Options{}, console.NewStats())
	b := balancertest.Start(t, "LOAD fake\nCREATE SERVICE one\nSET role = selector\nSET plugins = fake\nCREATE SERVICE two\nSET role = selector\n"+
		"SET plugins = fake\n"+consoleOnly, balancerd.Options{Console: c.Serve, Language: config.NewLanguage(config.NewPlugins(fake{}))})
	want := "one             proxy_requests                      21\r\ntwo             proxy_requests                      21\r\n" +
		"total           proxy_requests                      42\r\n.\r\n"
	if got := ask(t, b.Addr("mgmt"), "stats"); got != want {
		t.Errorf("stats: %q; want %q", got, want)
	}
	want = "High priority pattern buffer:\r\nSET one.highpri.uri_pattern = x\r\nSET two.highpri.uri_pattern = x\r\n.\r\n"
	if got := ask(t, b.Addr("mgmt"), "patterns"); got != want {
		t.Errorf("patterns: %q; want %q", got, want)
	}
	if got := ask(t, b.Addr("mgmt"), "plugins"); got != "one Fake\r\ntwo Fake\r\n.\r\n" {
		t.Errorf("plugins: %q", got)
	}
	if got := ask(t, b.Addr("mgmt"), "recent"); got != "ERROR: unknown command: recent\r\n" {
		t.Errorf("recent: %q", got)
	}
}
