package accept

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// listener fails as it is told, and is then out of connections.
type listener struct {
	net.Listener
	errs []error
}

func (l *listener) Accept() (net.Conn, error) {
	if len(l.errs) == 0 {
		return nil, net.ErrClosed
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	if err != nil {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
	}
	return &net.TCPConn{}, nil
}

func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }

func TestAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		errs := []error{nil, syscall.EMFILE, syscall.ENFILE, nil}
		for range 10 {
			errs = append(errs, syscall.ENOMEM)
		}
		begun, n := time.Now(), 0
		err := All(&listener{errs: errs}, slog.New(slog.NewTextHandler(&log, nil)), nil, func(net.Conn) { n++ })
		if !errors.Is(err, net.ErrClosed) || n != 2 {
			t.Errorf("%d connections, %v", n, err)
		}
		// 5+10 ms, and after the next success 5, 10, 20 … 640 ms and twice a second
		if took, want := time.Since(begun), 15*time.Millisecond+1275*time.Millisecond+2*time.Second; took != want {
			t.Errorf("it took %v; want %v", took, want)
		}
		if got := strings.Count(log.String(), "accept failed"); got != 12 {
			t.Errorf("%d warnings:\n%s", got, log.String())
		}
	})
}

func TestAllGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		bad := errors.New("bad")
		err := All(&listener{errs: []error{bad}}, slog.New(slog.DiscardHandler), nil, nil)
		if !errors.Is(err, bad) {
			t.Errorf("%v", err)
		}
		stop := make(chan struct{})
		close(stop)
		if err := All(&listener{errs: []error{syscall.EMFILE}}, slog.New(slog.DiscardHandler), stop, nil); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("stopped: %v", fmt.Sprint(err))
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}
