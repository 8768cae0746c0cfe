package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadNodeFile(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"10.0.0.1\n\n  10.0.0.2:81  # two\r\n#no": "10.0.0.1:80 10.0.0.2:81",
		"10.0.0.1:80 web1\nweb2\t10.0.0.2\n":      "10.0.0.1:80 10.0.0.2:80", // as Perlbal takes them
		"app.internal:8080\n[::1]:81\nunix:/s\n":  "app.internal:8080 [::1]:81 unix:/s",
		"10.0.0.1\n10.0.0.2:99999\n":              ":2: invalid node address '10.0.0.2:99999': the port is not one from 1 to 65535",
		"10.0.0.1\n10.0.0.2:0 # down\n":           ":2: invalid node address '10.0.0.2:0': the port is not one from 1 to 65535",
		"10.0.0.1\n\nno address\n":                ":3: invalid node address 'no address'",
	} {
		file := filepath.Join(t.TempDir(), "nodes")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		nodes, _, err := ReadNodeFile(file)
		if strings.HasPrefix(want, ":") {
			if err == nil || !strings.HasPrefix(err.Error(), file+want) {
				t.Errorf("%q: %v, %v; want %s", text, nodes, err, want)
			}
			continue
		}
		var got []string
		for _, n := range nodes {
			got = append(got, n.Addr)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v; want %s", text, got, err, want)
		}
	}
}

// What a line of a nodefile gives is a node that POOL ADD would take.
func FuzzNodeFileLine(f *testing.F) {
	for _, seed := range []string{"10.0.0.1", "10.0.0.1:80 # x", "a b 1.2.3.4:5", "[::1]:80", "unix:/x", "\x00 1.1.1.1", "1.2.3.4.5 6"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		addr, err := nodeOf(line)
		if err != nil || addr == "" {
			return
		}
		if again, err := ParseNode(addr); err != nil || again != addr {
			t.Errorf("%q gives %q, which is %q, %v", line, addr, again, err)
		}
	})
}
