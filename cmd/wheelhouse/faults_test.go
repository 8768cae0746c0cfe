package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"wheelhouse/store"
)

// A catalog that cannot be opened is named, with what to do.
func TestCatalogThatCannotBeOpened(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, file string)
		want   []string
	}{
		{"garbage", func(t *testing.T, file string) {
			junk := make([]byte, 64<<10)
			_, _ = rand.Read(junk)
			if err := os.WriteFile(file, junk, 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"catalog.db", "backup"}},
		{"a page in the middle", func(t *testing.T, file string) {
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 8192), 0); err != nil {
				t.Fatal(err)
			}
		}, []string{"catalog.db", "backup"}},
		{"a directory", func(t *testing.T, file string) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(file, 0o755); err != nil {
				t.Fatal(err)
			}
		}, []string{"catalog.db"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			p := start(t, upArgs(dir)...)
			p.stop()
			tt.damage(t, filepath.Join(dir, "catalog.db"))
			status, _, errOut := runOnce(t, upArgs(dir)...)
			if status != 1 {
				t.Errorf("exit status %d", status)
			}
			for _, want := range tt.want {
				if !strings.Contains(errOut, want) {
					t.Errorf("the error does not say %q: %s", want, errOut)
				}
			}
		})
	}
}

// A catalog that another program keeps locked is named, with what to do.
func TestCatalogLockedByAnother(t *testing.T) {
	dir := t.TempDir()
	p := start(t, upArgs(dir)...)
	p.stop()
	conn, err := sqlite.OpenConn(filepath.Join(dir, "catalog.db"), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, q := range []string{"PRAGMA locking_mode=EXCLUSIVE", "BEGIN EXCLUSIVE", "CREATE TABLE held(x)"} {
		if err := sqlitex.ExecuteTransient(conn, q, nil); err != nil {
			t.Fatal(err)
		}
	}
	status, _, errOut := runOnce(t, upArgs(dir)...)
	if status != 1 || !strings.Contains(errOut, "catalog.db") || !strings.Contains(errOut, "lock") {
		t.Errorf("up with a locked catalog = %d %s", status, errOut)
	}
	t.Log(errOut)
}

// A catalog that somebody moves away while it is in use: nothing is acknowledged that would be gone with the process, and status says so.
func TestCatalogMovedAway(t *testing.T) {
	dir := t.TempDir()
	p := start(t, upArgs(dir)...)
	url := p.ready["http"]
	createBucket(t, url)
	put := func(want int) {
		t.Helper()
		if status, err := request(http.DefaultClient, "PUT", url+"/b/o", []byte("bytes")); err != nil || status != want {
			t.Errorf("PUT = %d, %v; want %d", status, err, want)
		}
	}
	put(201)
	db := filepath.Join(dir, "catalog.db")
	if err := os.Rename(db, db+".away"); err != nil {
		t.Fatal(err)
	}
	put(503)
	s := statusOf(t, url)
	if s.Verdict != store.VerdictCritical || !strings.Contains(s.Problems[0].What, "the catalog takes no changes") || !strings.Contains(s.Problems[0].Do, "put it back") {
		t.Errorf("status: %s %+v", s.Verdict, s.Problems)
	}
	if status, err := request(http.DefaultClient, "GET", url+"/b/o", nil); err != nil || status != 200 {
		t.Errorf("GET = %d, %v", status, err)
	}
	if err := os.Rename(db+".away", db); err != nil {
		t.Fatal(err)
	}
	put(201)
	if s := statusOf(t, url); s.Verdict != store.VerdictHealthy {
		t.Errorf("status when it is back: %s %+v", s.Verdict, s.Problems)
	}
}

// Two processes that must not share a directory are told about each other.
func TestDirectoriesAreLocked(t *testing.T) {
	dir := t.TempDir()
	p := start(t, upArgs(dir)...)
	status, _, errOut := runOnce(t, upArgs(dir)...)
	if want := fmt.Sprintf("in use by process %d (wheelhouse up", p.cmd.Process.Pid); status != 1 || !strings.Contains(errOut, want) {
		t.Errorf("a second up: %d %s", status, errOut)
	}
	status, _, errOut = runOnce(t, "worker", "--data", dir)
	if status != 1 || !strings.Contains(errOut, "in use by process") {
		t.Errorf("a worker beside up: %d %s", status, errOut)
	}
	// A storage's own lock, by way of another data directory.
	file := writeFile(t, dir+"/w.toml", fmt.Sprintf("secret_file = %q\n[[storage]]\nid = 1\ndir = %q\n", dir+"/secret", dir+"/storage/1"))
	status, _, errOut = runOnce(t, "storaged", "--config", file, "--listen", "127.0.0.1:0")
	if status != 1 || !strings.Contains(errOut, fmt.Sprint(p.cmd.Process.Pid)) {
		t.Errorf("a second holder of a storage: %d %s", status, errOut)
	}
	p.stop()
	// Another storage's directory is refused.
	file = writeFile(t, dir+"/w.toml", fmt.Sprintf("secret_file = %q\n[[storage]]\nid = 9\ndir = %q\n", dir+"/secret", dir+"/storage/1"))
	status, _, errOut = runOnce(t, "storaged", "--config", file, "--listen", "127.0.0.1:0")
	if status != 1 || !strings.Contains(errOut, "storage 1") || !strings.Contains(errOut, "9") {
		t.Errorf("another storage's directory: %d %s", status, errOut)
	}
}

// Garbage, over-long and contradictory requests are refused, and a client beside them notices nothing.
func TestBadRequestsCostNobodyElse(t *testing.T) {
	p := start(t, upArgs(t.TempDir())...)
	addr := strings.TrimPrefix(p.ready["http"], "http://")
	good, err := dialWire(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer good.c.Close()
	for _, path := range []string{"/b", "/b/o"} {
		body := ""
		if path == "/b/o" {
			body = bodyOf(path)
		}
		if err := good.do("PUT", path, body); err != nil {
			t.Fatal(err)
		}
	}
	junk := make([]byte, 100<<10)
	_, _ = rand.Read(junk)
	var all sync.WaitGroup
	for name, tt := range map[string]struct {
		send string
		want string // beginning of the answer
	}{
		"garbage":             {string(junk), "HTTP/1.1 4"},
		"TLS":                 {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + string(junk[:500]), "HTTP/1.1 4"},
		"long line":           {"GET /" + strings.Repeat("a", 100<<10) + " HTTP/1.1\r\n\r\n", "HTTP/1.1 414"},
		"long head":           {"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 90), "HTTP/1.1 431"},
		"many fields":         {"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 200) + "\r\n", "HTTP/1.1 431"},
		"two lengths":         {"PUT /b/p HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "HTTP/1.1 400"},
		"length and chunked":  {"PUT /b/p HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400"},
		"bad chunk":           {"PUT /b/p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "HTTP/1.1 400"},
		"chunk too long":      {"PUT /b/p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx", "HTTP/1.1 4"},
		"too large":           {"PUT /b/p HTTP/1.1\r\nHost: x\r\nContent-Length: 6000000000000\r\n\r\n", "HTTP/1.1 413"},
		"negative length":     {"PUT /b/p HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400"},
		"bare LF":             {"GET /b/o HTTP/1.1\nHost: x\n\n", "HTTP/1.1 400"},
		"no host":             {"GET /b/o HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
		"folded":              {"GET /b/o HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", "HTTP/1.1 400"},
		"version 2":           {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 505"},
		"unknown coding":      {"PUT /b/p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501"},
		"unknown expectation": {"PUT /b/p HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 417"},
	} {
		all.Go(func() {
			got := sendRaw(t, addr, tt.send)
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s: answered %.60q; want %q", name, got, tt.want)
			}
			if !strings.Contains(got, "Connection: close") {
				t.Errorf("%s: the connection goes on: %.200q", name, got)
			}
		})
	}
	for range 200 {
		if err := good.do("GET", "/b/o", ""); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	if resp, err := http.Get(p.ready["http"] + "/b/p"); err != nil || resp.StatusCode != 404 {
		t.Errorf("a refused upload left something: %v %v", resp, err)
	}
	p.stop()
}

func sendRaw(t *testing.T, addr, text string) string {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	_, _ = io.WriteString(c, text) // the server may have refused before the end
	got, _ := io.ReadAll(c)        // what came is what counts
	return string(got)
}

// A photo directory, as the README has it: stored with curl, listed, read back, and seen in the packs by plain tar.
func TestNewcomer(t *testing.T) {
	dir := t.TempDir()
	photos := filepath.Join(dir, "photos")
	for i := range 5 {
		writeFile(t, fmt.Sprintf("%s/%d.jpg", photos, i), strings.Repeat(fmt.Sprint("photo ", i), 1000*i+1))
	}
	p := start(t, "up", "--data", dir+"/data", "--listen", "127.0.0.1:0")
	script := fmt.Sprintf(`set -eu
cd %q
KEY=$(cat data/root.key)
URL=%s
curl -sf -u "$KEY" -X PUT "$URL/photos"
for f in photos/*.jpg; do curl -sf -u "$KEY" -T "$f" "$URL/$f"; done
curl -sf -u "$KEY" "$URL/photos?list" | grep -q '"name":"4.jpg"'
for f in photos/*.jpg; do curl -sf -u "$KEY" "$URL/$f" | cmp - "$f"; done
tar tvf data/storage/1/packs/*.tar | grep photos/3.jpg
mkdir out; tar xf data/storage/2/packs/*.tar -C out; diff -r photos out/photos
`, dir, p.ready["http"])
	out, err := shell(script)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	p.stop()
}
