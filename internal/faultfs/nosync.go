package faultfs

import "io/fs"

// NoSync is the operating system's file system with syncs that do nothing: for tests of everything but durability,
// which take a tenth of the time.
type NoSync struct{ OS }

var _ FS = NoSync{}

// OpenFile implements [FS].
func (n NoSync) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := n.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return noSyncFile{f}, nil
}

// SyncDir implements [FS].
func (NoSync) SyncDir(name string) error { return nil }

type noSyncFile struct{ File }

func (noSyncFile) Sync() error      { return nil }
func (noSyncFile) Fdatasync() error { return nil }
