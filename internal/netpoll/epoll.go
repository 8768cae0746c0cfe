package netpoll

import (
	"fmt"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lingerTime is how long linger waits.
const lingerTime = 100 * time.Microsecond

// timespec is __kernel_timespec, which has 64 bits everywhere.
type timespec struct{ sec, nsec int64 }

var now, soon = timespec{}, timespec{nsec: int64(lingerTime)}

// Poll takes what has happened from an epoll set, into events, and returns how many there are.
func Poll(epoll int, events []unix.EpollEvent) int { return take(epoll, events, &now) }

// linger is Poll, but waits up to a tenth of a millisecond for the first event, in the kernel. The runtime does not know that the call waits, and keeps
// its processor for it, so that no thread is stopped and started for a short wait. Others who are ready to run on it go before, as nobody could take
// them over; those that become ready meanwhile may have to wait as long. To stop the world the runtime sends a signal, which ends the call.
func linger(epoll int, events []unix.EpollEvent) int {
	runtime.Gosched()
	return take(epoll, events, &soon)
}

func take(epoll int, events []unix.EpollEvent, within *timespec) int {
	for {
		n, _, err := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)),
			uintptr(unsafe.Pointer(within)), 0, 0)
		if err == unix.ENOSYS || err == unix.EPERM { // Linux before 5.11, or something filters calls: then without waiting
			n, _, err = syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
		}
		switch {
		case err == 0:
			return int(n)
		case err != unix.EINTR: // a descriptor that is not what it was: nothing would be answered any more
			panic(fmt.Sprintf("netpoll: epoll_pwait: %v", err))
		case within == &soon:
			return 0
		}
	}
}
