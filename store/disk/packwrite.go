package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

// trailer is how many zero bytes follow the last member at any time: two blocks, which is how a tar ends.
const trailer = 2 * blockSize

const (
	firstZeros = 64 << 10 // written with a new pack
	minStep    = 1 << 20  // of zeros ahead
	maxStep    = 64 << 20
	zeroChunk  = 1 << 20 // between two syncs of zeros: a batch that is being synced waits for no more than that
)

var zeros [zeroChunk]byte

// packWriter appends to a pack. Zeros are written ahead of its end in the background, so that an append over them
// changes the file's bytes alone, and its sync costs one write instead of two.
type packWriter struct {
	d     *Disk
	p     *pack
	uid   uint64
	limit int64        // the pack's size when full
	f     faultfs.File // members are written and synced through it
	end   int64        // of the last durable member; the committer's own
	left  int          // entities that it still takes; the committer's own

	// growing is held while the file is made longer: by the zeros, or by a batch that found too few of them.
	growing sync.Mutex
	// zf is a descriptor for the zeros alone. An error of fdatasync is reported once per open file: if the zeros were
	// synced through f, they could swallow one that concerns members.
	zf     faultfs.File
	zeroed atomic.Int64 // the file is zero from the last member up to here, and ends here
	step   atomic.Int64 // how far ahead zeros are written
	ahead  atomic.Bool  // zeros are being written
	stop   atomic.Bool
	idle   sync.WaitGroup
}

// newPack begins a pack: its head and some zeros, durable.
func (d *Disk) newPack(step int64) (*packWriter, error) {
	if err := d.checkSpace(); err != nil {
		return nil, err
	}
	if err := d.present(); err != nil {
		return nil, err
	}
	var random [8]byte
	rand.Read(random[:])
	p := &pack{fsys: d.fs, fds: &d.fds, uid: newUID(random), idx: newMemIndex(), end: packHeaderLen, sums: blockSums{}}
	p.number = d.nextPack.Add(1) - 1
	p.base = packPath(d.dir, p.number)
	f, err := d.fs.OpenFile(p.path(packExt), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	head := encodePackHeader(d.o.StorageID, p.number, p.uid, d.o.Now().Unix())
	_, err = f.Pwritev([][]byte{head, zeros[:firstZeros-len(head)]}, 0)
	if err == nil {
		err = f.Fdatasync()
	}
	if err == nil {
		err = d.fs.SyncDir(filepath.Dir(p.base))
	}
	var w *packWriter
	if err == nil {
		w, err = d.openWriter(p, f, firstZeros, step)
	}
	if err != nil {
		f.Close()
		d.fs.Remove(p.path(packExt)) // nothing of value is in it, and its number is not used again
		return nil, err
	}
	d.packs.change(func(all []*pack) []*pack { return append(all, p) })
	return w, nil
}

// openWriter continues a pack whose file f is zero from the pack's end to zeroed.
func (d *Disk) openWriter(p *pack, f faultfs.File, zeroed, step int64) (*packWriter, error) {
	zf, err := d.fs.OpenFile(p.path(packExt), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	w := &packWriter{d: d, p: p, uid: p.uid, limit: d.o.PackSize, f: f, zf: zf, end: p.end}
	w.left = max(0, d.o.PackEntities-p.idx.count())
	w.zeroed.Store(zeroed)
	w.step.Store(max(step, minStep))
	return w, nil
}

// write puts iov, which holds members from start to end, into the file, and makes them durable.
func (w *packWriter) write(iov [][]byte, start, end int64) error {
	if end+trailer > w.zeroed.Load() {
		if err := w.grow(iov, start, end); err != nil {
			return err
		}
	} else if err := writeAll(w.f, iov, start); err != nil {
		return err
	}
	if err := w.f.Fdatasync(); err != nil {
		return err
	}
	if removed(w.f) {
		return fmt.Errorf("%w: pack %s was removed while it was written", store.ErrAbsent, w.p.base)
	}
	w.end = end
	w.zeroAhead()
	return nil
}

// removed reports whether an open file has no name any more: what is written into it would be gone with the descriptor.
func removed(f faultfs.File) bool {
	st, err := f.Stat()
	if err != nil {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Nlink == 0
}

// grow is write where the zeros do not suffice.
func (w *packWriter) grow(iov [][]byte, start, end int64) error {
	w.growing.Lock()
	defer w.growing.Unlock()
	if zeroed := w.zeroed.Load(); end+trailer > zeroed {
		newEnd := (end + trailer + 4095) &^ 4095
		if err := writeAll(w.f, append(iov, zeros[:newEnd-end]), start); err != nil {
			return err
		}
		w.zeroed.Store(newEnd)
		return nil
	}
	return writeAll(w.f, iov, start)
}

// writeAll writes all of iov at off. iov itself stays as it is.
func writeAll(f faultfs.File, iov [][]byte, off int64) error {
	for {
		n, err := f.Pwritev(iov, off)
		if err != nil {
			return err
		}
		off += int64(n)
		done := n
		for len(iov) > 0 && n >= len(iov[0]) {
			n -= len(iov[0])
			iov = iov[1:]
		}
		if len(iov) == 0 {
			return nil
		}
		if done == 0 {
			return io.ErrShortWrite
		}
		iov = append([][]byte{iov[0][n:]}, iov[1:]...)
	}
}

// zeroAhead starts writing zeros when less than half a step is left.
func (w *packWriter) zeroAhead() {
	step := w.step.Load()
	if w.zeroed.Load()-w.end >= step/2 || w.zeroed.Load() >= w.limit || w.stop.Load() || !w.ahead.CompareAndSwap(false, true) {
		return
	}
	target := min(w.end+step, w.limit)
	w.step.Store(min(step*2, maxStep))
	w.idle.Add(1)
	go func() {
		defer w.idle.Done()
		defer w.ahead.Store(false)
		w.writeZeros(target)
	}()
}

// writeZeros makes the file zero up to target. It is given up at the first error: the committer goes on by itself, and
// sees its own errors.
func (w *packWriter) writeZeros(target int64) {
	for !w.stop.Load() && w.zeroed.Load() < target {
		if w.d.checkSpace() != nil {
			return
		}
		w.growing.Lock()
		at := w.zeroed.Load()
		n := min(zeroChunk, target-at)
		err := error(nil)
		if n > 0 {
			_, err = w.zf.WriteAt(zeros[:n], at)
		}
		if err == nil {
			err = w.zf.Fdatasync()
		}
		if err == nil {
			w.zeroed.Store(max(at, at+n))
		}
		w.growing.Unlock()
		if err != nil {
			w.d.log.Warn("zeros ahead of a pack not written", "pack", w.p.base, "err", err)
			return
		}
	}
}

// close ends writing; the pack keeps what is durable.
func (w *packWriter) close() error {
	w.stop.Store(true)
	w.idle.Wait()
	return errors.Join(w.f.Close(), w.zf.Close())
}
