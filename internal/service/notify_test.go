package service

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestNotifySystemd(t *testing.T) {
	if err := notifySystemd(); err != nil {
		t.Errorf("without systemd: %v", err)
	}
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := notifySystemd(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200)
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := c.Read(buf)
	if want := fmt.Sprintf("READY=1\nMAINPID=%d\n", os.Getpid()); err != nil || string(buf[:n]) != want {
		t.Errorf("systemd was told %q, %v; want %q", buf[:n], err, want)
	}
}

func TestLockTellsTheHolder(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadHolder(dir); err == nil {
		t.Error("a directory that nobody held has a holder")
	}
	l, err := LockDir(dir, "up", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, shared := range []bool{false, true} {
		_, err := LockDir(dir, "worker", shared)
		held, ok := err.(*HeldError)
		if !ok || held.Holder.PID != os.Getpid() || held.Holder.Role != "up" {
			t.Errorf("a second holder, shared %v: %v", shared, err)
		}
	}
	if h, err := ReadHolder(dir); err != nil || h.PID != os.Getpid() {
		t.Errorf("ReadHolder = %+v, %v", h, err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadHolder(dir); err == nil {
		t.Error("a directory that was released has a holder")
	}
	a, err := LockDir(dir, "dispatcher", true)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Release()
	b, err := LockDir(dir, "worker", true)
	if err != nil {
		t.Fatalf("two that share: %v", err)
	}
	defer b.Release()
	if _, err := LockDir(dir, "up", false); err == nil {
		t.Error("up took a directory that others share")
	}
}
