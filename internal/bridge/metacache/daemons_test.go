package metacache

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"wheelhouse/internal/freeport"
	"wheelhouse/memcache/memcached"
	"wheelhouse/memcache/segcache"
)

// daemon is a cache server that can be ended and started again at its address.
type daemon interface {
	addr() string
	kill()
	start()
	pause(bool)
}

// debian is Debian's memcached, a process.
type debian struct {
	t    testing.TB
	port string
	cmd  *exec.Cmd
}

func (d *debian) addr() string { return "127.0.0.1:" + d.port }

func (d *debian) start() {
	args := []string{"-l", "127.0.0.1", "-p", d.port, "-m", "64"}
	if os.Geteuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	d.cmd = exec.Command("memcached", args...)
	if err := d.cmd.Start(); err != nil {
		d.t.Fatalf("%v (make tools)", err)
	}
	awaitServer(d.t, d.addr())
}

func (d *debian) kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
}

func (d *debian) pause(on bool) {
	sig := syscall.SIGCONT
	if on {
		sig = syscall.SIGSTOP
	}
	if err := d.cmd.Process.Signal(sig); err != nil {
		d.t.Error(err)
	}
}

// warm is our server, which keeps its items when it is started again.
type warm struct {
	t      testing.TB
	port   string
	file   string
	meta   *segcache.Meta
	srv    *memcached.Server
	served chan error
}

func (w *warm) addr() string { return "127.0.0.1:" + w.port }

func (w *warm) start() {
	var ln net.Listener
	eventually(w.t, "the port is free again", func() (ok bool) {
		var err error
		ln, err = net.Listen("tcp", w.addr())
		return err == nil
	})
	var err error
	if w.srv, err = memcached.Open(memcached.Options{File: w.file, Meta: w.meta}); err != nil {
		w.t.Fatal(err)
	}
	w.served = make(chan error, 1)
	go func() { w.served <- w.srv.Serve(ln) }()
}

func (w *warm) kill() {
	var err error
	if w.meta, err = w.srv.Shutdown(); err != nil {
		w.t.Error(err)
	}
	<-w.served
}

func (w *warm) pause(bool) {}

func freePort(t testing.TB) string {
	_, port, err := net.SplitHostPort(freeport.ForTest(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func awaitServer(t testing.TB, addr string) {
	eventually(t, "the server answers", func() bool {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			_ = nc.Close()
		}
		return err == nil
	})
}
