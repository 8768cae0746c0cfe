package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// LockFile is the name of the file in a data directory that says which process holds it.
const LockFile = "lock"

// Holder is the process that holds a data directory.
type Holder struct {
	PID     int       `json:"pid"`
	Role    string    `json:"role"`
	Started time.Time `json:"started"`
}

// HeldError is a data directory that another process holds.
type HeldError struct {
	Dir    string
	Holder Holder // zero when the lock file does not say
}

func (e *HeldError) Error() string {
	if e.Holder.PID == 0 {
		return fmt.Sprintf("data directory %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("data directory %s is in use by process %d (wheelhouse %s, since %s); stop it, or use another directory",
		e.Dir, e.Holder.PID, e.Holder.Role, e.Holder.Started.Format(time.DateTime))
}

// Lock is a data directory held by this process. The kernel lets go of it when the process ends, however it ends.
type Lock struct{ f *os.File }

// LockDir takes a data directory for this process, or returns a *HeldError. With shared, other processes that ask for it
// shared may hold it too.
func LockDir(dir, role string, shared bool) (*Lock, error) {
	path := filepath.Join(dir, LockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &HeldError{dir, readHolder(f)}
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	text, err := json.Marshal(Holder{os.Getpid(), role, time.Now().Truncate(time.Second)})
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(append(text, '\n'), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &Lock{f}, nil
}

// Release lets go of the directory.
func (l *Lock) Release() error { return l.f.Close() }

// ReadHolder says which process holds a data directory. The error is fs.ErrNotExist where none ever did.
func ReadHolder(dir string) (Holder, error) {
	f, err := os.Open(filepath.Join(dir, LockFile))
	if err != nil {
		return Holder{}, err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		return Holder{}, fmt.Errorf("no process holds the data directory %s", dir)
	}
	return readHolder(f), nil
}

func readHolder(f *os.File) (h Holder) {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 4096))
	if err != nil || json.Unmarshal(text, &h) != nil {
		return Holder{}
	}
	return h
}
