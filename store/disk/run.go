package disk

import (
	"context"
	"errors"
	"time"

	"wheelhouse/store"
)

// tick is how often Run looks after the storage.
const tick = 10 * time.Second

// Run looks after the storage until ctx ends: it rewrites packs with too much garbage, tries again to seal packs that
// could not be sealed, and notices when the disk is no longer full. A storage works without it, and lets garbage grow.
func (d *Disk) Run(ctx context.Context) error {
	if err := d.files.countFiles(func() bool { return ctx.Err() != nil }); err != nil {
		d.log.Warn("files not counted", "err", err)
	}
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		d.maintain(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// maintain does once what Run does.
func (d *Disk) maintain(ctx context.Context) {
	if err := d.checkSpace(); err != nil && !errors.Is(err, store.ErrFull) {
		d.log.Warn("free space unknown", "err", err)
	}
	if d.failure() != nil {
		return
	}
	d.sealLeftovers()
	d.dropStale()
	if d.o.GarbageRatio > 0 {
		if _, err := d.Compact(ctx, d.o.GarbageRatio); err != nil && ctx.Err() == nil {
			d.log.Warn("packs not rewritten", "err", err)
		}
	}
}

// sealLeftovers seals the packs whose index could not be written before.
func (d *Disk) sealLeftovers() {
	list := d.packs.list()
	for i, p := range list {
		p.mu.RLock()
		left := !p.sealed && !p.gone && !p.unsealable
		p.mu.RUnlock()
		if !left || i == len(list)-1 {
			continue // the last one is being written
		}
		d.sealing.Lock()
		p.changing.Lock()
		if !d.isClosed() {
			if err := d.sealIndex(p); err != nil {
				d.log.Warn("pack not sealed", "pack", p.base, "err", err)
			}
		}
		p.changing.Unlock()
		d.sealing.Unlock()
	}
}
