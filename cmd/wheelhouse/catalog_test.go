package main

import (
	"crypto/md5"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/store"
)

// loseCatalog moves the catalog of a data directory away.
func loseCatalog(t *testing.T, dir string) {
	t.Helper()
	away := t.TempDir()
	files, err := filepath.Glob(dir + "/catalog.db*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no catalog in %s: %v", dir, err)
	}
	for _, f := range files {
		if err := os.Rename(f, filepath.Join(away, filepath.Base(f))); err != nil {
			t.Fatal(err)
		}
	}
}

// must runs a command that is to succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	status, out, errOut := runOnce(t, args...)
	if status != 0 {
		t.Fatalf("%q = %d: %s%s", args, status, out, errOut)
	}
	return out
}

// contents are the names and the sums of all objects of a bucket.
func contents(t *testing.T, server, bucket string) map[string]string {
	t.Helper()
	c, err := store.NewClient(server, store.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for next := ""; ; {
		l, err := c.List(t.Context(), bucket, "", "", next, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range l.Objects {
			status, sum, err := fetchSum(server + "/" + bucket + "/" + o.Name)
			if err != nil || status != http.StatusOK {
				t.Errorf("GET %s = %d, %v", o.Name, status, err)
			}
			all[o.Name] = fmt.Sprintf("%x", sum)
		}
		if next = l.Next; next == "" {
			return all
		}
	}
}

// shake writes, overwrites and deletes objects of all sizes, and returns when what was deleted is gone from the storages.
func shake(t *testing.T, p *process, round int) {
	t.Helper()
	c, err := store.NewClient(p.ready[endpointHTTP], store.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, size int) {
		t.Helper()
		body := strings.Repeat(fmt.Sprintf("%s in round %d. ", name, round), size/20+1)
		etag, err := c.Put(t.Context(), "b", name, strings.NewReader(body), int64(len(body)), store.PutOptions{})
		if err != nil || strings.Trim(etag, `"`) != fmt.Sprintf("%x", md5.Sum([]byte(body))) {
			t.Fatalf("PUT %s: %s, %v", name, etag, err)
		}
	}
	for i := range 40 {
		put(fmt.Sprintf("%d/new/%02d", round, i), 100*i)
		put(fmt.Sprintf("overwritten/%02d", i), 100*i)
		put(fmt.Sprintf("%d/deleted/%02d", round, i), 100*i)
	}
	put("overwritten/large", 3<<20)
	put(fmt.Sprintf("%d/large", round), 2<<20)
	put(fmt.Sprintf("%d/large deleted", round), 2<<20)
	for i := range 40 {
		for _, name := range []string{fmt.Sprintf("%d/deleted/%02d", round, i), fmt.Sprintf("%d/new/%02d", round-1, i)} {
			if err := c.Delete(t.Context(), "b", name); err != nil && round > 1 {
				t.Fatal(err)
			}
		}
	}
	if err := c.Delete(t.Context(), "b", fmt.Sprintf("%d/large deleted", round)); err != nil {
		t.Fatal(err)
	}
	settle(t, p.ready[endpointHTTP])
}

// settle waits until nothing is left of what was deleted, and nothing is owed.
func settle(t *testing.T, server string) {
	t.Helper()
	c, err := store.NewClient(server, store.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was deleted is gone", func() bool {
		n := totals(t, c)
		return n.DeletedObjects == 0 && n.Missing == 0
	})
}

func totals(t *testing.T, c *store.Client) store.Totals {
	t.Helper()
	var s store.Status
	if err := c.Call(t.Context(), http.MethodGet, "/-/status", nil, &s); err != nil {
		t.Fatal(err)
	}
	return s.Totals
}

func wantContents(t *testing.T, server string, want map[string]string) {
	t.Helper()
	if d := cmp.Diff(want, contents(t, server, "b")); d != "" {
		t.Errorf("-before +after:\n%s", d)
	}
}

// The catalog is lost: the newest backup and what the storages say of what came after give the same listing and the same bytes, and so do
// the storages alone.
func TestCatalogLost(t *testing.T) {
	dir := t.TempDir()
	p := start(t, upArgs(dir)...)
	server := p.ready[endpointHTTP]
	must(t, "bucket", "create", "--server", server, "b")
	shake(t, p, 1)
	must(t, "catalog", "backup", "--server", server)
	shake(t, p, 2)
	want := contents(t, server, "b")
	p.kill()

	if status, _, errOut := runOnce(t, "catalog", "restore", "--data", dir); status != 1 || !strings.Contains(errOut, "move it away first") {
		t.Errorf("restore over a catalog: %d %s", status, errOut)
	}
	for _, tt := range []struct {
		name     string
		commands [][]string
	}{
		{"restore and readopt", [][]string{{"restore"}, {"readopt"}}},
		{"rebuild", [][]string{{"rebuild"}}},
		{"rebuild from the storages alone", [][]string{{"rebuild", "--no-backup"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			loseCatalog(t, dir)
			for _, args := range tt.commands {
				t.Log(must(t, append([]string{"catalog"}, append(args, "--data", dir, "--set", "catalog.grace=2s")...)...))
			}
			p := start(t, upArgs(dir)...)
			wantContents(t, p.ready[endpointHTTP], want)
			must(t, "put", "--server", p.ready[endpointHTTP], "--name", "after", "b", writeFile(t, t.TempDir()+"/after", "after"))
			must(t, "rm", "--server", p.ready[endpointHTTP], "b/after")
			settle(t, p.ready[endpointHTTP])
			p.stop()
			for _, temp := range []string{"", "-wal", "-shm", "-turn"} {
				if _, err := os.Stat(dir + "/catalog.db.restoring" + temp); err == nil {
					t.Errorf("catalog.db.restoring%s was left behind", temp)
				}
			}
		})
	}
}

// A server that runs on a restored catalog, before anything was readopted, must not lose what came after the backup.
func TestRestoredIsServedFirst(t *testing.T) {
	dir := t.TempDir()
	p := start(t, upArgs(dir)...)
	server := p.ready[endpointHTTP]
	must(t, "bucket", "create", "--server", server, "b")
	file := filepath.Join(t.TempDir(), "backup.gz")
	must(t, "catalog", "backup", "--server", server, file)
	shake(t, p, 1)
	want := contents(t, server, "b")
	p.kill()
	loseCatalog(t, dir)
	must(t, "catalog", "restore", "--data", dir, file)
	p = start(t, upArgs(dir)...)
	server = p.ready[endpointHTTP]
	wantContents(t, server, map[string]string{})
	// Longer than the grace time, as the deletion of an object shows that was there.
	must(t, "put", "--server", server, "--name", "x", "b", writeFile(t, t.TempDir()+"/x", "x"))
	must(t, "rm", "--server", server, "b/x")
	settle(t, server)
	p.stop()
	var rep struct{ Adopted, Strangers int }
	if err := json.Unmarshal([]byte(must(t, "catalog", "readopt", "--data", dir, "--json")), &rep); err != nil || rep.Strangers != 0 {
		t.Errorf("%+v, %v", rep, err)
	}
	p = start(t, upArgs(dir)...)
	wantContents(t, p.ready[endpointHTTP], want)
}

// Storages on other machines are asked over HTTP: those that the backup names, and those of --storage.
func TestCatalogLostOnItsOwnMachine(t *testing.T) {
	dir, secret := t.TempDir(), strings.Repeat("5e", 32)
	key := writeFile(t, dir+"/secret", secret)
	var uris []string
	for i := range 4 {
		conf := writeFile(t, fmt.Sprintf("%s/s%d.toml", dir, i+1), fmt.Sprintf("secret_file = %q\n[[storage]]\nid = %d\ndir = %q\n", key, i+1, fmt.Sprintf("%s/disk%d", dir, i+1)))
		p := start(t, "storaged", "--config", conf, "--listen", "127.0.0.1:0", "--set", "log.level=warn")
		uris = append(uris, fmt.Sprintf("%s/dev%d", p.ready[endpointStoraged], i+1))
	}
	data := dir + "/data"
	common := []string{"--data", data, "--set", "secret_file=" + key, "--set", "catalog.grace=2s", "--set", "worker.interval=200ms", "--set", "log.level=warn"}
	args := append([]string{"dispatcher", "--listen", "127.0.0.1:0", "--auth", "none"}, common...)
	p := start(t, args...)
	w := start(t, append([]string{"worker", "--listen", "127.0.0.1:0"}, common...)...)
	server := p.ready[endpointHTTP]
	for i := range 2 {
		must(t, "cluster", "add", "--server", server, "--name", fmt.Sprint("c", i+1))
	}
	for i, uri := range uris {
		must(t, "storage", "add", "--server", server, "--cluster", fmt.Sprint(i/2+1), "--uri", uri)
	}
	must(t, "bucket", "create", "--server", server, "b")
	shake(t, p, 1)
	must(t, "catalog", "backup", "--server", server)
	shake(t, p, 2)
	want := contents(t, server, "b")
	for _, lost := range []struct {
		name string
		args []string
	}{
		{"with the backup, found by way of some storages", []string{"--storage", "1=" + uris[0], "--storage", "3=" + uris[2]}},
		{"without", []string{"--no-backup", "--storage", "1=" + uris[0], "--storage", "2=" + uris[1], "--storage", "3=" + uris[2], "--storage", "4=" + uris[3]}},
	} {
		t.Run(lost.name, func(t *testing.T) {
			p.kill()
			w.kill()
			loseCatalog(t, data)
			t.Log(must(t, append(append([]string{"catalog", "rebuild"}, common...), lost.args...)...))
			p = start(t, args...)
			wantContents(t, p.ready[endpointHTTP], want)
		})
	}
	loseCatalog(t, data)
	p.kill()
	status, _, errOut := runOnce(t, append([]string{"catalog", "rebuild"}, common...)...)
	if status != 1 || !strings.Contains(errOut, "no storage that could be asked") {
		t.Errorf("without a storage: %d %s", status, errOut)
	}
	backup := writeFile(t, dir+"/not a backup", "text")
	status, _, errOut = runOnce(t, append([]string{"catalog", "restore", backup}, common...)...)
	if status != 1 || !strings.Contains(errOut, "damaged") {
		t.Errorf("from what is no backup: %d %s", status, errOut)
	}
}
