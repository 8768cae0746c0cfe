package memcached

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// turnEvery is how long leaders may be busy before others have their turn.
const turnEvery = 250 * time.Microsecond

// turns lets those have their turn who wait in the runtime's poller, where connections of TLS and listeners do. The runtime looks there when
// there is nothing else to do, which under load there always is, or every 10 ms. So now and then a leader waits there itself, for something that
// has happened already.
type turns struct {
	begun time.Time
	last  atomic.Int64 // when a turn was given, nanoseconds after begun
	mu    sync.Mutex   // one gives turns
	event *os.File     // an event descriptor
	raw   syscall.RawConn
	asked bool
	wait  func(fd uintptr) bool // waitOnce
}

func (t *turns) init() error {
	t.begun, t.wait = time.Now(), t.waitOnce
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return err
	}
	t.event = os.NewFile(uintptr(fd), "eventfd")
	t.raw, err = t.event.SyscallConn()
	return err
}

func (t *turns) close() { _ = t.event.Close() }

// give gives others their turn if it is time.
func (t *turns) give() {
	now := int64(time.Since(t.begun))
	if now-t.last.Load() < int64(turnEvery) || !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	t.last.Store(now)
	t.asked = false
	_ = t.raw.Read(t.wait) // fails when the server ends
}

// waitOnce has the caller wait once.
func (t *turns) waitOnce(fd uintptr) bool {
	var b [8]byte
	if t.asked {
		_, _ = unix.Read(int(fd), b[:])
		return true
	}
	t.asked = true
	b[0] = 1
	_, _ = unix.Write(int(fd), b[:])
	return false
}
