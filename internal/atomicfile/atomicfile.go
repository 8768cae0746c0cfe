package atomicfile

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"wheelhouse/internal/faultfs"
)

// tempMark is in the name of every temporary file: "x" is written as "x.tmp-RANDOM".
const tempMark = ".tmp-"

// IsTemp reports whether a file name is that of a temporary file of this package. One that is found when nobody is
// writing was left behind by a crash and may be removed.
func IsTemp(name string) bool {
	i := strings.LastIndex(name, tempMark)
	return i > 0 && len(name)-i-len(tempMark) == len(rand.Text())
}

// RemoveTemps removes the temporary files that a crash has left of path. Nobody may be writing it.
func RemoveTemps(fsys faultfs.FS, path string) error {
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	list, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range list {
		if rest, ok := strings.CutPrefix(e.Name(), base); ok && strings.HasPrefix(rest, tempMark) && IsTemp(e.Name()) {
			errs = append(errs, fsys.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Write replaces the file path with data, durably.
func Write(fsys faultfs.FS, path string, perm fs.FileMode, data []byte) error {
	f, err := Create(fsys, path, perm)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// File is a file being written that is not to be seen yet. Not safe for concurrent use.
type File struct {
	faultfs.File
	fsys  faultfs.FS
	path  string
	temp  string
	off   int64
	state state
}

type state uint8

const (
	writing state = iota
	prepared
	ended
)

// Create begins a file that will be path. The caller ends it with Commit, or with Prepare and Publish, or with Abort.
func Create(fsys faultfs.FS, path string, perm fs.FileMode) (*File, error) {
	temp := path + tempMark + rand.Text()
	f, err := fsys.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	return &File{File: f, fsys: fsys, path: path, temp: temp}, nil
}

// Write appends.
func (f *File) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.off)
	f.off += int64(n)
	return n, err
}

// Prepare makes the content durable, under the temporary name still. The file stays open for reading until Publish,
// which closes it.
func (f *File) Prepare() error {
	if f.state != writing {
		return errors.New("atomicfile: prepare: already prepared or ended")
	}
	if err := f.Sync(); err != nil {
		return err
	}
	f.state = prepared
	return nil
}

// Publish gives the prepared file its name. It is durable only after a sync of the directory, which several files may
// share.
func (f *File) Publish() error {
	if f.state != prepared {
		return errors.New("atomicfile: publish: not prepared")
	}
	if err := f.fsys.Rename(f.temp, f.path); err != nil {
		return err
	}
	f.state = ended
	return f.File.Close()
}

// Commit prepares, publishes and syncs the directory.
func (f *File) Commit() error {
	if err := f.Prepare(); err != nil {
		return err
	}
	if err := f.Publish(); err != nil {
		return err
	}
	return f.fsys.SyncDir(filepath.Dir(f.path))
}

// Abort removes the temporary file. After Publish or Abort it does nothing.
func (f *File) Abort() {
	if f.state == ended {
		return
	}
	f.state = ended
	f.File.Close()
	f.fsys.Remove(f.temp)
}

// Close is Abort, for those who see an io.Closer.
func (f *File) Close() error {
	f.Abort()
	return nil
}

// MkdirAll creates a directory and those above it that are not there, durably.
func MkdirAll(fsys faultfs.FS, dir string, perm fs.FileMode) error {
	if st, err := fsys.Stat(dir); err == nil {
		if st.IsDir() {
			return nil
		}
		return &fs.PathError{Op: "mkdir", Path: dir, Err: errors.New("a file is in the way")}
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(fsys, parent, perm); err != nil {
			return err
		}
	}
	if err := fsys.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return fsys.SyncDir(parent)
}
