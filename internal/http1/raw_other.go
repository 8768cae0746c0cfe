//go:build !linux

package http1

import (
	"errors"
	"syscall"
)

// haveRaw: the fast paths exist on Linux only; elsewhere everything is copied.
const haveRaw = false

type rawConn = syscall.RawConn

type rawSend struct{}

func (s *rawSend) bind(*conn) {}

func (s *rawSend) write([]byte, bool) (int, error) { return 0, errors.ErrUnsupported }

func (s *rawSend) gather([]byte, []byte) (int, error) { return 0, errors.ErrUnsupported }

func (s *rawSend) sendfile(file, int64, int64) (int64, error, error) {
	return 0, nil, errors.ErrUnsupported
}

type rawRecv struct{}

func (r *rawRecv) bind(*conn) {}

func (r *rawRecv) read() (int, error) { return 0, errors.ErrUnsupported }

type rawTrip struct{}

func (t *rawTrip) bind(*clientConn) {}

func (t *rawTrip) read(out, _ []byte, _, _ bool) (int, []byte, error) {
	return 0, out, errors.ErrUnsupported
}

func readPooled(rawConn) (*buffer, error) { return nil, errors.ErrUnsupported }

func peerClosed(rawConn) bool { return false }

func tlsPeerClosed(rawConn) bool { return false }

func awaitAnswer(rawConn) bool { return false }

func readable(rawConn) bool { return false }

func unsent(rawConn) int { return 0 }

type splicer struct {
	beforeRead  func() error
	beforeWrite func()
	wrote       func(n int)
}

func (s *splicer) run(dst, src rawConn, n int64) (int64, bool, error, error) {
	return 0, false, nil, errors.ErrUnsupported
}
