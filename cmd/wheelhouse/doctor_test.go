package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctor(t *testing.T) {
	dir := t.TempDir()
	p := start(t, upArgs(dir)...)
	url := p.ready["http"]
	doctor := func() (int, string) {
		status, out, errOut := runOnce(t, "doctor", "--server", url, "--data", dir)
		return status, out + errOut
	}
	eventually(t, "all storages are known", func() bool {
		for _, s := range statusOf(t, url).Storages {
			if s.Capacity == 0 {
				return false
			}
		}
		return true
	})
	status, out := doctor()
	if status != 0 || strings.Contains(out, "FAIL") {
		t.Errorf("doctor = %d:\n%s", status, out)
	}
	for _, want := range []string{
		"ok    configuration", "secret is its owner's alone", "files may be open", "storage 3: 4 KiB written", "is sound", "the catalog is of version ", "processes run devel", "agrees with ours", "are on one file system",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "storage", "2"), filepath.Join(dir, "storage", "away")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "storage", "2"), 0o755); err != nil {
		t.Fatal(err)
	}
	if status, out := doctor(); status != 1 || !strings.Contains(out, "chmod 600") || !strings.Contains(out, "FAIL  storage 2") {
		t.Errorf("doctor = %d:\n%s", status, out)
	}
	p.stop()
	if status, out := doctor(); status != 1 || !strings.Contains(out, "FAIL  server") {
		t.Errorf("doctor without a server = %d:\n%s", status, out)
	}
}

// The truth test as a person would do it, but for the power: the writer is killed instead.
func TestDoctorDisk(t *testing.T) {
	w := launch(t, "doctor", "disk-witness", "--listen", "127.0.0.1:0")
	w.waitReady()
	addr := w.ready["witness"]
	dir := t.TempDir()
	writer := launch(t, "doctor", "disk", dir, "--server", addr)
	eventually(t, "the writer has appended some", func() bool {
		st, err := os.Stat(filepath.Join(dir, "fsynctruth.growth"))
		return err == nil && st.Size() > 20*4096
	})
	writer.kill()
	// A promise that was not kept is told, and what is there is left for people to look at.
	saved, err := os.ReadFile(filepath.Join(dir, "fsynctruth.growth"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "fsynctruth.growth"), 3*4096); err != nil {
		t.Fatal(err)
	}
	status, out, errOut := runOnce(t, "doctor", "disk", dir, "--server", addr, "--verify")
	if status != 1 || !strings.Contains(out, "FAIL  change ") || !strings.Contains(out, "write cache") {
		t.Errorf("verify of a disk that lies = %d %s%s", status, out, errOut)
	}
	if err := os.WriteFile(filepath.Join(dir, "fsynctruth.growth"), saved, 0o644); err != nil {
		t.Fatal(err)
	}
	if status, out, errOut := runOnce(t, "doctor", "disk", dir, "--server", addr, "--verify"); status != 0 || !strings.HasPrefix(out, "ok ") {
		t.Errorf("verify = %d %s%s", status, out, errOut)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	w.kill()
}

func TestWitness(t *testing.T) {
	w := &witness{promised: map[uint64]uint64{}}
	for _, tt := range [][2]string{
		{"ask ff", "ff 0"},
		{"promise ff 7", "ff 7"},
		{"promise ff 5", "ff 7"},
		{"promise 1 2", "1 2"},
		{"ask ff", "ff 7"},
	} {
		if got, err := w.answer(tt[0]); err != nil || got != tt[1] {
			t.Errorf("%s: %q, %v; want %q", tt[0], got, err, tt[1])
		}
	}
	for _, bad := range []string{"", "ask", "ask x", "promise 1", "promise 1 x", "forget 1"} {
		if got, err := w.answer(bad); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
	for i := range uint64(maxWitnessRuns + 5) {
		_, err := w.answer(fmt.Sprintf("promise %x 1", i))
		if full := len(w.promised) >= maxWitnessRuns; err != nil && !full {
			t.Fatal(err)
		}
	}
	if len(w.promised) != maxWitnessRuns {
		t.Errorf("it remembers %d runs", len(w.promised))
	}
}
