package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"wheelhouse/internal/testcert"
)

// What check finds a start finds too, in the same words; so does HUP, which changes nothing then. All name file and line.
func TestBalancerCheckAndStart(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "perlbal.conf")
	cert, _ := testcert.Pair(t, dir, "one", 1, "one.test")
	_, key := testcert.Pair(t, dir, "two", 2, "two.test")
	plain := writeFile(t, filepath.Join(dir, "plain"), "")
	web := "CREATE SERVICE w\nSET role = web_server\nSET docroot = " + dir + "\nSET listen = 127.0.0.1:0\n"
	throttle := "LOAD throttle\n" + web + "SET plugins = throttle\n"
	proxy := "CREATE SERVICE w\nSET role = reverse_proxy\nSET listen = 127.0.0.1:0\n"
	acme := web + "SET enable_ssl = on\nSET acme_domains = a.test\nSET acme_storage = " + dir + "/acme\n"
	good := "CREATE SERVICE w\nSET role = web_server\nSET listen = 127.0.0.1:0\nSET docroot = " + dir + "\nENABLE w\n"
	writeFile(t, file, good)
	p := start(t, "balancer", "--config", file)
	for _, tt := range []struct {
		text string
		line int
		want string
	}{
		{"LOAD vhosts\n" + web + "SET plugins = vhosts\n", 2, "service w: plugin Vhosts: You can't load the vhost plugin on a service not of role selector."},
		{"LOAD flvstreaming\n" + web + "SET plugins = flvstreaming\n", 2, "service w: plugin FlvStreaming: "},
		{throttle + "SET path_regex = (\n", 2, "service w: plugin Throttle: "},
		{throttle + "SET default_action = foo\n", 2, "service w: plugin Throttle: Value of 'default_action' is not one of allow, throttle"},
		{throttle + "SET whitelist_file = " + dir + "/no\n", 2, "service w: plugin Throttle: Couldn't load " + dir + "/no"},
		{throttle + "SET memcached_servers = 127.0.0.1:99999\n", 2, "service w: plugin Throttle: memcached_servers: "},
		{"LOAD sessionaffinity\n" + proxy + "SET plugins = sessionaffinity\nSET affinity_cookie = a b\n", 2, "service w: plugin SessionAffinity: affinity_cookie: 'a b' cannot be a cookie's name"},
		{"LOAD lazycdn\n" + web + "SET plugins = lazycdn\nSET fallback_udp_ping_addr = foo\n", 2, "service w: plugin LazyCDN: Expecting IP:port of form a.b.c.d:port."},
		{web + "CREATE POOL p\nPOOL p ADD local:foo\n", 5, "pool p: there is no local handler 'foo'"},
		{web + "SERVER metrics_listen = foo:bar\n", 5, "metrics_listen must be ip:port"},
		{web + "SERVER pidfile = " + dir + "/no/pid\n", 5, "pidfile: there is no directory " + dir + "/no"},
		{acme + "SET acme_storage = " + plain + "/acme\n", 1, "service w: acme_storage: " + plain + "/acme cannot be made"},
		{acme + "SET acme_trust = " + plain + "\n", 1, "service w: acme_trust: there are no certificates in " + plain},
		{web + "SET enable_ssl = on\nSET ssl_cert_file = " + cert + "\nSET ssl_key_file = " + key + "\n", 1, "service w: certificate " + cert + " with key " + key + ": tls: private key does not match public key"},
	} {
		text := tt.text + "ENABLE w\n"
		want := fmt.Sprintf("%s:%d: %s", file, tt.line, tt.want)
		writeFile(t, file, text)
		for _, args := range [][]string{{"check", file}, {"-c", file}} {
			code, out, errOut := runOnce(t, append([]string{"balancer"}, args...)...)
			if code != 1 || out != "" || !strings.Contains(errOut, want) {
				t.Errorf("balancer %s: %d %q %q; want %q, of\n%s", args[0], code, out, errOut, want, text)
			}
		}
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, "HUP says "+want, func() bool { return strings.Contains(strings.ReplaceAll(p.output(), `\"`, `"`), want) })
	}
	if _, err := os.Stat(filepath.Join(dir, "acme")); !os.IsNotExist(err) {
		t.Errorf("a check has made acme_storage: %v", err)
	}
	writeFile(t, file, good)
	if code, out, errOut := runOnce(t, "balancer", "check", file); code != 0 {
		t.Errorf("%d %q %q", code, out, errOut)
	}
	p.stop()
}
