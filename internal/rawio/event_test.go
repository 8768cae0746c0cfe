//go:build linux

package rawio_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/rawio"
)

func TestEvent(t *testing.T) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	readable := func() bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	}
	for range 2 {
		rawio.Lower(uintptr(fd)) // of what is not readable: nothing
		if readable() {
			t.Error("readable, and nobody has raised it")
		}
		rawio.Raise(uintptr(fd))
		rawio.Raise(uintptr(fd))
		if !readable() {
			t.Error("not readable when it was raised")
		}
		rawio.Lower(uintptr(fd))
		if readable() {
			t.Error("readable when it was lowered")
		}
	}
}
