package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"wheelhouse/internal/freeport"
)

// A storage that is added to a cluster with objects is filled before it is read.
func TestAddedStorageIsFilled(t *testing.T) {
	s := startParts(t)
	must(t, "bucket", "set", "--server", s.url, "b", "--access", "public-read")
	bodies := putBodies(t, s.url, 3, "f1", "f2", "big")
	addr := freeport.ForTest(t)
	s.configs["storaged4"] = fmt.Sprintf("secret_file = %q\n[log]\nlevel = \"warn\"\n[storaged]\nlisten = %q\n[[storage]]\nid = 4\ndir = %q\n",
		s.dir+"/data/secret", addr, filepath.Join(s.dir, "disks", "4"))
	s.start("storaged4")
	for _, wrong := range [][]string{{"--id", "5", "--uri", "http://" + addr + "/dev4"}, {"--uri", "http://" + addr + "/"}, {"--uri", "http://" + addr + "/dev2"}} {
		if status, _, errOut := runOnce(t, append([]string{"storage", "add", "--server", s.url, "--cluster", "1"}, wrong...)...); status != 1 {
			t.Errorf("storage add %q = %d: %s", wrong, status, errOut)
		}
	}
	if out := s.run("storage", "add", "--cluster", "1", "--uri", "http://"+addr+"/dev4"); !strings.HasPrefix(out, "storage 4\nit is filled") {
		t.Errorf("storage add: %s", out)
	}
	if mode := storageMode(t, s.url, 4); mode != "filling" && mode != "rw" {
		t.Errorf("it is %s", mode)
	}
	eventually(t, "it is filled", func() bool { return storageMode(t, s.url, 4) == "rw" })
	s.aloneOn(4, bodies)
}

// aloneOn demands that one storage gives everything, while the others are down.
func (s *parts) aloneOn(id int, bodies map[string][]byte) {
	s.t.Helper()
	if status, out, errOut := runOnce(s.t, "fsck", "--server", s.url); status != 0 {
		s.t.Errorf("fsck = %d: %s%s", status, out, errOut)
	}
	for _, st := range statusOf(s.t, s.url).Storages {
		if int(st.ID) != id {
			s.run("storage", "set-mode", fmt.Sprint(st.ID), "down")
		}
	}
	wantBodies(s.t, s.url, bodies)
}

// So is one that is added to the configuration of an up.
func TestConfiguredStorageIsFilled(t *testing.T) {
	dir := t.TempDir()
	config := ""
	for i := 1; i <= 2; i++ {
		config += fmt.Sprintf("[[storage]]\nid = %d\ndir = %q\n", i, filepath.Join(dir, "disks", fmt.Sprint(i)))
	}
	up := func() *process {
		return start(t, upArgs(filepath.Join(dir, "data"), "--config", writeFile(t, dir+"/config.toml", config))...)
	}
	p := up()
	createBucket(t, p.ready["http"])
	must(t, "bucket", "set", "--server", p.ready["http"], "b", "--access", "public-read")
	bodies := putBodies(t, p.ready["http"], 2, "f1", "f2", "big")
	p.stop()
	config += fmt.Sprintf("[[storage]]\nid = 7\ndir = %q\n", filepath.Join(dir, "disks", "7"))
	p = up()
	s := &parts{t: t, url: p.ready["http"]}
	if ops := s.run("operation", "list"); storageMode(t, s.url, 7) == "rw" && !strings.Contains(ops, "rebuild") {
		t.Errorf("it is rw at once, and no rebuild is on record: %s", ops)
	}
	eventually(t, "it is filled", func() bool { return storageMode(t, s.url, 7) == "rw" })
	s.aloneOn(7, bodies)
}
