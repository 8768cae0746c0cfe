package faultfs

import (
	"io"
	"io/fs"
	"os"
)

// FS is a file system. Paths are those of the operating system. Safe for concurrent use.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename replaces newName if it exists. It is durable after SyncDir of the directory.
	Rename(oldName, newName string) error
	Remove(name string) error
	Mkdir(name string, perm fs.FileMode) error
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the entries of a directory durable: what was created, renamed and removed in it.
	SyncDir(name string) error
	// Statfs reports the space of the file system that name lies on.
	Statfs(name string) (Space, error)
}

// File is an open file. Safe for concurrent use, as pread(2) and pwrite(2) are.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Pwritev writes the buffers one after the other at off, in one system call where that is possible. It may write
	// less than asked for without an error.
	Pwritev(bufs [][]byte, off int64) (int, error)
	// Fdatasync makes the file's bytes durable, and its size.
	Fdatasync() error
	// Sync makes the file durable, with its times and attributes.
	Sync() error
	Truncate(size int64) error
	// Fallocate reserves space for [off, off+n) and grows the file; errors.ErrUnsupported where the file system cannot.
	Fallocate(off, n int64) error
	SetXattr(name string, value []byte) error
	// Stat and Name are those of the operating system's file.
	Stat() (fs.FileInfo, error)
	Name() string
	// OSFile is the file itself, for sendfile, mmap and flock. It must not be written to.
	OSFile() *os.File
}

// Space is a file system's, in bytes.
type Space struct {
	Capacity int64
	Free     int64 // to a process without privileges
}

// ReadFile reads a file of at most limit bytes; a longer one gives an error.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: io.ErrShortBuffer}
	}
	b := make([]byte, st.Size())
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil // it shrank in between
	}
	return b[:n], err
}
