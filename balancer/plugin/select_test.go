package plugin_test

import (
	"strings"
	"testing"

	"wheelhouse/balancer"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/config"
	"wheelhouse/internal/http1"
)

// site is a web_server whose one file says its name.
func site(t testing.TB, name string) string {
	return webService(name, files(t, map[string]string{"index.html": name, "__using/b.test/x": name + " using"}), "")
}

func TestVhosts(t *testing.T) {
	b := start(t, site(t, "lit")+site(t, "wild")+site(t, "rest")+site(t, "pair")+`
CREATE SERVICE s
SET role = selector
`+listening+`SET plugins = vhosts
VHOST static.test = lit
VHOST s *.Wild.test = wild
VHOST a.test;using:b.test = pair
VHOST gone.test = lit
VHOST gone.test = wild
ENABLE s
`)
	for _, v := range []struct {
		host, path string
		status     int
		body       string
	}{
		{"static.test", "/", 200, "lit"},
		{"Static.TEST", "/", 200, "lit"},
		{"static.test.", "/", 200, "lit"},
		{"static.test:8080", "/", 200, "lit"},
		{"wild.test", "/", 200, "wild"},
		{"a.wild.test", "/", 200, "wild"},
		{"a.b.c.wild.test", "/", 200, "wild"},
		{"gone.test", "/", 200, "wild"},
		{"notwild.test", "/", 404, "<h1>404 - Not Found</h1>\nNot Found (no configured vhost)"},
		{"test", "/", 404, "<h1>404 - Not Found</h1>\nNot Found (no configured vhost)"},
		{"a.test", "/__using/b.test/x", 200, "pair using"},
		{"a.test", "/__using/b.test/x?y", 200, "pair using"},
		{"a.test", "/__using/c.test/x", 404, "<h1>404 - Not Found</h1>\nVhost twiddling not configured for requested pair."},
		{strings.Repeat("a.", 4000) + "wild.test", "/", 404, "<h1>404 - Not Found</h1>\nNot Found (no configured vhost)"},
	} {
		a := get(t, b.URL("s", v.path), "Host: "+v.host)
		if a.status != v.status || a.body != v.body {
			t.Errorf("%.60s%s: %d %q; want %d %q", v.host, v.path, a.status, a.body, v.status, v.body)
		}
	}
	b.Do("VHOST s * = rest")
	if a := get(t, b.URL("s", "/"), "Host: any.thing"); a.body != "rest" {
		t.Errorf("*: %d %q", a.status, a.body)
	}
	for line, want := range map[string]string{
		"VHOST s x":         "usage: VHOST [<service>] <host_or_pattern> = <dest_service>",
		"VHOST s a/b = lit": "invalid host pattern: 'a/b'",
	} {
		if err := b.Try(line); err == nil || err.Error() != want {
			t.Errorf("%s: %v; want %s", line, err, want)
		}
	}
	if err := b.Try("SET lit.plugins = vhosts"); err == nil || !strings.Contains(err.Error(), "You can't load the vhost plugin on a service not of role selector.") {
		t.Errorf("on a web_server: %v", err)
	}
	if dump := strings.Join(b.Language().Dump(b.State()), "\n"); strings.Count(dump, "VHOST gone.test = wild") != 1 || strings.Contains(dump, "VHOST gone.test = lit") {
		t.Errorf("dump:\n%s", dump)
	}
}

func TestVhostUsingSendsTheOtherHost(t *testing.T) {
	node := mirror(t)
	b := start(t, "CREATE POOL p\nPOOL p ADD "+node+"\nCREATE SERVICE rp\nSET role = reverse_proxy\nSET pool = p\nENABLE rp\n"+
		"CREATE SERVICE s\nSET role = selector\n"+listening+"SET plugins = vhosts\nVHOST a.test;using:b.test = rp\nENABLE s\n")
	if a := get(t, b.URL("s", "/__using/b.test/id?q"), "Host: a.test"); a.body != "/__using/b.test/id?q b.test" {
		t.Errorf("%d %q", a.status, a.body)
	}
}

func TestVpaths(t *testing.T) {
	b := start(t, site(t, "one")+site(t, "two")+site(t, "rest")+`
CREATE SERVICE s
SET role = selector
`+listening+`SET plugins = vpaths
VPATH ^/A/ = one
VPATH s \?x=\d+$ = two
VPATH ^/missing = nobody
SET default_service = rest
ENABLE s
`)
	for target, want := range map[string]string{"/?x=1": "two", "/?x=": "rest", "/": "rest"} {
		if a := get(t, b.URL("s", target)); a.body != want {
			t.Errorf("%s: %d %q; want %q", target, a.status, a.body, want)
		}
	}
	if a := get(t, b.URL("s", "/A/")); a.status != 404 || b.Service("one").Requests.Load() != 1 {
		t.Errorf("/A/: %d; want it from one", a.status)
	}
	if get(t, b.URL("s", "/a/")); b.Service("one").Requests.Load() != 1 {
		t.Error("a regular expression has lost its case")
	}
	if a := get(t, b.URL("s", "/missing")); a.status != 500 || !strings.Contains(a.body, "there is no service &#39;nobody&#39;") {
		t.Errorf("to a service that is not there: %d %q", a.status, a.body)
	}
	if err := b.Try("VPATH s (?=x) = one"); err == nil || !strings.Contains(err.Error(), "look-ahead (?=…) not supported") {
		t.Errorf("look-ahead: %v", err)
	}
}

func TestRedirect(t *testing.T) {
	b := start(t, webService("w", files(t, map[string]string{"index.html": "here"}), listening+`SET plugins = redirect
REDIRECT HOST Old.test new.test
REDIRECT HOST *.wild.test to.test:81
`))
	for host, want := range map[string]string{
		"old.test": "http://new.test/a?b", "OLD.test:80": "http://new.test/a?b", "x.wild.test": "http://to.test:81/a?b", "wild.test": "http://to.test:81/a?b",
	} {
		if a := get(t, b.URL("w", "/a?b"), "Host: "+host); a.status != 301 || a.header.Get("Location") != want || a.body != "" {
			t.Errorf("%s: %d %v; want %s", host, a.status, a.header, want)
		}
	}
	if a := get(t, b.URL("w", "/"), "Host: other.test"); a.body != "here" {
		t.Errorf("another host: %d %q", a.status, a.body)
	}
	if err := b.Try("REDIRECT w HOST a"); err == nil || err.Error() != "usage: REDIRECT HOST <match_host> <target_host>" {
		t.Errorf("%v", err)
	}
}

func TestAccessControl(t *testing.T) {
	b := start(t, webService("w", files(t, map[string]string{"index.html": "in"}), listening+"SET plugins = accesscontrol\nSET trusted_upstream_proxies = 127.0.0.1\n"))
	for _, v := range []struct {
		lines, xff string
		want       int
	}{
		{"", "", 200},
		{"ACCESS DENY ip 127.0.0.1", "", 403},
		{"ACCESS DENY ip 127.0.0.2", "", 200},
		{"ACCESS POLICY DENY", "", 403},
		{"ACCESS POLICY DENY|ACCESS ALLOW netmask 127.0.0.0/8", "", 200},
		{"ACCESS ALLOW ip 127.0.0.1|ACCESS DENY netmask 127.0.0.0/8", "", 200},
		{"ACCESS deny netmask 127.0.0|ACCESS allow ip 127.0.0.1", "", 403},
		{"ACCESS POLICY DENY|ACCESS POLICY ALLOW", "", 200},
		{"ACCESS QUEUE_LOW ip 127.0.0.1|ACCESS POLICY DENY", "", 200},
		{"ACCESS DENY ip 10.1.2.3", "10.1.2.3", 200},
		{"ACCESS DENY ip 10.1.2.3|SET w.accesscontrol.use_observed_ip = 1", "10.1.2.3", 403},
		{"ACCESS DENY netmask any|SET w.accesscontrol.use_observed_ip = 1", "10.1.2.3", 403},
		{"ACCESS DENY netmask any|SET w.accesscontrol.use_observed_ip = 1", "2001:db8::1", 403},
		{"ACCESS DENY netmask 0.0.0.0/0|SET w.accesscontrol.use_observed_ip = 1", "2001:db8::1", 200},
	} {
		b.Do("USE w\nACCESS RESET\nSET w.accesscontrol.use_observed_ip = 0\n" + strings.ReplaceAll(v.lines, "|", "\n"))
		var fields []string
		if v.xff != "" {
			fields = append(fields, "X-Forwarded-For: "+v.xff)
		}
		a := get(t, b.URL("w", "/"), fields...)
		if a.status != v.want || v.want == 403 && a.body != "<h1>403 - Forbidden</h1>\nAccess denied." {
			t.Errorf("%s: %d %q; want %d", v.lines, a.status, a.body, v.want)
		}
	}
	for line, want := range map[string]string{
		"ACCESS POLICY maybe":     "policy must be 'allow' or 'deny'",
		"ACCESS DENY host x":      "Unknown item to deny: 'host'",
		"ACCESS DENY netmask 1/x": "Error parsing netmask",
		"ACCESS DENY ip 1.2.3":    "invalid IP address '1.2.3'",
		"ACCESS grant ip 1.2.3.4": "usage: ACCESS <cmd> <arg1> [<arg2>]",
	} {
		if err := b.Try(line); err == nil || err.Error() != want {
			t.Errorf("%s: %v; want %s", line, err, want)
		}
	}
}

// waiting is how many requests wait for a backend.
func waiting(s balancer.Service) (n int) {
	for _, p := range []balancer.Priority{balancer.High, balancer.Normal, balancer.Low} {
		count, _ := s.Queues(p)
		n += count
	}
	return n
}

// gate is a backend whose answers wait; it says what has arrived.
func gate(block chan struct{}, arrived chan string) func(x http1.Exchange) {
	return func(x http1.Exchange) {
		q := x.Request()
		arrived <- string(q.Path)
		<-block
		_ = x.Reply(200, []byte("count="+q.Header.Get("X-Queue-Count")+" age="+q.Header.Get("X-HP-Queue-Age")))
	}
}

// TestDumpIsReadAgain: what all plugins' commands leave in the configuration makes the same configuration.
func TestDumpIsReadAgain(t *testing.T) {
	b := start(t, site(t, "w")+`
CREATE SERVICE s
SET role = selector
SET plugins = vhosts vpaths accesscontrol redirect notmodified highpri
VHOST *.a = w
VPATH ^/x = w
ACCESS ALLOW ip 1.2.3.4
ACCESS QUEUE_LOW netmask 10.0.0.0/8
ACCESS POLICY DENY
REDIRECT HOST a b
SET s.notmodified.host_pattern = ^img\.
SET s.highpri.uri_pattern = ^/Fast
SET s.accesscontrol.use_observed_ip = on
`)
	first := b.Language().Dump(b.State())
	state, err := b.Language().Read(strings.NewReader(strings.Join(first, "\n")), "dump", config.Expander{}, func(s string) { t.Error(s) })
	must(t, err)
	if second := b.Language().Dump(state); strings.Join(first, "\n") != strings.Join(second, "\n") {
		t.Errorf("dumped:\n%s\nread and dumped again:\n%s", strings.Join(first, "\n"), strings.Join(second, "\n"))
	}
	if !strings.Contains(strings.Join(first, "\n"), "ACCESS QUEUE_LOW NETMASK 10.0.0.0/8") {
		t.Errorf("dump:\n%s", strings.Join(first, "\n"))
	}
}

func TestLowPriorityOfAccessControlAndHighpri(t *testing.T) {
	block := make(chan struct{})
	arrived := make(chan string, 10)
	node := balancertest.Engine(t, gate(block, arrived))
	b := start(t, "CREATE POOL p\nSET max_connections = 1\nPOOL p ADD "+node+"\nCREATE SERVICE rp\nSET role = reverse_proxy\n"+listening+
		"SET pool = p\nSET persist_backend = on\nSET plugins = accesscontrol highpri queues\nSET rp.highpri.uri_pattern = ^/high\nSET rp.highpri.host_pattern = ^fast\nACCESS QUEUE_LOW ip 127.0.0.1\nENABLE rp\n")
	done := make(chan string, 10)
	send := func(path, host string) { go func() { done <- get(t, b.URL("rp", path), "Host: "+host).body }() }
	send("/first", "h")
	<-arrived
	for i, path := range []string{"/low", "/high", "/high-by-host"} {
		host := "h"
		if path == "/high-by-host" {
			host = "fast.test"
		}
		send(path, host)
		balancertest.Eventually(t, "the request waits", func() bool { return waiting(b.Service("rp")) == i+1 })
	}
	close(block)
	var order []string
	for range 3 {
		order = append(order, <-arrived)
	}
	if got := strings.Join(order, " "); got != "/high /high-by-host /low" {
		t.Errorf("served in the order %s", got)
	}
	for range 4 {
		if body := <-done; !strings.Contains(body, "count=") || !strings.Contains(body, "age=") {
			t.Errorf("a backend was not told of the queues: %q", body)
		}
	}
}
