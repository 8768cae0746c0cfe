package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

// Disk is one storage's bytes in a local directory. Safe for concurrent use.
type Disk struct {
	dir  string
	o    Options
	fs   faultfs.FS
	log  *slog.Logger
	lock faultfs.File

	packs    packSet
	nextPack atomic.Uint64
	reads    atomic.Int64 // of entities, since it was opened
	fds      fdCache
	files    *fileStore
	commits  committer
	dels     deleter
	sealing  sync.Mutex // one pack is sealed, rewritten or adopted at a time

	scrubs               scrubList
	adopting             verifications
	adoptNext, adoptLast uint64 // numbers set aside for adopted packs; guarded by sealing

	opened fs.FileInfo // the directory
	probes prober

	lastStored atomic.Int64
	space      spaceState
	full       atomic.Bool // less free space than Options.MinFree
	broken     atomic.Pointer[error]

	bg     sync.WaitGroup
	bgMu   sync.Mutex // guards closed
	closed bool
}

var _ store.Device = (*Disk)(nil)

// Open opens a storage's directory, which must exist, and recovers what a crash may have left half done. It fails when
// the directory is another storage's, or in use. No goroutine is left behind; see [Disk.Run].
func Open(dir string, o Options) (*Disk, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("disk: open %s: %w", dir, err)
	}
	o = o.withDefaults()
	d := &Disk{dir: dir, o: o, fs: o.FS, log: o.Log.With("storage", o.StorageID)}
	d.o.Log = d.log
	d.fds.max = o.MaxOpenPacks
	d.commits.d, d.dels.d = d, d
	d.commits.idle.L, d.dels.idle.L = &d.commits.mu, &d.dels.mu
	if err := d.open(); err != nil {
		if w := d.commits.w; w != nil {
			w.close()
		}
		d.release()
		return nil, fmt.Errorf("disk: open: %w", err)
	}
	return d, nil
}

func (d *Disk) open() (err error) {
	st, err := d.fs.Stat(d.dir)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is not a directory", d.dir)
	}
	d.opened = st
	if _, err := readMarker(d.dir, d.o); err != nil { // before anything is written there
		return err
	}
	if d.lock, err = lockDir(d.fs, d.dir); err != nil {
		return err
	}
	ours, err := readMarker(d.dir, d.o)
	if err == nil && !ours {
		err = writeMarker(d.dir, d.o)
	}
	if err != nil {
		return err
	}
	d.packs.change(func(all []*pack) []*pack { return nil })
	if d.files, err = openFiles(d); err != nil {
		return err
	}
	if d.o.Layout == LayoutPacks {
		if err := atomicfile.MkdirAll(d.fs, filepath.Join(d.dir, packsDir), 0o755); err != nil {
			return err
		}
		if err := d.recoverPacks(); err != nil {
			return err
		}
	}
	if err := d.checkSpace(); err != nil && !errors.Is(err, store.ErrFull) {
		return err
	}
	return nil
}

// Close finishes what is under way, and gives the directory free. Readers that are open may go on; a rewriting that Run
// or Compact is at is waited for.
func (d *Disk) Close() error {
	if d.isClosed() {
		return nil
	}
	d.commits.close()
	d.dels.close()
	d.bgMu.Lock()
	d.closed = true
	d.bgMu.Unlock()
	if w := d.commits.w; w != nil {
		w.stop.Store(true)
	}
	d.bg.Wait()
	d.sealing.Lock()
	defer d.sealing.Unlock()
	err := d.closeWriter()
	return errors.Join(err, d.release())
}

// closeWriter ends the active pack for now, and leaves an index of it, so that the next Open need not read it.
func (d *Disk) closeWriter() error {
	w := d.commits.w
	if w == nil {
		return nil
	}
	d.commits.w = nil
	w.p.mu.RLock()
	entries := liveEntries(w.p)
	w.p.mu.RUnlock()
	err := writeIndex(d.fs, w.p.path(idxExt), w.uid, w.end, false, entries)
	if err != nil {
		d.log.Warn("index of the active pack not written; it will be read at the next start", "pack", w.p.base, "err", err)
	}
	return w.close()
}

// release closes everything without writing.
func (d *Disk) release() error {
	for _, p := range d.packs.list() {
		p.close()
	}
	if d.files != nil {
		d.files.close()
	}
	if d.lock != nil {
		lock := d.lock
		d.lock = nil
		return unlockDir(lock)
	}
	return nil
}

// background runs f in a goroutine that Close waits for; it reports false when the storage is being closed.
func (d *Disk) background(f func()) bool {
	d.bgMu.Lock()
	defer d.bgMu.Unlock()
	if d.closed {
		return false
	}
	d.bg.Go(f)
	return true
}

func (d *Disk) isClosed() bool {
	d.bgMu.Lock()
	defer d.bgMu.Unlock()
	return d.closed
}

// fail makes the storage read-only until it is opened again: its disk is broken.
func (d *Disk) fail(err error) {
	if d.broken.CompareAndSwap(nil, &err) {
		d.log.Error("storage made read-only: its disk fails", "dir", d.dir, "err", err)
	}
}

// failure is why nothing can be written, other than want of space.
func (d *Disk) failure() error {
	if p := d.broken.Load(); p != nil {
		return fmt.Errorf("%w: %w", store.ErrReadOnly, *p)
	}
	return nil
}

// writable is nil when an entity may be written.
func (d *Disk) writable() error {
	if err := d.failure(); err != nil {
		return err
	}
	if d.full.Load() {
		return d.recheckSpace()
	}
	return nil
}

// checkInfo refuses what cannot be stored. size is that of the bytes, -1 when they are still to come.
func checkInfo(info *store.EntityInfo, size int64) error {
	switch {
	case info.ID == 0:
		return errors.New("disk: put: id 0")
	case size >= 0 && info.Size >= 0 && info.Size != size:
		return fmt.Errorf("disk: put %d: %d bytes where %d were announced", info.ID, size, info.Size)
	case info.Size > store.MaxObjectSize:
		return fmt.Errorf("disk: put %d: %d bytes are too many", info.ID, info.Size)
	case len(info.Bucket) > store.MaxBucketName, len(info.Name) > store.MaxObjectName, len(info.ContentType) > store.MaxContentType:
		return fmt.Errorf("disk: put %d: bucket, name or content type is too long", info.ID)
	}
	return nil
}

// Put implements [store.Device]. Once begun it is not given up, since data belongs to it until the entity is durable:
// ctx is looked at only beforehand.
func (d *Disk) Put(ctx context.Context, info store.EntityInfo, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := waiters.Get().(*waiter)
	d.PutAsync(info, data, w.done)
	err := <-w.ch
	waiters.Put(w)
	return err
}

// waiter turns a callback into something to wait for.
type waiter struct {
	ch   chan error
	done func(error)
}

var waiters = sync.Pool{New: func() any {
	w := &waiter{ch: make(chan error, 1)}
	w.done = func(err error) { w.ch <- err }
	return w
}}

// PutAsync begins to store an entity and calls done once when it is durable, or has failed. data belongs to the storage
// until then. done must not block: it is called by the goroutine that writes for all, or before PutAsync returns when the
// entity is refused at once. Errors are those of Put.
func (d *Disk) PutAsync(info store.EntityInfo, data []byte, done func(error)) {
	err := checkInfo(&info, int64(len(data)))
	if err == nil {
		err = d.writable()
	}
	if err != nil {
		done(err)
		return
	}
	if d.o.Layout == LayoutPacks && int64(len(data)) <= d.o.SmallLimit {
		d.commits.submit(d.newPutReq(info, data, done))
		return
	}
	if !d.background(func() { done(d.putFile(info, data)) }) {
		done(errClosed)
	}
}

// spaceState remembers when the free space was last looked at in vain.
type spaceState struct {
	mu   sync.Mutex
	next time.Time
}

// checkSpace is store.ErrFull when the file system has less space than it should.
func (d *Disk) checkSpace() error {
	sp, err := d.fs.Statfs(d.dir)
	if err != nil {
		return err
	}
	full := sp.Free < d.minFree(sp)
	if full != d.full.Swap(full) {
		d.log.Warn("storage is full, or no longer", "full", full, "free", sp.Free, "limit", d.minFree(sp))
	}
	if full {
		return fmt.Errorf("%w: %s: %d bytes free, fewer than %d", store.ErrFull, d.dir, sp.Free, d.minFree(sp))
	}
	return nil
}

func (d *Disk) minFree(sp faultfs.Space) int64 {
	switch {
	case d.o.MinFree > 0:
		return d.o.MinFree
	case d.o.MinFree < 0:
		return 0
	}
	return min(autoMinFree, sp.Capacity/100)
}

// recheckSpace looks again after the storage was full, once a second at most.
func (d *Disk) recheckSpace() error {
	now := d.o.Now()
	d.space.mu.Lock()
	due := now.After(d.space.next)
	if due {
		d.space.next = now.Add(time.Second)
	}
	d.space.mu.Unlock()
	if !due {
		return store.ErrFull
	}
	return d.checkSpace()
}

// Usage implements [store.Device].
func (d *Disk) Usage(ctx context.Context) (store.Usage, error) {
	sp, err := d.fs.Statfs(d.dir)
	if err != nil {
		return store.Usage{}, err
	}
	u := store.Usage{Capacity: sp.Capacity, Free: sp.Free, Reads: d.reads.Load()}
	for _, p := range d.packs.list() {
		p.mu.RLock()
		u.Entities += p.live.n
		u.Live += p.live.bytes
		u.Garbage += max(0, p.end-packHeaderLen-p.live.length)
		p.mu.RUnlock()
	}
	n, bytes := d.files.usage()
	u.Entities += n
	u.Live += bytes
	u.ReadOnly = sp.Free < d.minFree(sp) || d.failure() != nil
	return u, nil
}

// storedNow is the time, later than it ever was before: it tells which of two entities of an id is the newer one.
func (d *Disk) storedNow() time.Time {
	now := d.o.Now().UnixNano()
	for {
		last := d.lastStored.Load()
		now = max(now, last+1)
		if d.lastStored.CompareAndSwap(last, now) {
			return time.Unix(0, now)
		}
	}
}

// Dir is the storage's directory.
func (d *Disk) Dir() string { return d.dir }
