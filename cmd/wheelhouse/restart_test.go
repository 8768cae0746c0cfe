package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/internal/service"
)

// wire is a client with one connection that it never replaces and no retries: if a server cuts it, that shows.
type wire struct {
	c net.Conn
	r *bufio.Reader
}

func dialWire(addr string) (*wire, error) {
	c, err := net.DialTimeout("tcp", addr, wait)
	if err != nil {
		return nil, err
	}
	return &wire{c, bufio.NewReader(c)}, c.SetDeadline(time.Now().Add(2 * wait))
}

func (w *wire) do(method, path, body string) error {
	if _, err := fmt.Fprintf(w.c, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body); err != nil {
		return fmt.Errorf("%s %s: write: %w", method, path, err)
	}
	resp, err := http.ReadResponse(w.r, &http.Request{Method: method})
	if err != nil {
		return fmt.Errorf("%s %s: read head: %w", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s %s: read body: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s = %d %s", method, path, resp.StatusCode, text)
	}
	if method == "GET" && string(text) != bodyOf(path) {
		return fmt.Errorf("GET %s: another body: %.40q", path, text)
	}
	if resp.Close {
		return fmt.Errorf("%s %s: the server wants to close the connection", method, path)
	}
	return nil
}

func bodyOf(path string) string { return strings.Repeat(path, 300) }

// A new process takes over three times while clients of all kinds are at it. None of them is refused or cut.
func TestHotRestartUnderLoad(t *testing.T) {
	dir := t.TempDir()
	p := start(t, upArgs(dir)...)
	addr := strings.TrimPrefix(p.ready["http"], "http://")
	setup, err := dialWire(addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := setup.do("PUT", "/b", ""); err != nil {
		t.Fatal(err)
	}
	if err := setup.do("PUT", "/b/o", bodyOf("/b/o")); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var done atomic.Int64
	var all sync.WaitGroup
	client := func(id int, work func(i int) error) {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := work(i); err != nil {
					t.Errorf("client %d, request %d: %v", id, i, err)
					return
				}
				done.Add(1)
			}
		})
	}
	for id := range 4 { // connections that are kept
		w, err := dialWire(addr)
		if err != nil {
			t.Fatal(err)
		}
		defer w.c.Close()
		client(id, func(i int) error {
			if i%4 == 0 {
				path := "/b/" + fmtName(id, i)
				return w.do("PUT", path, bodyOf(path))
			}
			return w.do("GET", "/b/o", "")
		})
	}
	for id := range 2 { // a connection for each request
		client(10+id, func(int) error {
			w, err := dialWire(addr)
			if err != nil {
				return err
			}
			defer w.c.Close()
			return w.do("GET", "/b/o", "")
		})
	}
	for range 3 {
		before := done.Load()
		eventually(t, "requests go on", func() bool { return done.Load() > before+50 || t.Failed() })
		status, out, errOut := runOnce(t, "restart", "--data", dir, "--timeout", wait.String())
		if status != 0 || !strings.Contains(out, "has taken over") {
			t.Fatalf("restart = %d %s %s", status, out, errOut)
		}
	}
	before := done.Load()
	eventually(t, "requests go on", func() bool { return done.Load() > before+50 || t.Failed() })
	close(stop)
	all.Wait()
	<-p.done
	if p.err != nil {
		t.Errorf("the first process: %v", p.err)
	}
	if err := setup.do("GET", "/b/o", ""); err != nil { // it was idle all the time
		t.Errorf("a connection that was idle over three handovers: %v", err)
	}
	now, err := service.ReadHolder(dir)
	if err != nil || now.PID == p.cmd.Process.Pid {
		t.Fatalf("holder %+v, %v", now, err)
	}
	stopPID(t, now.PID)
	t.Logf("%d requests", done.Load())
}

// A new process that cannot start changes nothing.
func TestHotRestartIntoBadConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, dir+"/w.toml", "[dispatcher]\nreproxy = \"asked\"\n")
	p := start(t, upArgs(dir+"/data", "--config", file)...)
	writeFile(t, file, "[dispatcher]\nreproxy = \"sometimes\"\n")
	status, _, errOut := runOnce(t, "restart", "--data", dir+"/data", "--timeout", "3s")
	if status != 1 || !strings.Contains(errOut, "has not handed over") {
		t.Errorf("restart = %d %s", status, errOut)
	}
	w, err := dialWire(strings.TrimPrefix(p.ready["http"], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.c.Close()
	if err := w.do("PUT", "/b", ""); err != nil {
		t.Errorf("after the failed restart: %v", err)
	}
	if !strings.Contains(p.output(), "dispatcher.reproxy") || !strings.Contains(p.output(), "serving on as before") {
		t.Errorf("the log does not say why:\n%s", p.output())
	}
	p.stop()
}
