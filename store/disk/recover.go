package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

// recoverPacks loads all packs. The last one is continued, unless it was sealed or is damaged.
func (d *Disk) recoverPacks() error {
	numbers, err := d.listPacks()
	if err != nil {
		return err
	}
	for i, n := range numbers {
		if err := d.loadPack(n, i == len(numbers)-1); err != nil {
			return fmt.Errorf("pack %s: %w", packPath(d.dir, n), err)
		}
	}
	return d.settleFiles()
}

// settleFiles removes the older of two entities, where one is a file and the other in a pack: a crash came between
// the storing of the newer one and the removal of the other.
func (d *Disk) settleFiles() error {
	for id := range d.files.ids {
		p, e, h, err := d.find(id)
		if err != nil || p == nil {
			continue // an index that cannot be read has been logged
		}
		inPack, err1 := readHeader(p, e, h)
		h.release()
		inFile, err2 := d.files.stat(id)
		if err1 == nil && (err2 != nil || inPack.Stored.After(inFile.Stored)) {
			err = d.files.remove([]store.ObjectID{id})
		} else if err2 == nil {
			err = p.deleteAll([]store.ObjectID{id}, d.o.Now().Unix())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listPacks gives the numbers of the packs, in order, and clears away what belongs to none.
func (d *Disk) listPacks() ([]uint64, error) {
	dir := filepath.Join(d.dir, packsDir)
	names, err := d.fs.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	next := uint64(1)
	for _, e := range names {
		base, ext, _ := strings.Cut(e.Name(), ".")
		if n, err := strconv.ParseUint(base, 10, 64); err == nil {
			next = max(next, n+1)
			if "."+ext == packExt && packName(n) == base {
				numbers = append(numbers, n)
			}
		}
	}
	d.nextPack.Store(next)
	slices.Sort(numbers)
	for _, e := range names {
		base, ext, _ := strings.Cut(e.Name(), ".")
		n, err := strconv.ParseUint(base, 10, 64)
		_, known := slices.BinarySearch(numbers, n)
		orphan := err == nil && !known && ("."+ext == idxExt || "."+ext == delExt)
		if orphan || atomicfile.IsTemp(e.Name()) {
			d.log.Info("left-over file removed", "file", filepath.Join(dir, e.Name()))
			if err := d.fs.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return numbers, nil
}

// loadPack makes one pack known. last says that it is the one to be continued.
func (d *Disk) loadPack(n uint64, last bool) error {
	p := &pack{fsys: d.fs, fds: &d.fds, base: packPath(d.dir, n), number: n, idx: newMemIndex()}
	f, err := d.fs.OpenFile(p.path(packExt), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			f.Close()
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := d.identify(p, f); err != nil {
		return err
	}
	x, err := d.trustedIndex(p, st.Size())
	if err != nil {
		return err
	}
	if x != nil && x.sealed {
		p.uid, p.idx, p.end, p.sealed = x.uid, x, x.end, true
		p.live = tally{n: int64(x.count()), bytes: x.bytes, length: x.length}
		err := p.readDelLog()
		d.packs.change(func(all []*pack) []*pack { return append(all, p) })
		return err
	}
	res, err := d.scanInto(p, f, st.Size(), x)
	if err != nil {
		return err
	}
	if err := p.readDelLog(); err != nil {
		return err
	}
	d.packs.change(func(all []*pack) []*pack { return append(all, p) })
	d.supersedeAll(p)
	if res.readErr != nil {
		// Perhaps the disk gives the rest next time: nothing is cut off, and the pack is read again at the next start.
		d.log.Error("pack cannot be read to its end", "pack", p.base, "end", p.end, "err", res.readErr)
		p.unsealable = true
		return nil
	}
	if !last || res.lost > 0 || len(res.gaps) > 0 || p.uid == 0 || p.end > d.o.PackSize-trailer-blockSize {
		if err := d.seal(p, f); err != nil {
			d.log.Error("pack not sealed", "pack", p.base, "err", err) // it is served from memory
		}
		return nil
	}
	zeroed, err := d.cutTail(p, f, st.Size(), res)
	if err != nil {
		return err
	}
	d.commits.w, err = d.openWriter(p, f, zeroed, 0)
	keep = err == nil
	return err
}

// identify reads the pack's head. One that is damaged leaves uid 0: the members say who they are, too.
func (d *Disk) identify(p *pack, f faultfs.File) error {
	b := make([]byte, packHeaderLen)
	if n, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		d.log.Error("head of a pack cannot be read", "pack", p.base, "err", err)
	} else {
		b = b[:n]
	}
	id, _, uid, ok := parsePackHeader(b)
	if !ok {
		d.log.Warn("head of a pack is damaged", "pack", p.base)
		return nil
	}
	if id != d.o.StorageID {
		return fmt.Errorf("belongs to storage %d, not to storage %d", id, d.o.StorageID)
	}
	p.uid = uid
	return nil
}

// trustedIndex opens the pack's index file if there is one and it describes this pack.
func (d *Disk) trustedIndex(p *pack, size int64) (*mapIndex, error) {
	x, err := openIndex(d.fs, p.path(idxExt))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, errIndex):
		d.log.Warn("index of a pack is damaged and will be made anew", "pack", p.base, "err", err)
		return nil, nil
	case err != nil:
		return nil, err
	}
	if p.uid != 0 && x.uid != p.uid || x.end > size || x.end < packHeaderLen || x.end%blockSize != 0 {
		d.log.Warn("index of a pack is out of date and will be made anew", "pack", p.base)
		return nil, x.close()
	}
	return x, nil
}

// scanInto fills p's index from the checkpoint base, which it closes, and from a scan of what lies behind it.
func (d *Disk) scanInto(p *pack, f faultfs.File, size int64, base *mapIndex) (scanResult, error) {
	from := int64(packHeaderLen)
	if base != nil {
		from, p.uid = base.end, base.uid
		err := guardMapped(func() error {
			base.scan(0, func(_ int, e entry) bool {
				p.addLocked(e)
				return true
			})
			return nil
		})
		if err = errors.Join(err, base.close()); err != nil {
			return scanResult{}, err
		}
	}
	res, err := scanPack(f, size, from, p.uid, func(m scanned) error {
		e := entryOf(&m.member)
		if m.bad {
			e.flags |= flagCorrupt
			d.log.Error("entity is damaged", "object", m.info.ID, "pack", p.base, "offset", m.at)
		}
		p.uid = m.pack
		p.addLocked(e)
		return nil
	})
	if err != nil {
		return res, err
	}
	p.end = res.end
	for _, g := range res.gaps {
		d.log.Error("part of a pack cannot be read", "pack", p.base, "offset", g[0], "bytes", g[1]-g[0])
		if err := writeFiller(f, g[0], g[1]); err != nil {
			d.log.Warn("damaged part of a pack not covered", "pack", p.base, "offset", g[0], "err", err)
		}
	}
	return res, nil
}

// writeFiller makes the damaged bytes [from, to) the content of a member of their own, so that tar programs step over
// them and what follows stays in reach.
func writeFiller(f faultfs.File, from, to int64) error {
	var h [blockSize]byte
	fillUstar(h[:], fmt.Appendf(nil, "%s%012d", fillerPrefix, from), "", '0', to-from-blockSize, 0)
	if _, err := f.WriteAt(h[:], from); err != nil {
		return err
	}
	return f.Fdatasync()
}

// cutTail prepares a pack for being continued: behind its last member there are zeros only, up to the size it gives.
func (d *Disk) cutTail(p *pack, f faultfs.File, size int64, res scanResult) (zeroed int64, err error) {
	if !res.dirty && size >= p.end+trailer {
		return size, nil
	}
	if res.dirty {
		d.log.Warn("torn tail of a pack cut off", "pack", p.base, "end", p.end, "size", size)
	}
	zeroed = (p.end + trailer + 4095) &^ 4095
	if err := f.Truncate(p.end); err != nil {
		return 0, err
	}
	if err := f.Truncate(zeroed); err != nil {
		return 0, err
	}
	return zeroed, f.Fdatasync()
}

// supersedeAll is supersede for all that was found in a pack that was not sealed yet.
func (d *Disk) supersedeAll(p *pack) {
	older := map[*pack][]store.ObjectID{}
	v := d.packs.view()
	for id, pos := range p.idx.(*memIndex).byID {
		if p.dead.has(int(pos)) {
			continue
		}
		v.holders(id, func(q *pack) bool {
			if q.number < p.number {
				older[q] = append(older[q], id)
			}
			return true
		})
	}
	for q, ids := range older {
		if err := q.deleteAll(ids, d.o.Now().Unix()); err != nil {
			d.log.Warn("replaced entities not deleted", "pack", q.base, "err", err)
		}
	}
}
