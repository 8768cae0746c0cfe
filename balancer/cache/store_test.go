package cache

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

func sized(key string, n int) *entry {
	return &entry{key: key, status: 200, body: make([]byte, n), size: int64(n), stored: time.Now()}
}

// Memory holds no more than its limit, keeps what is used over what is not, and forgets on demand.
func TestMemory(t *testing.T) {
	m := newMemory(10 * 1300)
	var h http1.Header
	for i := range 10 {
		m.put(sized(fmt.Sprint("k", i), 1000))
	}
	if n, bytes := m.stats(); n != 10 || bytes > 13000 {
		t.Fatalf("%d entries of %d bytes", n, bytes)
	}
	for _, k := range []string{"k0", "k1", "k2"} {
		m.get(k, &h)
	}
	for i := range 6 {
		m.put(sized(fmt.Sprint("n", i), 1000))
	}
	for _, k := range []string{"k0", "k1", "k2", "n5"} {
		if m.get(k, &h) == nil {
			t.Errorf("%s, which was used, is gone", k)
		}
	}
	if m.get("k3", &h) != nil {
		t.Error("the oldest that nobody used is still there")
	}
	if n, bytes := m.stats(); bytes > 13000 || n == 0 {
		t.Errorf("%d entries of %d bytes", n, bytes)
	}
	m.resize(3000)
	if n, bytes := m.stats(); n > 2 || bytes > 3000 {
		t.Errorf("after resize %d entries of %d bytes", n, bytes)
	}
	m.clear()
	if n, bytes := m.stats(); n != 0 || bytes != 0 || len(m.keys) != 0 {
		t.Errorf("after clear %d entries, %d bytes, %d keys", n, bytes, len(m.keys))
	}
	// One that is too large is not kept, and neither is what it comes in place of.
	m.put(sized("big", 100))
	m.put(sized("big", 5000))
	if m.get("big", &h) != nil {
		t.Error("an old answer is given though a newer one came")
	}
}

func answers(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Files are there for what the index knows, and for nothing else: not for what went, was too large, or is torn.
func TestDisk(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	d, err := openDisk(dir, 10000, log)
	if err != nil {
		t.Fatal(err)
	}
	var h http1.Header
	old, fresh := sized("k", 1000), sized("k", 1000)
	fresh.body[0], fresh.stored = 'n', old.stored.Add(time.Second)
	d.put(old)
	d.put(fresh)
	d.put(sized("large", 20000))
	if files := answers(t, dir); len(files) != 1 {
		t.Errorf("%d files; want that of the newer answer alone: %v", len(files), files)
	}
	for i := range 20 {
		d.put(sized(fmt.Sprint(i), 1000))
	}
	if n, bytes := d.stats(); bytes > 10000 || n != len(answers(t, dir)) {
		t.Errorf("%d entries of %d bytes, %d files", n, bytes, len(answers(t, dir)))
	}
	d.clear()
	if files := answers(t, dir); len(files) != 0 {
		t.Errorf("after clear there are %v", files)
	}

	// A process that ends has left two answers for one key, a torn one, and one half written.
	d.put(fresh)
	second, err := openDisk(t.TempDir(), 10000, log)
	if err != nil {
		t.Fatal(err)
	}
	second.put(old)
	text, err := os.ReadFile(answers(t, second.dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(dir, "zz")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"zz" + diskSuffix: text, "torn" + diskSuffix: text[:len(text)-1], "long" + diskSuffix: append(slices.Clone(text), 'x'), "half" + diskSuffix + ".tmp": text,
		"nonsense" + diskSuffix: []byte("{}"), "empty" + diskSuffix: nil,
	} {
		if err := os.WriteFile(filepath.Join(sub, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err = openDisk(dir, 10000, log)
	if err != nil {
		t.Fatal(err)
	}
	e := d.get("k", &h)
	if e == nil || !e.stored.Equal(fresh.stored) {
		t.Fatalf("after a restart %+v; want the newer", e)
	}
	f, err := d.open(e)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	body, err := io.ReadAll(io.NewSectionReader(f, e.bodyAt(), e.size))
	if err != nil || len(body) != 1000 || body[0] != 'n' {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if files := answers(t, dir); len(files) != 1 {
		t.Errorf("left: %v", files)
	}
	if _, err := openDisk(filepath.Join(dir, "nowhere"), 1, log); err == nil || !strings.HasPrefix(err.Error(), "cache_disk: ") {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// What is kept of an answer's head survives the disk.
func TestDiskHead(t *testing.T) {
	e := &entry{
		key: "http://h/", vary: []varied{{"cookie", "a=b"}}, status: 203, header: []field{{"A", "b"}, {"A", "c"}}, size: 7, stored: time.Unix(1, 2).UTC(),
		age: 1, fresh: 2, staleWhile: 3, staleError: 4, revalidate: true, always: true, tagOnly: true, etag: `"x"`, modified: "m",
	}
	got := headOf(e).entry("", 0)
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", e) {
		t.Errorf("%+v\nbecame\n%+v", e, got)
	}
}

// A file that was removed or cut short behind the cache's back is asked for again, without the client's noticing, and without the
// conditions that the origin was asked with.
func TestDiskFileIsGone(t *testing.T) {
	for name, spoil := range map[string]func(file string) error{
		"removed":   os.Remove,
		"cut short": func(file string) error { return os.Truncate(file, 300) },
	} {
		for _, control := range []string{"max-age=0, must-revalidate", "max-age=100"} {
			dir := t.TempDir()
			w := newWorld(t, balancer.Cache{Memory: 1, Disk: dir, DiskSize: 1 << 20})
			body := strings.Repeat("body", 100)
			w.reply = reply{200, []string{"Cache-Control: " + control, `ETag: "1"`}, body}
			w.ask("GET", "/")
			w.c.Wait()
			if files := answers(t, dir); len(files) != 1 {
				t.Fatalf("%v", files)
			}
			if err := spoil(answers(t, dir)[0]); err != nil {
				t.Fatal(err)
			}
			x := w.ask("GET", "/")
			if x.status != 200 || x.body.String() != body || x.aborted {
				t.Errorf("%s, %s: %d, %d bytes; want 200, %d bytes", name, control, x.status, x.body.Len(), len(body))
			}
			if w.c.Stats().DiskEntries != 0 {
				t.Errorf("%s, %s: it is still there", name, control)
			}
		}
	}
}

// A disk that takes nothing is told of once a minute, not for each answer.
func TestFullDiskIsToldOfNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		dir := t.TempDir()
		d, err := openDisk(dir, 1<<20, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil { // no place for directories
			t.Fatal(err)
		}
		for range 2 {
			for i := range 100 {
				d.put(sized(fmt.Sprint(i), 1000))
			}
			time.Sleep(time.Minute) // of the bubble's clock
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], "count=1 ") || !strings.Contains(lines[1], "count=100 ") || !strings.Contains(lines[1], "not a directory") {
			t.Errorf("%q", lines)
		}
	})
}

// Those who wait for an answer that turns out to be for one client alone go on at once, and the next ones do not wait at all.
func TestNobodyWaitsForWhatIsNotKept(t *testing.T) { synctest.Test(t, testNobodyWaits) }

func testNobodyWaits(t *testing.T) {
	w := newWorld(t, balancer.Cache{})
	began, end := make(chan struct{}), make(chan struct{})
	var once sync.Once
	origin := func(r *balancer.Request) {
		first := false
		once.Do(func() { first = true })
		r.X.Header().Set("Cache-Control", "private")
		if !first {
			r.Reply(200, []byte("yours"))
			return
		}
		close(began)
		synctest.Wait() // until the other waits
		if n := w.c.Collapsed.Load(); n != 1 {
			t.Errorf("%d wait", n)
		}
		r.Begin(200, -1)
		<-end // the body does not end
	}
	serve := func() *exchange {
		x := &exchange{ctx: t.Context()}
		x.req.Method, x.req.Path, x.req.Host = "GET", []byte("/"), []byte("h")
		r := new(balancer.Request)
		r.Reset(x, nil, &balancer.Settings{}, nil, nil)
		w.c.Serve(r, origin)
		return x
	}
	var leader sync.WaitGroup
	leader.Go(func() { serve() })
	<-began
	if x := serve(); x.body.String() != "yours" {
		t.Errorf("%q", x.body.String())
	}
	if x := serve(); x.body.String() != "yours" || w.c.Collapsed.Load() != 1 {
		t.Errorf("%q, %d have waited", x.body.String(), w.c.Collapsed.Load())
	}
	close(end)
	leader.Wait()
}
