//go:build linux && !race && !386 && !s390x

package rawio

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dontWait is for the calls of sockets, which take a way through the kernel that is up to a tenth shorter than read and write of any file. A peer that
// is gone is an error, and no signal.
const dontWait = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL

// Read reads what has arrived into p; 0 without an error is the end of the stream.
func Read(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(min(len(p), Most)), dontWait, 0, 0)
	return result(n, errno)
}

// Write writes as much of p as the socket takes.
func Write(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(min(len(p), Most)), dontWait, 0, 0)
	return result(n, errno)
}

// Gather writes as much as the socket takes of head and then p, neither of which may be empty.
func Gather(fd uintptr, head, p []byte) (int, error) {
	first := min(len(head), Most)
	iov := [2]unix.Iovec{{Base: unsafe.SliceData(head)}, {Base: unsafe.SliceData(p)}}
	iov[0].SetLen(first)
	iov[1].SetLen(min(len(p), Most-first))
	msg := unix.Msghdr{Iov: &iov[0]}
	msg.SetIovlen(len(iov))
	n, _, errno := syscall.RawSyscall(syscall.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&msg)), dontWait)
	return result(n, errno)
}

// Peek reads what has arrived, and leaves it there.
func Peek(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(min(len(p), Most)),
		syscall.MSG_PEEK|dontWait, 0, 0)
	return result(n, errno)
}

// Raise makes an event descriptor (eventfd, EFD_NONBLOCK) readable.
func Raise(fd uintptr) {
	one := [8]byte{1}
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&one)), uintptr(len(one)))
}

// Lower undoes Raise.
func Lower(fd uintptr) {
	var n [8]byte
	_, _, _ = syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&n)), uintptr(len(n)))
}

// result takes an error as it is: those of Linux are small numbers, and cost no allocation.
func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
