package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wheelhouse/balancer"
)

// echo is a plugin with a role, a verb, a tunable and parameters.
type echo struct{ balancer.Base }

func (echo) Name() string    { return "EchoService" }
func (echo) Verbs() []string { return []string{"vhost"} }

func (echo) Tunables() []balancer.Tunable {
	return []balancer.Tunable{{Name: "echo_delay", Kind: balancer.Int, Default: "0", Doc: "seconds"}}
}

func (echo) Command(conf *balancer.PluginConf, verb, text string) error {
	if !strings.Contains(text, "=") {
		return errors.New("a pattern and a service are wanted")
	}
	conf.Lines = append(conf.Lines, strings.ToUpper(verb)+" "+text)
	return nil
}

func (echo) Set(conf *balancer.PluginConf, key, value string) error {
	conf.Params[key] = value
	return nil
}

func (echo) New(balancer.Service, *balancer.Settings, *balancer.PluginConf, any) (any, error) {
	return nil, nil
}

func language() *Language { return NewLanguage(NewPlugins(echo{})) }

func read(t testing.TB, l *Language, text string) *State {
	t.Helper()
	s, err := l.Read(strings.NewReader(text), "test.conf", Expander{}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return s
}

func TestParseLine(t *testing.T) {
	x := Expander{
		Env: func(name string) (string, bool) { return map[string]string{"HOME": "/root", "A_1": "a  b"}[name], true },
		IP: func(iface string) (string, error) {
			if iface == "eth0" {
				return "10.1.2.3", nil
			}
			return "", errors.New("no such interface")
		},
	}
	for in, want := range map[string]string{
		"":                         "",
		"  \t \r\n":                "",
		"# all of it":              "",
		"  SET  a =  B # c":        "set|a = B",
		"Use\tX":                   "use|X",
		"set a = b#c":              "set|a = b",
		"set a = $HOME/x":          "set|a = /root/x",
		"set a = $A_1":             "set|a = a b",
		"set a = $NOTHING.":        "set|a = .",
		"set a = x$":               "set|a = x$",
		"set a = ${ip:eth0}:80":    "set|a = 10.1.2.3:80",
		"set a = ${nothing}":       "set|a = ${nothing}",
		"HEADER rp INSERT X-A: Bc": "header|rp INSERT X-A: Bc",
		"quit":                     "quit|",
		"set a = ${file:x}":        "ERROR unknown variable type 'file'",
		"set a = ${ip:lo9}":        "ERROR no such interface",
		"%x":                       "ERROR invalid command",
		"set a = \x01":             `ERROR control character '\x01' in a command`,
	} {
		c, ok, err := ParseLine(in, x)
		got := ""
		switch {
		case err != nil:
			got = "ERROR " + err.Error()
		case ok:
			got = c.Verb + "|" + c.Args
		}
		if got != want {
			t.Errorf("ParseLine(%q) = %q; want %q", in, got, want)
		}
	}
}

// Errors are texts that operators know and scripts look for.
func TestErrors(t *testing.T) {
	dir := t.TempDir()
	base := "CREATE POOL a\nCREATE SERVICE rp\nSET role = reverse_proxy\nSET pool = a\nCREATE SERVICE w\nSET role = web_server\nCREATE SERVICE none\n" +
		"CREATE SERVICE mgmt\nSET role = management\nENABLE mgmt\n"
	const unit = "Expecting size unit value for parameter 'buffer_size' in bytes, or suffixed with 'K' or 'M'"
	for _, c := range []struct{ line, want string }{
		{"create", "usage: CREATE {service|pool} <name>"},
		{"create service a b", "usage: CREATE {service|pool} <name>"},
		{"create service a-b", "usage: CREATE {service|pool} <name>"},
		{"create pool A", "pool 'a' already exists"},
		{"create service A", "pool 'a' already exists"},
		{"create pool RP", "service 'rp' already exists"},
		{"create service rp", "service 'rp' already exists"},
		{"use", "usage: USE <service_or_pool_name>"},
		{"use nope", "Non-existent pool or service 'nope'"},
		{"set", "usage: SET [<service>] <param> = <value>"},
		{"set x", "usage: SET [<service>] <param> = <value>"},
		{"set nope.x = 1", "service/pool 'nope' does not exist"},
		{"set x = 1", "omitted service/pool name not implied from context"},
		{"set rp.nope = 1", "Unknown service parameter 'nope'"},
		{"set rp.nope.x = 1", "Unknown service parameter 'nope.x'"},
		{"set rp.persist_client = 2", "Expecting boolean value for parameter 'persist_client'"},
		{"set rp.backend_persist_cache = -1", "Expecting integer value for parameter 'backend_persist_cache'"},
		{"set rp.backend_persist_cache = 99999999999999999999", "Value out of range for parameter 'backend_persist_cache'"},
		{"set rp.buffer_size = 1t", unit},
		{"set rp.buffer_size = k", unit},
		{"set rp.buffer_size = 9999999999999999m", "Value out of range for parameter 'buffer_size'"},
		{"set rp.queue_relief_chance = 101", "Value out of range for parameter 'queue_relief_chance'"},
		{"set rp.idle_timeout = soon", "Expecting a time for parameter 'idle_timeout': seconds, or a number with a unit, as in 250ms"},
		{"set rp.docroot = " + dir, "The 'docroot' option can only be set on a 'web_server' service"},
		{"set none.docroot = " + dir, "The 'docroot' option can only be set on a 'web_server' service"},
		{"set w.docroot = " + dir + "/no", "Directory not found for service w"},
		{"set w.pool = a", "The 'pool' option can only be set on a 'reverse_proxy' service"},
		{"set rp.server_process = /etc/passwd", "File '/etc/passwd' is not executable"},
		{"set rp.pool = nope", "Pool 'nope' not found"},
		{"set rp.listen = foo", "Listen argument must be ip:port or port. e.g. 192.168.0.1:80 or 81"},
		{"set rp.listen = 1.2.3.4:99999", "Listen argument must be ip:port or port. e.g. 192.168.0.1:80 or 81"},
		{"set rp.role = nope", "Role not valid for service rp"},
		{"set rp.role = echo", "Role not valid for service rp"}, // its plugin is not loaded
		{"set rp.trusted_upstream_proxies = 1.2.3.4/33", "invalid network '1.2.3.4/33'"},
		{"set rp.access_log_format = xml", "Expecting one of combined, json for parameter 'access_log_format'"},
		{"set a.nodefile = " + dir + "/no", "File not found"},
		{"set a.balance_method = fair", "Unknown balance method"},
		{"pool a add 127.0.0.1:0", "invalid node address '127.0.0.1:0': the port is not one from 1 to 65535"},
		{"pool a add [::1]:65536", "invalid node address '[::1]:65536': the port is not one from 1 to 65535"},
		{"pool a add app.internal:00", "invalid node address 'app.internal:00': the port is not one from 1 to 65535"},
		{"pool a add 127.0.0.1:99999999999999999999", "invalid node address '127.0.0.1:99999999999999999999': the port is not one from 1 to 65535"},
		{"pool a add 127.0.0.1:-1", "invalid node address '127.0.0.1:-1': expecting ip:port"},
		{"pool a add 127.0.0.1:", "invalid node address '127.0.0.1:': expecting ip:port"},
		{"set a.nope = 1", "Unknown pool parameter 'nope'"},
		{"set rp.nodefile = " + dir + "/no", "Unknown service parameter 'nodefile'"}, // pools are made by hand here
		{"default", "usage: DEFAULT <param> = <value>"},
		{"default x", "usage: DEFAULT <param> = <value>"},
		{"enable", "Usage: {ENABLE|DISABLE} <service>"},
		{"disable", "Usage: {ENABLE|DISABLE} <service>"},
		{"enable nope", "service 'nope' does not exist"},
		{"enable mgmt", "service mgmt is already enabled"},
		{"enable none", "service none has no role"},
		{"disable w", "service w is already disabled"},
		{"disable mgmt", "can't disable management service"},
		{"pool", "Invalid syntax to 'pool' command"},
		{"pool a add", "Invalid syntax to 'pool' command"},
		{"pool a foo 1.2.3.4", "Invalid command:  must be 'add' or 'remove'"},
		{"pool nope add 1.2.3.4", "Pool 'nope' not found"},
		{"pool a add 1.2.3.4:x", "invalid node address '1.2.3.4:x': expecting ip:port"},
		{"pool a add 1.2.3.4 weight=0", "Expecting a weight from 1 to 1000"},
		{"header rp", "Usage: HEADER <service> {INSERT|REMOVE} <header>[: <value>]"},
		{"header rp foo x", "Usage: HEADER <service> {INSERT|REMOVE} <header>[: <value>]"},
		{"header rp insert x", "no value provided"},
		{"header rp insert a b: c", "'a b' is not a header's name"},
		{"header rp insert Xé: a", "'Xé' is not a header's name"},
		{"header rp insert X\xff: a", "'X\xff' is not a header's name"},
		{"header rp insert : a", "'' is not a header's name"},
		{"header rp insert transfer-Encoding: chunked", "transfer-Encoding cannot be inserted: the balancer sends its own"},
		{"header rp insert Content-Length: 5", "Content-Length cannot be inserted: the balancer sends its own"},
		{"header rp insert Connection: close", "Connection cannot be inserted: the balancer sends its own"},
		{"header rp insert Keep-Alive: x", "Keep-Alive cannot be inserted: the balancer sends its own"},
		{"header rp insert Upgrade: x", "Upgrade cannot be inserted: the balancer sends its own"},
		{"header rp insert Expect: x", "Expect cannot be inserted: the balancer sends its own"},
		{"header rp insert Host: bad host", "'bad host' is not a host"},
		{"header rp insert host: a:123456", "'a:123456' is not a host"},
		{"header rp insert host: a/b", "'a/b' is not a host"},
		{"header rp insert host: [::1", "'[::1' is not a host"},
		{"header rp insert host:", "'' is not a host"},
		{"header nope remove x", "service 'nope' does not exist"},
		{"load nope", "plugin 'nope' is not compiled in; there are EchoService"},
		{"unload echoservice", "plugin 'echoservice' is not loaded"},
		{"server", "Invalid syntax to 'server' command"},
		{"server nope = 1", "unknown server option 'nope'"},
		{"server max_reproxy_connections = x", "Expecting integer value for parameter 'max_reproxy_connections'"},
		{"server nice_level = 20", "Expecting a nice level from -20 to 19"},
		{"server pidfile = x", "pidfile must be an absolute path"},
		{"server aio_mode = linux", "Unknown AIO mode: linux"},
		{"verbose", "usage: VERBOSE {on|off}"},
		{"mime", "Usage: list, remove <ext>, set <ext> <mime>"},
		{"mime set x", "Usage: set <ext> <mime>"},
		{"mime remove nope", "nope not a defined extension."},
		{"remove pool a", "pool 'a' is used by service 'rp'"},
		{"remove x", "usage: REMOVE {service|pool} <name>"},
		{"vhost rp a = b", "unknown command: vhost"},
		{"nope", "unknown command: nope"},
	} {
		l := language()
		s := read(t, l, base)
		cmd, ok, err := ParseLine(c.line, Expander{})
		if err != nil || !ok {
			t.Fatalf("%s: %v", c.line, err)
		}
		if err := l.Exec(s, &Context{}, cmd); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v; want %s", c.line, err, c.want)
		}
	}
}

// What is wrong only as a whole is found before anything is put in force, and all of it.
func TestCheckAll(t *testing.T) {
	text := "CREATE SERVICE a\nSET role = reverse_proxy\nSET enable_ssl = on\nSET buffer_uploads = on\nENABLE a\n" +
		"CREATE SERVICE b\nSET role = selector\nSET default_service = nope\n" +
		"CREATE SERVICE c\nSET role = selector\nSET listen = 80\nENABLE c\nCREATE SERVICE d\nSET role = selector\nSET listen = 0.0.0.0:80\nENABLE d\n" +
		"CREATE SERVICE e\nSET role = selector\nSET listen = 80\nCREATE SERVICE f\nSET role = upload_tracker\nSET listen = 80\nENABLE f\n" +
		"CREATE SERVICE g\nSET role = selector\nSET listen = 127.0.0.1:0\nENABLE g\nCREATE SERVICE h\nSET role = selector\nSET listen = 127.0.0.1:0\nENABLE h\n" +
		"CREATE SERVICE i\nSET role = selector\nSET enable_ssl = on\nSET acme_domains = a.test, *.a.test\nENABLE i\n"
	_, err := language().Read(strings.NewReader(text), "x", Expander{}, nil)
	for _, want := range []string{
		"x:32: service i: acme_domains: *.a.test: there is no certificate for a wildcard",
		"x:1: service a: enable_ssl needs ssl_cert_file and ssl_key_file, or acme_domains", "x:1: service a: buffer_uploads needs buffer_uploads_path",
		"x:6: service b: default_service: service 'nope' does not exist", "x:13: service d: it listens on 0.0.0.0:80, service c on :80: only one can",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
	for _, good := range []string{"service e", "service f", "service g", "service h"} {
		if err != nil && strings.Contains(err.Error(), good) {
			t.Errorf("%v; nothing is wrong with %s", err, good)
		}
	}
}

func TestClash(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"1.2.3.4:80", "1.2.3.4:80", true},
		{"1.2.3.4:80", "1.2.3.4:81", false},
		{"1.2.3.4:80", "1.2.3.5:80", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{":80", "1.2.3.4:80", true},
		{":80", "[::1]:80", true},
		{":80", ":81", false},
		{"0.0.0.0:80", "1.2.3.4:80", true},
		{"0.0.0.0:80", "[::1]:80", false},
		{"[::]:80", "0.0.0.0:80", true},
		{"[::1]:80", "[::1]:80", true},
		{"[::1]:80", "[::2]:80", false},
		{"unix:/a", "unix:/a", true},
		{"unix:/a", "unix:/b", false},
		{"unix:/a", ":80", false},
	} {
		if clash(tt.a, tt.b) != tt.want || clash(tt.b, tt.a) != tt.want {
			t.Errorf("%s and %s: %v; want %v", tt.a, tt.b, !tt.want, tt.want)
		}
	}
}

func TestFileErrorsNameTheirLine(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	inner := write("inner.inc", "\n\nfoo\n")
	for text, want := range map[string]string{
		"CREATE POOL a\n\nCREATE POOL a\n":    ":3: pool 'a' already exists",
		"INCLUDE = inner.inc\n":               inner + ":3: unknown command: foo",
		"\nINCLUDE = main.conf\n":             ":2: ",
		"INCLUDE = nothing*\n":                ":1: INCLUDE: no file matches ",
		"INCLUDE =\n":                         ":1: usage: INCLUDE = <file or pattern> …",
		strings.Repeat("x", MaxLine+1) + "\n": ":1: bufio.Scanner: token too long",
	} {
		main := write("main.conf", text)
		_, err := language().Load(main, Expander{}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v; want %s", text, err, want)
		}
	}
	var missing *os.PathError
	if _, err := language().Load(filepath.Join(dir, "no"), Expander{}, nil); !errors.As(err, &missing) {
		t.Errorf("missing file: %v", err)
	}
}

// Case is kept where Perlbal lost it; names know none.
func TestCase(t *testing.T) {
	l := language()
	s := read(t, l, "CREATE POOL P\nPOOL add p 127.0.0.1:1\nCREATE service RP\nset ROLE = Reverse_Proxy\nSET rp.POOL = P\n"+
		"HEADER Rp INSERT X-Foo: Bar Baz\nSET rp.extra.Name = Value\nenable RP\n")
	set, err := l.Settings(s, s.Services["rp"])
	if err != nil {
		t.Fatal(err)
	}
	if want := []balancer.HeaderRule{{Name: "X-Foo", Value: "Bar Baz"}}; !slices.Equal(set.HeaderInsert, want) {
		t.Errorf("headers are %v", set.HeaderInsert)
	}
	if set.Pool != "p" || set.Extra["name"] != "Value" || !s.Services["rp"].Enabled {
		t.Errorf("%+v", set)
	}
}

// Setting the role sets everything back; DEFAULT counts for services that get their role later.
func TestRoleAndDefaults(t *testing.T) {
	l := language()
	s := read(t, l, "CREATE SERVICE a\nSET role = reverse_proxy\nDEFAULT persist_client = on\nDEFAULT docroot = /\nCREATE SERVICE b\n"+
		"SET role = reverse_proxy\nSET idle_timeout = 7\nSET role = web_server\n")
	for name, want := range map[string]bool{"a": false, "b": true} {
		set, err := l.Settings(s, s.Services[name])
		if err != nil {
			t.Fatal(err)
		}
		if set.PersistClient != want || set.IdleTimeout.Seconds() != 30 {
			t.Errorf("%s: persist_client %v, idle_timeout %v", name, set.PersistClient, set.IdleTimeout)
		}
	}
	if s.Services["b"].Params["docroot"] != "/" {
		t.Errorf("docroot is %q", s.Services["b"].Params["docroot"])
	}
}

// The old name sets both timeouts.
func TestPersistClientTimeout(t *testing.T) {
	l := language()
	s := read(t, l, "CREATE SERVICE a\nSET role = web_server\nSET persist_client_timeout = 7\n")
	set, err := l.Settings(s, s.Services["a"])
	if err != nil || set.ClientIdleTimeout != 7*time.Second || set.IdleTimeout != 7*time.Second {
		t.Errorf("%v, %v, %v; want 7 s each", set.ClientIdleTimeout, set.IdleTimeout, err)
	}
}

// A service of the old kind gets a pool of its own, unless pools are made by hand.
func TestLegacyPools(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nodes")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := read(t, language(), "CREATE SERVICE a\nSET role = reverse_proxy\nSET nodefile = "+file+"\nSET balance_method = random\n")
	if p := s.Pools["a_pool"]; p == nil || p.Params["nodefile"] != file || s.Services["a"].Params["pool"] != "a_pool" {
		t.Errorf("pools are %v", s.PoolNames())
	}
}

// every tunable's default is a value that it accepts.
func TestDefaultsAreGood(t *testing.T) {
	l := language()
	for _, tun := range l.Tunables() {
		if tun.Default == "" {
			continue
		}
		if err := tun.apply(&balancer.Settings{Extra: map[string]string{}}, tun.Default); err != nil {
			t.Errorf("%s = %s: %v", tun.Name, tun.Default, err)
		}
		if tun.Doc == "" {
			t.Errorf("%s has no documentation", tun.Name)
		}
	}
	for _, tun := range l.PoolTunables() {
		if tun.Default != "" {
			if err := tun.apply(&balancer.PoolSettings{}, tun.Default); err != nil {
				t.Errorf("%s = %s: %v", tun.Name, tun.Default, err)
			}
		}
	}
	for _, p := range ServerParams {
		name, v := p.Name, "1"
		switch name {
		case "max_reproxy_connections(ip:port)":
			name = "max_reproxy_connections(1.2.3.4:5)"
		case "pidfile":
			v = "/x"
		case "metrics_listen":
			v = "127.0.0.1:1"
		case "console_networks":
			v = "10.0.0.0/8"
		case "aio_mode":
			v = "none"
		}
		if err := l.Exec(NewState(), &Context{}, Command{"server", name + " = " + v}); err != nil {
			t.Errorf("SERVER %s: %v", name, err)
		}
	}
}
