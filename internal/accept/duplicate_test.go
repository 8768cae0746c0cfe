package accept_test

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"wheelhouse/internal/accept"
)

// A listener that is duplicated goes on accepting without ever blocking, and its duplicate outlives it.
func TestDuplicate(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		for { // many short calls
			err := ln.(*net.TCPListener).SetDeadline(time.Now().Add(50 * time.Microsecond))
			if err == nil {
				_, err = ln.Accept()
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				ended <- err
				return
			}
		}
	}()
	var last net.Listener
	for range 20_000 {
		if last != nil {
			last.Close()
		}
		if last, err = accept.Duplicate(ln); err != nil {
			t.Fatal(err)
		}
	}
	defer last.Close()
	go ln.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Accept waits in the kernel")
	}
	nc, err := net.Dial("tcp", last.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	other, err := last.Accept()
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
}
