//go:build unix && (!linux || race || 386 || s390x)

package rawio

import "syscall"

// Read reads what has arrived into p; 0 without an error is the end of the stream.
func Read(fd uintptr, p []byte) (int, error) {
	n, err := syscall.Read(int(fd), p[:min(len(p), Most)])
	return max(n, 0), err
}

// Write writes as much of p as the socket takes.
func Write(fd uintptr, p []byte) (int, error) {
	n, err := syscall.Write(int(fd), p[:min(len(p), Most)])
	return max(n, 0), err
}

// Gather writes as much as the socket takes of head and then p, neither of which may be empty.
func Gather(fd uintptr, head, p []byte) (int, error) {
	n, err := Write(fd, head)
	if err != nil || n < len(head) {
		return n, err
	}
	m, err := Write(fd, p[:min(len(p), Most-n)])
	if err != nil {
		return n, nil // the next call meets it again
	}
	return n + m, nil
}

// Peek reads what has arrived, and leaves it there.
func Peek(fd uintptr, p []byte) (int, error) {
	n, _, err := syscall.Recvfrom(int(fd), p[:min(len(p), Most)], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return max(n, 0), err
}

// Raise makes an event descriptor (eventfd, EFD_NONBLOCK) readable.
func Raise(fd uintptr) {
	_, _ = syscall.Write(int(fd), []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// Lower undoes Raise.
func Lower(fd uintptr) {
	var n [8]byte
	_, _ = syscall.Read(int(fd), n[:])
}
