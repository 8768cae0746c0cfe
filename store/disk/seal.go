package disk

import (
	"errors"
	"slices"

	"wheelhouse/internal/faultfs"
)

// sealSize is the size of a sealed pack: a multiple of tar's usual record of 20 blocks.
func sealSize(end int64) int64 { return (end + trailer + 10239) / 10240 * 10240 }

// sealLater seals a pack that is not written any more, in the background. Until then it is served from memory.
func (d *Disk) sealLater(w *packWriter) {
	seal := func() {
		d.sealing.Lock()
		defer d.sealing.Unlock()
		w.stop.Store(true)
		w.idle.Wait()
		if err := d.seal(w.p, w.f); err != nil {
			d.log.Error("pack not sealed", "pack", w.p.base, "err", err)
		}
		w.close()
	}
	if !d.background(seal) {
		w.close()
	}
}

// seal cuts the zeros off a pack whose file is f, and gives it an index file.
func (d *Disk) seal(p *pack, f faultfs.File) error {
	if err := trimPack(f, p.end); err != nil {
		// The index says where the pack ends; what lies beyond does no harm to readers.
		d.log.Warn("zeros not cut off a sealed pack", "pack", p.base, "err", err)
	}
	p.changing.Lock()
	defer p.changing.Unlock()
	return d.sealIndex(p)
}

// sealIndex writes the index of a pack that ends where it ends, and lets go of the one in memory. p.changing must be held.
func (d *Disk) sealIndex(p *pack) error {
	p.mu.RLock()
	if p.sealed || p.gone {
		p.mu.RUnlock()
		return nil // it was sealed by someone else
	}
	entries := liveEntries(p)
	p.mu.RUnlock()
	if err := d.present(); err != nil { // the path may lead elsewhere by now
		return err
	}
	if err := writeIndex(d.fs, p.path(idxExt), p.uid, p.end, true, entries); err != nil {
		return err
	}
	x, err := openIndex(d.fs, p.path(idxExt))
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.idx, p.dead, p.sealed = x, nil, true
	p.mu.Unlock()
	d.packs.change(func(all []*pack) []*pack { return all })
	return nil
}

func trimPack(f faultfs.File, end int64) error {
	return errors.Join(f.Truncate(end), f.Truncate(sealSize(end)), f.Fdatasync())
}

// liveEntries is the content of an index in memory, in order of id. p.mu must be held.
func liveEntries(p *pack) []entry {
	x := p.idx.(*memIndex)
	entries := make([]entry, 0, len(x.byID))
	for _, pos := range x.byID {
		if !p.dead.has(int(pos)) {
			entries = append(entries, x.entries[pos])
		}
	}
	slices.SortFunc(entries, func(a, b entry) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return entries
}
