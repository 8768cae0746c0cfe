// Package accept takes connections from listeners.
package accept

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"
)

// How long All waits before it tries again: at first, doubled each time, and at most.
const (
	firstPause = 5 * time.Millisecond
	mostPause  = time.Second
)

// All gives the connections of ln to handle, which must not wait, until ln fails, and returns why: net.ErrClosed where it was closed. Where
// descriptors or memory are wanting it logs that and tries again after a while; when stop is closed it waits no more and returns.
func All(ln net.Listener, log *slog.Logger, stop <-chan struct{}, handle func(net.Conn)) error {
	for pause := time.Duration(0); ; {
		nc, err := ln.Accept()
		if err == nil {
			pause = 0
			handle(nc)
			continue
		}
		if !temporary(err) {
			return err
		}
		pause = min(max(2*pause, firstPause), mostPause)
		log.Warn("accept failed", "addr", ln.Addr(), "err", err, "dur", pause)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-stop:
			t.Stop()
			return err
		}
	}
}

// temporary reports whether accepting may work again in a moment.
func temporary(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
