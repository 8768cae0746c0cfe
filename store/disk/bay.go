package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/store"
)

// Bay is the place where a storage's disk belongs. It serves the disk as long as that is there. When it disappears (unmounted,
// pulled out, its directory removed), everything that is asked of it fails with store.ErrAbsent, and nothing is written where
// its directory was; when it is back, it is opened again. Safe for concurrent use.
type Bay struct {
	dir string
	o   Options
	cur atomic.Pointer[occupant]

	mu       sync.Mutex // guards the coming and going of disks, and what follows
	closed   bool
	lastOpen time.Time
}

// occupant is a disk, or why there is none.
type occupant struct {
	d   *Disk
	err error
}

var (
	_ store.Device   = (*Bay)(nil)
	_ store.Prober   = (*Bay)(nil)
	_ store.Accepter = (*Bay)(nil)
)

const (
	// bayTick is how often a bay looks whether its disk is still there, or back.
	bayTick = time.Second
	// bayReopen is how long a disk that fails is left alone before it is opened again to see whether it has recovered.
	bayReopen = 10 * time.Second
)

// OpenBay opens the disk in a directory. When that fails, the bay can be used all the same: err says what is wrong, and Run
// tries again. o is as for [Open]; an error in it gives no bay.
func OpenBay(dir string, o Options) (b *Bay, err error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("disk: open %s: %w", dir, err)
	}
	b = &Bay{dir: dir, o: o.withDefaults()}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b, b.insert(b.o)
}

// insert opens the disk. b.mu is held.
func (b *Bay) insert(o Options) error {
	b.lastOpen = b.o.Now()
	d, err := Open(b.dir, o)
	if err != nil {
		b.cur.Store(&occupant{err: fmt.Errorf("%w: %w", store.ErrAbsent, err)})
		return err
	}
	b.cur.Store(&occupant{d: d})
	return nil
}

// Disk returns the disk, or why there is none.
func (b *Bay) Disk() (*Disk, error) {
	c := b.cur.Load()
	return c.d, c.err
}

// Dir is the storage's directory.
func (b *Bay) Dir() string { return b.dir }

// Run looks after the disk, as [Disk.Run] does, and after its coming and going, until ctx ends.
func (b *Bay) Run(ctx context.Context) error {
	tick := time.NewTicker(bayTick)
	defer tick.Stop()
	var tending *Disk
	leave := func() {}
	defer func() { leave() }()
	for {
		if d, _ := b.Disk(); d != tending {
			leave()
			leave = func() {}
			if tending = d; d != nil {
				diskCtx, cancel := context.WithCancel(ctx)
				done := make(chan struct{})
				go func() {
					defer close(done)
					_ = d.Run(diskCtx) // it ends with its context, and has no other end
				}()
				leave = func() { cancel(); <-done }
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		b.look(leave)
	}
}

// look sees whether the disk is where it should be. stop ends what is done with it, before it is given up.
func (b *Bay) look(stop func()) {
	d, _ := b.Disk()
	var err error
	if d != nil {
		err = d.present()
	}
	switch {
	case d == nil:
		b.reopen()
	case err != nil:
		stop()
		b.eject(d, err)
	case d.failure() != nil && b.o.Now().Sub(b.since()) >= bayReopen && d.probeFile() == nil:
		stop()
		b.o.Log.Info("storage is opened again: its disk can be written again", "storage", b.o.StorageID, "dir", b.dir)
		b.eject(d, d.failure())
		b.reopen()
	}
}

func (b *Bay) since() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lastOpen
}

// eject gives a disk up without writing to it.
func (b *Bay) eject(d *Disk, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.cur.Load(); c.d != d || b.closed {
		return
	}
	b.cur.Store(&occupant{err: why})
	if errors.Is(why, store.ErrAbsent) {
		b.o.Log.Error("storage is gone; it is taken back when its disk is there again", "storage", b.o.StorageID, "dir", b.dir, "err", why)
	}
	if err := d.Abandon(); err != nil {
		b.o.Log.Warn("storage was not given up cleanly", "storage", b.o.StorageID, "err", err)
	}
}

// reopen tries to open the disk. From now on the directory must hold the storage already: an empty one is a disk that is not
// mounted.
func (b *Bay) reopen() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.cur.Load(); c.d != nil || b.closed {
		return
	}
	o := b.o
	o.MustExist = true
	if b.insert(o) == nil {
		b.o.Log.Warn("storage is back", "storage", b.o.StorageID, "dir", b.dir)
	}
}

// Accept implements [store.Accepter].
func (b *Bay) Accept(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errClosed
	}
	if d, _ := b.Disk(); d != nil {
		return nil
	}
	if err := atomicfile.MkdirAll(b.o.FS, b.dir, 0o755); err != nil {
		return err
	}
	o := b.o
	o.MustExist = false
	if err := b.insert(o); err != nil {
		return err
	}
	b.o.Log.Warn("storage begins anew on an empty disk, as it was told", "storage", b.o.StorageID, "dir", b.dir)
	return nil
}

// Plain opens the directory of plain files, which the caller closes.
func (b *Bay) Plain() (*os.Root, error) {
	d, err := b.Disk()
	if err == nil {
		err = d.present()
	}
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, plainDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

// plainDir is the directory of plain files below a storage's.
const plainDir = "plain"

// Close closes the disk.
func (b *Bay) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	if d, _ := b.Disk(); d != nil {
		b.cur.Store(&occupant{err: fmt.Errorf("%w: %w", store.ErrAbsent, errClosed)})
		return d.Close()
	}
	return nil
}

// Abandon is Close for a disk that is not there any more: nothing is written.
func (d *Disk) Abandon() error {
	gone := fmt.Errorf("%w: given up", store.ErrAbsent)
	d.broken.Store(&gone)
	d.commits.close()
	d.dels.close()
	d.bgMu.Lock()
	closed := d.closed
	d.closed = true
	d.bgMu.Unlock()
	if closed {
		return nil
	}
	var err error
	if w := d.commits.w; w != nil {
		w.stop.Store(true)
		d.commits.w = nil
		err = w.close()
	}
	d.bg.Wait()
	d.sealing.Lock()
	defer d.sealing.Unlock()
	return errors.Join(err, d.release())
}

// missing reports whether err says that a storage's directory, or what makes it one, is not there: that may change by itself.
func missing(err error) bool {
	return errors.Is(err, store.ErrAbsent) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, os.ErrPermission)
}

// Gone reports whether an error of [OpenBay] says that the disk is not there, as opposed to one that people must settle: a
// directory of another storage, or in use.
func Gone(err error) bool { return missing(err) }
