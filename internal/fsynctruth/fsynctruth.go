// Package fsynctruth finds out whether a disk keeps what it says it has made durable.
//
// A writer changes files in three ways (a block in the middle of a file, a file that grows, a new name in a directory), syncs, and
// only then promises the change, by its number, to a witness on another machine. Then the power is cut. Afterwards [Verify]
// looks whether everything that was promised is there. It is the method of Brad Fitzpatrick's diskchecker, with names.
package fsynctruth

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"wheelhouse/internal/faultfs"
)

const (
	blocksName = "fsynctruth.blocks"
	growthName = "fsynctruth.growth"
	namePrefix = "fsynctruth.name-"

	blockSize = 4096
	slots     = 1024 // blocks that are overwritten in turn
	names     = 64   // newest names that are kept
)

// Kinds of changes, in turn by their number.
const kinds = 3

// block is what is written for one change.
func block(run, seq uint64) []byte {
	b := make([]byte, blockSize)
	binary.BigEndian.PutUint64(b, run)
	binary.BigEndian.PutUint64(b[8:], seq)
	for i := 16; i < blockSize-4; i++ {
		b[i] = byte(seq + uint64(i))
	}
	binary.BigEndian.PutUint32(b[blockSize-4:], crc32.ChecksumIEEE(b[:blockSize-4]))
	return b
}

// readBlock reads what block has written; ok is false when it is torn or another run's.
func readBlock(b []byte, run uint64) (seq uint64, ok bool) {
	if len(b) != blockSize || binary.BigEndian.Uint64(b) != run ||
		binary.BigEndian.Uint32(b[blockSize-4:]) != crc32.ChecksumIEEE(b[:blockSize-4]) {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[8:]), true
}

// Write changes files in dir, which holds nothing of an earlier run (see [Clean]), and calls promise with the number of each change
// once it is durable, until ctx ends, which is no error, or something fails.
func Write(ctx context.Context, fsys faultfs.FS, dir string, run uint64, promise func(seq uint64) error) error {
	blocks, err := fsys.OpenFile(filepath.Join(dir, blocksName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer blocks.Close()
	growth, err := fsys.OpenFile(filepath.Join(dir, growthName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer growth.Close()
	if err := writeAt(blocks, make([]byte, slots*blockSize), 0); err != nil {
		return err
	}
	if err := errors.Join(growth.Fdatasync(), fsys.SyncDir(dir)); err != nil {
		return err
	}
	for seq := uint64(1); ctx.Err() == nil; seq++ {
		n := int64(seq / kinds)
		switch seq % kinds {
		case 0:
			err = writeAt(blocks, block(run, seq), n%slots*blockSize)
		case 1:
			err = writeAt(growth, block(run, seq), n*blockSize)
		case 2:
			err = addName(fsys, dir, seq)
		}
		if err == nil {
			err = promise(seq)
		}
		if err != nil {
			return fmt.Errorf("change %d: %w", seq, err)
		}
	}
	return nil
}

func writeAt(f faultfs.File, b []byte, off int64) error {
	if _, err := f.WriteAt(b, off); err != nil {
		return err
	}
	return f.Fdatasync()
}

// addName makes a file, and removes an old one.
func addName(fsys faultfs.FS, dir string, seq uint64) error {
	f, err := fsys.OpenFile(nameOf(dir, seq), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if seq > names*kinds {
		if err := fsys.Remove(nameOf(dir, seq-names*kinds)); err != nil {
			return err
		}
	}
	return fsys.SyncDir(dir)
}

func nameOf(dir string, seq uint64) string {
	return filepath.Join(dir, namePrefix+strconv.FormatUint(seq, 10))
}

// Lie is a change that was promised and is not there.
type Lie struct {
	Seq  uint64
	What string
}

// maxLies bounds a report.
const maxLies = 20

// Verify looks in dir for all that a run has promised: the changes up to promised. It returns those that are missing, the first
// twenty.
func Verify(fsys faultfs.FS, dir string, run, promised uint64) ([]Lie, error) {
	v := verifier{fsys: fsys, dir: dir, run: run, promised: promised}
	for _, look := range []func() error{v.blocks, v.growth, v.names} {
		if err := look(); err != nil {
			return v.lies, err
		}
	}
	return v.lies, nil
}

type verifier struct {
	fsys          faultfs.FS
	dir           string
	run, promised uint64
	lies          []Lie
}

func (v *verifier) lie(seq uint64, format string, args ...any) {
	if len(v.lies) < maxLies {
		v.lies = append(v.lies, Lie{seq, fmt.Sprintf(format, args...)})
	}
}

// newest calls f for the promised changes of a kind, the newest first, at most n of them.
func (v *verifier) newest(kind uint64, n int, f func(seq uint64)) {
	seq := v.promised
	for seq > 0 && seq%kinds != kind {
		seq--
	}
	for ; seq > 0 && n > 0; n-- {
		f(seq)
		if seq < kinds {
			return
		}
		seq -= kinds
	}
}

// open opens one of the files; one that is not there at all holds nothing.
func (v *verifier) read(name string) (func(at int64) (uint64, bool), func(), error) {
	f, err := v.fsys.OpenFile(filepath.Join(v.dir, name), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return func(int64) (uint64, bool) { return 0, false }, func() {}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return func(at int64) (uint64, bool) {
		b := make([]byte, blockSize)
		if _, err := f.ReadAt(b, at*blockSize); err != nil && err != io.EOF {
			return 0, false
		}
		return readBlock(b, v.run)
	}, func() { _ = f.Close() }, nil
}

func (v *verifier) blocks() error {
	at, done, err := v.read(blocksName)
	if err != nil {
		return err
	}
	defer done()
	v.newest(0, slots, func(seq uint64) {
		// The block may already have been overwritten by a change that was not promised any more, or be torn by it.
		if got, ok := at(int64(seq/kinds) % slots); ok && got < seq || !ok && seq+slots*kinds > v.promised+kinds {
			v.lie(seq, "a block was overwritten and synced; it holds change %d", got)
		}
	})
	return nil
}

func (v *verifier) growth() error {
	at, done, err := v.read(growthName)
	if err != nil {
		return err
	}
	defer done()
	v.newest(1, 1<<30, func(seq uint64) {
		if got, ok := at(int64(seq / kinds)); !ok || got != seq {
			v.lie(seq, "a block was appended to a file and synced; it is not there")
		}
	})
	return nil
}

func (v *verifier) names() error {
	var err error
	v.newest(2, names-1, func(seq uint64) {
		_, statErr := v.fsys.Stat(nameOf(v.dir, seq))
		switch {
		case errors.Is(statErr, fs.ErrNotExist):
			v.lie(seq, "a file was made and its directory synced; it is not there")
		case statErr != nil:
			err = statErr
		}
	})
	return err
}

// Clean removes what a run has left in dir.
func Clean(fsys faultfs.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if ok, _ := filepath.Match("fsynctruth.*", e.Name()); ok {
			errs = append(errs, fsys.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
