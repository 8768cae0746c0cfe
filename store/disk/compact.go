package disk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/store"
)

// Compact rewrites the sealed packs of which at least the part minGarbage, 0 to 1, is garbage, and tells how many bytes
// that has freed. The packs are served meanwhile. It may be interrupted, and the process may die, at any moment.
func (d *Disk) Compact(ctx context.Context, minGarbage float64) (freed int64, err error) {
	var errs []error
	for _, p := range d.packs.list() {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		p.mu.RLock()
		ripe := p.sealed && !p.gone
		p.mu.RUnlock()
		if g := p.garbage(); !ripe || g < minGarbage || g == 0 {
			continue
		}
		n, err := d.rewrite(ctx, p)
		freed += n
		if err != nil {
			errs = append(errs, fmt.Errorf("compact %s: %w", p.base, err))
		}
	}
	return freed, errors.Join(errs...)
}

// rewriting is a new version of a pack in the making.
type rewriting struct {
	p       *pack
	old     map[store.ObjectID]int64 // where the entries copied lie in the old version
	f       *atomicfile.File
	uid     uint64
	buf     []byte
	end     int64
	entries []entry // of the new version
}

// rewrite replaces a sealed pack by one without its garbage.
func (d *Disk) rewrite(ctx context.Context, p *pack) (freed int64, err error) {
	d.sealing.Lock()
	defer d.sealing.Unlock()
	if d.isClosed() {
		return 0, errClosed
	}
	if err := d.failure(); err != nil {
		return 0, err
	}
	live, err := p.liveByOffset()
	if err != nil {
		return 0, err
	}
	if len(live) == 0 {
		return d.removePack(p)
	}
	h, oldEnd, err := p.acquire()
	if err != nil {
		return 0, err
	}
	defer h.release()
	f, err := atomicfile.Create(d.fs, p.path(packExt), 0o644)
	if err != nil {
		return 0, spaceError(err)
	}
	defer f.Abort()
	var random [8]byte
	rand.Read(random[:])
	r := &rewriting{p: p, f: f, uid: newUID(random), old: make(map[store.ObjectID]int64, len(live))}
	r.buf = append(r.buf, encodePackHeader(d.o.StorageID, p.number, r.uid, d.o.Now().Unix())...)
	r.end = packHeaderLen
	for _, e := range live {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if d.newerThan(p, e.id) {
			continue
		}
		if err := d.copyMember(r, h, e); err != nil {
			return 0, spaceError(err)
		}
	}
	if err := r.flush(int(sealSize(r.end) - r.end)); err != nil {
		return 0, spaceError(err)
	}
	if err := f.Prepare(); err != nil {
		return 0, spaceError(err)
	}
	if err := d.switchPack(r); err != nil {
		return 0, err
	}
	d.log.Info("pack rewritten", "pack", p.base, "before", oldEnd, "after", r.end)
	return oldEnd - r.end, nil
}

// liveByOffset is the live entries in the order in which they lie.
func (p *pack) liveByOffset() ([]entry, error) {
	var live []entry
	p.mu.RLock()
	defer p.mu.RUnlock()
	err := guardMapped(func() error {
		p.idx.each(func(pos int, e entry) {
			if !p.dead.has(pos) {
				live = append(live, e)
			}
		})
		return nil
	})
	slices.SortFunc(live, func(a, b entry) int { return int(a.off - b.off) })
	return live, err
}

// newerThan reports whether a later pack than p has, or had, an entity of this id.
func (d *Disk) newerThan(p *pack, id store.ObjectID) bool {
	v := d.packs.view()
	for _, q := range v.open {
		if q.number > p.number && q.holds(id) {
			return true
		}
	}
	for i := v.after(id) - 1; i >= 0 && v.sealed[i].reach >= id; i-- {
		if r := v.sealed[i]; r.hi >= id && r.p.number > p.number && r.p.holds(id) {
			return true
		}
	}
	return false
}

// copyMember copies one entity, with a header for its new place. What is damaged is left behind: it could not be served,
// and a manifest without it brings someone to repair it.
func (d *Disk) copyMember(r *rewriting, h *handle, e entry) error {
	b := make([]byte, e.length())
	if n, err := h.ReadAt(b, e.off); n < len(b) {
		return packReadError(r.p, e, err)
	}
	m, err := parseMember(b[:int(e.blocks)*blockSize])
	data := b[int(e.blocks)*blockSize:][:e.size]
	if err != nil || m.info.ID != e.id || crc32.Checksum(data, castagnoli) != e.crc {
		d.log.Error("damaged entity not copied while its pack is rewritten", "object", e.id, "pack", r.p.base, "offset", e.off)
		return nil
	}
	var hdr header
	m.at, m.pack = r.end, r.uid
	appendHeader(&hdr, &m)
	m.hdrLen = int64(len(hdr.b))
	hdr.place(r.uid, r.end, r.end) // nobody sees this version before all of it is durable
	r.buf = append(r.buf, hdr.b...)
	r.buf = append(r.buf, b[int(e.blocks)*blockSize:]...)
	ne := entryOf(&m)
	r.entries = append(r.entries, ne)
	r.old[e.id] = e.off
	r.end += ne.length()
	if len(r.buf) >= 1<<20 {
		return r.flush(0)
	}
	return nil
}

// flush writes what is buffered, and pad zeros.
func (r *rewriting) flush(pad int) error {
	r.buf = append(r.buf, zeros[:pad]...)
	_, err := r.f.Write(r.buf)
	r.buf = r.buf[:0]
	return err
}

// switchPack puts the new version in the place of the old one. Deletions wait meanwhile, readers do not.
func (d *Disk) switchPack(r *rewriting) error {
	p, now := r.p, d.o.Now().Unix()
	p.changing.Lock()
	defer p.changing.Unlock()
	x := newMemIndex()
	var dead bitmap
	var live tally
	var records []byte
	for _, e := range r.entries {
		x.add(e)
		live.add(e, 1)
	}
	for i, e := range r.entries {
		if _, ok, err := p.findNow(e.id); err != nil {
			return err
		} else if !ok { // deleted since it was copied
			dead.set(i, len(r.entries))
			live.add(e, -1)
			records = appendDelRec(records, r.uid, delRec{e.id, e.off}, now)
		}
	}
	// The log speaks of both versions until the new one has the name.
	if len(records) > 0 {
		if err := p.appendDelLog(records, now); err != nil {
			return err
		}
	}
	if err := r.f.Publish(); err != nil {
		return err
	}
	syncErr := p.syncDir()
	if syncErr != nil {
		d.fail(syncErr) // nobody knows which version a crash would leave
	}
	p.mu.Lock()
	h, oldIdx := p.h, p.idx
	p.h, p.uid, p.idx, p.dead, p.live, p.end, p.sealed, p.sums = nil, r.uid, x, dead, live, r.end, false, nil
	p.mu.Unlock()
	if h != nil {
		h.release()
		d.fds.forget(p)
	}
	if m, ok := oldIdx.(*mapIndex); ok {
		m.close()
	}
	if syncErr != nil {
		return syncErr
	}
	return errors.Join(p.rewriteDelLog(now), d.sealIndex(p))
}

func (p *pack) findNow(id store.ObjectID) (entry, bool, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.findLocked(id)
}

// removePack deletes a pack in which nothing is alive.
func (d *Disk) removePack(p *pack) (freed int64, err error) {
	p.changing.Lock()
	defer p.changing.Unlock()
	p.mu.RLock()
	alive, size := p.live.n, p.end
	p.mu.RUnlock()
	if alive > 0 {
		return 0, nil
	}
	if err := d.fs.Remove(p.path(packExt)); err != nil {
		return 0, err
	}
	d.packs.change(func(all []*pack) []*pack {
		return slices.DeleteFunc(slices.Clone(all), func(q *pack) bool { return q == p })
	})
	d.fds.forget(p)
	p.close()
	if err := p.syncDir(); err != nil {
		return 0, err
	}
	for _, ext := range []string{idxExt, delExt} {
		if err := d.fs.Remove(p.path(ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("left-over file not removed", "file", p.path(ext), "err", err)
		}
	}
	d.log.Info("empty pack removed", "pack", p.base)
	return size, nil
}
