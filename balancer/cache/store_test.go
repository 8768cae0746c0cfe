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
	"sync/atomic"
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
	// One that comes when all are used is not the first to go.
	m.resize(4000)
	for _, k := range []string{"a", "b", "c", "d"} {
		m.put(sized(k, 1000))
		if m.get(k, &h) == nil {
			t.Errorf("%s is not there after it was put", k)
		}
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
	if _, err := openDisk(filepath.Join(dir, "no", "where"), 1, log); err == nil || !strings.HasPrefix(err.Error(), "cache_disk: ") {
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
			files := answers(t, filepath.Join(dir, "svc"))
			if len(files) != 1 {
				t.Fatalf("%v", files)
			}
			if err := spoil(files[0]); err != nil {
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

// origin answers a first request in some way and all others in another, and says when the first has begun.
type origin struct {
	first, others func(r *balancer.Request)
	began         chan struct{}
	asked         atomic.Int64
}

func (o *origin) serve(r *balancer.Request) {
	if o.asked.Add(1) > 1 {
		o.others(r)
		return
	}
	close(o.began)
	synctest.Wait() // until all others wait
	o.first(r)
}

// get asks c for a path.
func (o *origin) get(t *testing.T, c *Cache, path string) *exchange {
	x := &exchange{ctx: t.Context()}
	x.req.Method, x.req.Path, x.req.Host = "GET", []byte(path), []byte("h")
	r := new(balancer.Request)
	r.Reset(x, nil, &balancer.Settings{}, nil, nil)
	c.Serve(r, o.serve)
	return x
}

// crowd asks for a path, and n times more while the first waits for its answer. It gives how long the slowest of those waited, and what they
// got.
func (o *origin) crowd(t *testing.T, c *Cache, path string, n int) (slowest time.Duration, got []string) {
	var all sync.WaitGroup
	var mu sync.Mutex
	all.Go(func() { o.get(t, c, path) })
	<-o.began
	began := time.Now() // by the bubble's clock
	for range n {
		all.Go(func() {
			x := o.get(t, c, path)
			mu.Lock()
			defer mu.Unlock()
			slowest, got = max(slowest, time.Since(began)), append(got, x.body.String())
		})
	}
	all.Wait()
	return slowest, got
}

// Whoever waits for an answer goes on as soon as it turns out to be too long to be kept, and the next ones do not wait.
func TestNobodyWaitsForWhatIsTooLong(t *testing.T) {
	const large = 1 << 16
	for name, set := range map[string]balancer.Cache{"over cache_max_object": {}, "over cache_memory": {Memory: large / 2, MaxObject: 2 * large}} {
		for _, size := range []int64{-1, large + 1} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, set)
				answer := func(r *balancer.Request) {
					r.X.Header().Set("Cache-Control", "max-age=60")
					r.Begin(200, size)
					if size > 0 {
						time.Sleep(5 * time.Second) // what comes is slow
					}
					r.X.Write(make([]byte, large))
					r.X.Write(make([]byte, 1))
					time.Sleep(5 * time.Second)
				}
				o := &origin{first: answer, others: func(r *balancer.Request) { r.Reply(200, []byte("own")) }, began: make(chan struct{})}
				if slowest, got := o.crowd(t, w.c, "/", 2); slowest > 0 || !slices.Equal(got, []string{"own", "own"}) {
					t.Errorf("%s, size %d: %v after %v", name, size, got, slowest)
				}
				var all sync.WaitGroup
				for range 3 {
					o := &origin{began: make(chan struct{}), first: func(r *balancer.Request) {
						r.X.Header().Set("Cache-Control", "max-age=60")
						r.Begin(200, size)
						time.Sleep(5 * time.Second)
						r.X.Write(make([]byte, large+1))
					}}
					all.Go(func() { o.get(t, w.c, "/") })
					time.Sleep(time.Second)
				}
				all.Wait()
				if n := w.c.Collapsed.Load(); n != 2 {
					t.Errorf("%s, size %d: the next ones wait for it again: %d have", name, size, n)
				}
			})
		}
	}
}

// When an answer breaks off that others wait for, because its client has gone or its origin failed, one of those asks in its place, not all.
func TestOneOfThoseWhoWaitAsksAgain(t *testing.T) {
	for name, first := range map[string]func(r *balancer.Request){
		"in its body": func(r *balancer.Request) {
			r.X.Header().Set("Cache-Control", "max-age=60")
			r.Begin(200, 8)
			r.X.Write([]byte("half"))
			r.X.Abort()
		},
		"a body of unknown length": func(r *balancer.Request) {
			r.X.Header().Set("Cache-Control", "max-age=60")
			r.Begin(200, -1)
			r.X.Write([]byte("half"))
			r.Reason = "the client is gone"
			r.X.Abort()
		},
		"before it begins": func(r *balancer.Request) { r.X.Abort() },
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, balancer.Cache{})
			o := &origin{first: first, began: make(chan struct{}), others: func(r *balancer.Request) {
				r.X.Header().Set("Cache-Control", "max-age=60")
				time.Sleep(time.Second)
				r.Reply(200, []byte("whole"))
			}}
			slowest, got := o.crowd(t, w.c, "/", 5)
			if o.asked.Load() != 2 || slowest != time.Second || len(slices.Compact(got)) != 1 || got[0] != "whole" {
				t.Errorf("%s: asked %d times, %v, %v", name, o.asked.Load(), slowest, got)
			}
		})
	}
}

// What only the disk has room for is found by those who have waited for it.
func TestThoseWhoWaitFindItOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, balancer.Cache{Memory: 1, Disk: t.TempDir(), DiskSize: 1 << 20})
		answer := func(r *balancer.Request) {
			r.X.Header().Set("Cache-Control", "max-age=60")
			r.Reply(200, []byte("body"))
		}
		o := &origin{first: answer, others: answer, began: make(chan struct{})}
		if _, got := o.crowd(t, w.c, "/", 5); o.asked.Load() != 1 || len(slices.Compact(got)) != 1 || got[0] != "body" {
			t.Errorf("asked %d times, %v", o.asked.Load(), got)
		}
		w.c.Wait()
	})
}

// When an answer cannot be written, or the disk is too slow for it, the older one that it was to take the place of is not given in its place.
func TestDiskGivesNoOlderAnswer(t *testing.T) {
	for name, spoil := range map[string]func(d *disk){
		"it takes none": func(d *disk) {
			for i := range 256 { // no place for its directories but that of the old one
				os.WriteFile(fmt.Sprintf("%s/%02x", d.dir, i), nil, 0o600)
			}
		},
		"it is too slow": func(d *disk) { d.pending.Store(maxPending + 1) },
	} {
		w := newWorld(t, balancer.Cache{Memory: 1, Disk: t.TempDir(), DiskSize: 1 << 20})
		w.reply = reply{200, []string{"Cache-Control: max-age=100"}, "old"}
		w.ask("GET", "/")
		w.c.Wait()
		if x := w.ask("GET", "/"); len(w.asked) != 1 || x.body.String() != "old" {
			t.Fatalf("asked %d times, %q", len(w.asked), &x.body)
		}
		spoil(w.c.dsk.Load())
		w.reply.body = "new"
		w.ask("GET", "/", "Cache-Control: no-cache")
		w.c.Wait()
		if x := w.ask("GET", "/"); x.body.String() != "new" {
			t.Errorf("%s: %q", name, &x.body)
		}
		w.c.Wait()
	}
}

// A disk that hangs keeps a bounded number of answers in memory, and nobody waits for it.
func TestDiskThatHangs(t *testing.T) {
	var log bytes.Buffer
	d, err := openDisk(t.TempDir(), 1<<30, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	e := sized("k", 1<<20)
	n := 0
	for n < 1000 && d.begin(e) {
		n++
	}
	if n > 65 || !strings.Contains(log.String(), "the disk does not keep up") {
		t.Errorf("%d answers of 1 MiB wait; %s", n, &log)
	}
	d.put(e)
	if !d.begin(e) {
		t.Error("there is no room after one was written")
	}
}

// Services whose caches have one directory do not take each other's answers for theirs.
func TestDiskOfSeveralServices(t *testing.T) {
	dir := t.TempDir()
	set := balancer.Cache{Memory: 1, Disk: dir, DiskSize: 1 << 20, MaxObject: 1 << 16}
	w := newWorld(t, set)
	w.reply = reply{200, []string{"Cache-Control: max-age=100"}, "of svc"}
	w.ask("GET", "/")
	w.c.Wait()
	for name, own := range map[string]bool{"other": false, "svc": true} {
		c := New(t.Context(), name, slog.New(slog.DiscardHandler))
		if err := c.Update(set); err != nil {
			t.Fatal(err)
		}
		if n := c.Stats().DiskEntries; (n == 1) != own {
			t.Errorf("%s finds %d", name, n)
		}
	}
}

// Nobody waits for a slow client to take an answer that is kept.
func TestNobodyWaitsForASlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, balancer.Cache{})
		w.reply = reply{200, []string{"Cache-Control: max-age=1, stale-if-error=60", `ETag: "1"`}, "stale"}
		w.ask("GET", "/")
		time.Sleep(2 * time.Second)
		w.reply = reply{503, nil, "failed"}
		var all sync.WaitGroup
		all.Go(func() { w.take(&exchange{ctx: t.Context(), slow: 5 * time.Second}, "GET", "/") })
		synctest.Wait()
		began := time.Now()
		if x := w.ask("GET", "/"); x.body.String() != "stale" || time.Since(began) > 0 {
			t.Errorf("%q after %v", &x.body, time.Since(began))
		}
		all.Wait()
	})
}
