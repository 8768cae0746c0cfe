package balancerd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
)

// A file or directory that has gone since it was named refuses nothing but what names it: that is when the console is needed.
func TestFilesThatHaveGone(t *testing.T) {
	dir := t.TempDir()
	nodes, docs := filepath.Join(dir, "nodes"), filepath.Join(dir, "docs")
	back := names(t, 2)
	if err := os.Mkdir(docs, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(nodes, []byte(back[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	b := balancertest.Start(t, balancertest.Proxy(back[1:], "SET cache = on\nSET cache_disk = "+docs+"\nSET buffer_uploads_path = "+docs)+"CREATE POOL f\nSET f.nodefile = "+nodes+
		"\nCREATE SERVICE w\nSET role = web_server\nSET docroot = "+docs+"\n", balancerd.Options{})
	if err := os.WriteFile(filepath.Join(dir, "program"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.Do("CREATE SERVICE x\nSET role = reverse_proxy\nSET server_process = " + filepath.Join(dir, "program"))
	if err := os.Chmod(filepath.Join(dir, "program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{nodes, docs} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	b.Do("POOL p ADD " + back[0] + "\nPOOL p REMOVE " + back[1] + "\nSET rp.idle_timeout = 9\nSET f.balance_method = round_robin\nSET w.dirindexing = on\nSET x.idle_timeout = 9")
	if _, got := get(t, b.URL("rp", "/")); got != "0" {
		t.Errorf("%q answers", got)
	}
	for line, want := range map[string]string{
		"SET w.docroot = " + docs: "Directory not found for service w", "SET f.nodefile = " + nodes: "File not found",
	} {
		if err := b.Try(line); err == nil || err.Error() != want {
			t.Errorf("%s: %v; want %s", line, err, want)
		}
	}
	if err := os.WriteFile(nodes, []byte(back[0]+"\nnonsense:x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Try("SET f.nodefile = " + nodes); err == nil || !strings.Contains(err.Error(), nodes+":2: invalid node address") {
		t.Errorf("a nodefile that is not good: %v", err)
	}
}
