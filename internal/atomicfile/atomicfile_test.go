package atomicfile

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wheelhouse/internal/faultfs"
)

// TestWriteFaults breaks Write at each step: there is the old content or the new one, and nothing beside it that is
// not known as temporary.
func TestWriteFaults(t *testing.T) {
	boom := errors.New("boom")
	for _, op := range faultfs.Ops() {
		for n := 1; ; n++ {
			dir := t.TempDir()
			path := filepath.Join(dir, "x")
			if err := Write(faultfs.OS{}, path, 0o600, []byte("old")); err != nil {
				t.Fatal(err)
			}
			f := &faultfs.Faulty{FS: faultfs.OS{}}
			f.Fail(op, n, boom)
			err := Write(f, path, 0o600, []byte("new"))
			if fired := f.Fired() > 0; fired != errors.Is(err, boom) {
				t.Errorf("%v %d fails: Write = %v", op, n, err)
			}
			got, _ := os.ReadFile(path)
			if s := string(got); s != "new" && (s != "old" || err == nil) {
				t.Errorf("%v %d fails (%v): %q is there", op, n, err, s)
			}
			names, _ := os.ReadDir(dir)
			for _, e := range names {
				if e.Name() != "x" && !IsTemp(e.Name()) {
					t.Errorf("%v %d fails: %s is left", op, n, e.Name())
				}
			}
			if f.Fired() == 0 {
				break
			}
		}
	}
}

// TestWritePowerCut cuts the power after each operation.
func TestWritePowerCut(t *testing.T) {
	for seed := range uint64(200) {
		for after := 0; ; after++ {
			dir, stash := t.TempDir(), t.TempDir()
			path := filepath.Join(dir, "x")
			if err := Write(faultfs.OS{}, path, 0o600, []byte("old")); err != nil {
				t.Fatal(err)
			}
			p := faultfs.NewPowerCut(stash, after)
			long := strings.Repeat("new", 1000)
			err := Write(p, path, 0o600, []byte(long))
			done := !p.Dead()
			if err := p.Restore(rand.New(rand.NewPCG(seed, 1))); err != nil {
				t.Fatal(err)
			}
			got, _ := os.ReadFile(path)
			if s := string(got); s != long && (s != "old" || err == nil) {
				t.Fatalf("power cut after %d (%v): %d bytes are there", after, err, len(s))
			}
			if done {
				break
			}
		}
		if testing.Short() && seed > 10 {
			break
		}
	}
}

func TestStates(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(faultfs.OS{}, filepath.Join(dir, "x"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Publish(); err == nil {
		t.Error("Publish before Prepare succeeds")
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	f.Abort()
	if err := f.Prepare(); err == nil {
		t.Error("Prepare after Commit succeeds")
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); err != nil {
		t.Errorf("Abort after Commit has removed the file: %v", err)
	}
	g, err := Create(faultfs.OS{}, filepath.Join(dir, "y"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("%d files after Close; want x alone", len(names))
	}
	for name, want := range map[string]bool{"x.tmp-ABCDEFGHIJKLMNOPQRSTUVWXYZ": true, "x": false, "x.tmp": false, ".tmp-ABCDEFGHIJKLMNOPQRSTUVWXYZ": false} {
		if got := IsTemp(name); got != want {
			t.Errorf("IsTemp(%q) = %v; want %v", name, got, want)
		}
	}
}

func TestMkdirAll(t *testing.T) {
	dir, stash := t.TempDir(), t.TempDir()
	p := faultfs.NewPowerCut(stash, -1)
	deep := filepath.Join(dir, "a/b/c")
	if err := MkdirAll(p, deep, 0o755); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if err := p.Restore(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(deep); err != nil {
		t.Errorf("not durable: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(faultfs.OS{}, filepath.Join(file, "x"), 0o755); err == nil {
		t.Error("MkdirAll below a file succeeds")
	}
}
