package web

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "/a": "/a", "/a/": "/a/", "//a///b": "/a/b", "/./a/.": "/a/", "/a%2fb": "/a/b", "/%41%zz%4": "/A%zz%4", "/...": "/...",
		"/a/.b": "/a/.b", "/a+b": "/a+b", "/%2e/x": "/x", "//": "/", "/a%5c..%5cb": `/a\..\b`,
	} {
		if got, err := Clean([]byte(in)); got != want || err != nil {
			t.Errorf("Clean(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]error{
		"": errBogus, "a": errBogus, "*": errBogus, "/..": errBogus, "/a/../b": errBogus, "/%2e%2E/": errBogus, "/a%2f..%2fb": errBogus,
		"/a%00": errNUL, "/a\x00": errNUL, "%2f": errBogus,
	} {
		if got, err := Clean([]byte(in)); !errors.Is(err, want) {
			t.Errorf("Clean(%q) = %q, %v; want %v", in, got, err, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e%2e/%00", "//x//./y/", "/a%2fb", "/%"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		path, err := Clean(raw)
		if err != nil {
			return
		}
		if path[0] != '/' || strings.Contains(path, "//") || strings.IndexByte(path, 0) >= 0 || slices.Contains(strings.Split(path, "/"), "..") {
			t.Fatalf("Clean(%q) = %q", raw, path)
		}
		if name := local(path); !filepath.IsLocal(name) {
			t.Fatalf("Clean(%q) = %q, which is not below the root", raw, name)
		}
		if again, err := Clean([]byte(encode(path))); again != path || err != nil {
			t.Fatalf("%q encoded and cleaned again is %q, %v", path, again, err)
		}
	})
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-3", "bytes=-3", "bytes=5-,1-2", "bytes=5-1", "bytes=,,-0", "lines=1", "bytes=18446744073709551616-"} {
		f.Add(s, int64(10))
	}
	f.Add("bytes=0-", int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, v string, size int64) {
		if size < 0 {
			return
		}
		spans, ok := parseRange(v, size)
		total := int64(0)
		for _, p := range spans {
			if p.off < 0 || p.n <= 0 || p.n > size-p.off {
				t.Fatalf("%q of %d: %+v", v, size, p)
			}
			total += p.n
		}
		if total > size || total < 0 || len(spans) > maxRanges || !ok && spans != nil {
			t.Fatalf("%q of %d: %v, %v", v, size, spans, ok)
		}
	})
}

func TestMatches(t *testing.T) {
	for _, v := range []struct {
		list       string
		weak, want bool
	}{
		{`"a"`, true, true},
		{`"a"`, false, true},
		{`W/"a"`, true, true},
		{`W/"a"`, false, false},
		{`"b","a"`, true, true},
		{`"b" , W/"a"`, true, true},
		{`*`, false, true},
		{`a`, true, false},
		{`"a`, true, false},
		{``, true, false},
		{`W/`, true, false},
		{`"b",a,"a"`, true, false},
	} {
		if got := matches(v.list, `"a"`, v.weak); got != v.want {
			t.Errorf("matches(%s, weak %v) = %v; want %v", v.list, v.weak, got, v.want)
		}
	}
}

func TestOpenFilesAreBounded(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := newFiles(2, 0)
	var open []*file
	for _, name := range []string{"a", "b", "c", "a"} {
		f, err := c.open(key{dir: dir, name: name})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	if len(c.kept) != 2 || c.order.Len() != 2 {
		t.Errorf("%d files are kept; want 2", len(c.kept))
	}
	b := make([]byte, 1)
	if _, err := open[0].f.ReadAt(b, 0); err != nil { // it was dropped, but is in use
		t.Errorf("a file in use was closed: %v", err)
	}
	for _, f := range open {
		c.release(f)
	}
	if _, err := open[0].f.ReadAt(b, 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a file that nobody uses is open: %v", err)
	}
	c.sweep(time.Now().Add(2 * unusedFor))
	if len(c.kept) != 0 || len(c.roots) != 0 {
		t.Errorf("after a while %d files and %d directories are kept", len(c.kept), len(c.roots))
	}
	if _, err := open[3].f.ReadAt(b, 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("what was swept is open: %v", err)
	}
	c.close()
	f, err := c.open(key{dir: dir, name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	c.release(f)
	if len(c.kept) != 0 || c.timer != nil && c.timer.Stop() {
		t.Error("something was kept after close")
	}
	if _, err := f.f.ReadAt(b, 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after close a released file is open: %v", err)
	}
}

// TestForgetBeatsAnOpening: a file that was opened before a write must not be kept after it.
func TestForgetBeatsAnOpening(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c := newFiles(10, 0)
	defer c.close()
	seen := c.writes
	c.forget(dir, "a")
	f, err := c.openNew(key{dir: dir, name: "a"}, time.Now(), seen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.release(f)
	if len(c.kept) != 0 {
		t.Error("kept what may be older than the write")
	}
}

func TestSmallFilesInMemoryAreBounded(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("0123456789"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, smallFile+1), 0o644); err != nil {
		t.Fatal(err)
	}
	c := newFiles(10, 25)
	defer c.close()
	use := func(name string) bool {
		f, err := c.open(key{dir: dir, name: name})
		if err != nil {
			t.Fatal(err)
		}
		defer c.release(f)
		b := f.bytes.Load()
		return b != nil && string(*b) == "0123456789"
	}
	for _, name := range []string{"a", "b", "c", "big"} {
		if use(name) {
			t.Errorf("%s is in memory at its first use", name)
		}
		if got, want := use(name), name == "a" || name == "b"; got != want {
			t.Errorf("%s is in memory: %v; want %v", name, got, want)
		}
	}
	if c.memory != 20 {
		t.Errorf("%d bytes are counted; want 20", c.memory)
	}
	c.forget(dir, "a")
	if c.memory != 10 {
		t.Errorf("%d bytes are counted after one has gone; want 10", c.memory)
	}
	if use("c"); !use("c") {
		t.Error("there was room again, but c is not in memory")
	}
	c.sweep(time.Now().Add(2 * unusedFor))
	if c.memory != 0 {
		t.Errorf("%d bytes are counted when nothing is kept", c.memory)
	}
}

// TestFilesInUseAreCheckedBeforehand: of a file that is asked for all the time no request finds that it must be looked at, and a change is seen
// within a second all the same.
func TestFilesInUseAreCheckedBeforehand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("old")
	synctest.Test(t, func(t *testing.T) {
		c := newFiles(10, 0)
		defer c.close()
		use := func() (size int64) {
			f, err := c.open(key{name: path})
			if err != nil {
				t.Fatal(err)
			}
			defer c.release(f)
			return f.size
		}
		useFor := func(span time.Duration, seen func(size int64, age time.Duration)) {
			for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				synctest.Wait()
				c.mu.Lock()
				age := time.Duration(0)
				if f := c.kept[key{name: path}]; f != nil {
					age = time.Since(f.checked)
				}
				c.mu.Unlock()
				seen(use(), age)
			}
		}
		useFor(2*recheck, func(int64, time.Duration) {}) // a request has looked at it once
		useFor(5*recheck, func(_ int64, age time.Duration) {
			if age >= recheck {
				t.Fatalf("a request has to look at the file, %v after the last time", age)
			}
		})
		write("newer")
		changed, seen := time.Now(), time.Duration(0)
		useFor(2*recheck, func(size int64, _ time.Duration) {
			if size == int64(len("newer")) && seen == 0 {
				seen = max(1, time.Since(changed))
			}
		})
		if seen == 0 || seen > recheck {
			t.Errorf("the change was seen after %v; want within %v", seen, recheck)
		}
		time.Sleep(2 * recheck)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.renews != nil {
			t.Error("files that nobody asks for are looked at")
		}
	})
}
