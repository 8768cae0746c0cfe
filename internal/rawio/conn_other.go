//go:build !unix

package rawio

import "net"

// Wrap is nc.
func Wrap(nc net.Conn) net.Conn { return nc }

// Listener is ln.
func Listener(ln net.Listener) net.Listener { return ln }
