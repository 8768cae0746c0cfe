//go:build unix

package memcache

import (
	"net"
	"syscall"
)

// alive tells whether nothing has come on an idle connection: neither the end, when a server was restarted or does not like idle clients,
// nor bytes that nobody asked for. Without it the first request after a restart would fail, and could not be sent again if it is an
// Increment: nobody knows whether it was done.
func alive(nc net.Conn) bool {
	if tls, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = tls.NetConn()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		silent = n <= 0 && (err == syscall.EAGAIN || err == syscall.EWOULDBLOCK)
		return true
	})
	return err == nil && silent
}
