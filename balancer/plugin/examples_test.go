package plugin_test

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wheelhouse/balancer/config"
	"wheelhouse/balancer/plugin"
)

// TestExamplesOfDebian reads the example configurations that come with Debian's perlbal, and looks at what they
// make. They are read as they are, but that docroots lie in a directory of the test's.
func TestExamplesOfDebian(t *testing.T) {
	const dir = "/usr/share/doc/perlbal/examples"
	want := map[string]struct {
		services map[string]string // with their roles
		pools    int
		loaded   []string
	}{
		"echoservice.conf":         {map[string]string{"echo": "echo", "echo_delayed": "echo", "mgmt": "management"}, 0, []string{"EchoService"}},
		"load-balancer.conf":       {map[string]string{"balancer": "reverse_proxy", "balancer2": "reverse_proxy", "mgmt": "management"}, 2, nil},
		"not-modified-plugin.conf": {map[string]string{"demo": "selector"}, 0, []string{"NotModified", "Vhosts"}},
		"ssl.conf":                 {map[string]string{"site": "reverse_proxy", "mgmt": "management"}, 1, nil},
		"virtual-hosts.conf":       {map[string]string{"site": "web_server", "example": "web_server", "vdemo": "selector", "mgmt": "management"}, 0, []string{"Vhosts"}},
		"webserver.conf":           {map[string]string{"docs": "web_server", "mgmt": "management"}, 0, nil},
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.conf"))
	if err != nil || len(files) != len(want) {
		t.Fatalf("%v, %v; want %d examples of the package perlbal", files, err, len(want))
	}
	// What the examples name is made: they speak of files beside themselves, and of /var/www.
	work := t.TempDir()
	for _, d := range []string{"conf", "certs"} {
		must(t, os.Mkdir(filepath.Join(work, d), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(work, "conf", "nodelist.dat"), []byte("10.0.0.20\n10.0.0.21:81\n"), 0o644))
	for _, f := range []string{"server-key.pem", "server-cert.pem"} {
		must(t, os.WriteFile(filepath.Join(work, "certs", f), nil, 0o644))
	}
	t.Chdir(work)
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			must(t, err)
			state, err := config.NewLanguage(config.NewPlugins(plugin.All()...)).Read(atHome(string(text), work), name, config.Expander{}, func(s string) { t.Log(s) })
			must(t, err)
			roles := map[string]string{}
			for n, s := range state.Services {
				roles[n] = s.Role()
			}
			w := want[name]
			if !maps.Equal(roles, w.services) {
				t.Errorf("services %v; want %v", roles, w.services)
			}
			if len(state.Pools) != w.pools {
				t.Errorf("%d pools; want %d", len(state.Pools), w.pools)
			}
			loaded := slices.Sorted(slices.Values(state.Loaded))
			if !slices.Equal(loaded, w.loaded) {
				t.Errorf("loaded %v; want %v", loaded, w.loaded)
			}
		})
	}
}

// atHome is a configuration whose web servers' directories are in a directory of ours; each is made.
func atHome(text, dir string) io.Reader {
	return strings.NewReader(regexp.MustCompile(`(?m)^(\s*SET docroot\s*=\s*)(/\S+)`).ReplaceAllStringFunc(text, func(line string) string {
		before, path, _ := strings.Cut(line, "/")
		own := filepath.Join(dir, path)
		if err := os.MkdirAll(own, 0o755); err != nil {
			panic(err)
		}
		return before + own
	}))
}
