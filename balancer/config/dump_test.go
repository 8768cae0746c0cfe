package config

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/balancer"
)

// samples are good values for tunables, by the last of them that is accepted.
var samples = []string{
	"/", "/bin/sh", "127.0.0.1:81", "on", "off", "7", "3k", "1m", "250ms", "10.0.0.0/8, 192.168.1.1", "a,b c", "none", "gzip", "1.3",
	"json", "round_robin", "header:X-Key", "100 burst=5 key=ip", "Some Text: with=signs",
}

// randomText makes a configuration out of commands that are accepted.
func randomText(l *Language, r *rand.Rand) string {
	s := NewState()
	c := &Context{}
	var lines []string
	try := func(line string) {
		cmd, ok, err := ParseLine(line, Expander{})
		if err != nil || !ok {
			return
		}
		next, ctx := s.Clone(), *c
		if l.Exec(next, &ctx, cmd) == nil {
			s, *c = next, ctx
			lines = append(lines, line)
		}
	}
	try("LOAD echoservice")
	roles := append(slices.Clone(BuiltinRoles), "echo")
	names := []string{"a", "b", "svc_1", "Web", "POOL2"}
	for range r.IntN(60) {
		name := names[r.IntN(len(names))]
		v := samples[r.IntN(len(samples))]
		switch r.IntN(14) {
		case 0, 1:
			try("CREATE SERVICE " + name)
			try("SET role = " + roles[r.IntN(len(roles))])
		case 2:
			try("CREATE POOL " + name)
		case 3:
			try(fmt.Sprintf("POOL %s ADD 10.0.%d.%d:%d weight=%d", name, r.IntN(3), r.IntN(3), r.IntN(70000), r.IntN(5)))
		case 4:
			try("POOL " + name + " ADD app" + strconv.Itoa(r.IntN(4)) + ".Example.org")
		case 5:
			try("HEADER " + name + " INSERT X-" + strconv.Itoa(r.IntN(4)) + ": " + v)
			try("HEADER " + name + " REMOVE Y-" + strconv.Itoa(r.IntN(4)))
		case 6:
			try("ENABLE " + name)
		case 7:
			try("DISABLE " + name)
		case 8:
			try("MIME set x" + strconv.Itoa(r.IntN(3)) + " text/" + strconv.Itoa(r.IntN(3)))
			try("MIME remove " + []string{"x0", "gif", "html"}[r.IntN(3)])
		case 9:
			try("SERVER " + ServerParams[r.IntN(len(ServerParams))].Name + " = " + v)
		case 10:
			t := l.list[r.IntN(len(l.list))]
			try("DEFAULT " + t.Name + " = " + v)
		case 11:
			t := l.pools[r.IntN(len(l.pools))]
			try("SET " + name + "." + t.Name + " = " + v)
		case 12:
			try("SET " + name + ".plugins = EchoService")
			try("VHOST " + name + " *.Example.com = a")
			try("SET " + name + ".echoservice.some_key = " + v)
			try("SET " + name + ".echo_delay = 3")
			try("SET " + name + ".extra.Thing = " + v)
		default:
			for range 5 {
				t := l.list[r.IntN(len(l.list))]
				try("SET " + name + "." + t.Name + " = " + samples[r.IntN(len(samples))])
			}
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// What is printed, read and printed again is the same, and means the same.
func TestDumpIsStable(t *testing.T) {
	l := language()
	checked := 0
	for seed := range uint64(1500) {
		text := randomText(l, rand.New(rand.NewPCG(seed, 1)))
		s, err := l.Read(strings.NewReader(text), "random", Expander{}, nil)
		if err != nil {
			continue // as a whole it makes no sense
		}
		checked++
		stable(t, l, s, text)
		if t.Failed() {
			return
		}
	}
	if checked < 300 {
		t.Errorf("only %d configurations made sense", checked)
	}
}

func stable(t testing.TB, l *Language, s *State, text string) {
	t.Helper()
	dump := strings.Join(l.Dump(s), "\n") + "\n"
	again, err := l.Read(strings.NewReader(dump), "dump", Expander{}, nil)
	if err != nil {
		t.Errorf("the dump cannot be read: %v\n%s\nof\n%s", err, dump, text)
		return
	}
	if d := cmp.Diff(dump, strings.Join(l.Dump(again), "\n")+"\n"); d != "" {
		t.Errorf("dumped again it differs:\n%s\nof\n%s", d, text)
	}
	for _, svc := range s.Ordered() {
		one, err1 := l.Settings(s, svc)
		other := again.Services[svc.Name]
		if other == nil {
			t.Errorf("service %s is lost\n%s", svc.Name, dump)
			continue
		}
		two, err2 := l.Settings(again, other)
		if err1 != nil || err2 != nil {
			t.Errorf("%s: %v, %v", svc.Name, err1, err2)
		} else if d := cmp.Diff(one, two, cmp.Comparer(func(a, b fmt.Stringer) bool { return a.String() == b.String() })); d != "" {
			t.Errorf("service %s means something else:\n%s\nof\n%s\ndumped\n%s", svc.Name, d, text, dump)
		}
	}
}

// Perlbal's own files load as they are: those of Debian's package.
func TestFilesOfPerlbal(t *testing.T) {
	files, err := filepath.Glob("/usr/share/doc/perlbal/examples/*.conf")
	if err != nil || len(files) < 5 {
		t.Fatalf("Debian's package perlbal brings examples; here are %v, %v", files, err)
	}
	l := NewLanguage(NewPlugins(echo{}, takesAll("Vhosts", "vhost"), takesAll("NotModified")))
	for _, file := range append(files, "/etc/perlbal/perlbal.conf") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// Files that the examples name are not in the package.
		dir := t.TempDir()
		for _, d := range []string{"/var/www/site.com", "/var/www/example.com", "conf", "certs"} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range []string{"conf/nodelist.dat", "certs/server-key.pem", "certs/server-cert.pem"} {
			if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		conf := strings.NewReplacer("= conf/", "= "+dir+"/conf/", "= certs/", "= "+dir+"/certs/", "/var/www/", dir+"/var/www/").Replace(string(text))
		s, err := l.Read(strings.NewReader(conf), file, Expander{}, func(w string) { t.Errorf("%s: %s", file, w) })
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		stable(t, l, s, conf)
	}
}

// anyPlugin is a plugin with a name and verbs that takes everything.
type anyPlugin struct {
	echo
	name  string
	verbs []string
}

func takesAll(name string, verbs ...string) balancer.Plugin {
	return anyPlugin{name: name, verbs: verbs}
}

func (p anyPlugin) Name() string                 { return p.name }
func (p anyPlugin) Verbs() []string              { return p.verbs }
func (p anyPlugin) Tunables() []balancer.Tunable { return nil }

func FuzzLine(f *testing.F) {
	for _, s := range []string{"SET a.b = c", "# x", "${ip:lo} $HOME $", "${", "\xff\x00", "a=b", "${:}", "$${ip:x}"} {
		f.Add(s)
	}
	x := Expander{Env: func(string) (string, bool) { return "v", true }, IP: func(string) (string, error) { return "1.2.3.4", nil }}
	f.Fuzz(func(t *testing.T, line string) {
		c, ok, err := ParseLine(line, x)
		if err != nil || !ok {
			return
		}
		again, ok, err := ParseLine(c.Line(), Expander{})
		if strings.Contains(c.Line(), "$") {
			return // what a variable's value holds is not expanded again
		}
		if err != nil || !ok || again != c {
			t.Fatalf("%q is %+v, printed and read %+v, %v, %v", line, c, again, ok, err)
		}
	})
}

func FuzzValues(f *testing.F) {
	for _, s := range append(slices.Clone(samples), "", "-1", "+1", "0x10", "1e9", "[::1]:80", "::1", "unix:/x", "local:x", "1.2.3:255.0.0.0", "host:1") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if n, err := ParseInt(v); err == nil && n < 0 {
			t.Errorf("ParseInt(%q) = %d", v, n)
		}
		if n, err := ParseSize(v); err == nil && n < 0 {
			t.Errorf("ParseSize(%q) = %d", v, n)
		}
		if d, err := ParseTime(v); err == nil && d < 0 {
			t.Errorf("ParseTime(%q) = %v", v, d)
		}
		for name, f := range map[string]func(string) (string, error){"ParseListen": ParseListen, "ParseNode": ParseNode} {
			if a, err := f(v); err == nil {
				if b, err := f(a); err != nil || a != b {
					t.Errorf("%s(%q) = %q, and of that %q, %v", name, v, a, b, err)
				}
			}
		}
		if list, err := ParsePrefixes(v); err == nil {
			for _, p := range list {
				if again, err := ParsePrefixes(p.String()); err != nil || len(again) != 1 || again[0] != p {
					t.Errorf("ParsePrefixes(%q) has %v, and of that %v, %v", v, p, again, err)
				}
			}
		}
	})
}

// A whole file is taken or refused; what is taken can be printed and read again.
func FuzzFile(f *testing.F) {
	l := language()
	for seed := range uint64(20) {
		f.Add(randomText(l, rand.New(rand.NewPCG(seed, 2))))
	}
	f.Add("LOAD echoservice\nCREATE SERVICE x\nSET role = echo\nVHOST x a=b\nMIME set a b/c\n")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(strings.ToLower(text), "include") {
			return // it reads files
		}
		s, err := l.Read(strings.NewReader(text), "fuzz", Expander{}, nil)
		if err != nil {
			return
		}
		if strings.Contains(strings.Join(l.Dump(s), ""), "$") {
			return // a lone dollar may stand before what makes it a variable
		}
		stable(t, l, s, text)
	})
}
