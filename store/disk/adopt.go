package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

// A pack of another storage is taken over as a whole: its bytes are gathered in a file beside the packs, verified, given a
// head that names this storage, and renamed. Members name their pack by its uid, which stays, so that not one of them has to
// be written anew.

const (
	adoptPrefix = "adopting-"
	// adoptSync is how much is taken between two syncs at most, in bytes: one at the end, of a whole pack, would hold up those who write
	// small entities. Where it comes slowly, as others are to be disturbed little, there is a sync every adoptSyncTime, but not of less than
	// adoptSyncLeast.
	adoptSync      = 32 << 20
	adoptSyncLeast = 1 << 20
	adoptSyncTime  = 20 * time.Millisecond
	// adoptPiece is how much is written and verified at a time, in bytes.
	adoptPiece = 128 << 10
	// yieldEvery is after how many entities those who wait for a processor are let in: readers must not wait for the ten
	// milliseconds after which the runtime does so by itself.
	yieldEvery = 16
	// adoptNumbers is how many numbers are set aside for adopted packs at a time.
	adoptNumbers = 4096
	// staleAdoption is how old a file of a pack that was never finished is before it is removed.
	staleAdoption = 7 * 24 * time.Hour
)

var _ store.Bulk = bulk{}

// bulk is a Disk as [store.Bulk] wants it; its Packs has another form.
type bulk struct{ *Disk }

// Bulk shows the storage to those who work on all of it.
func (d *Disk) Bulk() store.Bulk { return bulk{d} }

func (b bulk) Packs(context.Context) ([]store.PackInfo, error) {
	list := b.Disk.Packs()
	out := make([]store.PackInfo, len(list))
	for i, k := range list {
		out[i] = store.PackInfo{
			Name: k.Name, UID: k.UID, Size: k.Size, Sealed: k.Sealed, MinID: k.MinID, MaxID: k.MaxID, Entities: k.Entities, Live: k.Live,
		}
	}
	return out, nil
}

// version finds a pack in the version uid.
func (d *Disk) version(name string, uid uint64) (*pack, error) {
	for _, p := range d.packs.list() {
		p.mu.RLock()
		have := p.uid
		p.mu.RUnlock()
		if packName(p.number)+packExt == name && (have == uid || uid == 0) {
			return p, nil
		}
	}
	return nil, fmt.Errorf("%w: %q, uid %016x", store.ErrNoPack, strings.ToValidUTF8(name, "?"), uid)
}

func (b bulk) OpenPack(_ context.Context, name string, uid uint64, off int64) (io.ReadCloser, error) {
	p, err := b.version(name, uid)
	if err != nil {
		return nil, err
	}
	h, end, err := p.acquire()
	if err != nil {
		return nil, err
	}
	p.mu.RLock()
	same := p.uid == uid && p.h == h
	p.mu.RUnlock()
	r := &PackReader{h: h, size: end}
	if !same || off < 0 || off > end {
		r.Close()
		if !same {
			return nil, fmt.Errorf("%w: %q was rewritten just now", store.ErrNoPack, name)
		}
		return nil, fmt.Errorf("disk: pack %q has %d bytes; %d were asked for", name, end, off)
	}
	return &packStream{SectionReader: io.NewSectionReader(r, off, end-off), PackReader: r, off: off}, nil
}

// packStream is the rest of a pack. It is sent without being copied through memory where the receiver can do that.
type packStream struct {
	*io.SectionReader
	*PackReader
	off int64
}

func (s *packStream) Read(p []byte) (int, error)              { return s.SectionReader.Read(p) }
func (s *packStream) ReadAt(p []byte, off int64) (int, error) { return s.SectionReader.ReadAt(p, off) }

// Size is how many bytes are left.
func (s *packStream) Size() int64 { return s.size - s.off }

// WriteTo implements io.WriterTo. Nothing must have been read before.
func (s *packStream) WriteTo(w io.Writer) (n int64, err error) {
	fs, ok := w.(store.FileSender)
	if !ok {
		return io.Copy(w, struct{ io.Reader }{s.SectionReader})
	}
	const piece = 4 << 20
	for s.off+n < s.size && err == nil {
		var sent int64
		sent, err = fs.SendFile(s.h.OSFile(), s.off+n, min(piece, s.size-s.off-n))
		if n += sent; sent == 0 && err == nil {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

func (b bulk) DeleteLog(_ context.Context, name string, uid uint64) ([]byte, error) {
	p, err := b.version(name, uid)
	if err != nil {
		return nil, err
	}
	p.changing.Lock()
	defer p.changing.Unlock()
	log, err := faultfs.ReadFile(p.fsys, p.path(delExt), maxDelLog)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []byte
	now := b.o.Now().Unix()
	parseDelLog(log, uid, func(r delRec) { out = appendDelRec(out, uid, r, now) })
	return out, nil
}

// adoptPath is where a pack is gathered.
func (d *Disk) adoptPath(uid uint64) string {
	return filepath.Join(d.dir, packsDir, fmt.Sprintf("%s%016x", adoptPrefix, uid))
}

// Adopting implements [store.Bulk].
func (d *Disk) Adopting(_ context.Context, uid uint64) (store.Adoption, error) {
	if d.o.Layout != LayoutPacks {
		return store.Adoption{}, store.ErrNoPacks
	}
	for _, p := range d.packs.list() {
		p.mu.RLock()
		same, end := p.uid == uid, p.end
		p.mu.RUnlock()
		if same {
			return store.Adoption{Size: end, Done: true}, nil
		}
	}
	st, err := d.fs.Stat(d.adoptPath(uid))
	if errors.Is(err, fs.ErrNotExist) {
		return store.Adoption{}, nil
	}
	if err != nil {
		return store.Adoption{}, err
	}
	return store.Adoption{Size: st.Size()}, nil
}

// AppendPack implements [store.Bulk]. One caller at a time may append to a pack.
func (d *Disk) AppendPack(ctx context.Context, uid uint64, off int64, r io.Reader) (n int64, err error) {
	have, err := d.Adopting(ctx, uid)
	if err != nil {
		return 0, err
	}
	if have.Done || have.Size != off {
		return 0, fmt.Errorf("disk: pack %016x: bytes from %d on; %d are there", uid, off, have.Size)
	}
	if err := d.writable(); err != nil {
		return 0, err
	}
	f, err := d.fs.OpenFile(d.adoptPath(uid), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return 0, spaceError(err)
	}
	// The next bytes are taken while the disk is at those before.
	syncing := make(chan error, 1)
	syncing <- nil
	defer func() {
		err = errors.Join(err, <-syncing, f.Close())
	}()
	known := d.adopting.take(uid, off == 0)
	defer func() { d.adopting.keep(known) }()
	scan := &scanner{w: newWindow(f, scanWindow)}
	last := time.Now()
	for synced := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		buf := scan.w.spare(known.from(off+n), off+n, adoptPiece)
		got, readErr := io.ReadFull(r, buf)
		if got > 0 {
			if off+n+int64(got) > maxPackSize {
				return n, fmt.Errorf("disk: pack %016x is larger than %d bytes", uid, int64(maxPackSize))
			}
			if _, err := f.WriteAt(buf[:got], off+n); err != nil {
				return n, spaceError(err)
			}
			n += int64(got)
			scan.w.grow(got)
			known.advance(scan, off+n)
		}
		due := n - synced
		if due >= adoptSync || due >= adoptSyncLeast && time.Since(last) >= adoptSyncTime && len(syncing) > 0 {
			if err := errors.Join(<-syncing, d.checkSpace()); err != nil {
				syncing <- nil
				return n, spaceError(err)
			}
			go func() { syncing <- f.Fdatasync() }()
			synced, last = n, time.Now()
		}
		if readErr == io.EOF || readErr == io.ErrUnexpectedEOF {
			return n, nil
		}
		if readErr != nil {
			return n, readErr
		}
	}
}

// adopted is a pack that is being finished.
type adopted struct {
	entries []entry
	dead    map[store.ObjectID]int64 // greatest offset at which an id is deleted
	end     int64
	damaged int64
	uid     uint64
}

// FinishPack implements [store.Bulk].
func (d *Disk) FinishPack(ctx context.Context, uid uint64, size int64, log []byte) (store.Adoption, error) {
	have, err := d.Adopting(ctx, uid)
	if err != nil || have.Done {
		return have, err
	}
	if have.Size != size {
		return have, fmt.Errorf("disk: pack %016x: %d of %d bytes are there", uid, have.Size, size)
	}
	if err := d.writable(); err != nil {
		return have, err
	}
	f, err := d.fs.OpenFile(d.adoptPath(uid), os.O_RDWR, 0)
	if err != nil {
		return have, err
	}
	defer f.Close()
	a, err := d.examine(ctx, f, uid, size, log)
	if err != nil {
		return have, err
	}
	d.sealing.Lock()
	defer d.sealing.Unlock()
	if d.isClosed() {
		return have, errClosed
	}
	n, err := d.place(f, a)
	if err != nil {
		return have, spaceError(err)
	}
	return store.Adoption{Size: size, Done: true, Entities: n, Damaged: a.damaged}, nil
}

// examine verifies all members, and covers what is damaged.
func (d *Disk) examine(ctx context.Context, f faultfs.File, uid uint64, size int64, log []byte) (*adopted, error) {
	head := make([]byte, packHeaderLen)
	if n, err := f.ReadAt(head, 0); n < len(head) {
		return nil, d.spoiled(uid, fmt.Errorf("its head cannot be read: %w", err))
	}
	if _, _, have, ok := parsePackHeader(head); ok && have != uid {
		return nil, d.spoiled(uid, fmt.Errorf("it is %016x", have))
	}
	a := &adopted{uid: uid, dead: map[store.ObjectID]int64{}}
	parseDelLog(log, uid, func(r delRec) { a.dead[r.id] = max(a.dead[r.id], r.off) })
	from := int64(packHeaderLen)
	if known := d.adopting.take(uid, false); known != nil { // what comes of it is final, or it is gathered anew
		from, a.entries = known.off, known.entries
	}
	res, err := scanPack(f, size, from, uid, func(m scanned) error {
		if len(a.entries)%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if m.bad {
			a.damaged++
			return nil
		}
		if len(a.entries)%yieldEvery == 0 {
			runtime.Gosched()
		}
		a.entries = append(a.entries, entryOf(&m.member))
		return nil
	})
	if err = errors.Join(err, res.readErr); err != nil {
		return nil, err
	}
	for _, g := range res.gaps {
		a.damaged++
		if err := writeFiller(f, g[0], g[1]); err != nil {
			return nil, err
		}
	}
	if res.dirty {
		a.damaged++
	}
	a.end = res.end
	newest := newestOf(a.entries)
	var keep []entry
	for i, e := range a.entries {
		if off, gone := a.dead[e.id]; newest[e.id] == i && !(gone && e.off <= off) && !d.holds(e.id) {
			keep = append(keep, e)
		}
	}
	slices.SortFunc(keep, func(x, y entry) int {
		if x.id < y.id {
			return -1
		}
		return 1
	})
	all := a.entries
	a.entries = keep
	a.markDead(all, newest)
	return a, nil
}

// markDead notes in the delete log what of the pack is not to be found here, for those who read it without its index.
func (a *adopted) markDead(all []entry, newest map[store.ObjectID]int) {
	for i, e := range all {
		_, kept := slices.BinarySearchFunc(a.entries, e.id, func(x entry, id store.ObjectID) int {
			switch {
			case x.id < id:
				return -1
			case x.id > id:
				return 1
			}
			return 0
		})
		if !kept && newest[e.id] == i {
			a.dead[e.id] = max(a.dead[e.id], e.off)
		}
	}
}

// spoiled removes what was gathered, so that it is taken anew.
func (d *Disk) spoiled(uid uint64, cause error) error {
	d.adopting.take(uid, false)
	return errors.Join(fmt.Errorf("%w: pack %016x: %w", store.ErrCorrupt, uid, cause), d.fs.Remove(d.adoptPath(uid)))
}

// holds reports whether the storage has a live entity of id.
func (d *Disk) holds(id store.ObjectID) (found bool) {
	d.packs.view().holders(id, func(*pack) bool {
		found = true
		return false
	})
	return found || d.files.has(id)
}

// place puts the file among the packs. d.sealing must be held.
func (d *Disk) place(f faultfs.File, a *adopted) (int64, error) {
	n := d.adoptNumber()
	now := d.o.Now().Unix()
	if _, err := f.WriteAt(encodePackHeader(d.o.StorageID, n, a.uid, now), 0); err != nil {
		return 0, err
	}
	if err := trimPack(f, a.end); err != nil {
		return 0, err
	}
	p := &pack{fsys: d.fs, fds: &d.fds, base: packPath(d.dir, n), number: n, uid: a.uid, idx: newMemIndex(), end: a.end, sealed: true}
	var log []byte
	for id, off := range a.dead {
		log = appendDelRec(log, a.uid, delRec{id, off}, now)
	}
	// Log and index first: they belong to no pack until the file has its name, and are cleared away after a crash.
	if err := atomicfile.Write(d.fs, p.path(delExt), 0o644, log); err != nil {
		return 0, err
	}
	if err := writeIndex(d.fs, p.path(idxExt), a.uid, a.end, true, a.entries); err != nil {
		return 0, err
	}
	x, err := openIndex(d.fs, p.path(idxExt))
	if err != nil {
		return 0, err
	}
	if err := d.fs.Rename(d.adoptPath(a.uid), p.path(packExt)); err != nil {
		return 0, errors.Join(err, x.close())
	}
	if err := p.syncDir(); err != nil {
		return 0, errors.Join(err, x.close())
	}
	p.idx = x
	for _, e := range a.entries {
		p.live.add(e, 1)
	}
	d.packs.change(func(all []*pack) []*pack {
		all = append(slices.Clone(all), p)
		slices.SortFunc(all, func(x, y *pack) int {
			if x.number < y.number {
				return -1
			}
			return 1
		})
		return all
	})
	d.log.Info("pack of another storage taken over", "pack", p.base, "entities", len(a.entries), "damaged", a.damaged)
	return int64(len(a.entries)), nil
}

// adoptNumber gives a number that is lower than that of the pack which is written next: what is written here from now on
// is newer than what is adopted.
func (d *Disk) adoptNumber() uint64 {
	if d.adoptNext == d.adoptLast {
		last := d.nextPack.Add(adoptNumbers)
		d.adoptNext, d.adoptLast = last-adoptNumbers, last
		d.commits.rollSoon.Store(true)
	}
	d.adoptNext++
	return d.adoptNext - 1
}

// dropStale removes what was gathered of packs and given up long ago.
func (d *Disk) dropStale() {
	entries, err := d.fs.ReadDir(filepath.Join(d.dir, packsDir))
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), adoptPrefix) {
			continue
		}
		path := filepath.Join(d.dir, packsDir, e.Name())
		if st, err := d.fs.Stat(path); err == nil && d.o.Now().Sub(st.ModTime()) > staleAdoption {
			d.log.Info("pack that was never taken over to its end removed", "file", path)
			_ = d.fs.Remove(path) // tried again next time
			if uid, err := strconv.ParseUint(e.Name()[len(adoptPrefix):], 16, 64); err == nil {
				d.adopting.take(uid, false)
			}
		}
	}
}
