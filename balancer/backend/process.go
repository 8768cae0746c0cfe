package backend

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// processPrefix begins the address of a node that is a program: one is started for each connection.
const processPrefix = "process:"

// processGrace is how long a program may take to end after its connection was closed.
const processGrace = 5 * time.Second

// ProcessNode is the address of a program as a node.
func ProcessNode(path string) string { return processPrefix + path }

// processConn is a connection to a program, on its standard input and output.
type processConn struct {
	net.Conn
	cmd    *exec.Cmd
	exited chan struct{}
	once   sync.Once
}

// dialProcess starts a program with one end of a socket pair as its standard input and output. What it says on standard error goes to
// ours.
func dialProcess(ctx context.Context, path string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "server_process"), os.NewFile(uintptr(fds[1]), "server_process")
	defer ours.Close()
	defer theirs.Close()
	nc, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, os.Stderr
	if err := cmd.Start(); err != nil {
		nc.Close()
		return nil, err
	}
	c := &processConn{Conn: nc, cmd: cmd, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ends shows on the connection
		close(c.exited)
	}()
	return c, nil
}

// Close closes the connection, which tells the program to end; one that does not is killed.
func (c *processConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		go func() {
			timer := time.NewTimer(processGrace)
			defer timer.Stop()
			select {
			case <-c.exited:
			case <-timer.C:
				_ = c.cmd.Process.Kill() // it may have ended at this moment
			}
		}()
	})
	return err
}
