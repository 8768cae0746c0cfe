package web_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/web"
)

// docroot makes a directory with files; names that end in a slash are directories.
func docroot(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(path, 0o755))
			continue
		}
		must(t, os.WriteFile(path, []byte(text), 0o644))
		must(t, os.Chtimes(path, stamp, stamp))
	}
	return dir
}

// stamp is the time of all files that docroot makes.
var stamp = time.Date(2020, 2, 3, 4, 5, 6, 789e6, time.UTC)

const stampDate = "Mon, 03 Feb 2020 04:05:06 GMT"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start serves a docroot as service "w".
func start(t testing.TB, dir, more string) *balancertest.Balancer {
	t.Helper()
	return startWith(t, "CREATE SERVICE w\nSET role = web_server\nSET listen = 127.0.0.1:0\nSET persist_client = on\nSET docroot = "+dir+"\n"+more+"\nENABLE w\n", balancerd.Options{})
}

func startWith(t testing.TB, conf string, o balancerd.Options) *balancertest.Balancer {
	t.Helper()
	s := web.New(web.Options{})
	t.Cleanup(s.Close)
	o.Web, o.File = s.Serve, s.File
	return balancertest.Start(t, conf, o)
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request; fields are "Name: value".
func ask(t testing.TB, method, url, body string, fields ...string) answer {
	t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	return askReader(t, method, url, in, fields...)
}

func askReader(t testing.TB, method, url string, in io.Reader, fields ...string) answer {
	t.Helper()
	res, text := balancertest.Ask(t, method, url, in, fields...)
	return answer{res.StatusCode, res.Header, text}
}

// perlbal starts Debian's with a configuration in which LISTEN stands for its address, and returns that.
func perlbal(t testing.TB, conf string) (addr string) {
	t.Helper()
	return balancertest.Perlbal(t, 1, func(a []string) string { return strings.ReplaceAll(conf, "LISTEN", a[0]) })[0]
}
