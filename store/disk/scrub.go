package disk

import (
	"context"
	"errors"
	"io"
	"time"

	"wheelhouse/store"
)

// Scrub reads and verifies all entities with ids ≥ from, in order of id, at most limit bytes per second (≤ 0: as fast
// as it goes). report is called for each that is damaged, with an error that wraps store.ErrCorrupt; it may store a good
// copy at once. Scrub ends early only when ctx does, or when the entities cannot be listed.
func (d *Disk) Scrub(ctx context.Context, from store.ObjectID, limit int64, report func(store.ObjectID, error)) error {
	pace := pacer{limit: limit, begun: time.Now()}
	for {
		page, err := d.Manifest(ctx, from, maxID, 1024)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, m := range page {
			if err := pace.wait(ctx, m.Size); err != nil {
				return err
			}
			if err := d.verify(m.ID); err != nil && !errors.Is(err, store.ErrNoEntity) {
				report(m.ID, err)
			}
		}
		last := page[len(page)-1].ID
		if last >= maxID-1 {
			return nil
		}
		from = last + 1
	}
}

// verify reads an entity whole, and its header.
func (d *Disk) verify(id store.ObjectID) error {
	r, err := d.OpenReader(id, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := r.Info(); err != nil {
		return err
	}
	if r.src.crcs == nil { // adopted: all that can be seen is whether it can be read
		_, err := r.WriteTo(io.Discard)
		return err
	}
	for i := range int64(len(r.src.crcs)) {
		if err := r.verifyBlock(i); err != nil {
			return err
		}
	}
	return nil
}

// pacer holds a rate.
type pacer struct {
	limit int64 // bytes per second; ≤ 0: none
	begun time.Time
	sum   int64
}

// wait counts n bytes, and waits until they may be read.
func (p *pacer) wait(ctx context.Context, n int64) error {
	if err := ctx.Err(); err != nil || p.limit <= 0 {
		return err
	}
	due := p.begun.Add(time.Duration(float64(p.sum) / float64(p.limit) * float64(time.Second)))
	p.sum += n
	ahead := time.Until(due)
	if ahead < 0 { // time in which nothing was read is not made up for
		p.begun, p.sum = time.Now(), n
		return nil
	}
	if ahead < 10*time.Millisecond {
		return nil
	}
	t := time.NewTimer(ahead)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
