//go:build unix

package sqldb

import (
	"errors"

	"golang.org/x/sys/unix"
)

// tryLock takes the lock if it is free, else returns errTaken. Where the file system has no such locks it always
// succeeds: then processes do not take turns, and SQLite's lock alone keeps them apart.
func (t *turn) tryLock() error {
	for {
		err := unix.Flock(int(t.f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return errTaken
		case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOLCK):
			return nil
		}
		return err
	}
}

// unlock cannot fail on a descriptor that is open.
func (t *turn) unlock() { _ = unix.Flock(int(t.f.Fd()), unix.LOCK_UN) }
