package disk

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

const (
	probeName = "wheelhouse.probe"
	probeSize = 4096
	// probeAge is how long the answer of a probe is good for: many may ask, and each answer costs a sync.
	probeAge = time.Second
)

// prober looks after the probes of one storage.
type prober struct {
	mu   sync.Mutex // one probe at a time
	at   time.Time
	err  error
	done bool
}

var _ store.Prober = (*Disk)(nil)

// Probe implements [store.Prober]: it looks whether the directory is still the one that was opened, writes a block into a file of
// its own, syncs it, and reads it back from the disk. An answer may be a second old.
func (d *Disk) Probe(ctx context.Context) error {
	p := &d.probes
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := d.o.Now(); !p.done || now.Sub(p.at) >= probeAge || now.Before(p.at) {
		p.err = d.probe()
		p.at, p.done = d.o.Now(), true
	}
	return p.err
}

func (d *Disk) probe() error {
	if d.isClosed() {
		return errClosed
	}
	if err := d.present(); err != nil {
		return err
	}
	if err := d.failure(); err != nil {
		return err
	}
	return d.probeFile()
}

// probeFile writes and reads a block.
func (d *Disk) probeFile() error {
	path := filepath.Join(d.dir, probeName)
	f, err := d.fs.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if isNoSpace(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("disk: probe: %w", err)
	}
	defer f.Close()
	want := make([]byte, probeSize)
	_, _ = rand.Read(want) // never fails
	binary.BigEndian.PutUint64(want, uint64(d.o.Now().UnixNano()))
	if _, err = f.WriteAt(want, 0); err == nil {
		err = f.Fdatasync()
	}
	if isNoSpace(err) { // a full disk reads well, and refuses writes by itself
		return nil
	}
	if err != nil {
		return fmt.Errorf("disk: probe: %w", err)
	}
	dropCache(f)
	got := make([]byte, probeSize)
	if _, err := f.ReadAt(got, 0); err != nil {
		return fmt.Errorf("disk: probe: %w", err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("disk: probe: %s: what was read is not what was written: %w", path, store.ErrCorrupt)
	}
	return nil
}

// dropCache asks the kernel to read the file from the disk next time. Where it does not, the probe says less.
func dropCache(f faultfs.File) {
	if c, err := f.OSFile().SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.Fadvise(int(fd), 0, 0, unix.FADV_DONTNEED) })
	}
}

// present is store.ErrAbsent unless the directory is the one that was opened: a disk may have been unmounted, and then the
// path leads to the file system below, which must not be written to.
func (d *Disk) present() error {
	st, err := d.fs.Stat(d.dir)
	if err == nil && !sameFile(st, d.opened) {
		err = fmt.Errorf("%s is another directory than the one that was opened", d.dir)
	}
	if err == nil {
		o := d.o
		o.MustExist = true
		_, err = readMarker(d.dir, o)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrAbsent, err)
	}
	return nil
}

func sameFile(a, b fs.FileInfo) bool { return a != nil && b != nil && os.SameFile(a, b) }
