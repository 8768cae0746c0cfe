package accept

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Duplicate returns another listener of ln's socket, which lives on when ln is closed. ln may be in use.
//
// ln.File and net.FileListener do the same but for a moment in which the socket blocks: an Accept of ln that begins then waits in the kernel for the
// next connection, whenever that comes, and so does a Close of ln.
func Duplicate(ln net.Listener) (net.Listener, error) {
	s, ok := ln.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T cannot be shared", ln)
	}
	fd, err := Descriptor(s)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", ln.Addr(), err)
	}
	f := os.NewFile(uintptr(fd), "listener") // whose Fd leaves it as it is
	defer f.Close()
	return net.FileListener(f)
}

// Descriptor returns a descriptor of the caller's own of the socket of a connection or listener, which may be in use. Neither blocks after it.
func Descriptor(s syscall.Conn) (int, error) {
	c, err := s.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	err = c.Control(func(n uintptr) { fd, dupErr = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(err, dupErr); err != nil {
		return -1, err
	}
	return fd, nil
}
