package plugin_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/config"
	"wheelhouse/balancer/plugin"
	"wheelhouse/balancer/web"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts a balancer with all plugins; each is loaded.
func start(t testing.TB, conf string) *balancertest.Balancer {
	t.Helper()
	return startWith(t, conf, plugin.Options{})
}

func startWith(t testing.TB, conf string, o plugin.Options) *balancertest.Balancer {
	t.Helper()
	s := web.New(web.Options{})
	t.Cleanup(s.Close)
	l := config.NewLanguage(config.NewPlugins(plugin.New(o)...))
	load := ""
	for _, name := range l.PluginNames() {
		load += "LOAD " + name + "\n"
	}
	return balancertest.Start(t, load+conf, balancerd.Options{Language: l, Web: s.Serve, File: s.File})
}

// files is a docroot.
func files(t testing.TB, list map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "static")
	for name, text := range list {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return dir
}

// webService is the configuration of a web_server.
func webService(name, dir, more string) string {
	return "CREATE SERVICE " + name + "\nSET role = web_server\nSET persist_client = on\nSET docroot = " + dir + "\n" + more + "\nENABLE " + name + "\n"
}

const listening = "SET listen = 127.0.0.1:0\n"

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// get asks; fields are "Name: value".
func get(t testing.TB, url string, fields ...string) answer {
	t.Helper()
	return ask(t, "GET", url, "", fields...)
}

func ask(t testing.TB, method, url, body string, fields ...string) answer {
	t.Helper()
	res, text := balancertest.Ask(t, method, url, strings.NewReader(body), fields...)
	return answer{res.StatusCode, res.Header, text}
}

// mirror is a backend that answers with what it was sent: target, Host and some fields.
func mirror(t testing.TB, fields ...string) string {
	return balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.RequestURI+" "+r.Host)
		for _, f := range fields {
			_, _ = io.WriteString(w, " "+f+"="+r.Header.Get(f))
		}
	})
}

// info is what a service's plugins say to a console's verb.
func info(b *balancertest.Balancer, service, verb string) []string {
	for _, i := range b.Service(service).Chain().Instances {
		if v, ok := i.(interface {
			Info(verb, args string) ([]string, bool)
		}); ok {
			if lines, ok := v.Info(verb, ""); ok {
				return lines
			}
		}
	}
	return nil
}
