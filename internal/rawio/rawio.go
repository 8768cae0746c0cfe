// Package rawio is reads and writes of sockets that never wait, without the scheduler being told of them.
//
// A system call through package syscall hands its processor over first, and asks for one again after it: right for calls that
// may take long, but for those on a socket that does not block (O_NONBLOCK) the two cost as much as a tenth of the call itself,
// and now and then the processor has gone to another thread meanwhile. Besides, it wakes the runtime's monitor (sysmon) if that sleeps
// because all processors were idle, which then looks at them every 20 µs for a while: with some thousand such calls a second that takes a tenth
// of what a busy server needs. What is here is called from within the functions of a [syscall.RawConn], which keep the descriptor open and
// wait where a call has found nothing to do (syscall.EAGAIN), or by the owner of a descriptor of its own, who does both himself. [Wrap] is for
// those who know net.Conn only.
//
// A call moves at most [Most] bytes, so that the processor is not away for long; the caller goes on with what is left. Errors
// are of type [syscall.Errno]. A build for the race detector goes through package syscall, which tells it what happens before what.
package rawio

import (
	"net"
	"syscall"
)

// Most is how many bytes a call moves at most: by a copy, some 20 µs.
const Most = 128 << 10

// Raw gives access to the descriptor of a connection that is a socket and nothing else: one of TCP or Unix, or one that says so itself by a method
// Raw. It is nil for others.
func Raw(nc net.Conn) syscall.RawConn {
	switch nc := nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		raw, err := nc.(syscall.Conn).SyscallConn()
		if err != nil {
			return nil
		}
		return raw
	case interface{ Raw() syscall.RawConn }:
		return nc.Raw()
	}
	return nil
}
