package netpoll

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/rawio"
)

// Loops may be busy for turnEvery, at most for turnMost, before others have their turn.
const (
	turnEvery = 250 * time.Microsecond
	turnMost  = 10 * time.Millisecond // the runtime looks by itself then
)

// Turns lets those have their turn who wait in the runtime's poller, where listeners do. The runtime looks there when there is nothing else to do,
// which under load there always is, or every 10 ms. So now and then a loop waits there itself, for something that has happened already. It is
// safe for concurrent use.
type Turns struct {
	begun time.Time
	next  atomic.Int64 // when a turn is to be given, nanoseconds after begun
	mu    sync.Mutex   // one gives turns
	event *os.File     // an event descriptor
	raw   syscall.RawConn
	asked bool
	wait  func(fd uintptr) bool // waitOnce
}

// NewTurns makes turns of what shares the runtime's processors. Its errors are those of descriptors.
func NewTurns() (*Turns, error) {
	t := &Turns{begun: time.Now()}
	t.wait = t.waitOnce
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	t.event = os.NewFile(uintptr(fd), "eventfd")
	t.raw, err = t.event.SyscallConn()
	return t, err
}

// Close gives the descriptor back. Give does nothing from then on.
func (t *Turns) Close() { _ = t.event.Close() }

// Give gives others their turn if it is time. Where there are always some who have work, theirs is long, as the runtime looks there no sooner than
// it must: then the loops' is as long.
func (t *Turns) Give() {
	now := time.Since(t.begun)
	if int64(now) < t.next.Load() || !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	t.asked = false
	_ = t.raw.Read(t.wait) // fails when it is closed
	t.Given(time.Since(t.begun) - now)
}

// Given notes that others have had a turn, and how long that was.
func (t *Turns) Given(long time.Duration) {
	t.next.Store(int64(time.Since(t.begun) + min(max(turnEvery, long), turnMost)))
}

// waitOnce has the caller wait once.
func (t *Turns) waitOnce(fd uintptr) bool {
	if t.asked {
		rawio.Lower(fd)
		return true
	}
	t.asked = true
	rawio.Raise(fd)
	return false
}
