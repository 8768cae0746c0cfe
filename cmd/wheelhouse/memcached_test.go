package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/memcache/memcached"
	"wheelhouse/memcache/memcachetest"
)

func (p *process) memcached() string {
	return strings.TrimPrefix(p.ready["memcached"], "memcached://")
}

func TestMemcachedFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		want func(*memcachedConfig)
	}{
		{"", func(*memcachedConfig) {}},
		{"-m 256 -p 11212 -l 10.0.0.1,::1 -l notls:localhost:99 -c 4096 -t 4 -I 2m -vv", func(m *memcachedConfig) {
			m.opts.Limit, m.port, m.listen, m.opts.MaxConns, m.opts.Threads, m.opts.MaxItem, m.verbose = 256<<20, 11212, []string{"10.0.0.1", "::1", "notls:localhost:99"}, 4096, 4, 2<<20, 2
		}},
		{"-dMCFXW -s/run/x -a 0770 -unobody -f1.5 -n 64 -R 40 -b 64 -B binary -D/ -I 512k", func(m *memcachedConfig) {
			m.daemon, m.opts.NoEvict, m.opts.NoCAS, m.opts.NoFlush, m.opts.NoDump, m.opts.NoWatch = true, true, true, true, true, true
			m.socket, m.mask, m.user, m.opts.Growth, m.opts.LeastItem, m.opts.Batch, m.backlog = "/run/x", "0770", "nobody", 1.5, 64, 40, 64
			m.opts.Protocol, m.opts.Delimiter, m.opts.Detail, m.opts.MaxItem = memcached.Binary, '/', true, 512<<10
		}},
		{"--memory-limit=100 --conn-limit 5 -o idle_timeout=10,track_sizes,no_lru_crawler,hashpower=20 -o relaxed_privileges,slab_chunk_max=256 -k -r -L -o no_drop_privileges -l 127.0.0.1,;::1;", func(m *memcachedConfig) {
			m.opts.Limit, m.opts.MaxConns, m.opts.IdleTimeout, m.opts.TrackSizes, m.opts.DebugTime, m.opts.ChunkMax = 100<<20, 5, 10*time.Second, true, true, 256<<10
			m.opts.Unused = []string{"no_lru_crawler", "hashpower", "lock-memory", "enable-coredumps", "enable-largepages", "no_drop_privileges"}
			m.listen = []string{"127.0.0.1", "::1"}
		}},
	} {
		got, err := parseMemcached(strings.Fields(tt.args))
		if err != nil {
			t.Errorf("%q: %v", tt.args, err)
			continue
		}
		want := &memcachedConfig{port: 11211, mask: "700"}
		want.tls.minVersion = 2
		tt.want(want)
		opts := cmp.AllowUnexported(memcachedConfig{}, daemonFiles{}, memcachedTLS{}, memcached.Options{})
		if d := cmp.Diff(want, got, opts); d != "" {
			t.Errorf("%q:\n%s", tt.args, d)
		}
	}
}

func TestMemcachedBadFlags(t *testing.T) {
	t.Setenv("MEMCACHED_SASL_PWDB", "")
	users := writeFile(t, t.TempDir()+"/users", "nothing of the kind\n")
	good := writeFile(t, t.TempDir()+"/users", "a:b\n")
	for args, want := range map[string]string{
		"--porridge":                       "there is no flag --porridge",
		"-z":                               "there is no flag -z",
		"-m":                               "-m wants a value",
		"-m none":                          `"none" is not a number of megabytes`,
		"-I 2g":                            `"2g" is not a size`,
		"-p 0 -I 10":                       "MaxItem (-I) is 10 bytes",
		"-f 1":                             "not a number greater than 1",
		"-o porridge":                      `there is no option "porridge"`,
		"-o ssl_verify_mode=9":             "is not 0 to 3",
		"-p 0 -l mtls:127.0.0.1":           "there is no TLS without -Z",
		"-p 0 -l btls:127.0.0.1":           "there is no TLS without -Z",
		"-B morse":                         `"morse" is not ascii, binary or auto`,
		"-D xy":                            "is not one character",
		"extra":                            "unexpected argument: extra",
		"-Z":                               "-Z wants -o ssl_chain_cert=FILE",
		"-S":                               "-S wants a file of users",
		"-p 0 -Y /no/such/file":            "no such file",
		"-p 0 -Y " + users:                 "line 1 is not NAME:PASSWORD",
		"-p 0 --acl " + users + "x":        "no such file",
		"-p 0 -Y " + users + " -U 1":       "line 1",
		"-p 0 -U 1 -S --sasl-file " + good: "-Y and -S exclude -U",
		"-p 0 -l 300.1.1.1":                "300.1.1.1",
		"-p 0 -s /no/such/dir/x":           "/no/such/dir/x",
		"-p 0 --snapshot /no/such/dir/x":   "snapshots cannot be written: open /no/such/dir/x",
		"-p 0 -s " + users + "s -a 9":      "not an octal number",
		"-p 0 --metrics 127.0.0.1:no-such": "--metrics",
		"-p -5":                            `-p: "-5" is not a port`,
		"-U 70000":                         `-U: "70000" is not a port`,
		"-c 0":                             `-c: "0" is not a number of at least 1`,
		"-t 0":                             `-t: "0" is not a number of at least 1`,
		"-R 0":                             `-R: "0" is not a number of at least 1`,
		"-n 0":                             `-n: "0" is not a number of at least 1`,
		"-f NaN":                           `-f: "NaN" is not a number greater than 1`,
		"-f Inf":                           `-f: "Inf" is not a number greater than 1`,
		"-a 1000":                          `-a: "1000" is not an octal number up to 777`,
		"--write-timeout 0":                `--write-timeout: "0" is not a time above 0`,
		"--write-timeout 5":                `--write-timeout: "5" is not a time above 0`,
		"--slow-log -1":                    `--slow-log: "-1" is not a number of microseconds`,
		// What is left of -l "$HOST" without HOST must not be all addresses, nor that of -Y "$USERS" everybody.
		"--listen=":              `--listen: "" is no address`,
		"-l ,":                   `-l: "," is no address`,
		"-l notls:":              `-l: "notls:" has an address without a host`,
		"-l :0":                  `-l: ":0" has an address without a host`,
		"-l notls::0":            `-l: "notls::0" has an address without a host`,
		"-l []":                  `-l: "[]" has an address without a host`,
		"-l 127.0.0.1,[]:0":      `-l: "127.0.0.1,[]:0" has an address without a host`,
		"--unix-socket=":         "--unix-socket: the value is empty",
		"--auth-file=":           "--auth-file: the value is empty",
		"--acl=":                 "--acl: the value is empty",
		"--sasl-file=":           "--sasl-file: the value is empty",
		"--memory-file=":         "--memory-file: the value is empty",
		"--snapshot=":            "--snapshot: the value is empty",
		"--metrics=":             "--metrics: the value is empty",
		"--user=":                "--user: the value is empty",
		"--pidfile=":             "--pidfile: the value is empty",
		"-o ssl_key":             "-o: ssl_key: the value is empty",
		"-o ssl_chain_cert=":     "-o: ssl_chain_cert: the value is empty",
		"-o ssl_ca_cert=":        "-o: ssl_ca_cert: the value is empty",
		"-o ssl_ciphers":         "-o: ssl_ciphers: the value is empty",
		"-o ssl_min_version=4":   `-o: ssl_min_version: "4" is not 0 to 3`,
		"-o idle_timeout":        `idle_timeout: "" is not a number of seconds`,
		"-o slab_chunk_max=2000": `slab_chunk_max: "2000" is not a number of kilobytes up to 1024`,
		"-o no_track_sizes":      `there is no option "no_track_sizes"`,
	} {
		status, out, errOut := runOnce(t, append([]string{"memcached"}, strings.Fields(args)...)...)
		if status == 0 || out != "" || !strings.Contains(errOut, want) {
			t.Errorf("memcached %s = %d %q %q; want %q", args, status, out, errOut, want)
		}
	}
}

// Flags that exclude each other are refused in memcached's words and with its status.
func TestMemcachedConflicts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users := writeFile(t, dir+"/users", "a:b\n")
	for _, args := range []string{"-S -B ascii", "-B auto -S", "-d -S -B ascii", "-Y " + users + " -B binary", "-B auto -Y " + users} {
		theirs := exec.Command("memcached", append(strings.Fields(args), "-u", "nobody", "-P", dir+"/pid")...)
		want, _ := theirs.CombinedOutput() // it fails
		if theirs.ProcessState == nil {
			t.Fatal("make tools")
		}
		ours := append([]string{"memcached", "-p", "0", "--sasl-file", users}, strings.Fields(args)...)
		if status, out, errOut := runOnce(t, ours...); status != theirs.ProcessState.ExitCode() || out != "" || errOut != string(want) {
			t.Errorf("%s = %d %q %q; want %d %q", args, status, out, errOut, theirs.ProcessState.ExitCode(), want)
		}
	}
	for _, args := range []string{"-S -B binary", "-Y " + users + " -B ascii"} {
		m, err := parseMemcached(strings.Fields(args))
		if err != nil || m.conflict() != "" {
			t.Errorf("%s: %v %s", args, err, m.conflict())
		}
	}
}

func TestMemcachedHelp(t *testing.T) {
	t.Parallel()
	status, out, _ := runOnce(t, "memcached", "-h")
	for _, f := range (&memcachedConfig{}).flags() {
		name := "--" + f.long
		if f.long == "" {
			name = "-" + string(f.short)
		}
		if status != 0 || !strings.Contains(out, name) {
			t.Errorf("-h does not list %s", name)
		}
	}
	for _, name := range memcachedUnused {
		if !strings.Contains(out, name) {
			t.Errorf("-h does not list -o %s", name)
		}
	}
	// What -h says of -o exists.
	_, list, _ := strings.Cut(out, "Options of -o:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		name, value, _ := strings.Cut(strings.Fields(line)[0], "=")
		if value != "" {
			value = "=1"
		}
		if m, err := parseMemcached([]string{"-o", name + value}); err != nil || len(m.opts.Unused) > 0 {
			t.Errorf("-o %s%s: %v", name, value, err)
		}
	}
	if _, out, _ := runOnce(t, "memcached", "-V"); out != "memcached "+memcached.Version+"\n" {
		t.Errorf("-V: %q", out)
	}
	// Every option that memcached's own -h lists is accepted.
	for _, line := range strings.Split(debianHelp(t), "\n") {
		name, _, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "- ")), ":")
		if !ok || !strings.HasPrefix(line, "   - ") || strings.Contains(name, " ") {
			continue
		}
		value := map[string]string{"ssl_verify_mode": "=1", "ssl_min_version": "=2", "idle_timeout": "=1", "slab_chunk_max": "=512", "ssl_chain_cert": "=f", "ssl_key": "=f", "ssl_ca_cert": "=f", "ssl_ciphers": "=x"}[name]
		if _, err := parseMemcached([]string{"-o", name + value}); err != nil {
			t.Errorf("-o %s: %v", name, err)
		}
	}
}

func debianHelp(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("memcached", "-h").Output()
	if err != nil || len(out) < 1000 {
		t.Fatalf("memcached -h: %v (make tools)", err)
	}
	return string(out)
}

func TestMemcachedProcess(t *testing.T) {
	dir := t.TempDir()
	ports := dir + "/ports"
	t.Setenv("MEMCACHED_PORT_FILENAME", ports)
	p := start(t, "memcached", "-p", "0", "-U", "-1", "-m", "16", "-A", "-P", dir+"/pid",
		"--metrics", "127.0.0.1:0", "-o", "lru_maintainer", "-b", "64", "-t", "1")
	c := memcachetest.Dial(t, p.memcached())
	c.Send("set a 0 0 5", "hello", "get a")
	c.Expect("STORED", "VALUE a 0 5", "hello", "END")
	st := c.Stats("settings")
	for name, want := range map[string]string{"maxbytes": "16777216", "unused_options": "lru_maintainer", "shutdown_command": "yes", "tcp_backlog": "64", "num_threads": "1"} {
		if st[name] != want {
			t.Errorf("stats settings: %s is %q; want %q", name, st[name], want)
		}
	}
	text, err := os.ReadFile(ports)
	_, port, _ := net.SplitHostPort(p.memcached())
	if err != nil || !strings.Contains(string(text), "TCP INET: "+port+"\n") || !strings.Contains(string(text), "UDP INET: ") {
		t.Errorf("ports: %q %v", text, err)
	}
	if text, err := os.ReadFile(dir + "/pid"); err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(p.cmd.Process.Pid) {
		t.Errorf("pid file: %q %v", text, err)
	}
	resp, err := http.Get(p.ready["http"] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), "wheelhouse_memcached_items 1\n") || !strings.Contains(string(body), `wheelhouse_memcached_gets_total{result="hit"} 1`) {
		t.Errorf("metrics: %v\n%s", err, body)
	}
	if got := c.Ask("verbosity 1"); got != "OK" || c.Stats("settings")["verbosity"] != "1" {
		t.Errorf("verbosity 1: %q", got)
	}
	c.Send("shutdown")
	p.waitEnd()
	if text, err := os.ReadFile(p.log); err != nil || strings.Contains(string(text), "msg=ready") || !strings.Contains(string(text), "msg=\"stopping") {
		t.Errorf("what was logged before and after the command verbosity: %v\n%s", err, text)
	}
}

func (p *process) waitEnd() {
	p.t.Helper()
	select {
	case <-p.done:
		if p.err != nil {
			p.t.Errorf("the process ended: %v", p.err)
		}
	case <-time.After(wait):
		p.t.Fatal("the process does not end")
	}
}

func TestMemcachedUnixSocket(t *testing.T) {
	t.Parallel()
	sock := t.TempDir() + "/sock"
	p := start(t, "memcached", "-s", sock, "-a", "0666", "--slow-log", "1")
	c := memcachetest.Dial(t, sock)
	if got := c.Ask("set a 0 0 1\r\nx"); got != "STORED" {
		t.Error(got)
	}
	if list := c.Until("stats slow", "END"); len(list) != 1 || !strings.HasSuffix(list[0], " unix set a 0 0 1") {
		t.Errorf("slow commands: %q", list)
	}
	st, err := os.Stat(sock)
	if err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("the socket: %v %v", st.Mode(), err)
	}
	if conns := c.Stats("conns"); conns["1:addr"] != "unix:"+sock || conns["2:addr"] != "unix:"+sock {
		t.Errorf("stats conns: %v", conns)
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.waitEnd()
}

// An orderly end leaves the items to the next process, with their times and versions; kill -9 leaves none, and the next process starts.
func TestMemcachedWarmRestart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "items")
	run := func() (*process, *memcachetest.Conn) {
		p := start(t, "memcached", "-p", "0", "-m", "16", "-e", file)
		return p, memcachetest.Dial(t, p.memcached())
	}
	p, c := run()
	const n = 5000
	for i := range n {
		c.Send(fmt.Sprintf("set key%d %d %d 7 noreply", i, i, 1000*(i%2)), "value:x")
	}
	c.Send("set big 0 0 600000", strings.Repeat("b", 600_000))
	c.Expect("STORED")
	if got := c.Ask("flush_prefix x"); got != "OK" {
		t.Fatal(got)
	}
	version := c.Ask("mg key7 c")
	if status, _, errOut := runOnce(t, "memcached", "-p", "0", "-m", "16", "-e", file); status == 0 || !strings.Contains(errOut, "in use by another process") {
		t.Errorf("a second process with the same file: %d %q", status, errOut)
	}
	for round, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGKILL} {
		p.cmd.Process.Signal(sig)
		<-p.done
		p, c = run()
		want := strconv.Itoa(n + 1)
		if sig == syscall.SIGKILL {
			want = "0"
		}
		if got := c.Stats("")["curr_items"]; got != want {
			t.Fatalf("after %v, %s items; want %s", sig, got, want)
		}
		if sig == syscall.SIGKILL {
			break
		}
		if got := c.Ask("mg key7 c"); got != version {
			t.Errorf("round %d: %s; want %s", round, got, version)
		}
		c.Send("mg key4999 f t v")
		if got := c.Line(); !strings.HasPrefix(got, "VA 7 f4999 t") || strings.HasSuffix(got, "t-1") {
			t.Errorf("round %d: %s", round, got)
		}
		c.Expect("value:x")
	}
	if got := c.Ask("set a 0 0 1\r\nx"); got != "STORED" {
		t.Error(got)
	}
}

// The process's memory stays within 1.05 of -m and 64 MB, whatever is stored.
func TestMemcachedMemory(t *testing.T) {
	t.Parallel()
	limit, most := 96, 300_000
	if raceMemory > 1 { // what takes a second takes ten
		limit, most = 32, 40_000
	}
	p := start(t, "memcached", "-p", "0", "-m", strconv.Itoa(limit), "-I", "4m")
	c := memcachetest.Dial(t, p.memcached())
	big := strings.Repeat("x", 3_000_000)
	for round, size := range []int{20, 300, 5000, 100_000, 3_000_000, 50, 1000} {
		for i := range min(2*limit<<20/(size+60), most) {
			c.Send(fmt.Sprintf("set r%d-%d 0 0 %d noreply", round, i, size), big[:size])
		}
		c.Nothing()
		rss := residentBytes(t, p.cmd.Process.Pid)
		if allowed := raceMemory * int64(limit<<20*105/100+64<<20); rss > allowed {
			t.Errorf("with values of %d bytes the process has %d bytes; at most %d are allowed", size, rss, allowed)
		}
	}
	c.Send("set big 0 0 3000000", big)
	c.Expect("STORED")
	const slow = 60
	for range slow { // who do not read what they ask for
		memcachetest.Dial(t, p.memcached()).Raw(strings.Repeat("get big\r\n", 20))
		memcachetest.Dial(t, p.memcached()).Raw(strings.Repeat("get r6-1\r\n", 1000))
	}
	before := 0
	eventually(t, "all of them are waited for", func() bool {
		n, err := strconv.Atoi(c.Stats("")["cmd_get"])
		settled := err == nil && n >= 2*slow && n == before
		before = n
		return settled
	})
	if rss, allowed := residentBytes(t, p.cmd.Process.Pid), raceMemory*int64(limit<<20*105/100+64<<20); rss > allowed {
		t.Errorf("with %d slow readers the process has %d bytes; at most %d are allowed", 2*slow, rss, allowed)
	}
	if got := c.Ask("cache_memlimit 24"); got != "OK" {
		t.Error(got)
	}
	eventually(t, "memory is given back", func() bool { return residentBytes(t, p.cmd.Process.Pid) < raceMemory*80<<20 })
}

// With -R, others have their turn after so many requests of a connection.
func TestMemcachedTurns(t *testing.T) {
	t.Parallel()
	const n = 1000
	for _, tt := range []struct{ flag, least, most int }{{10, n / 20, n / 10}, {n, 0, 1}} {
		p := start(t, "memcached", "-p", "0", "-R", strconv.Itoa(tt.flag))
		c := memcachetest.Dial(t, p.memcached())
		c.Raw(strings.Repeat("get a\r\n", n))
		for range n {
			c.Expect("END")
		}
		// Where the requests arrive in several pieces, the count begins anew with each.
		if got, err := strconv.Atoi(c.Stats("")["conn_yields"]); err != nil || got < tt.least || got > tt.most {
			t.Errorf("-R %d: others had %d turns during %d gets; want %d to %d", tt.flag, got, n, tt.least, tt.most)
		}
		if got := c.Stats("settings")["reqs_per_event"]; got != strconv.Itoa(tt.flag) {
			t.Errorf("-R %d: stats settings says %s", tt.flag, got)
		}
	}
}

// So it does while many ask for much at once without reading it, and while many send lines without end, or half of a request.
func TestMemcachedCrowd(t *testing.T) {
	t.Parallel()
	const limit = 24
	allowed := raceMemory * int64(limit<<20*105/100+64<<20)
	p := start(t, "memcached", "-p", "0", "-m", strconv.Itoa(limit), "-c", "2100")
	c := memcachetest.Dial(t, p.memcached())
	for i := range 2 * limit << 20 / 1000 {
		c.Send(fmt.Sprintf("set k%d 0 0 1000 noreply", i), strings.Repeat("x", 1000))
	}
	if got := c.Ask("set small 0 0 500\r\n" + strings.Repeat("x", 500)); got != "STORED" {
		t.Fatal(got)
	}
	for _, crowd := range []struct {
		many int
		text string
	}{
		{1000, strings.Repeat("get "+strings.Repeat("small ", 300)+"\r\n", 20)},
		{1000, "lru_crawler metadump all\r\n"},
		{300, strings.Repeat("stats conns\r\n", 5)},
		{200, "get " + strings.Repeat("k", 900_000)},
		{2000, "set half 0 0 8000\r\n" + strings.Repeat("x", 7000)},
		{2000, "set half 0 0 20000\r\n" + strings.Repeat("x", 9000)},
	} {
		if raceMemory > 1 { // what takes a second takes ten
			crowd.many /= 4
		}
		var list []net.Conn
		var sending sync.WaitGroup
		for range crowd.many {
			nc, err := fromAfar.Dial("tcp", p.memcached())
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, nc)
			sending.Go(func() { _, _ = io.WriteString(nc, crowd.text) }) // it may be closed meanwhile
		}
		most, before, settled, own := int64(0), "", 0, 0
		eventually(t, "all of them are waited for", func() bool {
			most = max(most, residentBytes(t, p.cmd.Process.Pid))
			settled++
			st := c.Stats("")
			own += len("stats\r\n")
			read, err := strconv.Atoi(st["bytes_read"])
			if now := fmt.Sprint(st["cmd_get"], read-own); err != nil || now != before {
				settled, before = 0, now
			}
			return settled > 20
		})
		t.Logf("%d connections, %.20q…: %d bytes of %d", crowd.many, crowd.text, most, allowed)
		if most > allowed {
			t.Errorf("with %d connections that send %.20q… the process has had %d bytes; at most %d are allowed", crowd.many, crowd.text, most, allowed)
		}
		for _, nc := range list {
			nc.Close()
		}
		sending.Wait()
	}
}

func residentBytes(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

func TestMemcachedAuthFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users := writeFile(t, dir+"/users", "alice:one\n")
	acl := writeFile(t, dir+"/acl", "alice a: rw\n")
	p := start(t, "memcached", "-p", "0", "-Y", users, "--acl", acl, "-v")
	login := func(user, password string) (*memcachetest.Conn, string) {
		c := memcachetest.Dial(t, p.memcached())
		token := user + " " + password
		return c, c.Ask(fmt.Sprintf("set x 0 0 %d\r\n%s", len(token), token))
	}
	c, got := login("alice", "one")
	if got != "STORED" {
		t.Fatal(got)
	}
	if got := c.Ask("get b:1"); got != "CLIENT_ERROR access denied" {
		t.Error(got)
	}
	writeFile(t, users, "alice:two\n")
	writeFile(t, acl, "alice * r\n")
	p.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, "the new password counts", func() bool { _, got := login("alice", "two"); return got == "STORED" })
	if _, got := login("alice", "one"); got != "CLIENT_ERROR authentication failure" {
		t.Errorf("the old password: %s", got)
	}
	eventually(t, "the new rights count", func() bool { return c.Ask("get b:1") == "END" })
	writeFile(t, users, "nonsense\n")
	p.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, "the mistake is logged", func() bool {
		text, err := os.ReadFile(p.log)
		return err == nil && strings.Contains(string(text), "were not read again")
	})
	if _, got := login("alice", "two"); got != "STORED" {
		t.Errorf("after a file that is wrong: %s", got)
	}
}

func TestMemcachedSnapshot(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "snapshot")
	p := start(t, "memcached", "-p", "0", "--snapshot", file)
	if got := memcachetest.Dial(t, p.memcached()).Ask("set a 0 0 1\r\nx"); got != "STORED" {
		t.Fatal(got)
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.waitEnd()
	p = start(t, "memcached", "-p", "0", "-m", "128", "--snapshot", file)
	if got := memcachetest.Dial(t, p.memcached()).Ask("mg a"); got != "HD" {
		t.Error(got)
	}
}

func TestMemcachedInsideUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, upArgs(dir, "--set", "memcached.listen="+dir+"/cache", "--set", "memcached.limit=8MiB")...)
	c := memcachetest.Dial(t, dir+"/cache")
	if got := c.Ask("set a 0 0 1\r\nx"); got != "STORED" {
		t.Error(got)
	}
	if got := c.Stats("settings")["maxbytes"]; got != "8388608" {
		t.Errorf("maxbytes %s", got)
	}
}
