package main

import (
	"bytes"
	stdcmp "cmp"
	"crypto/md5"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/internal/freeport"
	"wheelhouse/store"
)

// chapter is one of docs/ops/recovery.md, as the test plays it.
type chapter struct {
	needs   []string      // commands that it uses and that this program may not have yet, such as "storage rebuild"
	grace   string        // catalog.grace; "": 2s
	happens func(s *site) // what has happened to a running installation; it leaves in s.want what must be there in the end
	after   func(s *site) // what must hold besides; nil: nothing
}

// chapters are all of the document. Who adds one to it adds one here.
var chapters = map[string]chapter{
	"Before it happens": {
		after: func(s *site) {
			for _, name := range []string{"wheelhouse.toml", "secret", "root.key", "catalog-*.sqlite.gz"} {
				if found, err := filepath.Glob(filepath.Join(s.kept, name)); err != nil || len(found) != 1 {
					s.t.Errorf("%s was not kept: %q, %v", name, found, err)
				}
			}
		},
	},
	"The database is lost": {happens: func(s *site) {
		s.later()
		s.stop()
		overwrite(s.t, filepath.Join(s.data, "catalog.db"))
	}},
	"An older copy of the database was put back": {
		happens: func(s *site) {
			s.stop()
			kept := s.t.TempDir()
			copyCatalog(s.t, s.data, kept)
			s.start()
			s.later()
			s.stop()
			copyCatalog(s.t, kept, s.data)
			s.start()
			swept(s.t, s.data)
			if all := s.status(); !saysOlder(all) {
				s.t.Errorf("status: %+v", all.Problems)
			}
		},
		after: func(s *site) {
			if all := s.status(); saysOlder(all) {
				s.t.Errorf("status: %+v", all.Problems)
			}
		},
	},
	"Service first": {happens: (*site).later},
	"The machine of the catalog died": {happens: func(s *site) {
		s.later()
		s.p.kill()
		s.p = nil
		if err := os.RemoveAll(s.data); err != nil {
			s.t.Fatal(err)
		}
	}},
	"Only a file is left": {happens: (*site).later},
	"Deleted by mistake": {grace: "1h", happens: func(s *site) {
		must(s.t, "put", "--name", "precious", "b", writeFile(s.t, s.kept+"/precious", "precious"))
		s.want = s.contents()
		must(s.t, "rm", "b/precious")
	}},
	"Ransom": {grace: "1h", happens: func(s *site) {
		for name := range s.want {
			must(s.t, "put", "--name", name, "b", writeFile(s.t, s.kept+"/ransom", "pay"))
		}
		must(s.t, "bucket", "rm", "-r", "b")
	}},
	"The wrong disk was pulled": {happens: func(s *site) {
		must(s.t, "storage", "set-mode", "2", "down")
		s.fill("without storage 2")
	}, after: func(s *site) { s.only("2") }},
	"A disk died": {
		needs: []string{"storage rebuild", "fsck"}, happens: func(s *site) { s.lose(2) },
		after: func(s *site) { s.only("2") },
	},
	"Two disks of one cluster died": {
		needs: []string{"storage rebuild", "fsck"}, happens: func(s *site) { s.lose(2); s.lose(3) },
		after: func(s *site) { s.only("3") },
	},
}

// TestRecoveryDocument runs the commands of docs/ops/recovery.md, chapter by chapter, after what they are for has happened.
func TestRecoveryDocument(t *testing.T) { playDocument(t, "docs/ops/recovery.md", chapters) }

// playDocument runs the commands of a document, chapter by chapter.
func playDocument(t *testing.T, file string, chapters map[string]chapter) {
	text, err := os.ReadFile("../../" + file)
	if err != nil {
		t.Fatal(err)
	}
	scripts := scriptsOf(string(text))
	for _, title := range slices.Sorted(maps.Keys(chapters)) {
		if scripts[title] == "" {
			t.Errorf("%s has no chapter %q with commands", file, title)
		}
	}
	for title, script := range scripts {
		t.Run(title, func(t *testing.T) {
			c, ok := chapters[title]
			if !ok {
				t.Fatal("nothing is said of what has happened: add it to chapters")
			}
			for _, need := range c.needs {
				if !hasCommand(need) {
					t.Fatalf("this program has no command %q", need)
				}
			}
			play(t, c, script)
		})
	}
}

// scriptsOf are the blocks of shell commands in a document, joined, by the titles of their chapters.
func scriptsOf(text string) map[string]string {
	scripts := map[string]string{}
	title, inside := "", false
	for line := range strings.Lines(text) {
		switch rest, isTitle := strings.CutPrefix(line, "## "); {
		case inside && strings.HasPrefix(line, "```"):
			inside = false
		case inside:
			scripts[title] += line
		case isTitle:
			title = strings.TrimSpace(rest)
		case line == "```sh\n":
			inside = true
		}
	}
	return scripts
}

// hasCommand reports whether there is a command, by name, or by name and subcommand.
func hasCommand(name string) bool {
	name, sub, _ := strings.Cut(name, " ")
	return slices.ContainsFunc(commands(), func(c command) bool {
		return c.name == name && (sub == "" || slices.Contains(strings.Split(c.args, "|"), sub))
	})
}

// site is an installation on one machine, with three storages on disks of their own.
type site struct {
	t          *testing.T
	dir        string
	data, kept string
	config     string
	client     *store.Client
	p          *process          // nil while it does not run
	want       map[string]string // names and sums of what must be there in the end
	env        []string          // more of the commands' environment
}

func (s *site) disk(n int) string { return filepath.Join(s.dir, fmt.Sprint("disk", n), "wheelhouse") }

func newSite(t *testing.T, grace string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.data, s.kept, s.config = s.dir+"/data", s.dir+"/kept", s.dir+"/wheelhouse.toml"
	if err := os.Mkdir(s.kept, 0o755); err != nil {
		t.Fatal(err)
	}
	addr := freeport.ForTest(t)
	text := fmt.Sprintf("data = %q\n[dispatcher]\nlisten = %q\n[catalog]\ngrace = %q\n[worker]\ninterval = \"100ms\"\n[log]\nlevel = \"warn\"\n", s.data, addr, grace)
	for n := 1; n <= 3; n++ {
		text += fmt.Sprintf("[[storage]]\nid = %d\ndir = %q\n", n, s.disk(n))
		if err := os.MkdirAll(s.disk(n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, s.config, text)
	t.Setenv("WHEELHOUSE_SERVER", "http://"+addr)
	t.Setenv("WHEELHOUSE_DATA", s.data)
	s.start()
	key, err := readRootKey(s.data + "/root.key")
	if err == nil {
		s.client, err = store.NewClient("http://"+addr, store.ClientOptions{Key: key})
	}
	if err != nil {
		t.Fatal(err)
	}
	must(t, "bucket", "create", "b", "--access", "public-read")
	for i := range 30 {
		s.put(fmt.Sprintf("first/%02d", i), 200*i)
	}
	s.put("first/large", 2<<20)
	s.want = s.contents()
	must(t, "catalog", "backup", s.kept+"/catalog.sqlite.gz")
	for _, name := range []string{"secret", "root.key"} {
		b, err := os.ReadFile(filepath.Join(s.data, name))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, s.kept+"/"+name, string(b))
	}
	return s
}

func (s *site) start() { s.p = start(s.t, "up", "--config", s.config) }

func (s *site) stop() {
	s.p.stop()
	s.p = nil
}

func (s *site) put(name string, size int) {
	s.t.Helper()
	body := strings.Repeat(name+". ", size/len(name)+1)
	if _, err := s.client.Put(s.t.Context(), "b", name, strings.NewReader(body), int64(len(body)), store.PutOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// fill makes objects come, be overwritten and be deleted.
func (s *site) fill(what string) {
	s.t.Helper()
	for i := range 20 {
		s.put(fmt.Sprintf("%s/%02d", what, i), 300*i)
		s.put(fmt.Sprintf("first/%02d", i), 500*i)
		if err := s.client.Delete(s.t.Context(), "b", fmt.Sprintf("first/%02d", 29-i/3)); err != nil && i%3 == 0 {
			s.t.Fatal(err)
		}
	}
	s.put("first/large", 1<<20+5)
	s.want = s.contents()
}

// lose destroys a storage's disk under a running server.
func (s *site) lose(n int) {
	s.t.Helper()
	s.want = s.contents()
	if err := os.RemoveAll(filepath.Dir(s.disk(n))); err != nil {
		s.t.Fatal(err)
	}
}

// contents are the names and sums of all objects, read through the server.
func (s *site) contents() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	for next := ""; ; {
		l, err := s.client.List(s.t.Context(), "b", "", "", next, 1000)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, o := range l.Objects {
			r, _, err := s.client.Get(s.t.Context(), "b", o.Name, 0)
			if err != nil {
				all[o.Name] = err.Error()
				continue
			}
			sum := md5.New()
			if _, err := io.Copy(sum, r); err != nil {
				s.t.Errorf("GET %s: %v", o.Name, err)
			}
			_ = r.Close()
			all[o.Name] = fmt.Sprintf("%x", sum.Sum(nil))
		}
		if next = l.Next; next == "" {
			return all
		}
	}
}

// only demands that one storage alone has everything.
func (s *site) only(id string) {
	s.t.Helper()
	var others []string
	for _, st := range s.status().Storages {
		if other := fmt.Sprint(st.ID); other != id {
			others = append(others, other)
		}
	}
	eventually(s.t, "nothing is owed", func() bool { return totals(s.t, s.client).Missing == 0 })
	for _, other := range others {
		must(s.t, "storage", "set-mode", other, "down")
	}
	if d := cmp.Diff(s.want, s.contents()); d != "" {
		s.t.Errorf("storage %s alone: -want +got:\n%s", id, d)
	}
	for _, other := range others {
		must(s.t, "storage", "set-mode", other, "rw")
	}
}

// play runs a chapter's commands after what they are for has happened.
func play(t *testing.T, c chapter, script string) {
	s := newSite(t, stdcmp.Or(c.grace, "2s"))
	moment := time.Now().Add(time.Second).Truncate(time.Second) // after the backup
	if c.happens != nil {
		c.happens(s)
	}
	s.run(script, "BEFORE="+moment.Format(time.DateTime))
	if s.p == nil {
		t.Fatal("in the end the server does not run")
	}
	if d := cmp.Diff(s.want, s.contents()); d != "" {
		t.Errorf("-before +after:\n%s", d)
	}
	if c.after != nil {
		c.after(s)
	}
}

// later is an hour after a backup, at the end of which nothing is left of what was deleted.
func (s *site) later() {
	s.t.Helper()
	s.fill("later")
	eventually(s.t, "what was deleted is gone", func() bool { return totals(s.t, s.client).DeletedObjects == 0 })
}

// run runs commands as an operator types them: wheelhouse is this program, systemctl starts and stops the server of this test, and
// mount brings back what was pulled out.
func (s *site) run(script string, env ...string) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	type order struct {
		what string
		done chan struct{}
	}
	orders := make(chan order)
	systemd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := order{r.URL.Path, make(chan struct{})}
		orders <- o
		<-o.done
	}))
	defer systemd.Close()
	bin := s.t.TempDir()
	for name, text := range map[string]string{
		"wheelhouse": "#!/bin/sh\nexec env " + asProgram + "=1 '" + self + "' \"$@\"\n",
		"mount":      "#!/bin/sh\nexec mv \"$1.pulled\" \"$1\"\n",
		"systemctl":  "#!/bin/sh\n[ \"$2\" = wheelhouse ] && exec curl -sf " + systemd.URL + "/\"$1\"\n",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-eux")
	cmd.Stdin = strings.NewReader(script)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "CONFIG="+s.config, "DATA="+s.data, "KEPT="+s.kept, "DISK2="+s.disk(2), "DISK3="+s.disk(3))
	cmd.Env = append(append(cmd.Env, s.env...), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case o := <-orders:
			switch {
			case o.what == "/stop" && s.p != nil:
				s.stop()
			case o.what == "/start" && s.p == nil:
				s.start()
			}
			close(o.done)
		case err := <-ended:
			s.t.Logf("%s", out.String())
			if err != nil {
				s.t.Fatal(err)
			}
			return
		}
	}
}

// overwrite damages a file in its middle.
func overwrite(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 8192), 0); err != nil {
		t.Fatal(err)
	}
}
