package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/faultfs"
)

const lockName = "lock"

// lockDir takes the directory for this process until the file is closed. The lock goes with the process, however that
// ends; the text in the file tells people who holds it.
func lockDir(fsys faultfs.FS, dir string) (faultfs.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := flock(f.OSFile(), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			b, _ := faultfs.ReadFile(fsys, path, 4<<10)
			return nil, fmt.Errorf("%s: in use by %s", dir, strings.TrimSpace(string(b)))
		}
		return nil, fmt.Errorf("%s: flock: %w", path, err)
	}
	host, _ := os.Hostname()
	text := fmt.Sprintf("pid %d (%s on %s)\n", os.Getpid(), filepath.Base(os.Args[0]), host)
	if _, err := f.WriteAt([]byte(text), 0); err == nil {
		f.Truncate(int64(len(text))) // a remainder of an older text would only mislead people
	}
	return f, nil
}

// unlockDir gives the directory free. Closing alone would not, while a process that is just being started has a copy of
// the descriptor.
func unlockDir(f faultfs.File) error {
	return errors.Join(flock(f.OSFile(), unix.LOCK_UN), f.Close())
}

func flock(f *os.File, how int) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var lockErr error
	err = c.Control(func(fd uintptr) { lockErr = unix.Flock(int(fd), how) })
	return errors.Join(err, lockErr)
}
