package faultfs

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// OS is the operating system's file system. The zero value is ready.
type OS struct{}

var _ FS = OS{}

// OpenFile implements [FS].
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f, fd: int(f.Fd())}, nil
}

// Rename implements [FS].
func (OS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

// Remove implements [FS].
func (OS) Remove(name string) error { return os.Remove(name) }

// Mkdir implements [FS].
func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// ReadDir implements [FS].
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Stat implements [FS].
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// SyncDir implements [FS].
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// Statfs implements [FS].
func (OS) Statfs(name string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	return Space{Capacity: int64(st.Blocks) * st.Bsize, Free: int64(st.Bavail) * st.Bsize}, nil
}

type osFile struct {
	*os.File
	fd int // kept, because File.Fd locks
}

// maxIovec is Linux's IOV_MAX (UIO_MAXIOV).
const maxIovec = 1024

func (f *osFile) Pwritev(bufs [][]byte, off int64) (int, error) {
	total := 0
	for len(bufs) > 0 {
		part := bufs[:min(len(bufs), maxIovec)]
		want := 0
		for _, b := range part {
			want += len(b)
		}
		n, err := unix.Pwritev(f.fd, part, off+int64(total))
		if err == unix.EINTR {
			continue
		}
		total += max(n, 0)
		if err != nil {
			return total, &fs.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		}
		if n < want {
			return total, nil
		}
		bufs = bufs[len(part):]
	}
	return total, nil
}

func (f *osFile) Fdatasync() error {
	for {
		err := unix.Fdatasync(f.fd)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

func (f *osFile) Fallocate(off, n int64) error {
	err := unix.Fallocate(f.fd, 0, off, n)
	switch err {
	case nil:
		return nil
	case unix.EOPNOTSUPP, unix.ENOSYS:
		return &fs.PathError{Op: "fallocate", Path: f.Name(), Err: errors.ErrUnsupported}
	}
	return &fs.PathError{Op: "fallocate", Path: f.Name(), Err: err}
}

func (f *osFile) SetXattr(name string, value []byte) error {
	if err := unix.Fsetxattr(f.fd, name, value, 0); err != nil {
		return &fs.PathError{Op: "fsetxattr", Path: f.Name(), Err: err}
	}
	return nil
}

func (f *osFile) OSFile() *os.File { return f.File }
