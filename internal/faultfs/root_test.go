package faultfs

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRootStaysInside(t *testing.T) {
	dir := t.TempDir()
	inside := filepath.Join(dir, "in")
	check(t, os.MkdirAll(filepath.Join(inside, "d"), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "secret"), []byte("s"), 0o644))
	check(t, os.Symlink("../secret", filepath.Join(inside, "link")))
	root, err := os.OpenRoot(inside)
	check(t, err)
	defer root.Close()
	fsys := Root{root}
	for _, name := range []string{"../secret", "d/../../secret", "link", "/etc/passwd"} {
		if f, err := fsys.OpenFile(name, os.O_RDONLY, 0); err == nil {
			f.Close()
			t.Errorf("OpenFile(%q) opened what lies outside", name)
		}
	}
	f := create(t, fsys, "d/x", "text")
	check(t, f.Sync())
	check(t, f.Close())
	check(t, fsys.Rename("d/x", "d/y"))
	check(t, fsys.SyncDir("d"))
	want(t, filepath.Join(inside, "d/y"), "text")
	if list, err := fsys.ReadDir("d"); err != nil || len(list) != 1 || list[0].Name() != "y" {
		t.Errorf("ReadDir = %v, %v; want y", list, err)
	}
	if space, err := fsys.Statfs("d"); err != nil || space.Capacity == 0 {
		t.Errorf("Statfs = %+v, %v", space, err)
	}
}
