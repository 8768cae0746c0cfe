package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wheelhouse/store"
)

// A storage that stays away is declared dead by itself, also when the process that has seen it fail is no longer the one that counts.
// It can be rebuilt as if an operator had said so: it is not dead again before its new disk is known to be well.
func TestDeclaredDeadAndRebuilt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, surviveArgs(dir)...)
	url := p.ready["http"]
	createBucket(t, url)
	bodies := putSome(t, url, 20, 30_000)
	c, err := store.NewClient(url, store.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Call(t.Context(), http.MethodPost, "/-/settings", map[string]string{"Key": store.SettingDeadAfter, "Value": "15s"}, nil); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "storage", "2")
	if err := os.RemoveAll(disk); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is down", func() bool {
		wantBodies(t, url, bodies) // so that it is noticed at once
		return storageMode(t, url, 2) == "down"
	})
	p.stop()
	p = start(t, append(surviveArgs(dir), "--listen", strings.TrimPrefix(url, "http://"))...)
	eventually(t, "it is dead", func() bool { return storageMode(t, url, 2) == "dead" })
	if status, out, _ := runOnce(t, "status", "--server", url); status != 1 || !strings.Contains(out, "declared dead by the system") {
		t.Errorf("status = %d:\n%s", status, out)
	}

	// A new disk, in no hurry.
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "storage", "rebuild", "2", "--server", url)
	if mode := storageMode(t, url, 2); mode != "rw" {
		t.Errorf("after its rebuild it is %s", mode)
	}
	wantEntities(t, url, 2, bodies)
	p.stop()
}
