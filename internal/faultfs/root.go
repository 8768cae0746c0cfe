package faultfs

import (
	"errors"
	"io/fs"
	"os"
)

// Root is the file system below a directory. Names are relative to it, and none leads out of it, neither by ".." nor by a symbolic
// link: see [os.Root].
type Root struct{ *os.Root }

var _ FS = Root{}

// OpenFile implements [FS].
func (r Root) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := r.Root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f, fd: int(f.Fd())}, nil
}

// ReadDir implements [FS].
func (r Root) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(r.FS(), name) }

// SyncDir implements [FS].
func (r Root) SyncDir(name string) error {
	d, err := r.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// Statfs implements [FS]; it is that of the root.
func (r Root) Statfs(string) (Space, error) { return OS{}.Statfs(r.Name()) }
