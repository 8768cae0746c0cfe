package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"wheelhouse/internal/freeport"
)

// Kind is a kind of server.
type Kind interface {
	name() string // of the program
	pkg() string  // Debian's package
	user() string
	init(s *Server) *exec.Cmd
	serve(s *Server) *exec.Cmd
	url(s *Server, database string) string
	exec(ctx context.Context, s *Server, statement string) error
	stop() syscall.Signal
}

// Server is a running server. Not for concurrent use, but for URL, Port, Socket and Create.
type Server struct {
	kind    Kind
	dir     string // all files
	port    int
	durable bool
	uid     int // -1: this process's own
	gid     int
	cmd     *exec.Cmd
	out     *tail
	exited  chan struct{}
}

// How long a server may take to be ready and to stop.
const (
	startWithin = 2 * time.Minute
	stopWithin  = time.Minute
)

// Start makes an empty server below a directory, which other users must be able to look into; "": that for temporary files.
// durable has it flush each commit to the disk; without, a commit
// survives that the server is killed, but not a power failure. The caller must call Stop.
func Start(kind Kind, parent string, durable bool) (*Server, error) {
	s := &Server{kind: kind, durable: durable, uid: -1, gid: -1}
	if _, err := program(kind.name()); err != nil {
		return nil, fmt.Errorf("testenv: %s is not installed: apt-get install %s (make tools does)", kind.name(), kind.pkg())
	}
	var err error
	if s.dir, err = os.MkdirTemp(parent, "testenv"); err != nil {
		return nil, err
	}
	if err = s.prepare(); err == nil {
		err = s.Run()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

// prepare makes the directories and what the server wants to find there.
func (s *Server) prepare() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("testenv: %s: %w", s.kind.name(), err)
		}
	}()
	if os.Getuid() == 0 {
		u, err := user.Lookup(s.kind.user())
		if err != nil {
			return err
		}
		s.uid, _ = strconv.Atoi(u.Uid) // decimal numbers, on systems that have users
		s.gid, _ = strconv.Atoi(u.Gid)
		if err := errors.Join(os.Chmod(s.dir, 0o755), os.Chown(s.dir, s.uid, s.gid)); err != nil {
			return err
		}
	}
	if s.port, err = freePort(); err != nil {
		return err
	}
	out := new(tail)
	cmd := s.command(s.kind.init(s), out)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%v: %w: %s", cmd.Args, err, out)
	}
	return nil
}

// command has a process of the server run as the right user, and die with this one.
func (s *Server) command(cmd *exec.Cmd, out *tail) *exec.Cmd {
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, out, out
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: s.kind.stop()}
	if s.uid >= 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.gid)}
	}
	cmd.WaitDelay = stopWithin
	return cmd
}

// Run starts the server again that was killed or has stopped, on the same port, and waits until it answers.
func (s *Server) Run() error {
	s.out = new(tail)
	s.cmd = s.command(s.kind.serve(s), s.out)
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("testenv: %w", err)
	}
	exited := make(chan struct{})
	s.exited = exited
	go func() {
		_ = s.cmd.Wait() // how it ended is seen by those who wanted something of it
		close(exited)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), startWithin) // no caller can want less
	defer cancel()
	for {
		err := s.kind.exec(ctx, s, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("testenv: %s has ended: %s", s.kind.name(), s.out)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("testenv: %s does not answer: %w: %s", s.kind.name(), err, s.out), s.Kill())
		case <-tick.C:
		}
	}
}

// Create makes a database.
func (s *Server) Create(ctx context.Context, name string) error {
	return s.kind.exec(ctx, s, "CREATE DATABASE "+name)
}

// URL is a database's address, as package sqlqueue takes it.
func (s *Server) URL(database string) string { return s.kind.url(s, database) }

// Port is where it listens on 127.0.0.1.
func (s *Server) Port() int { return s.port }

// Socket is its socket: for PostgreSQL, the directory of it.
func (s *Server) Socket() string {
	if s.kind == MariaDBServer {
		return filepath.Join(s.dir, "sock")
	}
	return s.dir
}

// Pid is the server's process.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Kill ends the server as a crash does.
func (s *Server) Kill() error {
	err := s.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-s.exited
	return err
}

// Stop ends the server and removes its files.
func (s *Server) Stop() error {
	_ = s.cmd.Process.Signal(s.kind.stop()) // it may have been killed
	t := time.NewTimer(stopWithin)
	defer t.Stop()
	var err error
	select {
	case <-s.exited:
	case <-t.C:
		err = errors.Join(fmt.Errorf("testenv: %s did not stop within %s: %s", s.kind.name(), stopWithin, s.out), s.Kill())
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// program finds a program, also where Debian hides those of PostgreSQL.
func program(name string) (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err == nil && len(found) > 0 {
		slices.Sort(found)
		return found[len(found)-1], nil
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path := "/usr/sbin/" + name
	if _, err := os.Stat(path); err != nil {
		return "", fs.ErrNotExist
	}
	return path, nil
}

func freePort() (int, error) {
	addr, err := freeport.Addr()
	if err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

// tail keeps the end of what a server prints.
type tail struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

const maxTail = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*maxTail {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-maxTail:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
