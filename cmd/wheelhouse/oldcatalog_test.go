package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// putBodies stores objects in b, with at least so many copies, and returns their bodies.
func putBodies(t *testing.T, url string, durable int, names ...string) map[string][]byte {
	t.Helper()
	bodies := map[string][]byte{}
	for _, name := range names {
		body := bytes.Repeat([]byte(name+". "), 100)
		if strings.HasPrefix(name, "big") {
			body = bytes.Repeat(body, 5000) // a file of its own
		}
		req, err := http.NewRequest("PUT", url+"/b/"+name, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-STF-Consistency", fmt.Sprint(durable))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("PUT %s = %s", name, resp.Status)
		}
		bodies[name] = body
	}
	return bodies
}

// idOf is an object's id.
func idOf(t *testing.T, url, name string) store.ObjectID {
	t.Helper()
	var st store.ObjectStatus
	resp, err := http.Get(url + "/-/objects?bucket=b&name=" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil {
		t.Fatal(err)
	}
	return st.ID
}

// copyCatalog copies a catalog by plain means, from one directory to another, over whatever is there.
func copyCatalog(t *testing.T, from, to string) {
	t.Helper()
	old, err := filepath.Glob(to + "/catalog.db*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(from + "/catalog.db*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no catalog in %s: %v", from, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(to, filepath.Base(f)), string(b))
	}
}

// swept waits until workers have dealt with all blocks of ids that they deal with at all.
func swept(t *testing.T, dir string) {
	t.Helper()
	c, err := catalog.OpenSQLite(t.Context(), dir+"/catalog.db", catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "all blocks of ids are swept, or kept", func() bool {
		list, err := c.Leases(t.Context(), time.Now(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		return len(list) == 0
	})
}

func saysOlder(s store.Status) bool {
	return s.Verdict != store.VerdictHealthy && strings.Contains(fmt.Sprint(s.Problems), "older than what the storages hold") &&
		strings.Contains(fmt.Sprint(s.Problems), "catalog readopt")
}

// The catalog is gone: the storages are not taken for new ones, and what they hold comes back.
func TestUpWithoutItsCatalog(t *testing.T) {
	dir := t.TempDir()
	p := start(t, upArgs(dir)...)
	createBucket(t, p.ready["http"])
	must(t, "bucket", "set", "--server", p.ready["http"], "b", "--access", "public-read")
	bodies := putBodies(t, p.ready["http"], 2, "f1", "f2", "f3", "f4", "f5", "big")
	p.stop()
	loseCatalog(t, dir)
	refused := func(what string) {
		t.Helper()
		p := launch(t, upArgs(dir)...)
		select {
		case <-p.done:
		case <-time.After(wait):
			t.Fatalf("%s: it runs", what)
		}
		if out := p.output(); p.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out, "wheelhouse catalog rebuild") || !strings.Contains(out, "catalog restore") {
			t.Fatalf("%s: %v, %s", what, p.err, out)
		}
	}
	refused("without a catalog")
	if left, _ := filepath.Glob(dir + "/catalog.db*"); len(left) > 0 {
		t.Errorf("it left %v, which is in the way of another catalog", left)
	}
	writeFile(t, dir+"/catalog.db", "")
	refused("with an empty catalog")
	loseCatalog(t, dir)
	must(t, "catalog", "rebuild", "--data", dir)
	p = start(t, upArgs(dir)...)
	must(t, "bucket", "set", "--server", p.ready["http"], "b", "--access", "public-read")
	wantBodies(t, p.ready["http"], bodies)
}

// An older catalog is copied back: nothing that it does not know is deleted, its ids are not used again, status says so, and all of it
// can be had back.
func TestUpOverAnOlderCatalog(t *testing.T) {
	for _, tt := range []struct {
		name    string
		running bool // when the copy was made
	}{{"copied at rest", false}, {"copied while it ran", true}} {
		t.Run(tt.name, func(t *testing.T) {
			dir, kept := t.TempDir(), t.TempDir()
			p := start(t, upArgs(dir)...)
			createBucket(t, p.ready["http"])
			must(t, "bucket", "set", "--server", p.ready["http"], "b", "--access", "public-read")
			bodies := putBodies(t, p.ready["http"], 2, "f1")
			if tt.running {
				copyCatalog(t, dir, kept)
				c, err := catalog.OpenSQLite(t.Context(), dir+"/catalog.db", catalog.Options{})
				if err != nil {
					t.Fatal(err)
				}
				next, err := c.NextID(t.Context())
				for n := 0; err == nil; n++ { // until ids are taken from a new block
					var now store.ObjectID
					if now, err = c.NextID(t.Context()); now > next {
						break
					}
					name := fmt.Sprint("meanwhile", n)
					bodies[name] = putBodies(t, p.ready["http"], 2, name)[name]
				}
				_ = c.Close()
				if err != nil {
					t.Fatal(err)
				}
			}
			p.stop()
			if !tt.running {
				copyCatalog(t, dir, kept)
			}
			p = start(t, upArgs(dir)...)
			var last store.ObjectID
			for _, name := range []string{"f2", "f3", "f4", "big"} {
				bodies[name] = putBodies(t, p.ready["http"], 2, name)[name]
				last = max(last, idOf(t, p.ready["http"], name))
			}
			p.stop()
			copyCatalog(t, kept, dir)

			p = start(t, upArgs(dir)...)
			url := p.ready["http"]
			bodies["f5"] = putBodies(t, url, 2, "f5")["f5"]
			if id := idOf(t, url, "f5"); id <= last {
				t.Errorf("id %d was handed out; the storages hold %d", id, last)
			}
			if s := statusOf(t, url); !saysOlder(s) {
				t.Errorf("status: %s %+v", s.Verdict, s.Problems)
			}
			swept(t, dir)
			if status, out, errOut := runOnce(t, "fsck", "--fix", "--server", url); status != 0 {
				t.Errorf("fsck --fix = %d: %s%s", status, out, errOut)
			}
			p.stop()
			must(t, "catalog", "readopt", "--data", dir)
			p = start(t, upArgs(dir)...)
			wantBodies(t, p.ready["http"], bodies)
			if s := statusOf(t, p.ready["http"]); saysOlder(s) {
				t.Errorf("after readopt: %+v", s.Problems)
			}
		})
	}
}

// readopt finds out by itself that a catalog is an older one, also before anything has run over it.
func TestReadoptAnOlderCatalog(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	p := start(t, upArgs(dir)...)
	createBucket(t, p.ready["http"])
	must(t, "bucket", "set", "--server", p.ready["http"], "b", "--access", "public-read")
	bodies := putBodies(t, p.ready["http"], 2, "f1")
	p.stop()
	copyCatalog(t, dir, kept)
	p = start(t, upArgs(dir)...)
	bodies["f2"] = putBodies(t, p.ready["http"], 2, "f2")["f2"]
	p.stop()
	copyCatalog(t, kept, dir)
	if out := must(t, "catalog", "readopt", "--data", dir, "--dry-run"); !strings.Contains(out, "1  objects were adopted") {
		t.Errorf("dry run: %s", out)
	}
	must(t, "catalog", "readopt", "--data", dir)
	p = start(t, upArgs(dir)...)
	wantBodies(t, p.ready["http"], bodies)
}

// The same with processes of their own, where the one storage that knows what is lost is away when they begin.
func TestPartsOverAnOlderCatalog(t *testing.T) {
	s := startParts(t)
	must(t, "bucket", "set", "--server", s.url, "b", "--access", "public-read")
	catalogSide := []string{"dispatcher", "worker1", "worker2"}
	each := func(names []string, f func(string)) {
		for _, name := range names {
			f(name)
		}
	}
	stop := func(name string) { s.running[name].stop() }
	dir, kept := filepath.Join(s.dir, "data"), t.TempDir()
	bodies := putBodies(t, s.url, 2, "f1")
	each(catalogSide, stop)
	copyCatalog(t, dir, kept)

	each([]string{"storaged1", "storaged2"}, stop)
	s.start("dispatcher")
	var lost []store.ObjectID
	for _, name := range []string{"f2", "big2"} {
		bodies[name] = putBodies(t, s.url, 1, name)[name]
		lost = append(lost, idOf(t, s.url, name))
	}
	stop("dispatcher")
	stop("storaged3")
	copyCatalog(t, kept, dir)

	each([]string{"storaged1", "storaged2"}, s.start)
	each(catalogSide, s.start)
	for i := range 5 {
		name := fmt.Sprint("new", i)
		bodies[name] = putBodies(t, s.url, 2, name)[name]
		if id := idOf(t, s.url, name); slices.Contains(lost, id) {
			t.Errorf("id %d was handed out, and storage 3 holds it", id)
		}
	}
	s.start("storaged3")
	eventually(t, "status says that the catalog is an older one", func() bool { return saysOlder(statusOf(t, s.url)) })
	swept(t, dir)
	each(catalogSide, stop)
	must(t, "catalog", "readopt", "--config", filepath.Join(s.dir, "dispatcher.toml"))
	each(catalogSide, s.start)
	wantBodies(t, s.url, bodies)
	settle(t, s.url)
	if st := statusOf(t, s.url); saysOlder(st) {
		t.Errorf("after readopt: %+v", st.Problems)
	}
	wantNoOrphans(t, s.url, 3)
}

// A storage that holds objects is not added to an empty catalog.
func TestStorageAddToAnEmptyCatalog(t *testing.T) {
	s := startParts(t)
	putBodies(t, s.url, 2, "f1")
	for _, name := range []string{"dispatcher", "worker1", "worker2"} {
		s.running[name].stop()
	}
	loseCatalog(t, filepath.Join(s.dir, "data"))
	s.start("dispatcher")
	must(t, "cluster", "add", "--server", s.url, "--name", "main")
	status, _, errOut := runOnce(t, "storage", "add", "--server", s.url, "--cluster", "1", "--uri", fmt.Sprintf("http://%s/dev1", s.addrs["storaged1"]))
	if status != 1 || !strings.Contains(errOut, "wheelhouse catalog rebuild") {
		t.Errorf("storage add = %d: %s", status, errOut)
	}
}

// On a machine without disks, rebuild and restore say what they need to be told, and work with it. One storage that holds a backup is
// enough.
func TestCatalogRebuildElsewhere(t *testing.T) {
	s := startParts(t)
	must(t, "bucket", "set", "--server", s.url, "b", "--access", "public-read")
	bodies := putBodies(t, s.url, 3, "f1", "big")
	must(t, "catalog", "backup", "--server", s.url)
	for _, name := range []string{"dispatcher", "worker1", "worker2"} {
		s.running[name].stop()
	}
	config := filepath.Join(s.dir, "dispatcher.toml")
	named := fmt.Sprintf("1=http://%s/dev1", s.addrs["storaged1"])
	for _, what := range []string{"restore", "rebuild"} {
		loseCatalog(t, filepath.Join(s.dir, "data"))
		if status, _, errOut := runOnce(t, "catalog", what, "--config", config); status != 1 || !strings.Contains(errOut, "--storage 1=http://") {
			t.Errorf("catalog %s = %d: %s", what, status, errOut)
		}
		must(t, "catalog", what, "--config", config, "--storage", named)
		s.start("dispatcher")
		wantBodies(t, s.url, bodies)
		s.running["dispatcher"].stop()
	}
}
