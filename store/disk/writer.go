package disk

import (
	"context"
	"errors"
	"fmt"

	"wheelhouse/store"
)

// Create implements [store.Device]. An entity is kept in memory until it is larger than Options.SmallLimit.
func (d *Disk) Create(ctx context.Context, info store.EntityInfo) (store.EntityWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkInfo(&info, -1); err != nil {
		return nil, err
	}
	if err := d.writable(); err != nil {
		return nil, err
	}
	w := &entityWriter{d: d, info: info}
	if d.o.Layout == LayoutFiles || info.Size > d.o.SmallLimit {
		if err := w.spill(); err != nil {
			return nil, err
		}
	} else if info.Size > 0 {
		w.small = make([]byte, 0, info.Size)
	}
	return w, nil
}

// entityWriter is what Create gives.
type entityWriter struct {
	d     *Disk
	info  store.EntityInfo
	small []byte
	file  *fileWriter // once it is too large for a pack
	ended bool
	err   error // of a write: what follows would leave a hole
}

var errEnded = errors.New("disk: entity writer: already ended")

// spill goes over to a file.
func (w *entityWriter) spill() error {
	f, err := w.d.files.create(w.info)
	if err != nil {
		return err
	}
	w.file = f
	if len(w.small) > 0 {
		if _, err := f.Write(w.small); err != nil {
			return err
		}
	}
	w.small = nil
	return nil
}

// Write implements io.Writer.
func (w *entityWriter) Write(p []byte) (int, error) {
	switch {
	case w.ended:
		return 0, errEnded
	case w.err != nil:
		return 0, w.err
	case w.file == nil && int64(len(w.small)+len(p)) > w.d.o.SmallLimit:
		if w.err = w.spill(); w.err != nil {
			return 0, w.err
		}
	}
	if w.file == nil {
		w.small = append(w.small, p...)
		return len(p), nil
	}
	n, err := w.file.Write(p)
	w.err = err
	return n, err
}

// Commit implements [store.EntityWriter]. After an error nothing is left behind.
func (w *entityWriter) Commit(ctx context.Context, etag [16]byte) error {
	if w.ended {
		return errEnded
	}
	defer w.Abort()
	if w.err != nil {
		return fmt.Errorf("disk: commit %d: %w", w.info.ID, w.err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.file == nil {
		w.info.ETag = etag
		return w.d.Put(ctx, w.info, w.small)
	}
	if err := w.d.writable(); err != nil {
		return err
	}
	return w.d.commitFile(w.file, etag)
}

// Abort implements [store.EntityWriter].
func (w *entityWriter) Abort() {
	w.ended = true
	w.small = nil
	if w.file != nil {
		w.file.Abort()
	}
}

// commitFile makes a file durable, and lets go of the older entity that a pack may hold: packs are looked at first.
func (d *Disk) commitFile(w *fileWriter, etag [16]byte) error {
	id := w.meta.info.ID
	if err := w.commit(etag); err != nil {
		return spaceError(err)
	}
	v := d.packs.view()
	var errs []error
	v.holders(id, func(p *pack) bool {
		errs = append(errs, p.deleteOlder(id, w.meta.info.Stored, d.o.Now().Unix()))
		return true
	})
	return errors.Join(errs...)
}
