package faultfs

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func create(t *testing.T, fsys FS, path, text string) File {
	t.Helper()
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.Pwritev([][]byte{[]byte(text[:1]), []byte(text[1:])}, 0); n != len(text) || err != nil {
		t.Fatalf("Pwritev = %d, %v", n, err)
	}
	return f
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, path, text string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if text == "" && err == nil || text != "" && string(got) != text {
		t.Errorf("%s holds %q, %v; want %q", filepath.Base(path), got, err, text)
	}
}

func TestPwritevMany(t *testing.T) {
	f, err := OS{}.OpenFile(filepath.Join(t.TempDir(), "x"), os.O_RDWR|os.O_CREATE, 0o644)
	check(t, err)
	defer f.Close()
	bufs := make([][]byte, 3*maxIovec+1)
	for i := range bufs {
		bufs[i] = []byte{byte(i)}
	}
	if n, err := f.Pwritev(bufs, 5); n != len(bufs) || err != nil {
		t.Fatalf("Pwritev = %d, %v; want %d", n, err, len(bufs))
	}
	got := make([]byte, len(bufs))
	if _, err := f.ReadAt(got, 5); err != nil || got[2500] != byte(2500%256) {
		t.Errorf("read back %v, %v", got[2500], err)
	}
}

func TestPowerCutUndoes(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	p := NewPowerCut(t.TempDir(), -1)
	synced := create(t, p, path("synced"), "old")
	check(t, synced.Sync())
	removed := create(t, p, path("removed"), "removed")
	check(t, removed.Sync())
	replaced := create(t, p, path("replaced"), "replaced")
	check(t, replaced.Sync())
	check(t, p.SyncDir(dir))

	_, err := synced.WriteAt([]byte("NEWER"), 1)
	check(t, err)
	check(t, synced.Truncate(2))
	fresh := create(t, p, path("fresh"), "fresh")
	check(t, fresh.Sync()) // its name is not durable
	check(t, p.Remove(path("removed")))
	other := create(t, p, path("other"), "other")
	check(t, other.Sync())
	check(t, p.Rename(path("other"), path("replaced")))
	check(t, p.Mkdir(path("dir"), 0o755))
	for _, f := range []File{synced, removed, replaced, fresh, other} {
		f.Close()
	}
	p.Cut()
	if _, err := p.OpenFile(path("synced"), os.O_RDONLY, 0); !errors.Is(err, ErrPowerCut) {
		t.Errorf("OpenFile without power = %v", err)
	}
	check(t, p.Restore(nil))
	want(t, path("synced"), "old")
	want(t, path("removed"), "removed")
	want(t, path("replaced"), "replaced")
	want(t, path("fresh"), "")
	want(t, path("other"), "")
	if _, err := os.Stat(path("dir")); err == nil {
		t.Error("a directory that was not synced is there")
	}
}

func TestPowerCutMixes(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(40) {
		dir := t.TempDir()
		path := filepath.Join(dir, "x")
		p := NewPowerCut(t.TempDir(), -1)
		f := create(t, p, path, "old")
		check(t, f.Sync())
		check(t, p.SyncDir(dir))
		_, err := f.WriteAt([]byte("new"), 0)
		check(t, err)
		f.Close()
		check(t, p.Restore(rand.New(rand.NewPCG(seed, 1))))
		got, err := os.ReadFile(path)
		check(t, err)
		seen[string(got)] = true
	}
	if !seen["old"] || !seen["new"] || len(seen) != 2 {
		t.Errorf("a power cut leaves %v; want the old and the new in turn", seen)
	}
}

// TestSyncFailed: what a sync that failed was to make durable, no later one does.
func TestSyncFailed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	p := NewPowerCut(t.TempDir(), -1)
	f := &Faulty{FS: p}
	x := create(t, f, path, "old")
	check(t, x.Fdatasync())
	check(t, f.SyncDir(dir))
	_, err := x.WriteAt([]byte("new"), 0)
	check(t, err)
	f.Fail(OpSync, 1, errors.New("boom"))
	if err := x.Fdatasync(); err == nil {
		t.Fatal("Fdatasync succeeds")
	}
	check(t, x.Fdatasync())
	x.Close()
	check(t, p.Restore(nil))
	want(t, path, "old")
}

func TestFaulty(t *testing.T) {
	boom := errors.New("boom")
	dir := t.TempDir()
	f := &Faulty{FS: OS{}}
	x := create(t, f, filepath.Join(dir, "x"), "0123456789")
	defer x.Close()
	f.FailShort(2, boom)
	_, err := x.WriteAt([]byte("ab"), 0)
	check(t, err)
	if n, err := x.Pwritev([][]byte{[]byte("AB"), []byte("CDEF")}, 2); n != 3 || !errors.Is(err, boom) {
		t.Errorf("Pwritev = %d, %v; want 3 and the fault", n, err)
	}
	want(t, filepath.Join(dir, "x"), "abABC56789")
	f.FailFrom(OpRename, 1, boom)
	for range 2 {
		if err := f.Rename(filepath.Join(dir, "x"), filepath.Join(dir, "y")); !errors.Is(err, boom) {
			t.Errorf("Rename on a dead disk = %v", err)
		}
	}
	if err := x.Truncate(1); !errors.Is(err, boom) {
		t.Errorf("Truncate on a dead disk = %v", err)
	}
	f.Clear()
	check(t, x.Truncate(1))
	if f.Fired() != 2 {
		t.Errorf("Fired = %d; want 2", f.Fired())
	}
	if f.Count(OpRename) != 2 {
		t.Errorf("Count = %d; want 2", f.Count(OpRename))
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	check(t, os.WriteFile(path, []byte("hello"), 0o600))
	if b, err := ReadFile(OS{}, path, 5); string(b) != "hello" || err != nil {
		t.Errorf("ReadFile = %q, %v", b, err)
	}
	if _, err := ReadFile(OS{}, path, 4); err == nil {
		t.Error("ReadFile beyond its limit succeeds")
	}
}
