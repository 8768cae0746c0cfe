//go:build linux && !race && !386 && !s390x

package rawio

import (
	"syscall"
	"unsafe"
)

// Read reads what has arrived into p; 0 without an error is the end of the stream.
func Read(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(min(len(p), Most)))
	return result(n, errno)
}

// Write writes as much of p as the socket takes.
func Write(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(min(len(p), Most)))
	return result(n, errno)
}

// Gather writes as much as the socket takes of head and then p, neither of which may be empty.
func Gather(fd uintptr, head, p []byte) (int, error) {
	first := min(len(head), Most)
	iov := [2]syscall.Iovec{{Base: unsafe.SliceData(head)}, {Base: unsafe.SliceData(p)}}
	iov[0].SetLen(first)
	iov[1].SetLen(min(len(p), Most-first))
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&iov)), uintptr(len(iov)))
	return result(n, errno)
}

// Peek reads what has arrived, and leaves it there.
func Peek(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(min(len(p), Most)),
		syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return result(n, errno)
}

// result takes an error as it is: those of Linux are small numbers, and cost no allocation.
func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
