package balancerd_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/config"
	"wheelhouse/internal/http1"
)

// names starts n backends, each of which answers with its number.
func names(t *testing.T, n int) []string {
	var list []string
	for i := range n {
		list = append(list, balancertest.Engine(t, func(x http1.Exchange) { x.Reply(200, fmt.Append(nil, i)) }))
	}
	return list
}

// load asks a URL over and over until stop is called, which returns how many requests were made and how many failed.
func load(t *testing.T, clients int, url func() string) (stop func() (asked, failed int64)) {
	quit := make(chan struct{})
	var asked, failed atomic.Int64
	var all sync.WaitGroup
	tr := &http.Transport{MaxIdleConnsPerHost: clients}
	ctx := context.WithoutCancel(t.Context())
	for range clients {
		all.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				req, err := http.NewRequestWithContext(ctx, "GET", url(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				res, err := tr.RoundTrip(req)
				asked.Add(1)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if err != nil || res.StatusCode != 200 {
					failed.Add(1)
					t.Logf("%v %v", res, err)
				}
			}
		})
	}
	return func() (int64, int64) {
		close(quit)
		all.Wait()
		tr.CloseIdleConnections()
		return asked.Load(), failed.Load()
	}
}

// Everything can be changed under load without a failed request.
func TestLiveChanges(t *testing.T) {
	back := names(t, 3)
	b := balancertest.Start(t, balancertest.Proxy(back[:1], "")+"CREATE POOL other\nPOOL other ADD "+back[1]+"\n", balancerd.Options{})
	addr := b.Addr("rp")
	stop := load(t, 8, func() string { return "http://" + addr + "/" })
	for i := range 40 {
		b.Do([]string{
			"SET rp.pool = other", "POOL other ADD " + back[2], "SET rp.persist_backend = off", "SET rp.pool = p", "POOL other REMOVE " + back[2],
			"SET rp.persist_backend = on", "SET rp.connect_ahead = 5", "SET rp.verify_backend = on", "SET rp.verify_backend = off", "SET p.balance_method = least_conn",
			"SET rp.client_sndbuf_size = " + fmt.Sprint(100000+i), "SET p.balance_method = random", "SET rp.idle_timeout = 20", "SET rp.compress = gzip", "SET rp.compress = off",
		}[i%15])
		begun := b.Requests()
		balancertest.Eventually(t, "requests go on", func() bool { return b.Requests() > begun+20 })
	}
	if asked, failed := stop(); failed > 0 {
		t.Errorf("%d of %d requests failed", failed, asked)
	}
}

// Reloads under load: no request fails. A file that is wrong changes nothing.
func TestReload(t *testing.T) {
	back := names(t, 2)
	file := filepath.Join(t.TempDir(), "perlbal.conf")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	conf := func(node, listen, more string) string {
		return strings.Replace(balancertest.Proxy([]string{node}, more), "127.0.0.1:0", listen, 1)
	}
	b := balancertest.Start(t, "", balancerd.Options{})
	write(conf(back[0], addr, ""))
	if err := b.LoadFile(file); err != nil {
		t.Fatal(err)
	}
	stop := load(t, 8, func() string { return "http://" + addr + "/" })
	for i := range 20 {
		write(conf(back[i%2], addr, fmt.Sprintf("SET idle_timeout = %d\nSET client_sndbuf_size = %d", 20+i, 100000*(i%3))))
		if err := b.Reload(); err != nil {
			t.Fatal(err)
		}
		begun := b.Requests()
		balancertest.Eventually(t, "requests go on", func() bool { return b.Requests() > begun+50 })
	}
	before := strings.Join(b.Language().Dump(b.State()), "\n")
	badNodes := filepath.Join(t.TempDir(), "nodes")
	if err := os.WriteFile(badNodes, []byte("1.2.3.4:99999"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, bad := range []string{
		conf(back[0], addr, "SET buffer_size = many"), "CREATE SERVICE x\nSET listen = 1.2.3.4:5\nENABLE x", "nonsense",
		conf(back[0], taken.Addr().String(), ""), conf(back[0], addr, "SET enable_ssl = on\nSET ssl_cert_file = /nonexistent"),
		conf(back[0], addr, "SET access_log = /nonexistent/log"), conf(back[0], addr, "SET pool.nodefile = /dev/null/x"),
		conf(back[0], addr, "") + "SET p.nodefile = " + badNodes + "\n", "DEFAULT docroot = /nonexistent\nCREATE SERVICE x\nSET role = web_server\n",
	} {
		write(bad)
		if err := b.Reload(); err == nil {
			t.Errorf("a bad file was taken:\n%s", bad)
		} else {
			t.Log(err)
		}
	}
	if after := strings.Join(b.Language().Dump(b.State()), "\n"); after != before {
		t.Errorf("a bad file has changed something:\n%s\nbefore:\n%s", after, before)
	}
	if asked, failed := stop(); failed > 0 {
		t.Errorf("%d of %d requests failed", failed, asked)
	}
}

// A service that moves to another address lets the connections of the old one finish.
func TestListenMoves(t *testing.T) {
	b := balancertest.Start(t, balancertest.Proxy(names(t, 1), ""), balancerd.Options{})
	old := b.Addr("rp")
	nc, err := net.Dial("tcp", old)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ask := func() string {
		fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		buf := make([]byte, 4096)
		n, _ := nc.Read(buf)
		return string(buf[:n])
	}
	if got := ask(); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Fatalf("%q", got)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	next := ln.Addr().String()
	ln.Close()
	b.Do("SET rp.listen = " + next)
	if got := ask(); !strings.HasPrefix(got, "HTTP/1.1 200") { // the connection has moved with it
		t.Errorf("the old connection: %q", got)
	}
	if b.Addr("rp") != next {
		t.Errorf("listens on %s; want %s", b.Addr("rp"), next)
	}
	balancertest.Eventually(t, "the old address is closed", func() bool {
		c, err := net.Dial("tcp", old)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	b.Do("DISABLE rp")
	balancertest.Eventually(t, "the new one too", func() bool {
		c, err := net.Dial("tcp", next)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

func TestWrongCommandsChangeNothing(t *testing.T) {
	b := balancertest.Start(t, balancertest.Proxy([]string{"127.0.0.1:9"}, ""), balancerd.Options{})
	before := strings.Join(b.Language().Dump(b.State()), "\n")
	for line, want := range map[string]string{
		"SET rp.nonsense = 1":              "Unknown service parameter 'nonsense'",
		"SET rp.persist_client = maybe":    "Expecting boolean value for parameter 'persist_client'",
		"SET rp.buffer_size = 1x":          "Expecting size unit value for parameter 'buffer_size' in bytes, or suffixed with 'K' or 'M'",
		"SET rp.connect_ahead = -1":        "Expecting integer value for parameter 'connect_ahead'",
		"SET rp.docroot = /tmp":            "The 'docroot' option can only be set on a 'web_server' service",
		"SET rp.pool = none":               "Pool 'none' not found",
		"SET rp.listen = x":                "Listen argument must be ip:port or port. e.g. 192.168.0.1:80 or 81",
		"SET nobody.role = web_server":     "service/pool 'nobody' does not exist",
		"SET p.balance_method = fair":      "Unknown balance method",
		"POOL p ADD not_an_ip:x":           "invalid node address 'not_an_ip:x': expecting ip:port",
		"POOL p FROB 1.2.3.4":              "Invalid command:  must be 'add' or 'remove'",
		"CREATE SERVICE rp":                "service 'rp' already exists",
		"CREATE POOL p":                    "pool 'p' already exists",
		"ENABLE rp":                        "service rp is already enabled",
		"USE x":                            "Non-existent pool or service 'x'",
		"SET rp.buffer_uploads = on":       "service rp: buffer_uploads needs buffer_uploads_path",
		"SET rp.listen = 203.0.113.7:1":    "Can't start service 'rp' on 203.0.113.7:1: Error creating listening socket: bind: cannot assign requested address",
		"POOL p ADD local:nobody":          "pool p: there is no local handler 'nobody'",
		"REMOVE POOL p":                    "pool 'p' is used by service 'rp'",
		"SET rp.ssl_min_version = 1.1":     "Expecting 1.2 or 1.3 for parameter 'ssl_min_version'",
		"LOAD nothing":                     "plugin 'nothing' is not compiled in; there are ",
		"frobnicate":                       "unknown command: frobnicate",
		"SET rp.queue_relief_chance = 101": "Value out of range for parameter 'queue_relief_chance'",
	} {
		err := b.Try(line)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v; want %s", line, err, want)
		}
	}
	if after := strings.Join(b.Language().Dump(b.State()), "\n"); after != before {
		t.Errorf("changed:\n%s\nbefore:\n%s", after, before)
	}
	if _, _, err := config.ParseLine("SET rp.x = \x01", config.Expander{}); err == nil {
		t.Error("a control character was taken")
	}
}

// The methods give each node the share that is its due.
func TestBalanceMethods(t *testing.T) {
	back := names(t, 3)
	for _, tt := range []struct {
		method string
		check  func(count map[string]int) string
	}{
		{"round_robin", func(c map[string]int) string {
			if c["0"] != 150 || c["1"] != 75 || c["2"] != 75 {
				return "want 150, 75, 75"
			}
			return ""
		}},
		{"power_of_two", func(c map[string]int) string {
			if c["0"] == 0 || c["1"] == 0 || c["2"] == 0 {
				return "want some for each"
			}
			return ""
		}},
		{"consistent_hash", func(c map[string]int) string {
			if len(c) != 1 {
				return "want one node for one URI"
			}
			return ""
		}},
		{"consistent_hash\nSET p.hash_key = cookie:session", func(c map[string]int) string { // the requests have none
			if c["0"] == 0 || c["1"] == 0 || c["2"] == 0 {
				return "want some for each"
			}
			return ""
		}},
	} {
		b := balancertest.Start(t, balancertest.Proxy(nil, ""), balancerd.Options{})
		b.Do("POOL p ADD " + back[0] + " weight=2\nPOOL p ADD " + back[1] + "\nPOOL p ADD " + back[2] + "\nSET p.balance_method = " + tt.method)
		count := map[string]int{}
		for range 300 {
			_, got := get(t, b.URL("rp", "/same"))
			count[got]++
		}
		if bad := tt.check(count); bad != "" {
			t.Errorf("%s: %v; %s", tt.method, count, bad)
		}
	}
}

// least_conn leaves a node alone that is at work, as long as others are not.
func TestLeastConn(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	defer let()
	slow := balancertest.Engine(t, func(x http1.Exchange) {
		if string(x.Request().Path) == "/slow" {
			begun <- struct{}{}
			<-release
		}
		x.Reply(200, []byte("slow"))
	})
	b := balancertest.Start(t, balancertest.Proxy([]string{slow}, ""), balancerd.Options{})
	var asking sync.WaitGroup
	defer asking.Wait()
	defer let()
	for range 2 {
		asking.Go(func() {
			if res, err := http.Get(b.URL("rp", "/slow")); err == nil {
				res.Body.Close()
			}
		})
		<-begun
	}
	b.Do("POOL p ADD " + names(t, 1)[0] + "\nSET p.balance_method = least_conn")
	for range 50 {
		if _, got := get(t, b.URL("rp", "/")); got != "0" {
			t.Fatalf("%q has answered, which has two requests", got)
		}
	}
	let()
	asking.Wait()
	seen := map[string]bool{}
	balancertest.Eventually(t, "both are given work again", func() bool {
		_, got := get(t, b.URL("rp", "/"))
		seen[got] = true
		return len(seen) == 2
	})
}

// Nodes, listeners and clients may be of IPv6, and nodes may be names, which are looked up.
func TestAddresses(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(echo)}
	go srv.Serve(ln)
	defer srv.Close()
	b := balancertest.Start(t, strings.Replace(balancertest.Proxy([]string{ln.Addr().String()}, ""), "127.0.0.1:0", "[::1]:0", 1), balancerd.Options{})
	if addr := b.Addr("rp"); !strings.HasPrefix(addr, "[::1]:") {
		t.Errorf("it listens on %s", addr)
	}
	if res, got := get(t, b.URL("rp", "/six")); res.StatusCode != 200 || !strings.Contains(got, "GET "+b.Addr("rp")+" /six") || !strings.Contains(got, "X-Forwarded-For: ::1\n") {
		t.Errorf("IPv6: %d %s", res.StatusCode, got)
	}
	_, port, err := net.SplitHostPort(names(t, 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	b.Do("POOL p ADD localhost:" + port + "\nPOOL p REMOVE " + ln.Addr().String() + "\nSET p.resolve_interval = .05")
	balancertest.Eventually(t, "the name is looked up", func() bool { _, got := get(t, b.URL("rp", "/")); return got == "0" })
	for _, n := range b.Pools()[0].Nodes() {
		if !strings.HasSuffix(n.Addr, ":"+port) || strings.HasPrefix(n.Addr, "localhost") {
			t.Errorf("node %s is no address", n.Addr)
		}
	}
}

// When a node leaves, only the keys that were its move; when it comes back, they return.
func TestConsistentHashMovesLittle(t *testing.T) {
	back := names(t, 4)
	b := balancertest.Start(t, balancertest.Proxy(back, "")+"SET p.balance_method = consistent_hash\nSET p.hash_key = path\n", balancerd.Options{})
	where := func() map[int]string {
		m := map[int]string{}
		for i := range 200 {
			_, m[i] = get(t, b.URL("rp", fmt.Sprint("/", i, "?ignored=", i)))
		}
		return m
	}
	before := where()
	b.Do("POOL p REMOVE " + back[2])
	for i, n := range where() {
		if n == "2" || before[i] != "2" && n != before[i] {
			t.Errorf("key %d moved from %s to %s", i, before[i], n)
		}
	}
	b.Do("POOL p ADD " + back[2])
	for i, n := range where() {
		if n != before[i] {
			t.Errorf("key %d is at %s; was at %s", i, n, before[i])
		}
	}
}

// Active checks take a node out and put it back; failing requests leave it alone for a while.
func TestHealth(t *testing.T) {
	var sick atomic.Bool
	a := balancertest.Engine(t, func(x http1.Exchange) {
		if sick.Load() && string(x.Request().Path) == "/health" {
			x.Reply(500, nil)
			return
		}
		x.Reply(200, []byte("a"))
	})
	c := balancertest.Engine(t, func(x http1.Exchange) { x.Reply(200, []byte("c")) })
	b := balancertest.Start(t, balancertest.Proxy([]string{a, c}, "")+
		"SET p.balance_method = round_robin\nSET p.health_path = /health\nSET p.health_interval = .05\nSET p.health_fall = 2\nSET p.health_rise = 2\n", balancerd.Options{})
	state := func() string { return b.Pools()[0].Nodes()[0].Status(time.Now()).State }
	sick.Store(true)
	balancertest.Eventually(t, "the node is sick", func() bool { return state() == "sick" })
	for range 10 {
		if _, got := get(t, b.URL("rp", "/")); got != "c" {
			t.Fatalf("a sick node answered")
		}
	}
	sick.Store(false)
	balancertest.Eventually(t, "the node is well", func() bool { return state() == "up" })
	b.Do("SET p.health_path = none\nSET p.eject_errors = 3\nSET p.eject_time = 60")
	broken := balancertest.Raw(t, func(nc net.Conn) { nc.Read(make([]byte, 1)) })
	b.Do("POOL p ADD " + broken + "\nPOOL p REMOVE " + a)
	for range 20 {
		if res, got := get(t, b.URL("rp", "/")); res.StatusCode != 200 || got != "c" {
			t.Fatalf("%d %q", res.StatusCode, got)
		}
	}
	found := false
	for _, n := range b.Pools()[0].Nodes() {
		found = found || n.Addr == broken && n.Status(time.Now()).State == "ejected"
	}
	if !found {
		t.Error("the node that fails each request was not ejected")
	}
}

func TestNodeFile(t *testing.T) {
	back := names(t, 2)
	file := filepath.Join(t.TempDir(), "nodes")
	write := func(text string, at time.Time) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chtimes(file, at, at)
	}
	write("# first\n"+back[0]+" # yes\n\n", time.Unix(1000, 0))
	b := balancertest.Start(t, balancertest.Proxy(nil, "")+"SET p.nodefile = "+file+"\n", balancerd.Options{})
	if _, got := get(t, b.URL("rp", "/")); got != "0" {
		t.Errorf("%q; want 0", got)
	}
	write("nonsense here\n", time.Unix(2000, 0))
	b.Do("SET p.balance_method = random") // looks at the file at once
	if _, got := get(t, b.URL("rp", "/")); got != "0" {
		t.Errorf("after a bad file: %q; want 0", got)
	}
	write(back[1]+"\n", time.Unix(3000, 0))
	balancertest.Eventually(t, "the file is read again", func() bool { _, got := get(t, b.URL("rp", "/")); return got == "1" })
}

// POOL changes what a nodefile names until that is read again; without the file its nodes stay. dumpconfig prints what is, whatever the file
// was when it was named.
func TestNodeFileAndPool(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nodes")
	when := time.Unix(1000, 0)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if when = when.Add(time.Second); os.Chtimes(file, when, when) != nil {
			t.Fatal("the file's time cannot be set")
		}
	}
	write("192.0.2.1\n192.0.2.2\n192.0.2.3\n")
	b := balancertest.Start(t, "CREATE POOL p\nPOOL p ADD 192.0.2.9\nSET nodefile = "+file+"\n", balancerd.Options{})
	for _, step := range []struct{ file, line, want, dump string }{
		{want: "192.0.2.1 192.0.2.2 192.0.2.3"},
		{line: "POOL p REMOVE 192.0.2.2", want: "192.0.2.1 192.0.2.3", dump: "REMOVE 192.0.2.2"},
		{line: "POOL p ADD 192.0.2.4 weight=2", want: "192.0.2.1 192.0.2.3 192.0.2.4", dump: "REMOVE 192.0.2.2, ADD 192.0.2.4 weight=2"},
		{line: "SET p.max_requests = 5", want: "192.0.2.1 192.0.2.3 192.0.2.4", dump: "REMOVE 192.0.2.2, ADD 192.0.2.4 weight=2"},
		{line: "POOL p ADD 192.0.2.1", want: "192.0.2.3 192.0.2.4 192.0.2.1", dump: "REMOVE 192.0.2.2, ADD 192.0.2.4 weight=2, ADD 192.0.2.1"},
		{file: "what is this?\n", line: "SET p.max_requests = 4", want: "192.0.2.3 192.0.2.4 192.0.2.1", dump: "REMOVE 192.0.2.2, ADD 192.0.2.4 weight=2, ADD 192.0.2.1"},
		{file: "192.0.2.5\n192.0.2.6\n", line: "SET p.max_requests = 3", want: "192.0.2.5 192.0.2.6"},
		{line: "POOL p REMOVE 192.0.2.6", want: "192.0.2.5", dump: "REMOVE 192.0.2.6"},
		{line: "SET p.nodefile = none", want: "192.0.2.5", dump: "ADD 192.0.2.5"},
		{file: "192.0.2.7\n", line: "POOL p ADD 192.0.2.8", want: "192.0.2.5 192.0.2.8", dump: "ADD 192.0.2.5, ADD 192.0.2.8"},
		{line: "SET p.nodefile = " + file, want: "192.0.2.7"},
		{file: "192.0.2.1\n192.0.2.2\n", line: "POOL p REMOVE 192.0.2.2", want: "192.0.2.1", dump: "REMOVE 192.0.2.2"},
	} {
		if step.file != "" {
			write(step.file)
		}
		b.Do(step.line)
		var have []string
		for _, n := range b.Pools()[0].Nodes() {
			have = append(have, strings.TrimSuffix(n.Addr, ":80"))
		}
		if got := strings.Join(have, " "); got != step.want {
			t.Errorf("after %q the nodes are %s; want %s", step.line, got, step.want)
		}
		var dump []string
		lines := b.Language().Dump(b.Current())
		for _, l := range lines {
			if verb, rest, ok := strings.Cut(strings.TrimPrefix(l, "  POOL "), " p "); ok {
				dump = append(dump, verb+" "+strings.Replace(rest, ":80", "", 1))
			}
		}
		if got := strings.Join(dump, ", "); got != step.dump {
			t.Errorf("after %q dumpconfig has %s; want %s", step.line, got, step.dump)
		}
		again, err := b.Language().Read(strings.NewReader(strings.Join(lines, "\n")), "dump", config.Expander{}, nil)
		if err == nil && !slices.Equal(again.Pools["p"].Nodes, b.Current().Pools["p"].Nodes) {
			t.Errorf("after %q, what dumpconfig prints makes %v", step.line, again.Pools["p"].Nodes)
		}
		if wrong := strings.HasPrefix(step.file, "what"); (err != nil) != wrong {
			t.Errorf("after %q, what dumpconfig prints: %v", step.line, err)
		}
	}
}

func TestSelectorWithoutPlugins(t *testing.T) {
	conf := balancertest.Proxy(names(t, 1), "") + "CREATE SERVICE sel\nSET role = selector\nSET listen = 127.0.0.1:0\nENABLE sel\n"
	b := balancertest.Start(t, conf, balancerd.Options{})
	if res, got := get(t, b.URL("sel", "/")); res.StatusCode != 500 || !strings.Contains(got, "No service selector configured.") {
		t.Errorf("%d %q", res.StatusCode, got)
	}
	b.Do("SET sel.default_service = rp\nSET sel.persist_client = on")
	if res, got := get(t, b.URL("sel", "/")); res.StatusCode != 200 || got != "0" || res.Close {
		t.Errorf("%d %q close=%v", res.StatusCode, got, res.Close)
	}
}

func TestUploadTracker(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := pc.LocalAddr().String()
	pc.Close()
	conf := "CREATE SERVICE track\nSET role = upload_tracker\nSET listen = " + addr + "\nENABLE track\n" +
		balancertest.Proxy([]string{balancertest.Backend(t, echo)}, "SET upload_status_listeners = "+addr)
	b := balancertest.Start(t, conf, balancerd.Options{})
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		res, err := http.Post(b.URL("rp", "/x?client_up_sess=abcde12345"), "text/plain", r)
		if err == nil {
			res.Body.Close()
		}
	}()
	fmt.Fprint(w, "hello")
	balancertest.Eventually(t, "the upload is known", func() bool {
		_, got := get(t, b.URL("rp", "/__upload_status?client_up_sess=abcde12345"))
		return strings.HasPrefix(got, "{done:5,total:-1,starttime:")
	})
	w.Close()
	<-done
	if _, got := get(t, b.URL("rp", "/__upload_status?client_up_sess=unknown00")); got != "{}" {
		t.Errorf("an unknown session: %q", got)
	}
}
